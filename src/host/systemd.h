/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* PID 1 (or the user's manager), all asynchronously: scopes, their limits, their end. What may be asked
 * without privileges is asked here, the rest by vmctl-launch. */

#include <systemd/sd-bus.h>

#include "core/launcher.h"

typedef struct Systemd Systemd;
typedef struct ScopeJob ScopeJob;
typedef struct ScopeWatch ScopeWatch;

#define SYSTEMD_CALL_TIMEOUT \
        (15 * USEC_PER_SEC) /* PID 1 answers in milliseconds unless the host is in trouble */

typedef struct SystemdHandlers {
        /* PID 1 wants the scope stopped ("systemctl stop", host shutdown) and waits for its TimeoutStopSec.
         */
        void (*request_stop)(const char *unit, void *userdata);
        /* After systemd_end_scope() or systemd_clear_scope(): the scope is gone; its name may be used again.
         */
        void (*scope_removed)(const char *unit, void *userdata);
        /* After systemd_clear_scope(): this process is in it, and it was left alone. */
        void (*scope_in_use)(const char *unit, pid_t pid, const char *command, void *userdata);
} SystemdHandlers;

/* The bus (referenced) is for this alone, so that neither clients nor polkit can keep a call to PID 1 from
 * being sent. Without PID 1's signals the loop of the bus is ended. The launcher is borrowed. */
int systemd_new(sd_bus *bus, Launcher *launcher, const SystemdHandlers *handlers, void *userdata,
                Systemd **ret);
Systemd *systemd_free(Systemd *s);
DEFINE_CLEANUP(Systemd *, systemd_free);

/* At start-up, and only then: these two wait for PID 1's answer.
 *
 * All scopes of VMs that PID 1 knows, also those that have failed (an empty or new vector, the caller's). */
int systemd_list_scopes(Systemd *s, char ***ret);

/* Calls back for each process in the scope, with its command line; for none where there is no such scope. */
typedef void (*scope_process_t)(pid_t pid, const char *command, void *userdata);
int systemd_list_processes(Systemd *s, const char *unit, scope_process_t found, void *userdata);

/* For the handlers' calls about a scope: from systemd_watch_scope() until systemd_unwatch_scope(). Costs PID
 * 1 and the bus nothing. exists: systemd_list_scopes() told of it, so it may be about to stop. -EEXIST: it
 * is watched already. */
int systemd_watch_scope(Systemd *s, const char *unit, bool exists, ScopeWatch **ret);
ScopeWatch *systemd_unwatch_scope(ScopeWatch *w);

/* Ends what is left of a scope whose QEMU has ended. scope_removed is called then, also if it was gone
 * before the watch, or never made. */
void systemd_end_scope(ScopeWatch *w);

/* The same for a scope of which nobody knows whose it is: one with a process in it is left alone, which
 * scope_in_use tells. */
void systemd_clear_scope(ScopeWatch *w);

/* Nobody waits for that end any more. What PID 1 was asked to do it does; whoever ends or clears the scope
 * next asks anew. NULL is no watch. */
void systemd_leave_scope(ScopeWatch *w);

typedef struct ScopeSpec {
        const char *unit;
        uint64_t shim;         /* the launched_id() of one that is held */
        VmLimits limits;       /* resolved */
        bool kvm;              /* /dev/kvm is needed */
        uint64_t stop_timeout; /* usec that PID 1 waits for us to end the guest */
} ScopeSpec;

/* Makes the scope around the process and calls back when its job is done: 0, or a negative errno with an
 * error. -EEXIST: a scope of that name is still there. ret lends a handle: freeing it drops the call, not
 * the scope. */
typedef void (*scope_done_t)(void *userdata, int r, const Error *error);
int systemd_start_scope(
                Systemd *s, const ScopeSpec *spec, scope_done_t done, void *userdata, ScopeJob **ret);
ScopeJob *scope_job_free(ScopeJob *j);
DEFINE_CLEANUP(ScopeJob *, scope_job_free);

/* Changes limits of a running scope. -ENOENT: there is none. */
int systemd_set_limits(Systemd *s, const char *unit, const VmLimits *limits, scope_done_t done,
                void *userdata, ScopeJob **ret);

/* SIGKILL to every process of the scope. Nobody waits for the answer. */
void systemd_kill_scope(Systemd *s, const char *unit);
