/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Entries of VMs for OpenSSH's configuration. */

#include "ctl.h"

/* Those of the named VMs, or of all of the caller's. Reports failure. */
int ssh_config_text(Ctl *c, const char *const *names, size_t n_names, char **ret);
