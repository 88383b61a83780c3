/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A shim over a launcher that says things late, in another order, twice, or never. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "process.h"
#include "util/fd-util.h"
#include "util/test.h"

/* --- Instead of core/launcher.c, launch.c and cgroup.c */

struct Launched {
        const LaunchHandlers *handlers;
        void *userdata;
        unsigned killed;
        bool freed;
};
static Launched launched;

int launcher_run(Launcher *l, const LaunchSpec *spec, const LaunchHandlers *handlers, void *userdata,
                Launched **ret) {
        launched = (Launched){ .handlers = handlers, .userdata = userdata };
        *ret = &launched;
        return 0;
}

void launched_kill(Launched *c) {
        c->killed++;
}

Launched *launched_free(Launched *c) {
        if (c)
                c->freed = true;
        return NULL;
}

uint64_t launched_id(const Launched *c) {
        return 1;
}

int launcher_signal(Launcher *l, int pidfd, const char *unit, int sig) {
        return pidfd_send_signal(pidfd, sig, NULL, 0) < 0 ? -errno : 0;
}

Launch *launch_free(Launch *l) {
        free(l);
        return NULL;
}

int cgroup_unit_of_pid(pid_t pid, char **ret) {
        *ret = strdup("vmctl-a.scope");
        return *ret ? 0 : -ENOMEM;
}

/* --- */

typedef struct Fixture {
        char dir[32];
        sd_event *event;
        Process *process;
        int control, monitor; /* the other ends */
        unsigned launched, executed, failed, lost, ended;
} Fixture;

static void on_launched(Process *p, void *userdata) {
        ((Fixture *)userdata)->launched++;
}
static void on_executed(Process *p, void *userdata) {
        ((Fixture *)userdata)->executed++;
}
static void on_failed(Process *p, const Error *error, void *userdata) {
        ((Fixture *)userdata)->failed++;
        CHECK(process_signal(p, SIGKILL) == 0); /* as a start does that fails */
}
static void on_modified(Process *p, const char *path, void *userdata) {
}
static void on_ready(Process *p, void *userdata) {
}
static void on_event(Process *p, const char *name, const Json *data, void *userdata) {
}
static void on_monitor_lost(Process *p, const Error *error, void *userdata) {
}
static void on_silent(Process *p, void *userdata) {
}
static void on_lost(Process *p, void *userdata) {
        ((Fixture *)userdata)->lost++;
}
static void on_ended(Process *p, const ProcessEnd *end, void *userdata) {
        Fixture *f = userdata;

        f->ended++;
        f->process = process_free(f->process);
}

static const ProcessHandlers handlers = { on_launched, on_executed, on_failed, on_modified, on_ready,
        on_event, on_monitor_lost, on_silent, on_lost, on_ended };

static void fixture_init(Fixture *f) {
        Launch *l = malloc(sizeof(Launch));
        int control[2], monitor[2];

        *f = (Fixture){ .dir = "/tmp/test-process-XXXXXX" };
        CHECK(l && mkdtemp(f->dir));
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, control), 0);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, monitor), 0);
        f->control = control[1];
        f->monitor = monitor[1];
        *l = (Launch){ .control_fd = control[0], .monitor_fd = monitor[0], .vnc_fd = -EBADF };
        l->runtime_fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(l->runtime_fd >= 0);
        CHECK(sd_event_new(&f->event) >= 0);
        CHECK_EQ(process_launch(f->event, NULL, l, "vmctl-a.scope", USEC_PER_SEC, &handlers, f, &f->process,
                                 NULL),
                        0);
}

static void fixture_done(Fixture *f) {
        process_free(f->process);
        CHECK(launched.freed);
        sd_event_unref(f->event);
        safe_close(f->control);
        safe_close(f->monitor);
        CHECK_EQ(rmdir(f->dir), 0);
}

static void settle(const Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->event, 0)) >= 0);
        while (r > 0);
}

static pid_t fork_sleeper(void) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
                CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
                for (;;)
                        (void)pause();
        }
        return pid;
}

static void end_sleeper(const Fixture *f, pid_t pid) {
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
        settle(f);
}

static void tell_started(const Fixture *f, pid_t pid) {
        int pidfd = pidfd_open(pid, 0);

        CHECK(pidfd >= 0);
        launched.handlers->started(pid, pidfd, launched.userdata);
        settle(f);
}

static void tell_ended(const Fixture *f, int error) {
        launched.handlers->ended(&(LaunchEnd){ .error = error, .code = CLD_KILLED, .status = SIGKILL },
                        launched.userdata);
        settle(f);
}

static void say(const Fixture *f, const char *text) {
        CHECK_EQ(write_all(f->control, text, strlen(text)), 0);
        settle(f);
}

static void check_told_to_end(const Fixture *f) {
        char byte;

        CHECK_EQ(read(f->control, &byte, 1), 0);
}

/* It was not executed; the launcher was lost, so nobody knows; or it was killed before its pidfd could be
 * had. */
static void test_never_started(void) {
        static const int errors[] = { -ENOENT, -ECONNRESET, 0 };
        Fixture f;

        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                fixture_init(&f);
                tell_ended(&f, errors[i]);
                CHECK_EQ(f.failed, 1);
                CHECK_EQ(f.ended, 1);
                CHECK_EQ(f.launched, 0);
                check_told_to_end(&f);
                fixture_done(&f);
        }
}

/* The shim ends by its control socket; whether it was there is told later. */
static void test_killed_before_it_started(void) {
        pid_t pid = fork_sleeper();
        Fixture f;

        fixture_init(&f);
        CHECK_EQ(process_signal(f.process, SIGKILL), 0);
        CHECK_EQ(launched.killed, 1);
        check_told_to_end(&f);
        CHECK_EQ(process_go(f.process), -ESRCH);
        tell_started(&f, pid);
        CHECK_EQ(f.ended, 0);
        CHECK_EQ(process_signal(f.process, SIGKILL), 0);
        end_sleeper(&f, pid);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.failed, 0);
        fixture_done(&f);
}

/* The launcher is lost behind it, or tells of its end before, or after, its pidfd does. */
static void test_ended_after_it_started(void) {
        Fixture f;

        for (int late = 0; late < 2; late++) {
                pid_t pid = fork_sleeper();

                fixture_init(&f);
                tell_started(&f, pid);
                CHECK_EQ(f.launched, 1);
                CHECK_EQ(process_go(f.process), 0);
                if (!late)
                        tell_ended(&f, -ECONNRESET);
                CHECK_EQ(f.ended, 0);
                CHECK_EQ(kill(pid, SIGKILL), 0);
                CHECK_EQ(waitpid(pid, NULL, 0), pid);
                if (late)
                        tell_ended(&f, 0);
                settle(&f);
                CHECK_EQ(f.ended, 1);
                CHECK_EQ(f.failed, 0);
                fixture_done(&f);
        }
}

/* A shim says that QEMU has ended, again and again, and QEMU lives. */
static void test_says_it_twice(void) {
        pid_t shim = fork_sleeper(), qemu = fork_sleeper();
        char line[32];
        Fixture f;

        fixture_init(&f);
        tell_started(&f, shim);
        CHECK_EQ(process_go(f.process), 0);
        (void)snprintf(line, sizeof(line), "pid %i\n", (int)qemu);
        say(&f, line);
        say(&f, line);
        CHECK_EQ(f.executed, 1);
        say(&f, "exited 0\nexited 0\n");
        say(&f, "exited 0\n");
        end_sleeper(&f, shim);
        CHECK_EQ(f.lost, 1);
        CHECK_EQ(f.ended, 0);
        f.monitor = safe_close(f.monitor);
        settle(&f);
        end_sleeper(&f, qemu);
        CHECK_EQ(f.ended, 1);
        fixture_done(&f);
}

static void test_forgotten(void) {
        Fixture f;

        fixture_init(&f);
        f.process = process_free(f.process);
        CHECK(launched.freed);
        CHECK_EQ(launched.killed, 0);
        fixture_done(&f);
}

int main(void) {
        (void)signal(SIGPIPE, SIG_IGN);
        test_never_started();
        test_killed_before_it_started();
        test_ended_after_it_started();
        test_says_it_twice();
        test_forgotten();
        return 0;
}
