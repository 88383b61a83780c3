/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The VM's life as that of a unit: start, wait until ready, look after, stop. The state that the service
 * shows is what decides. Calls that a restart of the service has cut off are made again; the VM runs on
 * meanwhile. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "client/decode.h"
#include "client/errors.h"
#include "term.h"
#include "unit.h"
#include "util/fd-util.h"
#include "util/log.h"

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
        client_call_free(u->call);
        client_call_free(u->query);
        client_call_free(u->console_call);
        client_job_free(u->wait);
        client_jobs_free(u->jobs);
        service_watch_free(u->watch);
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

        if (!client_from_service(u->ctl->client, m) || sd_bus_message_skip(m, "s") < 0 ||
                        client_decode(m, &changed) < 0)
                return 0;
        return take_properties(u, changed);
}

static void fail(Unit *u, const Error *e, const char *what) {
        const char *hint = error_hint(e);

        unit_end(u, EXIT_FAILURE, "%s: %s%s%s%s", what, error_message(e), hint ? " (" : "", hint ?: "",
                        hint ? ")" : "");
}

static void fail_errno(Unit *u, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)client_error(u->ctl->client, r, &e);
        fail(u, e, what);
}

static bool is_missing(const Error *e) {
        return error_is(e, ERROR_NO_SUCH_VM) || streq(error_name(e), SD_BUS_ERROR_UNKNOWN_METHOD);
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
                                u->name,
                                client_is_user(u->ctl->client) ? "~/.config/vmctl" : VMCTL_CONF_DIR);
}

/* Whether a call is to be made again, since the service went away under it. */
static bool is_cut_off(Unit *u, const Error *e) {
        return client_is_cut_off(e) && u->attempts++ < ATTEMPTS_MAX;
}

static void call_vm(Unit *u, sd_bus_message *m, uint64_t timeout_usec, ClientCallHandler done,
                ClientCall **ret, int r, const char *what) {
        *ret = client_call_free(*ret);
        if (r >= 0)
                r = client_call_begin(u->ctl->client, m, timeout_usec, done, u, ret);
        if (r < 0)
                fail_errno(u, r, what);
}

static void begin_start(Unit *u);

/* Before Start: whether there is a VM, and whose it is. */
static void on_found(Unit *u, sd_bus_message *reply, const Error *e) {
        _cleanup_json_ Json *properties = NULL;

        if (reply) {
                if (client_decode(reply, &properties) >= 0 && is_ours(u, properties))
                        begin_start(u);
        } else if (is_missing(e))
                on_missing(u);
        else if (is_cut_off(u, e))
                unit_query(u);
        else
                fail(u, e, "Failed to look at the VM");
}

static void on_vm(void *userdata, sd_bus_message *reply, const Error *e) {
        _cleanup_json_ Json *properties = NULL;
        Unit *u = userdata;

        u->query = client_call_free(u->query);
        if (u->step == UNIT_FINDING) {
                on_found(u, reply, e);
                return;
        }
        if (!reply) {
                if (is_missing(e) && u->step != UNIT_STARTING)
                        on_missing(u);
                else if (u->stranger && is_cut_off(u, e))
                        unit_query(u);
                else if (u->stranger)
                        fail(u, e, "Failed to look at the VM");
                else if (u->step == UNIT_STOPPING && u->console_ended)
                        unit_end(u, EXIT_SUCCESS,
                                        NULL); /* QEMU is gone, and at shutdown the service may be */
                return;                        /* a service that is away is back some time */
        }
        if (client_decode(reply, &properties) < 0)
                return;
        /* 'vmctl up' looks for itself, and this may have come before it had made the VM. */
        if (u->step == UNIT_CONVERGING || is_ours(u, properties))
                (void)take_properties(u, properties);
        if (u->stranger && u->step == UNIT_STOPPING) {
                u->stranger = false;
                unit_call_stop(u);
        }
}

/* Also what lets us hear the service's signals, and what starts it. */
void unit_query(Unit *u) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = client_new_call(u->ctl->client, u->path, DBUS_PROPERTIES, "GetAll", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", VMCTL_VM);
        call_vm(u, m, 0, on_vm, &u->query, r, "Failed to look at the VM");
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *path;
        Unit *u = userdata;

        if (client_from_service(u->ctl->client, m) && sd_bus_message_read(m, "so", &name, &path) >= 0 &&
                        streq(path, u->path))
                on_missing(u);
        return 0;
}

static void on_started(void *userdata, sd_bus_message *reply, const Error *e) {
        Unit *u = userdata;

        u->call = client_call_free(u->call);
        if (reply)
                unit_wait(u);
        else if (is_missing(e))
                on_missing(u);
        else if (is_cut_off(u, e))
                begin_start(u);
        else
                fail(u, e, "Failed to start");
}

static void begin_start(Unit *u) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        u->step = UNIT_STARTING;
        unit_status(u, "Starting");
        r = client_new_call(u->ctl->client, u->path, VMCTL_VM, "Start", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 0);
        call_vm(u, m, START_TIMEOUT, on_started, &u->call, r, "Failed to start");
}

static void call_wait(Unit *u);

static void on_wait_changed(void *userdata, const ClientJob *job) {
        const char *phase = client_job_progress(job).phase;

        if (!isempty(phase))
                unit_status(userdata, "Running, waiting for %s", phase);
}

static void on_wait_done(void *userdata, const ClientJob *job, const Error *error) {
        bool lost = client_job_is_lost(job), begun = client_job_path(job);
        Unit *u = userdata;

        u->wait = client_job_free(u->wait);
        if (u->step != UNIT_WAITING)
                return;
        if (!error)
                become_ready(u);
        else if (lost && !client_has_service(u->ctl->client))
                ; /* it is asked again when it is back */
        else if (lost ? u->attempts++ < ATTEMPTS_MAX : !begun && is_cut_off(u, error))
                call_wait(u);
        else if (begun)
                unit_end(u, EXIT_FAILURE, "%s", error_message(error));
        else
                fail(u, error, "Failed to wait for the guest");
}

static int append_key(sd_bus_message *m, const char *path) {
        _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK) : -EBADF;

        if (path && fd < 0)
                return -errno;
        return path ? sd_bus_message_append(m, "a{sv}", 1, "private-key", "h", fd)
                    : sd_bus_message_append(m, "a{sv}", 0);
}

static void call_wait(Unit *u) {
        static const ClientJobHandlers handlers = { .changed = on_wait_changed, .done = on_wait_done };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        unit_status(u, "Running, waiting for %s", vmfile_ready_to_string(u->ready));
        r = client_new_call(u->ctl->client, u->path, VMCTL_VM, "WaitReady", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "st", vmfile_ready_to_string(u->ready), WAIT_MAX);
        if (r >= 0)
                r = append_key(m, u->private_key);
        if (r >= 0)
                r = client_job_begin(u->jobs, m, 0, &handlers, u, &u->wait);
        if (r < 0)
                fail_errno(u, r, "Failed to wait for the guest");
}

void unit_wait(Unit *u) {
        u->step = UNIT_WAITING;
        if (u->ready != VMFILE_READY_RUNNING)
                call_wait(u);
        if (u->step == UNIT_WAITING)
                unit_query(u);
}

static int on_signals_lost(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Unit *u = userdata;

        if (client_from_service(u->ctl->client, m) && u->step != UNIT_FINDING && u->step != UNIT_ENDED)
                unit_query(u);
        return 0;
}

/* What happened while it was away is found out; what it did for us is begun again. */
static void on_service_changed(void *userdata, bool present) {
        Unit *u = userdata;

        if (u->step == UNIT_ENDED)
                return;
        if (!present) {
                if (u->step == UNIT_READY)
                        unit_status(u, "Running, vmctld is not");
                return;
        }
        unit_query(u);
        if (u->step == UNIT_STOPPING && !u->stranger && !u->call && u->child <= 0)
                unit_call_stop(u);
        else if (u->step == UNIT_WAITING && u->ready != VMFILE_READY_RUNNING && !u->wait)
                call_wait(u);
}

static uint64_t stop_timeout(Unit *u) {
        _cleanup_free_ char *unit = strf("vm@%s.service", u->name), *path = NULL;
        uint64_t usec;

        if (!unit || sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path) < 0 ||
                        sd_bus_get_property_trivial(client_bus(u->ctl->client), "org.freedesktop.systemd1",
                                        path, "org.freedesktop.systemd1.Service", "TimeoutStopUSec", NULL,
                                        't', &usec) < 0)
                return STOP_DEFAULT;
        if (usec == USEC_INFINITY)
                return WAIT_MAX;
        return usec > 2 * STOP_GRACE ? usec - STOP_GRACE : usec / 2;
}

static void on_stopping(void *userdata, sd_bus_message *reply, const Error *e) {
        Unit *u = userdata;

        u->call = client_call_free(u->call);
        if (reply)
                unit_query(u); /* it may have been down before */
        else if (is_missing(e))
                unit_end(u, EXIT_SUCCESS, NULL);
        else if (is_cut_off(u, e))
                unit_call_stop(u);
        else
                fail(u, e, "Failed to shut the guest down");
}

void unit_call_stop(Unit *u) {
        uint64_t now = now_monotonic(), left = u->stop_deadline > now ? u->stop_deadline - now : 1;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = client_new_call(u->ctl->client, u->path, VMCTL_VM, "Stop", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "t", left);
        call_vm(u, m, 0, on_stopping, &u->call, r, "Failed to shut the guest down");
}

void unit_stop(Unit *u) {
        if (u->step == UNIT_STOPPING || u->step == UNIT_ENDED)
                return;
        u->stranger = u->step == UNIT_FINDING; /* on_vm() goes on */
        u->step = UNIT_STOPPING;
        u->call = client_call_free(u->call);
        u->wait = client_job_free(u->wait);
        u->attempts = 0;
        u->stop_deadline = now_monotonic() + stop_timeout(u);
        (void)sd_notify(false, "STOPPING=1\nSTATUS=Shutting the guest down");
        if (u->child > 0)
                (void)kill(u->child, SIGTERM); /* it cancels what it has begun; its end is awaited */
        else if (!u->stranger)
                unit_call_stop(u);
}

static int subscribe(Unit *u) {
        Client *client = u->ctl->client;
        sd_bus *bus = client_bus(client);
        int r;

        r = sd_bus_match_signal_async(bus, NULL, VMCTL_SERVICE, u->path, DBUS_PROPERTIES,
                        "PropertiesChanged", on_vm_properties, NULL, u);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, VMCTL_SERVICE, VMCTL_MANAGER_PATH, VMCTL_MANAGER,
                                "VMRemoved", on_removed, NULL, u);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, NULL, VMCTL_SERVICE, VMCTL_MANAGER_PATH, VMCTL_MANAGER,
                                "SignalsLost", on_signals_lost, NULL, u);
        if (r >= 0)
                r = client_jobs_new(client, &u->jobs);
        if (r >= 0)
                r = service_watch_new(client, on_service_changed, u, &u->watch);
        return r;
}

int unit_begin(Unit *u) {
        int r;

        u->path = client_vm_path(u->name);
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
