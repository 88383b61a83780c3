/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection, and the jobs that make scopes. Of each signal of PID 1 there is one match for all who want
 * it, and only while somebody does. */
#include <stdarg.h>

#include "cgroup.h"
#include "core/bus-paths.h"
#include "systemd-private.h"
#include "util/clock.h"
#include "util/log.h"

/* The bus daemon allows 128 a connection, its own calls (matches) among them. */
#define CALLS_IN_FLIGHT_MAX 64

/* For each job PID 1 watches who asked for it, which takes one of the 512 matches of its own connection; at
 * the end of them it loses that connection. */
#define JOBS_MAX 64

/* Above the deadlines of whoever waits for a scope, so that it is rare. PID 1 may be at a job for longer: it
 * gives a scope that does not end its stop timeout twice, some 200 s. So it watches 64 times 200/60 at most.
 */
#define TURN_TIMEOUT (60 * USEC_PER_SEC)
#define LATE_ACCURACY (1 * USEC_PER_SEC) /* one wake-up for those that began together */

#define MANAGER_SIGNAL(member)                                               \
        "type='signal',sender='" SYSTEMD_DESTINATION "',path='" SYSTEMD_PATH \
        "',interface='" SYSTEMD_MANAGER "',member='" member "'"

struct ScopeJob {
        Systemd *systemd; /* borrowed */
        TAILQ_ENTRY(ScopeJob) link;
        bool starting; /* in the list of these */
        bool held;     /* until our match is there */
        char *unit;
        ScopeSpec spec;                 /* of one that starts; its unit counts for nothing */
        pid_t pid;                      /* that it is made around; once PID 1 has answered */
        char *job;                      /* object path, once PID 1 has named it */
        char *early_result, *early_job; /* the job's end overtook the reply that names it */
        bool asked;                     /* after all that: it may be another's job, or scope */
        Turn turn;
        LaunchCall *call;
        QueuedCall *question;
        scope_done_t done;
        void *userdata;
};

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error);
static void ask_for_starts(Systemd *s);
static void send_held(Systemd *s);

static const struct {
        const char *rule;
        sd_bus_message_handler_t handle;
} signal_table[] = {
        [SYSTEMD_JOB_NEW] = { MANAGER_SIGNAL("JobNew"), scope_watch_on_job_new },
        [SYSTEMD_JOB_REMOVED] = { MANAGER_SIGNAL("JobRemoved"), on_job_removed },
        [SYSTEMD_UNIT_CHANGED] = { "type='signal',sender='" SYSTEMD_DESTINATION
                                   "',path_namespace='" SYSTEMD_PATH
                                   "/unit',interface='org.freedesktop.DBus.Properties',"
                                   "member='PropertiesChanged',arg0='org.freedesktop.systemd1.Unit'",
                        scope_watch_on_unit_changed },
        [SYSTEMD_UNIT_REMOVED] = { MANAGER_SIGNAL("UnitRemoved"), scope_watch_on_unit_removed },
};

/* Without this callback a refusal would cost us the connection. What waits for the signal has a deadline. */
static int on_match_installed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_error(m, NULL))
                log_error("The bus refuses to hand on signals of systemd: %s",
                                sd_bus_message_get_error(m)->message);
        return 0;
}

static int on_signal_match(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        SignalMatch *match = userdata;
        Systemd *s = match->systemd;

        match->installed = true;
        if (match == &s->matches[SYSTEMD_JOB_REMOVED])
                send_held(s);
        return on_match_installed(m, NULL, error);
}

static int on_signal(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const SignalMatch *match = userdata;
        Systemd *s = match->systemd;

        if (!s->owner || !streq_ptr(sd_bus_message_get_sender(m), s->owner))
                return 0;
        return match->handle(m, s, error);
}

int systemd_hold(Systemd *s, SystemdSignal signal) {
        SignalMatch *match = &s->matches[signal];
        int r;

        if (match->users == 0) {
                match->systemd = s;
                match->handle = signal_table[signal].handle;
                match->installed = sd_bus_is_bus_client(s->bus) ==
                                0; /* whoever is spoken to directly has none */
                r = sd_bus_add_match_async(s->bus, &match->slot, signal_table[signal].rule, on_signal,
                                on_signal_match, match);
                if (r < 0)
                        return r;
        }
        match->users++;
        return 0;
}

void systemd_release(Systemd *s, SystemdSignal signal) {
        SignalMatch *match = &s->matches[signal];

        if (--match->users > 0)
                return;
        match->slot = sd_bus_slot_unref(match->slot);
        match->installed = false;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata);

static int await_late(Systemd *s) {
        Turn *oldest = TAILQ_FIRST(&s->lasting);

        if (s->late || !oldest)
                return 0;
        return sd_event_add_time(sd_bus_get_event(s->bus), &s->late, CLOCK_MONOTONIC, oldest->deadline,
                        LATE_ACCURACY, on_late, s);
}

static void end_lasting(Systemd *s, Turn *turn) {
        turn->lasts = false;
        TAILQ_REMOVE(&s->lasting, turn, link);
        if (--s->n_jobs == 0)
                s->late = sd_event_source_disable_unref(s->late);
}

static int begin_turn(Systemd *s, Turn *turn) {
        int r;

        turn->lasts = true;
        turn->deadline = now_usec() + TURN_TIMEOUT;
        TAILQ_INSERT_TAIL(&s->lasting, turn, link);
        s->n_jobs++;
        r = await_late(s);
        if (r >= 0)
                r = turn->go(turn->userdata);
        if (r < 0)
                end_lasting(s, turn);
        return r;
}

int systemd_take_turn(Systemd *s, Turn *turn) {
        if (s->n_jobs < JOBS_MAX)
                return begin_turn(s, turn);
        turn->waits = true;
        TAILQ_INSERT_TAIL(&s->turns, turn, link);
        return 0;
}

static void begin_waiting(Systemd *s) {
        Turn *turn;
        int r;

        while (s->n_jobs < JOBS_MAX && (turn = TAILQ_FIRST(&s->turns))) {
                TAILQ_REMOVE(&s->turns, turn, link);
                turn->waits = false;
                r = begin_turn(s, turn);
                if (r < 0)
                        turn->failed(turn->userdata, r);
        }
}

void systemd_end_turn(Systemd *s, Turn *turn) {
        if (turn->waits)
                TAILQ_REMOVE(&s->turns, turn, link);
        else if (turn->lasts)
                end_lasting(s, turn);
        turn->waits = false;
        begin_waiting(s);
}

/* A scope with a process that hangs in the kernel is not gone before that is. If it goes at last, whoever
 * has waited for it hears so. */
static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        Systemd *s = userdata;
        Turn *turn;
        int r;

        s->late = sd_event_source_disable_unref(s->late);
        while ((turn = TAILQ_FIRST(&s->lasting)) && turn->deadline <= usec + LATE_ACCURACY) {
                log_warning("systemd has been at '%s' for %u s, and is not awaited any more", turn->unit,
                                (unsigned)(TURN_TIMEOUT / USEC_PER_SEC));
                end_lasting(s, turn);
        }
        begin_waiting(s);
        r = await_late(s);
        return r < 0 ? log_error_errno(r, "Cannot tell how long systemd takes: %m") : 0;
}

/* One that is slow gets to it all the same. */
static void on_subscribed(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        Systemd *s = userdata;

        s->subscribe = NULL;
        if (!error)
                return;
        log_error("Cannot subscribe to systemd's signals: %s", error->message);
        if (sd_bus_error_get_errno(error) != ETIMEDOUT)
                (void)sd_event_exit(sd_bus_get_event(s->bus), EXIT_FAILURE);
}

/* It gets another name when it executes itself anew. What it said before has come, or is lost. */
static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Systemd *s = userdata;
        const char *owner;
        int r;

        if (!streq_ptr(sd_bus_message_get_sender(m), BUS_DRIVER) ||
                        sd_bus_message_read(m, "sss", NULL, NULL, &owner) < 0)
                return 0;
        r = free_and_strdup(&s->owner, owner);
        if (r >= 0 && !isempty(owner))
                ask_for_starts(s);
        return r;
}

static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Systemd *s = userdata;
        const char *owner;

        s->owner_asked = sd_bus_slot_unref(s->owner_asked);
        /* Nobody has the name yet: whoever takes it is told of. */
        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "s", &owner) < 0)
                return 0;
        return free_and_strdup(&s->owner, owner);
}

/* The bus answers in order: before any signal that is matched later. */
static int follow_owner(Systemd *s) {
        int r;

        r = sd_bus_add_match_async(s->bus, &s->owner_changed,
                        "type='signal',sender='" BUS_DRIVER "',interface='" BUS_DRIVER
                        "',member='NameOwnerChanged',arg0='" SYSTEMD_DESTINATION "'",
                        on_owner_changed, on_match_installed, s);
        if (r < 0)
                return r;
        return sd_bus_call_method_async(s->bus, &s->owner_asked, BUS_DRIVER, "/org/freedesktop/DBus",
                        BUS_DRIVER, "GetNameOwner", on_owner, s, "s", SYSTEMD_DESTINATION);
}

int systemd_new(sd_bus *bus, Launcher *launcher, const SystemdHandlers *handlers, void *userdata,
                Systemd **ret) {
        _cleanup_(systemd_freep) Systemd *s = malloc(sizeof(Systemd));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Systemd){
                .bus = sd_bus_ref(bus), .launcher = launcher, .handlers = handlers, .userdata = userdata
        };
        TAILQ_INIT(&s->turns);
        TAILQ_INIT(&s->lasting);
        TAILQ_INIT(&s->starts);
        TAILQ_INIT(&s->followed);
        r = call_queue_new(bus, CALLS_IN_FLIGHT_MAX, SYSTEMD_CALL_TIMEOUT, &s->calls);
        if (r >= 0)
                r = follow_owner(s);
        if (r >= 0)
                r = systemd_hold(s, SYSTEMD_JOB_NEW);
        if (r >= 0)
                r = systemd_call(s, on_subscribed, s, &s->subscribe, "Subscribe", NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

Systemd *systemd_free(Systemd *s) {
        if (!s)
                return NULL;
        call_queue_free(s->calls);
        for (SystemdSignal i = 0; i < _SYSTEMD_SIGNAL_MAX; i++)
                sd_bus_slot_unref(s->matches[i].slot);
        sd_bus_slot_unref(s->owner_changed);
        sd_bus_slot_unref(s->owner_asked);
        sd_event_source_disable_unref(s->late);
        free(s->owner);
        strv_free(s->unsettled);
        sd_bus_unref(s->bus);
        free(s);
        return NULL;
}

int systemd_new_call(Systemd *s, const char *method, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(
                        s->bus, ret, SYSTEMD_DESTINATION, SYSTEMD_PATH, SYSTEMD_MANAGER, method);
}

int systemd_call(Systemd *s, call_reply_t reply, void *userdata, QueuedCall **ret, const char *method,
                const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = systemd_new_call(s, method, &m);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = types ? sd_bus_message_appendv(m, types, ap) : 0;
        va_end(ap);
        return r < 0 ? r : call_queue_add(s->calls, m, reply, userdata, ret);
}

int systemd_ask_for_scopes(Systemd *s, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = systemd_new_call(s, "ListUnitsByPatterns", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "asas", 0, 1, "vmctl-*.scope"); /* in any state */
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

int systemd_read_unit(sd_bus_message *m, UnitState *ret) {
        uint32_t job;
        int r;

        r = sd_bus_message_read(m, "(ssssssouso)", &ret->unit, NULL, NULL, &ret->active, NULL, NULL, NULL,
                        &job, &ret->job_type, &ret->job);
        if (r > 0)
                ret->has_job = job != 0;
        return r;
}

int systemd_list_scopes(Systemd *s, char ***ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_strv_ char **scopes = NULL;
        UnitState state;
        int r;

        r = systemd_ask_for_scopes(s, &m);
        if (r >= 0)
                r = sd_bus_call(s->bus, m, SYSTEMD_CALL_TIMEOUT, &error, &reply);
        if (r < 0)
                return log_error_errno(
                                r, "systemd does not tell of its scopes: %s", error.message ?: strerror(-r));
        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 && (r = systemd_read_unit(reply, &state)) > 0) {
                r = strv_extend(&scopes, state.unit);
                if (r >= 0 && (state.has_job || streq(state.active, "deactivating")))
                        r = strv_extend(&s->unsettled, state.unit);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(scopes);
        return 0;
}

int systemd_list_processes(Systemd *s, const char *unit, scope_process_t found, void *userdata) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        const char *command;
        uint32_t pid;
        int r;

        r = systemd_new_call(s, "GetUnitProcesses", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", unit);
        if (r >= 0)
                r = sd_bus_call(s->bus, m, SYSTEMD_CALL_TIMEOUT, &error, &reply);
        if (r < 0 && sd_bus_error_has_name(&error, "org.freedesktop.systemd1.NoSuchUnit"))
                return 0;
        if (r < 0)
                return log_error_errno(r, "systemd does not tell what runs in '%s': %s", unit,
                                error.message ?: strerror(-r));
        r = sd_bus_message_enter_container(reply, 'a', "(sus)");
        while (r >= 0 && (r = sd_bus_message_read(reply, "(sus)", NULL, &pid, &command)) > 0)
                found((pid_t)pid, command, userdata);
        return r;
}

static void stop_listening(ScopeJob *j) {
        systemd_end_turn(j->systemd, &j->turn);
        if (!j->starting)
                return;
        j->starting = false;
        TAILQ_REMOVE(&j->systemd->starts, j, link);
        systemd_release(j->systemd, SYSTEMD_JOB_REMOVED);
}

ScopeJob *scope_job_free(ScopeJob *j) {
        if (!j)
                return NULL;
        launch_call_cancel(j->call);
        queued_call_cancel(j->question);
        stop_listening(j);
        free(j->unit);
        free(j->job);
        free(j->early_job);
        free(j->early_result);
        free(j);
        return NULL;
}

static ScopeJob *find_start(const Systemd *s, const char *unit) {
        ScopeJob *j;

        TAILQ_FOREACH(j, &s->starts, link)
                if (streq(j->unit, unit))
                        return j;
        return NULL;
}

bool systemd_starts(const Systemd *s, const char *unit) {
        return find_start(s, unit);
}

/* The last thing that happens to a job; its owner frees it in the callback. */
static void finish(ScopeJob *j, int r, const Error *error) {
        j->call = launch_call_cancel(j->call);
        j->question = queued_call_cancel(j->question);
        stop_listening(j);
        j->done(j->userdata, r, error);
}

/* PID 1 has put our process there, which is the last that it does for a scope to start. */
static bool is_settled(const ScopeJob *j) {
        _cleanup_free_ char *unit = NULL;

        return cgroup_unit_of_pid(j->pid, &unit) >= 0 && streq(unit, j->unit);
}

static void finish_unsettled(ScopeJob *j, bool exists) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_SCOPE_FAILED,
                        exists ? "systemd cannot start '%s': there is one of another process"
                               : "systemd does not know of '%s' any more, which it was to start",
                        j->unit);
        finish(j, exists ? -EEXIST : -EIO, e);
}

static void finish_job(ScopeJob *j, const char *result) {
        _cleanup_error_ Error *e = NULL;

        if (streq(result, "done") && j->asked && !is_settled(j))
                return finish_unsettled(j, true);
        if (streq(result, "done"))
                return finish(j, 0, NULL);
        (void)error_set(&e, ERROR_SCOPE_FAILED, "systemd's job to start '%s' ended as '%s'", j->unit,
                        result);
        finish(j, -EIO, e);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *job, *unit, *result;
        Systemd *s = userdata;
        ScopeJob *j;

        if (sd_bus_message_read(m, "uoss", NULL, &job, &unit, &result) < 0)
                return 0;
        scope_watch_job_removed(s, unit);
        j = find_start(s, unit);
        if (!j)
                return 0;
        if (!j->job) {
                (void)free_and_strdup(&j->early_job, job);
                (void)free_and_strdup(&j->early_result, result);
        } else if (streq(job, j->job))
                finish_job(j, result);
        return 0;
}

static void fail_job(ScopeJob *j, int r, const char *what, const char *words) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_SCOPE_FAILED, "systemd cannot %s '%s': %s", what, j->unit,
                        words ?: strerror(-r));
        finish(j, r, e);
}

/* False: PID 1 knows of none. `ret` borrows from the message. */
static bool find_unit(sd_bus_message *m, const char *unit, UnitState *ret) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(ssssssouso)");
        while (r >= 0 && (r = systemd_read_unit(m, ret)) > 0)
                if (streq(ret->unit, unit))
                        return true;
        return false;
}

/* PID 1 says all in order: the end of a job that it knew of when it answered comes after the answer. */
static void on_asked(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        UnitState state = {};
        ScopeJob *j = userdata;
        bool exists;
        int r;

        j->question = NULL;
        if (error) {
                r = -sd_bus_error_get_errno(error);
                fail_job(j, r < 0 ? r : -EIO, "tell of", error->message);
                return;
        }
        exists = find_unit(m, j->unit, &state);
        if (exists && state.has_job && streq(state.job_type, "start")) {
                j->asked = true;
                if (free_and_strdup(&j->job, state.job) < 0)
                        finish(j, -ENOMEM, NULL);
        } else if (is_settled(j))
                finish(j, 0, NULL);
        else
                finish_unsettled(j, exists);
}

/* What PID 1 said of it may be lost: whether it is still at it, has done it, or is not about to. */
static int ask(ScopeJob *j) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = systemd_ask_for_scopes(j->systemd, &m);
        return r < 0 ? r : call_queue_add(j->systemd->calls, m, on_asked, j, &j->question);
}

/* A call that is still unanswered is made again by itself. */
static void ask_for_starts(Systemd *s) {
        ScopeJob *j;
        int r;

        TAILQ_FOREACH(j, &s->starts, link) {
                r = j->job && !j->question ? ask(j) : 0;
                if (r < 0) /* whoever waits has a deadline */
                        log_error_errno(r, "Cannot ask systemd for '%s': %m", j->unit);
        }
}

static void on_started(void *userdata, const LaunchAnswer *a) {
        ScopeJob *j = userdata;
        int r;

        j->call = NULL;
        j->pid = a->pid;
        /* One that is in the way; or PID 1 has it from us, but lost its connection before it said so, and
         * was asked again. Then it may not have come to it yet. */
        if (a->error == -EEXIST) {
                r = ask(j);
                if (r < 0)
                        finish(j, r, NULL);
                return;
        }
        if (a->error < 0) {
                fail_job(j, a->error, "start", a->text);
                return;
        }
        if (!a->text || free_and_strdup(&j->job, a->text) < 0) {
                finish(j, -ENOMEM, NULL);
                return;
        }
        if (j->early_job && streq(j->early_job, j->job))
                finish_job(j, j->early_result);
}

static int job_new(Systemd *s, const char *unit, scope_done_t done, void *userdata, ScopeJob **ret) {
        ScopeJob *j = malloc(sizeof(ScopeJob));

        if (!j)
                return -ENOMEM;
        *j = (ScopeJob){ .systemd = s, .unit = strdup(unit), .done = done, .userdata = userdata };
        if (!j->unit) {
                scope_job_free(j);
                return -ENOMEM;
        }
        *ret = j;
        return 0;
}

/* The launcher asks over a connection of its own, which the bus may read before ours: so not before our
 * match is there. */
static int send_start(void *userdata) {
        ScopeJob *j = userdata;
        const ScopeSpec *spec = &j->spec;

        j->held = !j->systemd->matches[SYSTEMD_JOB_REMOVED].installed;
        if (j->held)
                return 0;
        return launcher_start_scope(j->systemd->launcher, spec->shim, j->unit, &spec->limits, spec->kvm,
                        spec->stop_timeout, on_started, j, &j->call);
}

static void on_unsent(void *userdata, int r) {
        finish(userdata, r, NULL);
}

/* Whoever hears that one cannot be sent may begin or end others. */
static void send_held(Systemd *s) {
        ScopeJob *j;

        do {
                TAILQ_FOREACH(j, &s->starts, link)
                        if (j->held)
                                break;
                if (j) {
                        int r = send_start(j);

                        if (r < 0)
                                on_unsent(j, r);
                }
        } while (j);
}

int systemd_start_scope(
                Systemd *s, const ScopeSpec *spec, scope_done_t done, void *userdata, ScopeJob **ret) {
        _cleanup_(scope_job_freep) ScopeJob *j = NULL;
        int r;

        r = job_new(s, spec->unit, done, userdata, &j);
        if (r < 0)
                return r;
        j->spec = *spec;
        j->turn = (Turn){ .unit = j->unit, .go = send_start, .failed = on_unsent, .userdata = j };
        /* The ends of all jobs, while we wait: sd-bus matches no argument that stands behind a number. */
        r = systemd_hold(s, SYSTEMD_JOB_REMOVED);
        if (r < 0)
                return r;
        j->starting = true;
        TAILQ_INSERT_TAIL(&s->starts, j, link);
        r = systemd_take_turn(s, &j->turn);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(j);
        return 0;
}

static void on_limits_set(void *userdata, const LaunchAnswer *a) {
        ScopeJob *j = userdata;

        j->call = NULL;
        if (a->error < 0)
                fail_job(j, a->error, "change the limits of", a->text);
        else
                finish(j, 0, NULL);
}

int systemd_set_limits(Systemd *s, const char *unit, const VmLimits *limits, scope_done_t done,
                void *userdata, ScopeJob **ret) {
        _cleanup_(scope_job_freep) ScopeJob *j = NULL;
        int r;

        r = job_new(s, unit, done, userdata, &j);
        if (r >= 0)
                r = launcher_set_limits(s->launcher, unit, limits, on_limits_set, j, &j->call);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(j);
        return 0;
}

void systemd_kill_scope(Systemd *s, const char *unit) {
        int r;

        r = launcher_kill_scope(s->launcher, unit);
        if (r < 0)
                log_error_errno(r, "Cannot have systemd kill '%s': %m", unit);
}
