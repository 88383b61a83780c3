/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals of PID 1 are matched by the scope's name in the bus daemon, so that a host where units come and go
 * all day does not wake us. A match is asked for on the same connection and before the call that it is for:
 * the bus daemon works in order, so the signal cannot be missed. */
#include <signal.h>
#include <stdarg.h>

#include "systemd.h"
#include "util/log.h"

#define DESTINATION "org.freedesktop.systemd1"
#define MANAGER_PATH "/org/freedesktop/systemd1"
#define MANAGER_INTERFACE "org.freedesktop.systemd1.Manager"

struct Systemd {
        sd_bus *bus; /* borrowed */
        const SystemdHandlers *handlers;
        void *userdata;
        sd_bus_slot *subscribe;
};

struct ScopeJob {
        Systemd *systemd; /* borrowed */
        char *unit;
        char *job;                      /* object path, once PID 1 has named it */
        char *early_result, *early_job; /* the job's end overtook the reply that names it */
        sd_bus_slot *call, *match;
        scope_done_t done;
        void *userdata;
};

struct ScopeWatch {
        Systemd *systemd; /* borrowed */
        char *unit;
        sd_bus_slot *removed, *changed, *state, *check;
        bool exists; /* what is removed now is the scope */
};

static int on_subscribed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Systemd *s = userdata;

        if (sd_bus_message_is_method_error(m, NULL))
                log_warning("Failed to subscribe to systemd's signals: %s",
                                sd_bus_message_get_error(m)->message);
        s->subscribe = sd_bus_slot_unref(s->subscribe);
        return 0;
}

int systemd_new(sd_bus *bus, const SystemdHandlers *handlers, void *userdata, Systemd **ret) {
        _cleanup_(systemd_freep) Systemd *s = malloc(sizeof(Systemd));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (Systemd){ .bus = bus, .handlers = handlers, .userdata = userdata };
        r = sd_bus_call_method_async(bus, &s->subscribe, DESTINATION, MANAGER_PATH, MANAGER_INTERFACE,
                        "Subscribe", on_subscribed, s, NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

Systemd *systemd_free(Systemd *s) {
        if (!s)
                return NULL;
        sd_bus_slot_unref(s->subscribe);
        free(s);
        return NULL;
}

static int new_call(Systemd *s, const char *method, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(
                        s->bus, ret, DESTINATION, MANAGER_PATH, MANAGER_INTERFACE, method);
}

int systemd_list_scopes(Systemd *s, char ***ret) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_strv_ char **scopes = NULL;
        const char *unit;
        int r;

        r = new_call(s, "ListUnitsByPatterns", &m);
        if (r >= 0)
                r = sd_bus_message_append(
                                m, "asas", 3, "active", "activating", "deactivating", 1, "vmctl-*.scope");
        if (r >= 0)
                r = sd_bus_call(s->bus, m, SYSTEMD_CALL_TIMEOUT, &error, &reply);
        if (r < 0)
                return log_error_errno(
                                r, "systemd does not tell of its scopes: %s", error.message ?: strerror(-r));
        r = sd_bus_message_enter_container(reply, 'a', "(ssssssouso)");
        while (r >= 0 &&
                        (r = sd_bus_message_read(reply, "(ssssssouso)", &unit, NULL, NULL, NULL, NULL, NULL,
                                         NULL, NULL, NULL, NULL)) > 0)
                r = strv_extend(&scopes, unit);
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

        r = new_call(s, "GetUnitProcesses", &m);
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

static int on_unit_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeWatch *w = userdata;
        const char *unit;

        /* StopUnit of a scope that has just gone has PID 1 look for a unit of that name, find none, and tell
         * that this is removed, which may come when the next run waits for its scope to be made. */
        if (w->exists && sd_bus_message_read(m, "s", &unit) >= 0)
                w->systemd->handlers->scope_removed(unit, w->systemd->userdata);
        return 0;
}

static void note_state(ScopeWatch *w, const char *state) {
        if (streq(state, "deactivating"))
                w->systemd->handlers->request_stop(w->unit, w->systemd->userdata);
}

static int on_state(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeWatch *w = userdata;
        const char *state;

        w->state = sd_bus_slot_unref(w->state);
        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "s", &state) >= 0)
                note_state(w, state);
        return 0;
}

static int on_properties_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeWatch *w = userdata;
        int r;

        r = sd_bus_message_skip(m, "s");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                const char *name, *state;

                r = sd_bus_message_read(m, "s", &name);
                if (r < 0)
                        break;
                if (streq(name, "ActiveState")) {
                        if (sd_bus_message_read(m, "v", "s", &state) >= 0)
                                note_state(w, state);
                        break;
                }
                r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return 0;
}

/* By the object's path, so that only this unit's changes wake us; and by asking, for what happened before.
 */
static int watch_state(ScopeWatch *w, bool exists) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = sd_bus_path_encode(MANAGER_PATH "/unit", w->unit, &path);
        if (r >= 0)
                r = sd_bus_match_signal_async(w->systemd->bus, &w->changed, DESTINATION, path,
                                "org.freedesktop.DBus.Properties", "PropertiesChanged",
                                on_properties_changed, NULL, w);
        if (r >= 0 && exists)
                r = sd_bus_call_method_async(w->systemd->bus, &w->state, DESTINATION, path,
                                "org.freedesktop.DBus.Properties", "Get", on_state, w, "ss",
                                "org.freedesktop.systemd1.Unit", "ActiveState");
        return r;
}

int systemd_watch_scope(Systemd *s, const char *unit, bool exists, ScopeWatch **ret) {
        _cleanup_free_ char *match = strf("type='signal',sender='" DESTINATION "',path='" MANAGER_PATH
                                          "',interface='" MANAGER_INTERFACE
                                          "',member='UnitRemoved',arg0='%s'",
                        unit);
        ScopeWatch *w = malloc(sizeof(ScopeWatch));
        int r = match && w ? 0 : -ENOMEM;

        if (r < 0) {
                free(w);
                return r;
        }
        *w = (ScopeWatch){ .systemd = s, .unit = strdup(unit), .exists = exists };
        r = w->unit ? sd_bus_add_match_async(s->bus, &w->removed, match, on_unit_removed, NULL, w) : -ENOMEM;
        if (r >= 0)
                r = watch_state(w, exists);
        if (r < 0) {
                systemd_unwatch_scope(w);
                return r;
        }
        *ret = w;
        return 0;
}

void systemd_scope_is_made(ScopeWatch *w) {
        if (w)
                w->exists = true;
}

ScopeWatch *systemd_unwatch_scope(ScopeWatch *w) {
        if (!w)
                return NULL;
        sd_bus_slot_unref(w->removed);
        sd_bus_slot_unref(w->changed);
        sd_bus_slot_unref(w->state);
        sd_bus_slot_unref(w->check);
        free(w->unit);
        free(w);
        return NULL;
}

static void call_and_forget(Systemd *s, const char *method, const char *types, ...) {
        va_list ap;

        va_start(ap, types);
        (void)sd_bus_call_method_asyncv(s->bus, NULL, DESTINATION, MANAGER_PATH, MANAGER_INTERFACE, method,
                        NULL, NULL, types, ap);
        va_end(ap);
}

/* A scope that nobody has left yet, or, where its process died while PID 1 put it in, one that PID 1 would
 * keep for ever because it never saw it empty. */
static void end_scope(const ScopeWatch *w) {
        systemd_kill_scope(w->systemd, w->unit);
        call_and_forget(w->systemd, "StopUnit", "ss", w->unit, "replace");
}

/* An answer that is no answer lets things go on, too: what they ask of PID 1 next fails with a reason. */
static int on_checked(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeWatch *w = userdata;

        w->check = sd_bus_slot_unref(w->check);
        if (sd_bus_message_is_method_error(m, NULL)) {
                w->systemd->handlers->scope_removed(w->unit, w->systemd->userdata);
                return 0;
        }
        w->exists = true;
        end_scope(w);
        return 0;
}

void systemd_end_scope(ScopeWatch *w) {
        Systemd *s = w->systemd;

        if (w->check)
                return;
        if (sd_bus_call_method_async(s->bus, &w->check, DESTINATION, MANAGER_PATH, MANAGER_INTERFACE,
                            "GetUnit", on_checked, w, "s", w->unit) < 0)
                log_error("Out of memory: whether '%s' is still there stays unknown", w->unit);
}

ScopeJob *scope_job_free(ScopeJob *j) {
        if (!j)
                return NULL;
        sd_bus_slot_unref(j->call);
        sd_bus_slot_unref(j->match);
        free(j->unit);
        free(j->job);
        free(j->early_job);
        free(j->early_result);
        free(j);
        return NULL;
}

/* The last thing that happens to a job; its owner frees it in the callback. */
static void finish(ScopeJob *j, int r, const Error *error) {
        j->call = sd_bus_slot_unref(j->call);
        j->match = sd_bus_slot_unref(j->match);
        j->done(j->userdata, r, error);
}

static void finish_job(ScopeJob *j, const char *result) {
        _cleanup_error_ Error *e = NULL;

        if (streq(result, "done"))
                return finish(j, 0, NULL);
        (void)error_set(&e, ERROR_SCOPE_FAILED, "systemd's job to start '%s' ended as '%s'", j->unit,
                        result);
        finish(j, -EIO, e);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *job, *unit, *result;
        ScopeJob *j = userdata;

        if (sd_bus_message_read(m, "uoss", NULL, &job, &unit, &result) < 0 || !streq(unit, j->unit))
                return 0;
        if (!j->job) {
                (void)free_and_strdup(&j->early_job, job);
                (void)free_and_strdup(&j->early_result, result);
        } else if (streq(job, j->job))
                finish_job(j, result);
        return 0;
}

static int fail_from_message(ScopeJob *j, sd_bus_message *m, const char *what) {
        const sd_bus_error *be = sd_bus_message_get_error(m);
        _cleanup_error_ Error *e = NULL;
        int r = -sd_bus_error_get_errno(be);

        if (sd_bus_error_has_name(be, "org.freedesktop.systemd1.UnitExists"))
                r = -EEXIST;
        (void)error_set(&e, ERROR_SCOPE_FAILED, "systemd cannot %s '%s': %s", what, j->unit, be->message);
        finish(j, r < 0 ? r : -EIO, e);
        return 0;
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeJob *j = userdata;
        const char *job;

        if (sd_bus_message_is_method_error(m, NULL))
                return fail_from_message(j, m, "start");
        if (sd_bus_message_read(m, "o", &job) < 0 || free_and_strdup(&j->job, job) < 0) {
                finish(j, -ENOMEM, NULL);
                return 0;
        }
        if (j->early_job && streq(j->early_job, j->job))
                finish_job(j, j->early_result);
        return 0;
}

static int append_u64(sd_bus_message *m, const char *name, uint64_t v) {
        return sd_bus_message_append(m, "(sv)", name, "t", v);
}

/* 0 in our limits is "none", which systemd spells UINT64_MAX. */
static int append_limits(sd_bus_message *m, const VmLimits *l) {
        const struct {
                const char *name;
                uint64_t value;
        } table[] = {
                { "CPUQuotaPerSecUSec", l->cpu_quota * (USEC_PER_SEC / 100) },
                { "CPUWeight", l->cpu_weight },
                { "IOWeight", l->io_weight },
                { "MemoryMax", l->memory_max },
                { "MemoryHigh", l->memory_high },
                { "TasksMax", l->tasks_max },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                int r = append_u64(m, table[i].name, table[i].value > 0 ? table[i].value : UINT64_MAX);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int append_devices(sd_bus_message *m, bool kvm) {
        static const char *const devices[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                "/dev/urandom", "/dev/kvm" };
        int r;

        r = sd_bus_message_append(m, "(sv)", "DevicePolicy", "s", "strict");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "DeviceAllow");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(ss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(ss)");
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(devices) - (kvm ? 0 : 1); i++)
                r = sd_bus_message_append(m, "(ss)", devices[i], "rw");
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

/* PID 1 stops a scope by a signal to its processes, or, if it has a controller, by asking that; but it
 * forgets the controller for good when that once leaves the bus. So there is none: the signal is one that
 * does nothing, we see the scope's state change, and have TimeoutStopSec to shut the guest down before PID 1
 * kills. */
static int append_scope(sd_bus_message *m, const ScopeSpec *spec) {
        int r;

        r = sd_bus_message_append(m, "ss", spec->unit, "fail");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s",
                        spec->description, "Slice", "s", "vmctl.slice", "PIDs", "au", 1, (uint32_t)spec->pid,
                        "KillSignal", "i", (int32_t)SIGCONT, "TimeoutStopUSec", "t", spec->stop_timeout,
                        "CollectMode", "s", "inactive-or-failed", "After", "as", 2, "vmctld.service",
                        "dbus.service", "Before", "as", 1, spec->user, "CPUAccounting", "b", true,
                        "MemoryAccounting", "b", true, "TasksAccounting", "b", true);
        if (r >= 0)
                r = append_limits(m, &spec->limits);
        if (r >= 0)
                r = append_devices(m, spec->kvm);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
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

int systemd_start_scope(
                Systemd *s, const ScopeSpec *spec, scope_done_t done, void *userdata, ScopeJob **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(scope_job_freep) ScopeJob *j = NULL;
        int r;

        r = job_new(s, spec->unit, done, userdata, &j);
        if (r < 0)
                return r;
        /* The ends of all jobs, while we wait: sd-bus matches no argument that stands behind a number. */
        r = sd_bus_match_signal_async(s->bus, &j->match, DESTINATION, MANAGER_PATH, MANAGER_INTERFACE,
                        "JobRemoved", on_job_removed, NULL, j);
        if (r < 0)
                return r;
        r = new_call(s, "StartTransientUnit", &m);
        if (r >= 0)
                r = append_scope(m, spec);
        if (r >= 0)
                r = sd_bus_call_async(s->bus, &j->call, m, on_started, j, SYSTEMD_CALL_TIMEOUT);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(j);
        return 0;
}

static int on_limits_set(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        ScopeJob *j = userdata;

        if (sd_bus_message_is_method_error(m, NULL))
                return fail_from_message(j, m, "change the limits of");
        finish(j, 0, NULL);
        return 0;
}

int systemd_set_limits(Systemd *s, const char *unit, const VmLimits *limits, scope_done_t done,
                void *userdata, ScopeJob **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(scope_job_freep) ScopeJob *j = NULL;
        int r;

        r = job_new(s, unit, done, userdata, &j);
        if (r >= 0)
                r = new_call(s, "SetUnitProperties", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sb", unit, true);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_limits(m, limits);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_call_async(s->bus, &j->call, m, on_limits_set, j, SYSTEMD_CALL_TIMEOUT);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(j);
        return 0;
}

void systemd_kill_scope(Systemd *s, const char *unit) {
        call_and_forget(s, "KillUnit", "ssi", unit, "all", (int32_t)SIGKILL);
}
