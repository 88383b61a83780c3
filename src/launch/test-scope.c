/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PID 1 that answers late, never, or somebody who has gone meanwhile. */
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launch.h"
#include "util/test.h"

#define CALLS 80 /* more than are in flight */
#define IN_FLIGHT 64

/* What the launcher asks, and has answered */
static sd_bus_message *calls[CALLS];
static size_t n_calls;
static LaunchReply replies[2 * CALLS];
static size_t n_replies;
static bool at_once; /* deadlines pass at once */
static Child shim;
static unsigned holds;

int __real_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t handler, void *userdata) {
        return __real_sd_event_add_time_relative(
                        e, ret, clock, at_once ? 0 : usec, at_once ? 1 : accuracy, handler, userdata);
}

/* Instead of main.c and run.c */
void server_reply(Server *s, const LaunchReply *reply, const char *text, int fd) {
        CHECK(n_replies < ELEMENTSOF(replies));
        replies[n_replies++] = *reply;
}

Child *find_child(const Server *s, uint64_t id) {
        return id == shim.id ? &shim : NULL;
}

void hold_child(Child *c, bool hold) {
        CHECK(c == &shim);
        holds += hold ? 1 : -1;
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        CHECK(n_calls < CALLS);
        calls[n_calls++] = sd_bus_message_ref(m);
        return 1;
}

typedef struct Fixture {
        Server server;
        sd_bus *peer;
} Fixture;

static void fixture_init(Fixture *f) {
        sd_bus *bus;
        sd_id128_t id;
        int fds[2];

        *f = (Fixture){ .server.socket = -EBADF };
        n_calls = n_replies = 0;
        shim = (Child){ .id = 100, .program = LAUNCH_SHIM, .pid = getpid() };
        TAILQ_INIT(&f->server.children);
        TAILQ_INIT(&f->server.asked);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_event_new(&f->server.event) >= 0);
        CHECK(sd_bus_new(&f->peer) >= 0 && sd_bus_new(&bus) >= 0);
        CHECK(sd_bus_set_fd(f->peer, fds[0], fds[0]) >= 0 && sd_bus_set_fd(bus, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(f->peer, true, id) >= 0 && sd_bus_set_anonymous(f->peer, true) >= 0);
        CHECK(sd_bus_add_filter(f->peer, NULL, on_call, f) >= 0);
        CHECK(sd_bus_start(f->peer) >= 0 && sd_bus_start(bus) >= 0);
        CHECK(sd_bus_attach_event(f->peer, f->server.event, 0) >= 0);
        CHECK(sd_bus_attach_event(bus, f->server.event, 0) >= 0);
        f->server.bus = bus;
        CHECK_EQ(call_queue_new(bus, IN_FLIGHT, 100 * USEC_PER_SEC, &f->server.calls), 0);
}

static void settle(Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->server.event, 0)) >= 0);
        while (r > 0);
}

static void answer_all(Fixture *f) {
        for (size_t i = 0; i < n_calls; i++) {
                CHECK(sd_bus_reply_method_return(calls[i], "o", "/job") >= 0);
                sd_bus_message_unref(calls[i]);
                settle(f); /* the next that waits is sent */
        }
        n_calls = 0;
}

static void fixture_done(Fixture *f) {
        answer_all(f);
        CHECK(TAILQ_EMPTY(&f->server.asked));
        CHECK_EQ(holds, 0);
        call_queue_free(f->server.calls);
        sd_bus_close_unref(f->server.bus);
        sd_bus_close_unref(f->peer);
        sd_event_unref(f->server.event);
}

static void ask_for_scope(Fixture *f, uint64_t id) {
        char *texts[] = { (char *)"vmctl-a.scope", NULL };
        Packet p = { .texts = texts };

        CHECK_EQ(start_scope(&f->server, &(LaunchRequest){ .id = id, .child = shim.id }, &p), 0);
        settle(f);
}

static void test_answered(void) {
        Fixture f;

        fixture_init(&f);
        ask_for_scope(&f, 1);
        CHECK_EQ(n_calls, 1);
        CHECK_EQ(n_replies, 0);
        CHECK_EQ(holds, 1); /* PID 1 was told a number that must stand for nobody else */
        answer_all(&f);
        CHECK_EQ(n_replies, 1);
        CHECK_EQ(replies[0].id, 1);
        CHECK_EQ(replies[0].error, 0);
        CHECK_EQ(replies[0].pid, getpid());
        fixture_done(&f);
}

/* Whoever comes next has a request of the same number. */
static void test_asked_by_one_who_has_gone(void) {
        Fixture f;

        fixture_init(&f);
        ask_for_scope(&f, 1);
        disown_asked(&f.server);
        CHECK_EQ(holds, 1);
        answer_all(&f);
        CHECK_EQ(n_replies, 0);
        ask_for_scope(&f, 1);
        answer_all(&f);
        CHECK_EQ(n_replies, 1);
        fixture_done(&f);
}

/* All hear so in time, also those whose calls wait; and once. */
static void test_silence(void) {
        Fixture f;

        fixture_init(&f);
        at_once = true;
        for (uint64_t id = 1; id <= CALLS; id++)
                ask_for_scope(&f, id);
        settle(&f);
        at_once = false;
        CHECK_EQ(n_calls, IN_FLIGHT);
        CHECK_EQ(n_replies, CALLS);
        for (size_t i = 0; i < n_replies; i++)
                CHECK_EQ(replies[i].error, -ETIMEDOUT);
        fixture_done(&f);
        CHECK_EQ(n_replies, CALLS);
}

/* It has ended, and was not reaped. */
static void test_ended_shim(void) {
        char *texts[] = { (char *)"vmctl-a.scope", NULL };
        Packet p = { .texts = texts };
        siginfo_t si;
        Fixture f;

        fixture_init(&f);
        shim.pid = fork();
        if (shim.pid == 0)
                _exit(0);
        CHECK_EQ(waitid(P_PID, (id_t)shim.pid, &si, WEXITED | WNOWAIT), 0);
        CHECK_EQ(start_scope(&f.server, &(LaunchRequest){ .id = 1, .child = shim.id }, &p), -ESRCH);
        settle(&f);
        CHECK_EQ(n_calls, 0);
        CHECK_EQ(n_replies, 1);
        CHECK_EQ(replies[0].error, -ESRCH);
        CHECK_EQ(waitpid(shim.pid, NULL, 0), shim.pid);
        fixture_done(&f);
}

int main(void) {
        test_answered();
        test_asked_by_one_who_has_gone();
        test_silence();
        test_ended_shim();
        return 0;
}
