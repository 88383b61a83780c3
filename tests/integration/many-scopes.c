/* SPDX-License-Identifier: GPL-2.0-or-later */
/* many-scopes N: has PID 1 make N scopes vmctl-many-I.scope, all at once, around shims that are never told
 * to go on, and does to them what vmctld does to those of VMs: when PID 1 wants one stopped, its process is
 * ended; when all are stopped, their names are awaited. Says on the standard output what the bus and PID 1
 * have made of it, a line for each step.
 */
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "host/systemd.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define FIRST_UID 1879048192 /* of UIDRange= */

typedef struct Test Test;

typedef struct Scope {
        Test *test;
        char *unit;
        Launched *shim;
        int control;
        ScopeJob *job;
        ScopeWatch *watch;
        bool asked;
} Scope;

struct Test {
        sd_event *event;
        sd_bus *bus;
        Launcher *launcher;
        Systemd *systemd;
        Scope *scopes;
        unsigned n, started, asked, removed;
        const char *said;
};

/* Of the bus daemon, which counts them for each connection. */
static int on_say(sd_event_source *source, void *userdata) {
        Test *t = userdata;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint32_t matches = 0;
        const char *name, *key;
        int r;

        r = sd_bus_get_unique_name(t->bus, &name);
        if (r >= 0)
                r = sd_bus_call_method(t->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", NULL, &m, "s",
                                name);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0)
                        r = streq(key, "MatchRules") ? sd_bus_message_read(m, "v", "u", &matches)
                                                     : sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        printf("%s, %u matches\n", t->said, matches);
        (void)fflush(stdout);
        return t->removed == t->n ? sd_event_exit(t->event, 0) : 0;
}

/* Not from the callback of a match, which is there as long. */
static void say(Test *t, const char *what) {
        t->said = what;
        if (sd_event_add_defer(t->event, NULL, on_say, t) < 0)
                (void)sd_event_exit(t->event, 1);
}

static Scope *find(Test *t, const char *unit) {
        for (unsigned i = 0; i < t->n; i++)
                if (streq(t->scopes[i].unit, unit))
                        return &t->scopes[i];
        return NULL;
}

static void on_request_stop(const char *unit, void *userdata) {
        Test *t = userdata;
        Scope *s = find(t, unit);

        if (!s || s->asked)
                return;
        s->asked = true;
        launched_kill(s->shim);
        if (++t->asked < t->n)
                return;
        say(t, "all are asked to stop");
        for (unsigned i = 0; i < t->n; i++)
                systemd_end_scope(t->scopes[i].watch);
}

static void on_removed(const char *unit, void *userdata) {
        Test *t = userdata;
        Scope *s = find(t, unit);

        s->watch = systemd_unwatch_scope(s->watch);
        if (++t->removed < t->n)
                return;
        say(t, "all are gone");
}

static void on_in_use(const char *unit, pid_t pid, const char *command, void *userdata) {
}

static void on_started(void *userdata, int r, const Error *error) {
        Scope *s = userdata;
        Test *t = s->test;

        s->job = scope_job_free(s->job);
        if (r < 0) {
                (void)fprintf(stderr, "%s\n", error_message(error));
                (void)sd_event_exit(t->event, 1);
        } else if (++t->started == t->n)
                say(t, "all run");
}

static void on_ended(const LaunchEnd *end, void *userdata) {
}

/* It gets its end of the control socket, and files in memory for all that it would write. */
static int launch(Test *t, Scope *s) {
        static const LaunchHandlers handlers = { .ended = on_ended };
        static const char *const options[] = { "--control=3", "--serial=20", "--console-log=4",
                "--console-log-old=5", "--console-log-max=1048576", "--qemu-log=6", "--qemu-log-max=65536",
                "--exit-record=7", "--private-network", "--", "/usr/bin/qemu-system-x86_64", NULL };
        LaunchFile files[5];
        const LaunchSpec spec = {
                .program = LAUNCH_SHIM,
                .options = (char *const *)options,
                .files = files,
                .n_files = ELEMENTSOF(files),
                .uid = FIRST_UID,
        };
        int pair[2], r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        s->control = pair[0];
        files[0] = (LaunchFile){ .fd = pair[1], .target = 3 };
        for (int i = 1; i < (int)ELEMENTSOF(files); i++)
                files[i] = (LaunchFile){ .fd = memfd_with("file", "", 0), .target = 3 + i };
        r = launcher_run(t->launcher, &spec, &handlers, NULL, &s->shim);
        for (size_t i = 0; i < ELEMENTSOF(files); i++)
                safe_close(files[i].fd);
        return r;
}

static int start(Test *t, Scope *s, unsigned i) {
        ScopeSpec spec = { .unit = s->unit = strf("vmctl-many-%u.scope", i),
                .stop_timeout = 120 * USEC_PER_SEC };
        int r;

        s->test = t;
        r = s->unit ? launch(t, s) : -ENOMEM;
        if (r < 0)
                return r;
        spec.shim = launched_id(s->shim);
        r = systemd_watch_scope(t->systemd, s->unit, false, &s->watch);
        return r < 0 ? r : systemd_start_scope(t->systemd, &spec, on_started, s, &s->job);
}

int main(int argc, char *argv[]) {
        static const SystemdHandlers handlers = { on_request_stop, on_removed, on_in_use };
        Test t = { .n = argc > 1 ? (unsigned)atoi(argv[1]) : 1 };
        const struct rlimit files = { 16384, 16384 }; /* the service may have more */
        sigset_t child;
        int r;

        (void)setrlimit(RLIMIT_NOFILE, &files);

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        (void)sigprocmask(SIG_BLOCK, &child, NULL); /* the launcher is one */
        t.scopes = calloc(t.n, sizeof(Scope));
        r = t.scopes ? sd_event_new(&t.event) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_open_system(&t.bus);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(t.bus, true);
        if (r >= 0)
                r = sd_bus_attach_event(t.bus, t.event, 0);
        if (r >= 0)
                r = launcher_new(t.event, NULL, false, &t.launcher);
        if (r >= 0)
                r = systemd_new(t.bus, t.launcher, &handlers, &t, &t.systemd);
        for (unsigned i = 0; r >= 0 && i < t.n; i++)
                r = start(&t, &t.scopes[i], i);
        if (r >= 0)
                r = sd_event_loop(t.event);
        for (unsigned i = 0; i < t.n; i++) {
                scope_job_free(t.scopes[i].job);
                systemd_unwatch_scope(t.scopes[i].watch);
                launched_free(t.scopes[i].shim);
                safe_close(t.scopes[i].control);
                free(t.scopes[i].unit);
        }
        systemd_free(t.systemd);
        launcher_free(t.launcher);
        sd_bus_flush_close_unref(t.bus);
        sd_event_unref(t.event);
        free(t.scopes);
        return r == 0 ? 0 : 1;
}
