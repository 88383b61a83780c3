/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* For a process that talks with the network: from here on it can open no file but those that finding names,
 * TLS and loading a resolver's module need, and those for reading alone, and it can execute nothing. What is
 * open stays usable.
 *
 * Landlock does it for files where the kernel has it; a seccomp filter does it for system calls that libcurl
 * has no use for. The filter names what is forbidden rather than what is allowed: what the C library,
 * OpenSSL and resolver modules call differs from one version to the next. */

#include "util/error.h"

int lockdown(Error **reterr);
