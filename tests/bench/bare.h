/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The bare QEMU that a VM is compared with: the same program and arguments, and at the same numbers the same
 * files and sockets, made anew for each run. No service, no shim, no sandbox beside QEMU's own, and no scope
 * unless it is asked for. What fails ends the program. */

#include "util/macro.h"

typedef struct Bare Bare;

/* Learns the command line from the VM while it runs; it must be stopped before the first bare_start(). */
Bare *bare_new(const char *vm);
Bare *bare_free(Bare *b);
DEFINE_CLEANUP(Bare *, bare_free);

/* Each returns milliseconds. */
double bare_start(Bare *b, bool in_scope); /* from the fork to the reply to query-status */
double bare_kill(Bare *b);                 /* from SIGKILL to the exit */
double bare_powerdown(Bare *b);            /* from system_powerdown to the exit */

/* Returns when the guest has said this on its serial console. */
void bare_await_text(Bare *b, const char *text);
