/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* vmctl-launch, as vmctld sees it: whoever wants a program of ours to run, or a scope changed, asks here.
 * Nothing waits for it: what is asked goes out at once, or when the socket has room again, and answers come
 * from the loop.
 *
 * When it is lost, all that it was asked fails, and what it has run for us ends with it, but shims. The next
 * request finds or starts a new one. */

#include <signal.h>
#include <systemd/sd-event.h>

#include "protocol/launch-protocol.h"
#include "util/error.h"

typedef struct Launcher Launcher;
typedef struct Launched Launched;
typedef struct LaunchCall LaunchCall;

/* socket: where it listens (copied); NULL: it is started as a child of ours, for a user's own instance or
 * the system's. */
int launcher_new(sd_event *event, const char *socket, bool user, Launcher **ret);

/* Now, rather than with the first request. Negative errno, which is logged. */
int launcher_connect(Launcher *l);

/* Whoever has a LaunchCall, or cares for a Launched, frees it before: the others are told that they have
 * ended. */
Launcher *launcher_free(Launcher *l);
DEFINE_CLEANUP(Launcher *, launcher_free);

typedef struct LaunchFile {
        int fd;     /* borrowed */
        int target; /* its number in the program */
} LaunchFile;

typedef struct LaunchSpec {
        LaunchProgram program;
        char *const *options; /* NULL: none; those of identity and devices are the launcher's */
        const LaunchFile *files;
        size_t n_files;           /* up to PACKET_FDS_MAX */
        uid_t uid;                /* that it becomes; 0 in a user's own instance */
        bool kvm;                 /* it may use /dev/kvm */
        char *const *environment; /* settings of proxies, as they are in ours; NULL: none */
} LaunchSpec;

typedef struct LaunchEnd {
        int error; /* 0, or why it was not executed (negative errno); -ECONNRESET: how it ended is lost */
        int code, status; /* as siginfo_t has them */
} LaunchEnd;

typedef struct LaunchHandlers {
        /* It was executed. The pidfd is the callee's. NULL for those who need to hear of its end alone, also
         * when the launcher is lost: others watch the pidfd. */
        void (*started)(pid_t pid, int pidfd, void *userdata);
        /* Once: it has ended, or never was. The owner frees the handle in this callback or later. */
        void (*ended)(const LaunchEnd *end, void *userdata);
} LaunchHandlers;

/* -E2BIG, -EMSGSIZE: too much for one request; others: the launcher cannot be reached. The handlers are
 * borrowed and must outlive the handle. */
int launcher_run(Launcher *l, const LaunchSpec *spec, const LaunchHandlers *handlers, void *userdata,
                Launched **ret);

/* The error for what launcher_run() returned; `what` is as in "run vmctl-prepare". */
int launcher_set_error(Error **reterr, int r, const char *what);

/* Names it for launcher_start_scope(), also when it has ended. */
uint64_t launched_id(const Launched *c);

void launched_kill(Launched *c); /* SIGKILL to it and its group; its end is told as any other */
bool launched_has_ended(const Launched *c);

/* Nobody is told any more; the program goes on. Returns NULL. */
Launched *launched_free(Launched *c);
DEFINE_CLEANUP(Launched *, launched_free);

/* What PID 1 said. Called once, unless the call is cancelled before; the handle is no more. */
typedef struct LaunchAnswer {
        int error;        /* 0, or a negative errno; -EEXIST: there is such a unit; -ENOENT: there is none;
                           * -ECONNRESET: the launcher was lost */
        const char *text; /* the job's object path, or words; may be NULL */
        pid_t pid;        /* that the scope is made around */
} LaunchAnswer;
typedef void (*launch_reply_t)(void *userdata, const LaunchAnswer *answer);

/* Around a program that was run as LAUNCH_SHIM; -ESRCH when it has ended. */
int launcher_start_scope(Launcher *l, uint64_t around, const char *unit, const VmLimits *limits, bool kvm,
                uint64_t stop_timeout_usec, launch_reply_t reply, void *userdata, LaunchCall **ret);
int launcher_set_limits(Launcher *l, const char *unit, const VmLimits *limits, launch_reply_t reply,
                void *userdata, LaunchCall **ret);
LaunchCall *launch_call_cancel(LaunchCall *c);

/* Nobody waits for these. When the launcher is lost before it has done them the next one is asked at once.
 */
int launcher_stop_scope(Launcher *l, const char *unit);
int launcher_kill_scope(Launcher *l, const char *unit);
int launcher_signal(Launcher *l, int pidfd, const char *unit, int sig);
