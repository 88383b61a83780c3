/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A connection that is taken over in the middle of its life. */
#include <sys/socket.h>
#include <unistd.h>

#include "qmp-fixture.h"
#include "util/fd-util.h"

static void negotiated(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        if (streq(command->name, "qmp_capabilities"))
                fake_qmp_refuse(peer, command->id, "CommandNotFound", "done already");
        else
                hold(peer, command, userdata);
}

/* The peer of a connection that negotiated long ago. */
static void init_old(Fixture *x) {
        fixture_init(x, NULL, FAKE_QMP_SILENT | FAKE_QMP_PASS_NEGOTIATION, negotiated);
}

static void check_works(Fixture *x) {
        _cleanup_reply_ Reply reply = {};
        unsigned n = x->n_held;

        RUN_UNTIL(x->event, x->n_ready == 1);
        call(x, "query-status", LATE, &reply);
        RUN_UNTIL(x->event, x->n_held == n + 1);
        fake_qmp_return(x->peer, x->held[n], "\"fine\"");
        RUN_UNTIL(x->event, reply.n == 1);
        CHECK_STREQ(reply.text, "\"fine\"");
        CHECK_EQ(x->n_closed, 0);
}

static void test_quiet(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply early = {};

        init_old(&x);
        fixture_connect(&x, QMP_REATTACH, LATE);
        CHECK(!qmp_is_ready(x.q));
        call(&x, "query-early", LATE, &early);
        RUN_UNTIL(x.event, x.n_held == 1);
        CHECK_EQ(x.n_ready, 1);
        fake_qmp_return(x.peer, x.held[0], "{}");
        check_works(&x);
        CHECK_EQ(early.n, 1);
}

/* What came while nobody was there. */
static void test_whole_first_line(void) {
        _cleanup_fixture_ Fixture x;

        init_old(&x);
        fake_qmp_event(x.peer, "STOP", NULL);
        fake_qmp_event(x.peer, "SHUTDOWN", NULL);
        fixture_connect(&x, QMP_REATTACH, LATE);
        check_works(&x);
        CHECK_EQ(x.n_events, 2);
        CHECK_STREQ(x.last_event, "SHUTDOWN");
}

static void test_cut_first_line(void) {
        static const char *const rests[] = { "{}}}\r\n", "\r\n", "\n", "OP\"}\r\n", "\"data\": {}}\r\n",
                "{}\r\n", "\xbf\"}\r\n", "[]\n" };

        for (size_t i = 0; i < ELEMENTSOF(rests); i++) {
                _cleanup_fixture_ Fixture x;

                init_old(&x);
                fake_qmp_say(x.peer, "%s", rests[i]);
                fake_qmp_event(x.peer, "SHUTDOWN", NULL);
                fixture_connect(&x, QMP_REATTACH, LATE);
                check_works(&x);
                CHECK_EQ(x.n_events, 1);
        }
}

/* One line may be cut, and no more. */
static void test_garbage(void) {
        _cleanup_fixture_ Fixture x;

        init_old(&x);
        fake_qmp_say(x.peer, "garbage\nand more\n");
        fixture_connect(&x, QMP_REATTACH, LATE);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK(!x.closed_cleanly);
        CHECK_EQ(x.n_ready, 0);
}

/* Answers to the former owner's commands, with its numbers or none; they must not be taken for ours. */
static void test_old_answers(void) {
        _cleanup_fixture_ Fixture x;

        init_old(&x);
        fake_qmp_return(x.peer, 1, "{}");
        fake_qmp_refuse(x.peer, 2, "GenericError", "old");
        fake_qmp_say(x.peer,
                        "{\"return\": {}}\n{\"error\": {\"desc\": \"old\"}}\n{\"return\": {}, \"id\": "
                        "\"old\"}\n");
        fixture_connect(&x, QMP_REATTACH, LATE);
        RUN_UNTIL(x.event, x.n_ready == 1);
        fake_qmp_return(x.peer, 3, "{}");
        check_works(&x);
        CHECK(x.held[0] > 1000);
}

/* The former owner died between greeting and negotiation. */
static void test_greeting(void) {
        _cleanup_fixture_ Fixture x;

        fixture_init(&x, NULL, FAKE_QMP_SILENT, hold);
        fake_qmp_say(x.peer, "\n");
        fake_qmp_greet(x.peer);
        fixture_connect(&x, QMP_REATTACH, LATE);
        check_works(&x);
        CHECK_EQ(fake_qmp_n_commands(x.peer), 2);
}

/* The former owner died while it wrote. */
static void test_half_a_command(void) {
        static const char half[] = "{\"execute\":\"qui";
        _cleanup_fixture_ Fixture x;

        init_old(&x);
        CHECK_EQ(write(x.fd, half, strlen(half)), strlen(half));
        fixture_connect(&x, QMP_REATTACH, LATE);
        check_works(&x);
}

static void test_no_answer(void) {
        _cleanup_fixture_ Fixture x;

        fixture_init(&x, NULL, FAKE_QMP_SILENT | FAKE_QMP_PASS_NEGOTIATION, hold);
        fixture_connect(&x, QMP_REATTACH, SOON);
        fake_qmp_event(x.peer, "STOP", NULL);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_ready, 0); /* for all that was said about half a command */
        CHECK_EQ(x.n_events, 1);
        CHECK_EQ(x.closed_code, ERROR_QMP_TIMEOUT);
}

static void test_gone(void) {
        _cleanup_fixture_ Fixture x;

        init_old(&x);
        fake_qmp_event(x.peer, "SHUTDOWN", NULL);
        fake_qmp_hang_up(x.peer);
        fixture_connect(&x, QMP_REATTACH, LATE);
        CHECK_EQ(x.n_closed, 0);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_events, 1);
        CHECK(x.closed_cleanly);
}

/* A descriptor that is none is an error at once, and taken over all the same. */
static void test_bad_descriptor(void) {
        static const QmpHandlers handlers = {};
        _cleanup_fixture_ Fixture x;
        int fd;

        init_old(&x);
        fd = dup(x.fd);
        close(fd);
        CHECK_EQ(qmp_new(x.event, fd, 0, LATE, &handlers, NULL, &x.q), -EBADF);
        CHECK(!x.q);
}

int main(void) {
        test_quiet();
        test_whole_first_line();
        test_cut_first_line();
        test_garbage();
        test_old_answers();
        test_greeting();
        test_half_a_command();
        test_no_answer();
        test_gone();
        test_bad_descriptor();
        return 0;
}
