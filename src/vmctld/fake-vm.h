/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What stands where PID 1 (fake-systemd.c), QEMU with its shim and QMP (fake-process.c), the host and child
 * processes (fake-host.c) are otherwise. */

#include "core/fake.h"
#include "vm/vm.h"

void fake_process_end(void *process, bool ok); /* as an answer */
void fake_scope_killed(void);                  /* PID 1 has killed all that is in scopes */
extern bool fake_process_hangs;                /* no signal ends it, until: */
void fake_process_wakes(void);
extern unsigned fake_signals; /* a bit for each that QEMU was sent */
extern unsigned fake_live_scopes, fake_live_workers, fake_live_processes;
extern uint64_t fake_memory_max; /* as PID 1 has it for the scope */
extern bool fake_limits_unsaid;  /* the next limits are set, and the launcher is lost before it says so */
extern bool fake_scope_is_late;  /* the next limits are for one that there is not yet, or no more */
extern const char *fake_worker_result;
extern uint64_t fake_grow_to;
