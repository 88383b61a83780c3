/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Waiting until a guest's sshd answers. */

#include "ctl.h"

#define SSH_WAIT_BOOT_USEC (120 * USEC_PER_SEC) /* for a guest that has just been started */
#define SSH_WAIT_USEC (30 * USEC_PER_SEC)       /* for one that has had time to boot */

/* Returns 0 once sshd greets on 127.0.0.1:port. Ends early when the VM of that object leaves the states in
 * which this could still happen. Reports failure; EXIT_TIMED_OUT at the deadline (CLOCK_MONOTONIC), 128 and
 * a signal's number when that interrupted it. */
int ssh_wait(Ctl *c, const char *name, const char *path, uint16_t port, uint64_t deadline);

/* The same for a VM known by its name, whose port is asked for. */
int ssh_wait_for_vm(Ctl *c, const char *name, uint64_t deadline);
