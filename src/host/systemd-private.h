/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What systemd.c and scope-watch.c share: the connection, and the matches on PID 1's signals. */

#include <sys/queue.h>

#include "call-queue.h"
#include "systemd.h"

#define SYSTEMD_DESTINATION "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"

typedef enum SystemdSignal {
        SYSTEMD_JOB_NEW, /* held for good */
        SYSTEMD_JOB_REMOVED,
        SYSTEMD_UNIT_CHANGED,
        SYSTEMD_UNIT_REMOVED,
        _SYSTEMD_SIGNAL_MAX,
} SystemdSignal;

/* A place among the jobs that we have PID 1 do at a time. `go` asks for the job; it is called once, at once
 * or later, and tells of a failure that comes later itself. A turn that lasts too long is over for those
 * that wait, but not for whoever has taken it. */
typedef struct Turn {
        TAILQ_ENTRY(Turn) link;
        const char *unit; /* borrowed */
        bool waits, lasts;
        uint64_t deadline; /* CLOCK_MONOTONIC usec; of one that lasts */
        int (*go)(void *userdata);
        void (*failed)(void *userdata, int r);
        void *userdata;
} Turn;

typedef TAILQ_HEAD(TurnList, Turn) TurnList;
typedef TAILQ_HEAD(ScopeJobList, ScopeJob) ScopeJobList;
typedef TAILQ_HEAD(ScopeWatchList, ScopeWatch) ScopeWatchList;

typedef struct SignalMatch {
        Systemd *systemd; /* borrowed */
        sd_bus_message_handler_t handle;
        sd_bus_slot *slot;
        unsigned users;
        bool installed; /* the bus has said so: nothing that is asked of PID 1 now, by whomever, is missed */
} SignalMatch;

struct Systemd {
        sd_bus *bus;
        Launcher *launcher; /* borrowed */
        sd_bus_slot *owner_changed, *owner_asked;
        char *owner; /* PID 1's unique name, as far as it is known: others' signals are not its */
        CallQueue *calls;
        const SystemdHandlers *handlers;
        void *userdata;
        QueuedCall *subscribe, *survey;
        SignalMatch matches[_SYSTEMD_SIGNAL_MAX];
        TurnList turns;          /* those that wait */
        TurnList lasting;        /* the oldest first */
        unsigned n_jobs;         /* of these */
        sd_event_source *late;   /* owned; there while one lasts */
        ScopeJobList starts;     /* of scopes */
        void *watches;           /* tsearch() tree of ScopeWatch, by unit */
        ScopeWatchList followed; /* those of them whose state is being followed */
        char **unsettled;        /* scopes that had a job, or were stopping, at start-up */
};

/* A signal comes between hold and release. What is asked of PID 1 after hold cannot miss it: the bus daemon
 * works in order. */
int systemd_hold(Systemd *s, SystemdSignal signal);
void systemd_release(Systemd *s, SystemdSignal signal);

int systemd_take_turn(Systemd *s, Turn *turn);
void systemd_end_turn(Systemd *s, Turn *turn); /* one that was never taken, too */

int systemd_new_call(Systemd *s, const char *method, sd_bus_message **ret);
int systemd_call(Systemd *s, call_reply_t reply, void *userdata, QueuedCall **ret, const char *method,
                const char *types, ...);
bool systemd_starts(const Systemd *s, const char *unit); /* the scope, right now */

/* Of PID 1's list of units, which is an array of these */
typedef struct UnitState {
        const char *unit, *active; /* borrowed from the message, as the rest */
        bool has_job;
        const char *job_type, *job; /* its object path; where there is one */
} UnitState;
int systemd_ask_for_scopes(Systemd *s, sd_bus_message **ret);
int systemd_read_unit(sd_bus_message *m, UnitState *ret); /* 1; 0 at the end of the array */

int scope_watch_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *error);
void scope_watch_job_removed(Systemd *s, const char *unit);
int scope_watch_on_unit_changed(sd_bus_message *m, void *userdata, sd_bus_error *error);
int scope_watch_on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *error);
