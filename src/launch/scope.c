/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What PID 1, or the user's manager, does for us. */
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include "launch.h"
#include "util/log.h"

#define DESTINATION "org.freedesktop.systemd1"
#define MANAGER "org.freedesktop.systemd1.Manager"
/* From the request to the answer, also where the call waits for its turn, or is made again as PID 1 executed
 * itself anew: vmctld gives up a launcher that says nothing for longer. */
#define ANSWER_TIMEOUT (15 * USEC_PER_SEC)

struct Asked {
        TAILQ_ENTRY(Asked) link;
        Server *server;
        uint64_t id;  /* 0: nobody waits any more */
        Child *child; /* whose PID it is about: held; or NULL */
        sd_event_source *deadline;
};

static int new_call(Server *s, const char *method, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(
                        s->bus, ret, DESTINATION, "/org/freedesktop/systemd1", MANAGER, method);
}

static int errno_of(const sd_bus_error *error) {
        int r = -sd_bus_error_get_errno(error);

        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.UnitExists"))
                return -EEXIST;
        if (sd_bus_error_has_name(error, "org.freedesktop.systemd1.NoSuchUnit"))
                return -ENOENT;
        return r < 0 ? r : -EIO;
}

static void asked_free(Asked *a) {
        TAILQ_REMOVE(&a->server->asked, a, link);
        if (a->child)
                hold_child(a->child, false);
        sd_event_source_disable_unref(a->deadline);
        free(a);
}

void disown_asked(Server *s) {
        Asked *a;

        TAILQ_FOREACH(a, &s->asked, link) {
                a->id = 0;
                a->deadline = sd_event_source_disable_unref(a->deadline);
        }
}

static void answer(Asked *a, int error, const char *text) {
        const LaunchReply reply = {
                .event = LAUNCH_ANSWER, .id = a->id, .error = error, .pid = a->child ? a->child->pid : 0
        };

        if (a->id != 0)
                server_reply(a->server, &reply, text, -EBADF);
        a->id = 0;
}

static int on_late(sd_event_source *source, uint64_t usec, void *userdata) {
        answer(userdata, -ETIMEDOUT, "systemd does not answer");
        return 0;
}

static void on_reply(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        const char *text = NULL;
        Asked *a = userdata;

        if (!error && sd_bus_message_has_signature(m, "o"))
                (void)sd_bus_message_read(m, "o", &text);
        answer(a, error ? errno_of(error) : 0, error ? error->message : text);
        asked_free(a);
}

/* Whoever asked hears what comes of it. */
static int ask(Server *s, const LaunchRequest *q, Child *child, sd_bus_message *m) {
        Asked *a = malloc(sizeof(Asked));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Asked){ .server = s, .id = q->id, .child = child };
        TAILQ_INSERT_TAIL(&s->asked, a, link);
        if (child)
                hold_child(child, true);
        r = sd_event_add_time_relative(s->event, &a->deadline, CLOCK_MONOTONIC, ANSWER_TIMEOUT,
                        100 * USEC_PER_MSEC, on_late, a);
        if (r >= 0)
                r = call_queue_add(s->calls, m, on_reply, a, NULL);
        if (r < 0)
                asked_free(a);
        return r;
}

static int ask_about(Server *s, const LaunchRequest *q, const char *method, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = new_call(s, method, &m);
        va_start(ap, types);
        if (r >= 0)
                r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
        return r < 0 ? r : ask(s, q, NULL, m);
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
                int r = sd_bus_message_append(m, "(sv)", table[i].name, "t",
                                table[i].value > 0 ? table[i].value : UINT64_MAX);

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

/* Behind vmctl.target, which is active while VMs run and stopped with the host alone, not behind the
 * service: stops go before starts, so a service that crashed would not come back while PID 1 stops the
 * scope.
 *
 * PID 1 stops a scope by a signal to its processes, or, if it has a controller, by asking that; but it
 * forgets the controller for good when that once leaves the bus. So there is none: the signal is one that
 * does nothing, vmctld sees the scope's state change, and has TimeoutStopSec to shut the guest down before
 * PID 1 kills. */
static int append_scope(sd_bus_message *m, const LaunchRequest *q, const char *unit, pid_t pid) {
        const char *name = unit + strlen("vmctl-");
        size_t len = strlen(name) - strlen(".scope");
        _cleanup_free_ char *description = strf("Virtual machine %.*s", (int)len, name),
                            *user = strf("vm@%.*s.service", (int)len, name);
        int r;

        if (!description || !user)
                return -ENOMEM;
        r = sd_bus_message_append(m, "ss", unit, "fail");
        if (r < 0)
                return r;
        r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r < 0)
                return r;
        r = sd_bus_message_append(m, "(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)(sv)", "Description", "s",
                        description, "Slice", "s", "vmctl.slice", "PIDs", "au", 1, (uint32_t)pid,
                        "KillSignal", "i", (int32_t)SIGCONT, "TimeoutStopUSec", "t", q->stop_timeout,
                        "CollectMode", "s", "inactive-or-failed", "Wants", "as", 1, "vmctl.target", "After",
                        "as", 1, "vmctl.target", "Before", "as", 1, user, "CPUAccounting", "b", true,
                        "MemoryAccounting", "b", true, "TasksAccounting", "b", true);
        if (r >= 0)
                r = append_limits(m, &q->limits);
        if (r >= 0)
                r = append_devices(m, q->kvm);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

/* The one text of a request. */
static int read_unit(const Packet *p, const char **ret) {
        if (strv_length(p->texts) != 1)
                return -EBADMSG;
        *ret = p->texts[0];
        return check_unit(*ret);
}

int answer_failure(Server *s, const LaunchRequest *q, int r) {
        if (r < 0)
                server_reply(s, &(LaunchReply){ .event = LAUNCH_ANSWER, .id = q->id, .error = r }, NULL,
                                -EBADF);
        return r;
}

/* PID 1 would make a scope around it that it never sees empty. */
static bool has_ended(pid_t pid) {
        siginfo_t si = {};

        return waitid(P_PID, (id_t)pid, &si, WEXITED | WNOHANG | WNOWAIT) >= 0 && si.si_pid == pid;
}

int start_scope(Server *s, const LaunchRequest *q, Packet *p) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Child *child = find_child(s, q->child);
        const char *unit;
        int r;

        r = read_unit(p, &unit);
        if (r >= 0)
                r = check_timeout(q->stop_timeout);
        if (r >= 0 && (!child || child->program != LAUNCH_SHIM || has_ended(child->pid)))
                r = -ESRCH;
        if (r >= 0)
                r = new_call(s, "StartTransientUnit", &m);
        if (r >= 0)
                r = append_scope(m, q, unit, child->pid);
        if (r >= 0)
                r = ask(s, q, child, m);
        return answer_failure(s, q, r);
}

int set_limits(Server *s, const LaunchRequest *q, Packet *p) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *unit;
        int r;

        r = read_unit(p, &unit);
        if (r >= 0)
                r = new_call(s, "SetUnitProperties", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "sb", unit, true);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = append_limits(m, &q->limits);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = ask(s, q, NULL, m);
        return answer_failure(s, q, r);
}

int stop_scope(Server *s, const LaunchRequest *q, Packet *p) {
        const char *unit;
        int r;

        r = read_unit(p, &unit);
        if (r >= 0)
                r = ask_about(s, &(LaunchRequest){}, "ResetFailedUnit", "s", unit); /* which most have not */
        if (r >= 0)
                r = ask_about(s, q, "StopUnit", "ss", unit, "replace");
        return answer_failure(s, q, r);
}

int kill_scope(Server *s, const LaunchRequest *q, Packet *p) {
        const char *unit;
        int r;

        r = read_unit(p, &unit);
        if (r >= 0)
                r = ask_about(s, q, "KillUnit", "ssi", unit, "all", (int32_t)SIGKILL);
        return answer_failure(s, q, r);
}
