/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's life as that of a unit: start, wait until ready, look after, stop. The state that the service
 * shows is what decides. Calls that a restart of the service has cut off are made again; the VM runs on
 * meanwhile. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "message-json.h"
#include "term.h"
#include "unit.h"
#include "util/fd-util.h"
#include "util/log.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"
#define START_TIMEOUT (90 * USEC_PER_SEC) /* the service has a deadline of its own below this */
#define ATTEMPTS_MAX 10                   /* a service that crashes that often will not do it next time */

/* From the end of the guest's time on, the service ends QEMU by force, and PID 1 must not be faster. */
#define STOP_GRACE (10 * USEC_PER_SEC)
#define STOP_DEFAULT (30 * USEC_PER_SEC)

/* "Waiting for the guest" has no end of its own here: TimeoutStartSec= is what the administrator sets. */
#define WAIT_MAX (24 * 3600 * USEC_PER_SEC)

void unit_status(Unit *u, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void)sd_notifyf(false, "STATUS=%s", text ?: "");
}

void unit_done(Unit *u) {
        sd_bus_slot_unref(u->call);
        sd_bus_slot_unref(u->query);
        for (size_t i = 0; i < ELEMENTSOF(u->signals); i++)
                sd_event_source_disable_unref(u->signals[i]);
        sd_event_source_disable_unref(u->child_source);
        sd_event_source_disable_unref(u->linger);
        lines_free(u->child_lines);
        lines_free(u->console);
        free(u->path);
        free(u->private_key);
        free(u->state);
        free(u->failure);
        free(u->job);
        free(u->job_error);
        free(u->last_line);
}

static void become_ready(Unit *u) {
        u->step = UNIT_READY;
        (void)sd_notify(false, "READY=1\nSTATUS=Running");
}

static bool is_down(const char *state) {
        return streq(state, "stopped") || streq(state, "failed") || streq(state, "prepared");
}

static void show_state(Unit *u) {
        if (streq(u->state, "stopping"))
                unit_status(u, "Shutting the guest down");
        else if (u->step == UNIT_READY)
                unit_status(u, "%s", streq(u->state, "suspended") ? "Suspended" : "Running");
}

/* It runs no more, and nobody had asked us. */
static void on_down(Unit *u) {
        if (streq(u->state, "failed"))
                unit_end(u, EXIT_FAILURE, "%s", isempty(u->failure) ? "The VM failed" : u->failure);
        else if (u->step == UNIT_READY)
                unit_end(u, EXIT_SUCCESS, NULL);
        else
                unit_end(u, EXIT_FAILURE, "The guest shut down before it was ready");
}

static void take_state(Unit *u) {
        bool down = is_down(u->state);

        if (streq(u->state, "running") || streq(u->state, "suspended"))
                unit_open_console(u);
        show_state(u);
        switch (u->step) {
        case UNIT_WAITING:
                if (down)
                        on_down(u);
                else if (u->ready == VMFILE_READY_RUNNING && !streq(u->state, "starting"))
                        become_ready(u);
                break;
        case UNIT_READY:
                if (down)
                        on_down(u);
                break;
        case UNIT_STOPPING:
                if (down && u->child <= 0)
                        unit_end(u, EXIT_SUCCESS, NULL);
                break;
        case UNIT_CONVERGING:
        case UNIT_FINDING:
        case UNIT_STARTING:
        case UNIT_ENDED:
                break;
        }
}

/* A unit of root's must not start, and less so provision, what somebody else has called as it is called. */
static bool is_ours(Unit *u, const Json *properties) {
        uint64_t owner;

        if (json_get_unsigned(properties, "Owner", &owner) >= 0 && owner == geteuid())
                return true;
        unit_end(u, EXIT_FAILURE, "The VM '%s' that is there belongs to another user", u->name);
        return false;
}

static int take_properties(Unit *u, const Json *properties) {
        const char *state = json_get_string(properties, "State"),
                   *failure = json_get_string(properties, "FailureMessage");

        if (failure && free_and_strdup(&u->failure, failure) < 0)
                return -ENOMEM;
        if (!state)
                return 0;
        if (free_and_strdup(&u->state, state) < 0)
                return -ENOMEM;
        take_state(u);
        return 0;
}

static int on_vm_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Unit *u = userdata;

        if (!ctl_from_service(u->ctl, m) || sd_bus_message_skip(m, "s") < 0 ||
                        message_to_json(m, &changed) < 0)
                return 0;
        return take_properties(u, changed);
}

static void fail(Unit *u, const sd_bus_error *e, int r, const char *what) {
        const char *message, *hint;

        ctl_explain(u->ctl, e, r, &message, &hint);
        unit_end(u, EXIT_FAILURE, "%s: %s%s%s%s", what, message, hint ? " (" : "", hint ?: "",
                        hint ? ")" : "");
}

static bool is_missing(const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_UNKNOWN_OBJECT, SD_BUS_ERROR_UNKNOWN_METHOD,
                        "org.vmctl1.Error.NoSuchVM");
}

static void on_missing(Unit *u) {
        if (u->step == UNIT_STOPPING || u->step == UNIT_READY)
                unit_end(u, EXIT_SUCCESS, NULL);
        else if (u->step == UNIT_WAITING)
                unit_end(u, EXIT_FAILURE, "The VM was destroyed");
        else if (u->step == UNIT_STARTING || u->step == UNIT_FINDING)
                unit_end(u, UNIT_EXIT_NO_VM,
                                "There is no VM '%s', and no file of %s defines it ('vmctl create' makes "
                                "one)",
                                u->name, u->ctl->bus_is_user ? "~/.config/vmctl" : VMCTL_CONF_DIR);
}

static bool is_cut_off(Unit *u, const sd_bus_error *e);
static int begin_start(Unit *u);

/* Before Start: whether there is a VM, and whose it is. */
static int on_found(sd_bus_message *m, Unit *u) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        _cleanup_json_ Json *properties = NULL;

        if (e && is_missing(e))
                on_missing(u);
        else if (e && is_cut_off(u, e))
                unit_query(u);
        else if (e)
                fail(u, e, 0, "Failed to look at the VM");
        else if (ctl_note_owner(u->ctl, m) >= 0 && message_to_json(m, &properties) >= 0 &&
                        is_ours(u, properties))
                return begin_start(u);
        return 0;
}

static int on_vm(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *properties = NULL;
        Unit *u = userdata;

        u->query = sd_bus_slot_unref(u->query);
        if (u->step == UNIT_FINDING)
                return on_found(m, u);
        if (sd_bus_message_is_method_error(m, NULL)) {
                if (is_missing(sd_bus_message_get_error(m)) && u->step != UNIT_STARTING)
                        on_missing(u);
                else if (u->step == UNIT_STOPPING && u->console_ended)
                        unit_end(u, EXIT_SUCCESS,
                                        NULL); /* QEMU is gone, and at shutdown the service may be */
                return 0;                      /* a service that is away is back some time */
        }
        if (ctl_note_owner(u->ctl, m) < 0 || message_to_json(m, &properties) < 0)
                return 0;
        /* 'vmctl up' looks for itself, and this may have come before it had made the VM. */
        if (u->step != UNIT_CONVERGING && !is_ours(u, properties))
                return 0;
        return take_properties(u, properties);
}

/* Also what lets us hear the service's signals, and what starts it. */
void unit_query(Unit *u) {
        int r;

        u->query = sd_bus_slot_unref(u->query);
        r = sd_bus_call_method_async(u->ctl->bus, &u->query, CTL_SERVICE, u->path, PROPERTIES, "GetAll",
                        on_vm, u, "s", CTL_VM);
        if (r < 0)
                fail(u, NULL, r, "Failed to look at the VM");
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *path;
        Unit *u = userdata;

        if (ctl_from_service(u->ctl, m) && sd_bus_message_read(m, "so", &name, &path) >= 0 &&
                        streq(path, u->path))
                on_missing(u);
        return 0;
}

/* Whether a call is to be made again, since the service went away under it. */
static bool is_cut_off(Unit *u, const sd_bus_error *e) {
        return sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                               error_code_name(ERROR_SERVICE_ENDING)) &&
                        u->attempts++ < ATTEMPTS_MAX;
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Unit *u = userdata;

        u->call = sd_bus_slot_unref(u->call);
        if (!e) {
                (void)ctl_note_owner(u->ctl, m);
                unit_wait(u);
        } else if (is_missing(e))
                on_missing(u);
        else if (!is_cut_off(u, e))
                fail(u, e, 0, "Failed to start");
        else
                return begin_start(u);
        return 0;
}

static int begin_start(Unit *u) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        u->step = UNIT_STARTING;
        unit_status(u, "Starting");
        r = sd_bus_message_new_method_call(u->ctl->bus, &m, CTL_SERVICE, u->path, CTL_VM, "Start");
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 0);
        return r < 0 ? r : sd_bus_call_async(u->ctl->bus, &u->call, m, on_started, u, START_TIMEOUT);
}

static int call_wait(Unit *u);

static int on_waiting(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        const char *job;
        Unit *u = userdata;

        u->call = sd_bus_slot_unref(u->call);
        if (e && is_cut_off(u, e))
                return call_wait(u);
        if (e) {
                fail(u, e, 0, "Failed to wait for the guest");
                return 0;
        }
        if (ctl_note_owner(u->ctl, m) < 0 || sd_bus_message_read(m, "o", &job) < 0)
                return 0;
        return free_and_strdup(&u->job, job);
}

static int append_key(sd_bus_message *m, const char *path) {
        _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -EBADF;

        if (path && fd < 0)
                return -errno;
        return path ? sd_bus_message_append(m, "a{sv}", 1, "private-key", "h", fd)
                    : sd_bus_message_append(m, "a{sv}", 0);
}

static int call_wait(Unit *u) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        unit_status(u, "Running, waiting for %s", vmfile_ready_to_string(u->ready));
        r = sd_bus_message_new_method_call(u->ctl->bus, &m, CTL_SERVICE, u->path, CTL_VM, "WaitReady");
        if (r >= 0)
                r = sd_bus_message_append(m, "st", vmfile_ready_to_string(u->ready), WAIT_MAX);
        if (r >= 0)
                r = append_key(m, u->private_key);
        return r < 0 ? r : sd_bus_call_async(u->ctl->bus, &u->call, m, on_waiting, u, 0);
}

void unit_wait(Unit *u) {
        int r;

        u->step = UNIT_WAITING;
        r = u->ready == VMFILE_READY_RUNNING ? 0 : call_wait(u);
        if (r < 0)
                fail(u, NULL, r, "Failed to wait for the guest");
        else
                unit_query(u);
}

static int on_job_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Unit *u = userdata;
        const char *phase, *message;

        if (u->step != UNIT_WAITING || !ctl_from_service(u->ctl, m) ||
                        !streq_ptr(sd_bus_message_get_path(m), u->job) || sd_bus_message_skip(m, "s") < 0 ||
                        message_to_json(m, &changed) < 0)
                return 0;
        phase = json_get_string(changed, "Phase");
        message = json_get_string(changed, "ErrorMessage");
        if (!isempty(phase))
                unit_status(u, "Running, waiting for %s", phase);
        return isempty(message) ? 0 : free_and_strdup(&u->job_error, message);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *object, *result;
        Unit *u = userdata;
        uint32_t id;

        if (u->step != UNIT_WAITING || !u->job || !ctl_from_service(u->ctl, m) ||
                        sd_bus_message_read(m, "uoos", &id, &job, &object, &result) < 0 ||
                        !streq(job, u->job))
                return 0;
        if (streq(result, "done"))
                become_ready(u);
        else
                unit_end(u, EXIT_FAILURE, "%s", u->job_error ?: "The guest could not be waited for");
        return 0;
}

static int on_signals_lost(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Unit *u = userdata;

        if (ctl_from_service(u->ctl, m) && u->step != UNIT_FINDING && u->step != UNIT_ENDED)
                unit_query(u);
        return 0;
}

/* What happened while it was away is found out; what it did for us is begun again. */
static void on_service_changed(void *userdata, bool present) {
        Unit *u = userdata;
        int r = 0;

        if (u->step == UNIT_ENDED)
                return;
        if (!present) {
                if (u->step == UNIT_READY)
                        unit_status(u, "Running, vmctld is not");
                return;
        }
        unit_query(u);
        if (u->step == UNIT_STOPPING && !u->call && u->child <= 0)
                unit_call_stop(u);
        else if (u->step == UNIT_WAITING && u->job) {
                u->job = (free(u->job), NULL);
                r = call_wait(u);
        }
        if (r < 0)
                fail(u, NULL, r, "Failed to go on");
}

static uint64_t stop_timeout(Unit *u) {
        _cleanup_free_ char *unit = strf("vm@%s.service", u->name), *path = NULL;
        uint64_t usec;

        if (!unit || sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path) < 0 ||
                        sd_bus_get_property_trivial(u->ctl->bus, "org.freedesktop.systemd1", path,
                                        "org.freedesktop.systemd1.Service", "TimeoutStopUSec", NULL, 't',
                                        &usec) < 0)
                return STOP_DEFAULT;
        if (usec == USEC_INFINITY)
                return WAIT_MAX;
        return usec > 2 * STOP_GRACE ? usec - STOP_GRACE : usec / 2;
}

static int on_stopping(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Unit *u = userdata;

        u->call = sd_bus_slot_unref(u->call);
        if (e && is_missing(e))
                unit_end(u, EXIT_SUCCESS, NULL);
        else if (e && is_cut_off(u, e))
                unit_call_stop(u);
        else if (e)
                fail(u, e, 0, "Failed to shut the guest down");
        else {
                (void)ctl_note_owner(u->ctl, m);
                unit_query(u); /* it may have been down before */
        }
        return 0;
}

void unit_call_stop(Unit *u) {
        uint64_t now = now_monotonic(), left = u->stop_deadline > now ? u->stop_deadline - now : 1;
        int r;

        u->call = sd_bus_slot_unref(u->call);
        r = sd_bus_call_method_async(u->ctl->bus, &u->call, CTL_SERVICE, u->path, CTL_VM, "Stop",
                        on_stopping, u, "t", left);
        if (r < 0)
                fail(u, NULL, r, "Failed to shut the guest down");
}

void unit_stop(Unit *u) {
        if (u->step == UNIT_STOPPING || u->step == UNIT_ENDED)
                return;
        u->step = UNIT_STOPPING;
        u->call = sd_bus_slot_unref(u->call);
        u->attempts = 0;
        u->stop_deadline = now_monotonic() + stop_timeout(u);
        (void)sd_notify(false, "STOPPING=1\nSTATUS=Shutting the guest down");
        if (u->child > 0)
                (void)kill(u->child, SIGTERM); /* it cancels what it has begun; its end is awaited */
        else
                unit_call_stop(u);
}

static int subscribe(Unit *u) {
        sd_bus *bus = u->ctl->bus;
        int r;

        r = sd_bus_match_signal_async(bus, NULL, CTL_SERVICE, u->path, PROPERTIES, "PropertiesChanged",
                        on_vm_properties, NULL, u);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER,
                                "VMRemoved", on_removed, NULL, u);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER,
                                "SignalsLost", on_signals_lost, NULL, u);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER,
                                "JobRemoved", on_job_removed, NULL, u);
        if (r >= 0)
                r = sd_bus_add_match_async(bus, NULL,
                                "type='signal',sender='" CTL_SERVICE "',path_namespace='" CTL_JOB_PREFIX
                                "',interface='" PROPERTIES "',member='PropertiesChanged'",
                                on_job_properties, NULL, u);
        if (r >= 0)
                r = ctl_follow_service(u->ctl, on_service_changed, u);
        return r;
}

int unit_begin(Unit *u) {
        int r;

        u->path = ctl_vm_path(u->name);
        if (!u->path)
                return ctl_oom();
        r = subscribe(u);
        if (r >= 0 && u->file) {
                u->step = UNIT_CONVERGING;
                unit_query(u);
                r = unit_converge(u);
        } else if (r >= 0) {
                u->step = UNIT_FINDING;
                unit_query(u);
        }
        return r < 0 ? ctl_report(u->ctl, NULL, r, "Failed to start VM '%s'", u->name) : 0;
}
