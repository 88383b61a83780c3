/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Descriptors for the guest's console and for what it has printed. */

#include "util/log-request.h"
#include "vm.h"

/* A connection to the shim of the running VM. Returns the descriptor, or a negative errno. */
int console_open(Vm *vm, Error **reterr);

/* What was asked for; unless it is of this run, also of a VM that does not run: by a process then, for which
 * the reader is charged. */
int console_open_log(Vm *vm, uid_t reader, const LogRequest *request, Error **reterr);
