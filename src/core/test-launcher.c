/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A launcher that is gone, silent, late, answers twice, or says what nobody asked. The peer is this test. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"
#include "util/fd-util.h"
#include "util/test.h"

static bool at_once;   /* deadlines pass at once */
static bool no_memory; /* for what is sent */

ssize_t __real_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags);
ssize_t __wrap_sendmsg(int fd, const struct msghdr *m, int flags) {
        if (!no_memory)
                return __real_sendmsg(fd, m, flags);
        errno = ENOBUFS;
        return -1;
}

int __real_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata) {
        return __real_sd_event_add_time_relative(
                        e, ret, clock, at_once ? 0 : usec, at_once ? 1 : accuracy, handler, userdata);
}

typedef struct Fixture {
        char dir[32], path[48];
        sd_event *event;
        int listener, peer;
        Launcher *launcher;
        Launched *child;
        LaunchCall *call;
        LaunchRequest request; /* the last that the peer got */
        unsigned started, ended, answered;
        pid_t pid;
        int error, pidfd;
} Fixture;

static void on_started(pid_t pid, int pidfd, void *userdata) {
        Fixture *f = userdata;

        f->started++;
        f->pid = pid;
        f->pidfd = pidfd;
}

static void on_ended(const LaunchEnd *end, void *userdata) {
        Fixture *f = userdata;

        f->ended++;
        f->error = end->error;
}

static void on_answer(void *userdata, const LaunchAnswer *answer) {
        Fixture *f = userdata;

        f->answered++;
        f->error = answer->error;
        f->call = NULL;
}

static const LaunchHandlers watching = { on_started, on_ended }, waiting = { .ended = on_ended };

static void settle(const Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->event, 0)) >= 0);
        while (r > 0);
}

static void accept_peer(Fixture *f) {
        f->peer = accept4(f->listener, NULL, NULL, SOCK_CLOEXEC);
        CHECK(f->peer >= 0);
}

static void fixture_init(Fixture *f) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };

        *f = (Fixture){ .dir = "/tmp/test-launcher-XXXXXX", .peer = -EBADF, .pidfd = -EBADF };
        CHECK(mkdtemp(f->dir));
        (void)snprintf(f->path, sizeof(f->path), "%s/socket", f->dir);
        strcpy(sa.sun_path, f->path);
        f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        CHECK(f->listener >= 0 && bind(f->listener, (const struct sockaddr *)&sa, sizeof(sa)) == 0);
        CHECK_EQ(listen(f->listener, 4), 0);
        CHECK(sd_event_new(&f->event) >= 0);
        CHECK_EQ(launcher_new(f->event, f->path, false, &f->launcher), 0);
        CHECK_EQ(launcher_connect(f->launcher), 0);
        accept_peer(f);
}

static void fixture_done(Fixture *f) {
        launch_call_cancel(f->call);
        launched_free(f->child);
        launcher_free(f->launcher);
        sd_event_unref(f->event);
        safe_close(f->peer);
        safe_close(f->pidfd);
        safe_close(f->listener);
        CHECK_EQ(unlink(f->path), 0);
        CHECK_EQ(rmdir(f->dir), 0);
}

static void hang_up(Fixture *f) {
        f->peer = safe_close(f->peer);
        settle(f);
}

static void receive(Fixture *f, LaunchVerb verb) {
        Packet p;

        CHECK_EQ(packet_receive(f->peer, &f->request, sizeof(f->request), &p), 1);
        CHECK_EQ(f->request.version, LAUNCH_VERSION);
        CHECK_EQ(f->request.verb, verb);
        packet_done(&p);
}

static void send_reply(Fixture *f, LaunchEvent event, uint64_t id, int error, int fd) {
        const LaunchReply reply = { LAUNCH_VERSION, event, id, error, getpid(), 0, 0 };

        CHECK_EQ(packet_send(f->peer, &reply, sizeof(reply), NULL, &fd, fd >= 0 ? 1 : 0), 0);
        settle(f);
}

static void run(Fixture *f, const LaunchHandlers *handlers) {
        const LaunchSpec spec = { .program = LAUNCH_PULL, .uid = 4711 };

        CHECK_EQ(launcher_run(f->launcher, &spec, handlers, f, &f->child), 0);
        receive(f, LAUNCH_RUN);
        CHECK_EQ(f->request.program, LAUNCH_PULL);
        CHECK_EQ(f->request.uid, 4711);
}

static unsigned count_fds(void) {
        unsigned n = 0;

        for (int fd = 0; fd < 256; fd++)
                n += fcntl(fd, F_GETFD) >= 0;
        return n;
}

static pid_t fork_sleeper(int *ret_pidfd) {
        pid_t pid = fork();

        CHECK(pid >= 0);
        if (pid == 0) {
                CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
                for (;;)
                        (void)pause();
        }
        *ret_pidfd = pidfd_open(pid, 0);
        CHECK(*ret_pidfd >= 0);
        return pid;
}

static void end_sleeper(const Fixture *f, pid_t pid) {
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
        settle(f);
}

static void test_gone_before_it_answers(void) {
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        hang_up(&f);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.answered, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        CHECK(launched_has_ended(f.child));
        launched_kill(f.child);

        /* Another one is found. */
        f.child = launched_free(f.child);
        CHECK_EQ(launcher_connect(f.launcher), 0);
        accept_peer(&f);
        run(&f, &waiting);
        send_reply(&f, LAUNCH_ENDED, f.request.id, 0, -EBADF);
        CHECK_EQ(f.ended, 2);
        CHECK_EQ(f.error, 0);
        fixture_done(&f);
}

/* Whoever wants its files must wait until it is dead. */
static void test_gone_while_it_runs(void) {
        int pidfd;
        pid_t pid = fork_sleeper(&pidfd);
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        send_reply(&f, LAUNCH_STARTED, f.request.id, 0, pidfd);
        hang_up(&f);
        CHECK_EQ(f.ended, 0);
        end_sleeper(&f, pid);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        fixture_done(&f);
        safe_close(pidfd);
}

static void test_not_there(void) {
        const LaunchSpec spec = { .program = LAUNCH_PULL };
        Fixture f;

        fixture_init(&f);
        hang_up(&f);
        f.listener = safe_close(f.listener);
        CHECK_EQ(launcher_run(f.launcher, &spec, &waiting, &f, &f.child), -ECONNREFUSED);
        CHECK_EQ(launcher_kill_scope(f.launcher, "vmctl-a.scope"), -ECONNREFUSED);
        CHECK_EQ(f.ended, 0);
        fixture_done(&f);
}

static void test_twice(void) {
        int pidfd;
        pid_t pid = fork_sleeper(&pidfd);
        unsigned before;
        Fixture f;

        fixture_init(&f);
        run(&f, &watching);
        send_reply(&f, LAUNCH_STARTED, f.request.id, 0, pidfd);
        CHECK_EQ(f.started, 1);
        CHECK_EQ(f.pid, getpid());
        before = count_fds();
        send_reply(&f, LAUNCH_STARTED, f.request.id, 0, pidfd);
        CHECK_EQ(f.started, 1);
        CHECK_EQ(count_fds(), before);
        for (int i = 0; i < 2; i++)
                send_reply(&f, LAUNCH_ENDED, f.request.id, 0, -EBADF);
        CHECK_EQ(f.ended, 1);
        send_reply(&f, LAUNCH_STARTED, f.request.id, 0, pidfd);
        CHECK_EQ(f.started, 1);

        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        receive(&f, LAUNCH_SET_LIMITS);
        for (int i = 0; i < 2; i++)
                send_reply(&f, LAUNCH_ANSWER, f.request.id, -EEXIST, -EBADF);
        CHECK_EQ(f.answered, 1);
        CHECK_EQ(f.error, -EEXIST);
        end_sleeper(&f, pid);
        fixture_done(&f);
        safe_close(pidfd);
}

/* Answers to nobody, of those who went and of those who never asked; and an event that there is not */
static void test_not_asked(void) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        unsigned before;
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        f.child = launched_free(f.child);
        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        f.call = launch_call_cancel(f.call);
        before = count_fds();
        for (LaunchEvent event = 0; event <= _LAUNCH_EVENT_MAX; event++)
                for (uint64_t id = 0; id < 4; id++)
                        send_reply(&f, event, id, 0, null);
        CHECK_EQ(count_fds(), before);
        CHECK_EQ(f.started + f.ended + f.answered, 0);
        fixture_done(&f);
        safe_close(null);
}

static void test_other_build(void) {
        LaunchReply reply = { .version = LAUNCH_VERSION + 1 };
        Fixture f;

        for (size_t size = 1; size <= sizeof(reply); size += sizeof(reply) - 1) {
                fixture_init(&f);
                run(&f, &waiting);
                CHECK_EQ(packet_send(f.peer, &reply, size, NULL, NULL, 0), 0);
                settle(&f);
                CHECK_EQ(f.ended, 1);
                CHECK_EQ(f.error, -ECONNRESET);
                fixture_done(&f);
        }
}

/* A program of which it is not said whether it has started */
static void test_silent_about_a_start(void) {
        Fixture f;

        fixture_init(&f);
        at_once = true;
        run(&f, &waiting);
        settle(&f);
        at_once = false;
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        fixture_done(&f);
}

static void test_silent(void) {
        Fixture f;

        fixture_init(&f);
        at_once = true;
        run(&f, &waiting);
        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        settle(&f);
        at_once = false;
        CHECK_EQ(f.answered, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        CHECK_EQ(f.ended, 1);
        fixture_done(&f);
}

/* One that does not read for long: nothing is lost, all comes in order, with its descriptors. */
static void test_slow(void) {
        enum { N = 200 };
        char *const options[] = { (char *)"--control=3", (char *)"--", (char *)"qemu", NULL };
        const LaunchFile files[] = { { STDERR_FILENO, 3 }, { STDERR_FILENO, 4 } };
        const LaunchSpec spec = {
                .program = LAUNCH_SHIM, .options = options, .files = files, .n_files = ELEMENTSOF(files)
        };
        unsigned before = count_fds();
        Launched *children[N];
        uint64_t last = 0;
        Fixture f;

        fixture_init(&f);
        for (size_t i = 0; i < N; i++)
                CHECK_EQ(launcher_run(f.launcher, &spec, &waiting, &f, &children[i]), 0);
        for (size_t i = 0; i < N; i++) {
                Packet p;

                settle(&f);
                CHECK_EQ(packet_receive(f.peer, &f.request, sizeof(f.request), &p), 1);
                CHECK_EQ(strv_length(p.texts), 3);
                CHECK_STREQ(p.texts[2], "qemu");
                CHECK_EQ(p.n_fds, 2);
                CHECK_EQ(f.request.targets[1], 4);
                CHECK(f.request.id > last);
                last = f.request.id;
                packet_done(&p);
        }
        for (size_t i = 0; i < N; i++)
                launched_free(children[i]);
        fixture_done(&f);
        CHECK_EQ(count_fds(), before);
}

/* What waits to be sent is not forgotten when it cannot be. */
static void test_cannot_be_sent(void) {
        enum { N = 200 };
        char *const options[] = { (char *)"--control=3", NULL };
        const LaunchSpec spec = { .program = LAUNCH_SHIM, .options = options };
        Launched *children[N];
        Packet p;
        Fixture f;

        fixture_init(&f);
        for (size_t i = 0; i < N; i++)
                CHECK_EQ(launcher_run(f.launcher, &spec, &waiting, &f, &children[i]), 0);
        no_memory = true;
        for (size_t i = 0; i < N && f.ended == 0; i++) {
                CHECK_EQ(packet_receive(f.peer, &f.request, sizeof(f.request), &p), 1);
                packet_done(&p);
                settle(&f);
        }
        no_memory = false;
        CHECK_EQ(f.ended, N);
        CHECK_EQ(f.error, -ECONNRESET);
        for (size_t i = 0; i < N; i++)
                launched_free(children[i]);
        fixture_done(&f);
}

/* The loop has not seen yet that it has ended. */
static void test_gone_unseen(void) {
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        safe_close(f.peer);
        CHECK_EQ(launcher_kill_scope(f.launcher, "vmctl-b.scope"), 0);
        accept_peer(&f);
        receive(&f, LAUNCH_KILL_SCOPE);
        settle(&f);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.answered, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        fixture_done(&f);
}

/* What nobody waits for is not lost with the launcher, and comes before what is asked next; but only once.
 */
static void test_told_again(void) {
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);
        unsigned before;
        Fixture f;

        fixture_init(&f);
        CHECK_EQ(launcher_stop_scope(f.launcher, "vmctl-a.scope"), 0);
        before = count_fds();
        CHECK_EQ(launcher_kill_scope(f.launcher, "vmctl-b.scope"), 0);
        CHECK_EQ(launcher_signal(f.launcher, null, "vmctl-c.scope", SIGKILL), 0);
        receive(&f, LAUNCH_STOP_SCOPE);
        send_reply(&f, LAUNCH_ANSWER, f.request.id, 0, -EBADF); /* this is done */
        receive(&f, LAUNCH_KILL_SCOPE);
        hang_up(&f);
        accept_peer(&f);
        CHECK_EQ(launcher_set_limits(f.launcher, "vmctl-a.scope", &(VmLimits){}, on_answer, &f, &f.call), 0);
        receive(&f, LAUNCH_KILL_SCOPE);
        receive(&f, LAUNCH_SIGNAL);
        CHECK_EQ(f.request.n_fds, 1);
        receive(&f, LAUNCH_SET_LIMITS);
        hang_up(&f);
        CHECK_EQ(f.answered, 1);
        CHECK_EQ(f.error, -ECONNRESET);
        CHECK_EQ(launcher_connect(f.launcher), 0);
        accept_peer(&f);
        CHECK_EQ(launcher_stop_scope(f.launcher, "vmctl-d.scope"), 0);
        receive(&f, LAUNCH_STOP_SCOPE);
        send_reply(&f, LAUNCH_ANSWER, f.request.id, 0, -EBADF);
        CHECK_EQ(count_fds(), before);
        fixture_done(&f);
        safe_close(null);
}

/* A launcher that hangs */
static void test_told_to_nobody(void) {
        Fixture f;

        fixture_init(&f);
        at_once = true;
        CHECK_EQ(launcher_kill_scope(f.launcher, "vmctl-a.scope"), 0);
        receive(&f, LAUNCH_KILL_SCOPE);
        CHECK(sd_event_run(f.event, UINT64_MAX) > 0);
        at_once = false;
        safe_close(f.peer);
        accept_peer(&f);
        receive(&f, LAUNCH_KILL_SCOPE);
        send_reply(&f, LAUNCH_ANSWER, f.request.id, 0, -EBADF);
        fixture_done(&f);
}

static void test_too_much(void) {
        static char long_option[PACKET_SIZE_MAX];
        char *const options[] = { long_option, NULL };
        LaunchSpec spec = { .program = LAUNCH_SHIM, .options = options };
        Fixture f;

        memset(long_option, 'x', sizeof(long_option) - 1);
        fixture_init(&f);
        CHECK_EQ(launcher_run(f.launcher, &spec, &waiting, &f, &f.child), -EMSGSIZE);
        spec.n_files = PACKET_FDS_MAX + 1;
        CHECK_EQ(launcher_run(f.launcher, &spec, &waiting, &f, &f.child), -E2BIG);
        fixture_done(&f);
}

/* Those for whom nobody cares hear that it is over. */
static void test_end_of_the_service(void) {
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        f.launcher = launcher_free(f.launcher);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.error, -ECANCELED);
        fixture_done(&f);
}

static void test_end_of_the_service_without_launcher(void) {
        int pidfd;
        pid_t pid = fork_sleeper(&pidfd);
        Fixture f;

        fixture_init(&f);
        run(&f, &waiting);
        send_reply(&f, LAUNCH_STARTED, f.request.id, 0, pidfd);
        hang_up(&f);
        f.launcher = launcher_free(f.launcher);
        CHECK_EQ(f.ended, 1);
        CHECK_EQ(f.error, -ECANCELED);
        end_sleeper(&f, pid);
        CHECK_EQ(f.ended, 1);
        fixture_done(&f);
        safe_close(pidfd);
}

int main(void) {
        test_gone_before_it_answers();
        test_gone_while_it_runs();
        test_not_there();
        test_twice();
        test_not_asked();
        test_other_build();
        test_silent_about_a_start();
        test_silent();
        test_slow();
        test_too_much();
        test_cannot_be_sent();
        test_gone_unseen();
        test_told_again();
        test_told_to_nobody();
        test_end_of_the_service();
        test_end_of_the_service_without_launcher();
        return 0;
}
