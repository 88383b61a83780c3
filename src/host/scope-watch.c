/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What PID 1 does to our scopes, by a number of matches that does not grow with them, and without a wake-up
 * while it does nothing.
 *
 * PID 1 stops a scope by a job, so JobNew is always listened to. A job says little: one to stop a scope may
 * wait long for units that are ordered before. So from then on the scope is followed, by the signal that any
 * unit has changed and by one survey of the states of all scopes, until it has no job or is deactivating.
 * The survey is asked for after the signals are, and PID 1 sends in order: so it is newer than the signal
 * which caused it, also where it was under way already.
 *
 * UnitRemoved is listened to while somebody waits for a scope to go. */
#include <search.h>

#include "systemd-private.h"
#include "util/log.h"

struct ScopeWatch {
        Systemd *systemd; /* borrowed */
        char *unit;
        TAILQ_ENTRY(ScopeWatch) link; /* of those that are followed */
        bool followed, surveyed;
        bool awaited; /* its end */
        bool kill;    /* whatever is in it */
        Turn turn;    /* for the job that stops it */
        QueuedCall *check;
};

static int compare(const void *a, const void *b) {
        return strcmp(((const ScopeWatch *)a)->unit, ((const ScopeWatch *)b)->unit);
}

static ScopeWatch *find(const Systemd *s, const char *unit) {
        const ScopeWatch key = { .unit = (char *)unit };
        void *node = tfind(&key, &s->watches, compare);

        return node ? *(ScopeWatch **)node : NULL;
}

static void unfollow(ScopeWatch *w) {
        Systemd *s = w->systemd;

        if (!w->followed)
                return;
        w->followed = w->surveyed = false;
        TAILQ_REMOVE(&s->followed, w, link);
        systemd_release(s, SYSTEMD_JOB_REMOVED);
        systemd_release(s, SYSTEMD_UNIT_CHANGED);
        if (TAILQ_EMPTY(&s->followed)) /* whoever is followed next must be heard of before it is asked */
                s->survey = queued_call_cancel(s->survey);
}

static void note_state(ScopeWatch *w, const char *state) {
        Systemd *s = w->systemd;

        if (!streq(state, "deactivating"))
                return;
        unfollow(w);
        s->handlers->request_stop(w->unit, s->userdata);
}

static void read_survey(Systemd *s, sd_bus_message *m) {
        UnitState state;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
        while (r >= 0 && (r = systemd_read_unit(m, &state)) > 0) {
                ScopeWatch *w = find(s, state.unit);

                if (!w || !w->followed)
                        continue;
                w->surveyed = state.has_job;
                note_state(w, state.active);
        }
}

static void on_survey(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        ScopeWatch *w, *next;
        Systemd *s = userdata;

        s->survey = NULL;
        if (error) {
                log_warning("systemd does not tell of its scopes, ignoring: %s", error->message);
                return;
        }
        read_survey(s, m);
        /* Those that are gone, or have no job any more */
        for (w = TAILQ_FIRST(&s->followed); w; w = next) {
                next = TAILQ_NEXT(w, link);
                if (!w->surveyed)
                        unfollow(w);
                w->surveyed = false;
        }
}

static int survey(Systemd *s) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        if (s->survey)
                return 0;
        r = systemd_ask_for_scopes(s, &m);
        return r < 0 ? r : call_queue_add(s->calls, m, on_survey, s, &s->survey);
}

static int hold_both(Systemd *s) {
        int r;

        r = systemd_hold(s, SYSTEMD_JOB_REMOVED);
        if (r < 0)
                return r;
        r = systemd_hold(s, SYSTEMD_UNIT_CHANGED);
        if (r < 0)
                systemd_release(s, SYSTEMD_JOB_REMOVED);
        return r;
}

static void follow(ScopeWatch *w) {
        Systemd *s = w->systemd;
        int r = 0;

        if (!w->followed) {
                r = hold_both(s);
                if (r >= 0) {
                        w->followed = true;
                        TAILQ_INSERT_TAIL(&s->followed, w, link);
                }
        }
        if (r >= 0)
                r = survey(s);
        if (r < 0)
                log_error_errno(r, "Cannot see whether systemd stops '%s': %m", w->unit);
}

int scope_watch_on_job_new(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Systemd *s = userdata;
        const char *unit;
        ScopeWatch *w;

        if (sd_bus_message_read(m, "uos", NULL, NULL, &unit) < 0)
                return 0;
        w = find(s, unit);
        if (w && !w->awaited && !systemd_starts(s, unit)) /* else the job is ours */
                follow(w);
        return 0;
}

/* The state that it leaves behind may be told later, or, if the job was canceled, stay for long. */
void scope_watch_job_removed(Systemd *s, const char *unit) {
        ScopeWatch *w = find(s, unit);

        if (w && w->followed)
                follow(w);
}

/* The value of ActiveState among what has changed; NULL: it has not. */
static const char *changed_state(sd_bus_message *m) {
        const char *name, *state;
        int r;

        r = sd_bus_message_skip(m, "s");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0 && streq(name, "ActiveState"))
                        return sd_bus_message_read(m, "v", "s", &state) >= 0 ? state : NULL;
                if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return NULL;
}

int scope_watch_on_unit_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_free_ char *unit = NULL;
        Systemd *s = userdata;
        const char *state;
        ScopeWatch *w;

        if (sd_bus_path_decode(sd_bus_message_get_path(m), SYSTEMD_PATH "/unit", &unit) <= 0)
                return 0;
        w = find(s, unit);
        state = w && w->followed ? changed_state(m) : NULL;
        if (state)
                note_state(w, state);
        return 0;
}

/* A scope that nobody has left yet, one that PID 1 keeps for ever because it never saw it empty, or one that
 * has failed. */
static int stop(void *userdata) {
        ScopeWatch *w = userdata;
        Systemd *s = w->systemd;

        if (w->kill)
                systemd_kill_scope(s, w->unit);
        return launcher_stop_scope(s->launcher, w->unit);
}

static void on_not_stopped(void *userdata, int r) {
        const ScopeWatch *w = userdata;

        log_error_errno(r, "Cannot have systemd stop '%s': %m", w->unit);
}

int systemd_watch_scope(Systemd *s, const char *unit, bool exists, ScopeWatch **ret) {
        ScopeWatch *w;

        if (find(s, unit))
                return -EEXIST;
        w = malloc(sizeof(ScopeWatch));
        if (!w)
                return -ENOMEM;
        *w = (ScopeWatch){ .systemd = s, .unit = strdup(unit) };
        w->turn = (Turn){ .unit = w->unit, .go = stop, .failed = on_not_stopped, .userdata = w };
        if (!w->unit || !tsearch(w, &s->watches, compare)) {
                free(w->unit);
                free(w);
                return -ENOMEM;
        }
        if (exists && strv_contains(s->unsettled, unit))
                follow(w);
        *ret = w;
        return 0;
}

static void stop_waiting(ScopeWatch *w) {
        w->check = queued_call_cancel(w->check);
        systemd_end_turn(w->systemd, &w->turn);
        if (!w->awaited)
                return;
        w->awaited = false;
        systemd_release(w->systemd, SYSTEMD_UNIT_REMOVED);
}

void systemd_leave_scope(ScopeWatch *w) {
        if (!w)
                return;
        stop_waiting(w);
        w->kill = false;
}

ScopeWatch *systemd_unwatch_scope(ScopeWatch *w) {
        if (!w)
                return NULL;
        unfollow(w);
        stop_waiting(w);
        (void)tdelete(w, &w->systemd->watches, compare);
        free(w->unit);
        free(w);
        return NULL;
}

/* May free the watch. */
static void removed(ScopeWatch *w) {
        stop_waiting(w);
        w->systemd->handlers->scope_removed(w->unit, w->systemd->userdata);
}

/* What is asked first tells whether there is a scope. One that was removed before is not meant, nor a unit
 * that never was: PID 1 looks for a unit that it is to stop, and tells that it is removed when there was
 * none. */
int scope_watch_on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *unit;
        ScopeWatch *w;

        if (sd_bus_message_read(m, "so", &unit, NULL) < 0)
                return 0;
        w = find(userdata, unit);
        if (w && w->awaited && !w->check)
                removed(w);
        return 0;
}

/* A process that is about to end has no command line any more: PID 1 says nothing of it, or its name in
 * brackets, with or without quotation marks. */
static bool find_process(sd_bus_message *m, pid_t *ret_pid, const char **ret_command) {
        const char *command;
        uint32_t pid;

        while (sd_bus_message_read(m, "(sus)", NULL, &pid, &command) > 0)
                if (!isempty(command) && *command != '[' && !startswith(command, "\"[")) {
                        *ret_pid = (pid_t)pid;
                        *ret_command = command;
                        return true;
                }
        return false;
}

/* An answer that is no answer lets things go on, too: what they ask of PID 1 next fails with a reason. */
static void on_checked(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        ScopeWatch *w = userdata;
        const char *command;
        pid_t pid;
        int r;

        w->check = NULL;
        if (w->kill && error && !sd_bus_error_has_name(error, "org.freedesktop.systemd1.NoSuchUnit")) {
                stop_waiting(w); /* whoever waits has a deadline: what may run is not taken for gone */
                log_error("systemd does not tell what is in '%s': %s", w->unit, error->message);
                return;
        }
        if (error || sd_bus_message_enter_container(m, 'a', "(sus)") < 0) {
                removed(w);
                return;
        }
        if (w->kill || !find_process(m, &pid, &command)) {
                r = systemd_take_turn(w->systemd, &w->turn);
                if (r < 0)
                        on_not_stopped(w, r);
                return;
        }
        stop_waiting(w);
        w->systemd->handlers->scope_in_use(w->unit, pid, command, w->systemd->userdata);
}

static void await_end(ScopeWatch *w) {
        Systemd *s = w->systemd;
        int r;

        if (w->awaited)
                return;
        r = systemd_hold(s, SYSTEMD_UNIT_REMOVED);
        if (r >= 0) {
                w->awaited = true;
                r = systemd_call(s, on_checked, w, &w->check, "GetUnitProcesses", "s", w->unit);
        }
        if (r < 0) {
                stop_waiting(w);
                log_error_errno(r, "Whether '%s' is still there stays unknown: %m", w->unit);
        }
}

/* If it is being cleared it is not known yet whether it may be ended. */
void systemd_end_scope(ScopeWatch *w) {
        if (!w->awaited)
                w->kill = true;
        await_end(w);
}

void systemd_clear_scope(ScopeWatch *w) {
        await_end(w);
}
