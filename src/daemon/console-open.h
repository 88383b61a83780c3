/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Descriptors for the guest's console and for what it has printed. */

#include "vm.h"

/* A connection to the shim of the running VM. Returns the descriptor, or a negative errno. */
int console_open(Vm *vm, Error **reterr);

/* The last `tail` lines, then, with follow, what comes until QEMU ends. Also of a VM that does not run. */
int console_open_log(Vm *vm, uint32_t tail, bool follow, Error **reterr);
