/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A QEMU with its shim, from the fork to the last word: launched for us, or taken over from an earlier
 * instance.
 *
 * The shim (src/shim) is vmctl-launch's child and QEMU's parent. It waits for process_go(), so that the
 * scope can be made around it first. Both outlive us. A process has ended when the shim is gone and, where
 * we have the monitor, that has reached its end too: whatever QEMU still said of its end has been heard
 * then. A shim that does not answer, which QEMU could see to, is not waited for once QEMU has ended. */

#include "launch.h"
#include "qmp/qmp.h"

typedef struct Process Process;

typedef struct ProcessEnd {
        bool known;    /* false: the shim left no record */
        bool signaled; /* then `code` is the signal */
        int code;
        bool oom; /* the kernel killed in this scope for want of memory */
} ProcessEnd;

/* All are called from the event loop. Those marked (*) may free the process. */
typedef struct ProcessHandlers {
        void (*launched)(Process *p, void *userdata); /* the shim is there, and can be noted */
        void (*executed)(Process *p, void *userdata); /* QEMU was executed */
        void (*launch_failed)(Process *p, const Error *error,
                        void *userdata); /* or the shim was not; `ended` follows */
        void (*image_modified)(Process *p, const char *path, void *userdata); /* in use all the same */
        void (*monitor_ready)(Process *p, void *userdata);
        void (*monitor_event)(Process *p, const char *name, const Json *data, void *userdata);
        void (*monitor_lost)(Process *p, const Error *error, void *userdata); /* while the shim lives on */
        void (*shim_silent)(Process *p,
                        void *userdata); /* QEMU has ended, and it does not tell: it was killed */
        void (*shim_lost)(Process *p, void *userdata); /* it has ended, and QEMU lives on */
        void (*ended)(Process *p, const ProcessEnd *end, void *userdata); /* (*) */
} ProcessHandlers;

/* Has the shim executed as `launch` says and takes that over (also on failure). unit: the scope that it will
 * be in (copied). timeout_usec: for QEMU's greeting, from its execution. launcher: borrowed. */
int process_launch(sd_event *event, Launcher *launcher, Launch *launch, const char *unit,
                uint64_t timeout_usec, const ProcessHandlers *handlers, void *userdata, Process **ret,
                Error **reterr);
int process_go(Process *p);                 /* after `launched` */
uint64_t process_shim_id(const Process *p); /* for systemd_start_scope() */

/* What another instance needs to find it again. */
typedef struct ProcessIdentity {
        pid_t shim_pid, qemu_pid;
        uint64_t shim_started; /* field 22 of /proc/PID/stat: with the PID it names one process for this boot
                                */
} ProcessIdentity;
void process_identity(const Process *p, ProcessIdentity *ret);
int process_start_time(pid_t pid, uint64_t *ret); /* as in shim_started. -ESRCH */

/* Takes over a process that lives or has just died. monitor_fd (taken over; -EBADF: there is none) is the
 * old connection out of the descriptor store; without it the monitor for people, qmp.sock, is asked.
 * runtime_fd is the folder of its exit record (copied). A process that is gone already is reported through
 * `ended` in the next turn of the loop. */
int process_attach(sd_event *event, Launcher *launcher, const ProcessIdentity *id, const char *unit,
                int monitor_fd, int runtime_fd, const ProcessHandlers *handlers, void *userdata,
                Process **ret);

/* Forgets it, without ending it. */
Process *process_free(Process *p);
DEFINE_CLEANUP(Process *, process_free);

/* The shim, as far as it serves QEMU's console now: SHIM_GONE also before QEMU is executed. */
typedef enum ShimState { SHIM_GONE, SHIM_STOPPED, SHIM_RUNNING } ShimState;
ShimState process_shim_state(const Process *p);

/* QEMU has ended; `ended` follows, when the shim has told how, or has not for too long. */
bool process_qemu_is_gone(const Process *p);

/* Has QEMU, or, before there is one, the shim sent SIGTERM or SIGKILL. -ESRCH when it is gone. */
int process_signal(Process *p, int sig);

Qmp *process_monitor(const Process *p); /* borrowed; NULL: not attached */

/* QEMU, taken over by its qmp.sock, has not greeted there: it talks to one at a time, and somebody else is
 * before us. What it is told goes out when they leave. process_patience(): how long to wait for an answer,
 * which is `usec`, or what is left of the second that a QEMU which talks to nobody would have greeted in; 0
 * when that is over. */
bool process_monitor_is_taken(const Process *p);
uint64_t process_patience(const Process *p, uint64_t usec);

int process_monitor_fd(const Process *p); /* borrowed, for a descriptor store; -EBADF: not attached */
pid_t process_qemu_pid(const Process *p); /* 0 before it is executed */
pid_t process_shim_pid(const Process *p); /* 0 before it is launched */
