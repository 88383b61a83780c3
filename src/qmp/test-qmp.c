/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A peer that behaves, or at least is allowed what it does. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "qmp-fixture.h"
#include "util/fd-util.h"

static void test_handshake(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply early = {}, reply = {};

        fixture_init(&x, NULL, 0, NULL);
        fixture_connect(&x, 0, LATE);
        CHECK(!qmp_is_ready(x.q));
        CHECK(qmp_fd(x.q) >= 0);
        call(&x, "query-status", LATE, &early);
        RUN_UNTIL(x.event, early.n == 1);
        CHECK_EQ(early.r, 0);
        CHECK_STREQ(early.text, "{}");
        CHECK_EQ(x.n_ready, 1);
        CHECK_EQ(fake_qmp_n_commands(x.peer), 2);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, reply.n == 1);
        CHECK_EQ(x.n_ready + x.n_closed * 10 + x.n_events * 100, 1);
}

/* The peer has all of them before it answers the first. */
static void test_calls_behind_negotiation(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply early = {};

        fixture_init(&x, NULL, FAKE_QMP_PASS_NEGOTIATION, hold);
        fixture_connect(&x, 0, LATE);
        call(&x, "query-status", LATE, &early);
        RUN_UNTIL(x.event, x.n_held == 2);
        CHECK_STREQ(x.held_names[0], "qmp_capabilities");
        CHECK_STREQ(x.held_names[1], "query-status");
        CHECK(!qmp_is_ready(x.q));
        fake_qmp_return(x.peer, x.held[0], "{}");
        fake_qmp_return(x.peer, x.held[1], "{\"running\": true}");
        RUN_UNTIL(x.event, early.n == 1);
        CHECK_EQ(x.n_ready, 1);
        CHECK_STREQ(early.text, "{\"running\":true}");
}

static void test_late_greeting(void) {
        _cleanup_fixture_ Fixture x;

        fixture_init(&x, NULL, FAKE_QMP_SILENT, NULL);
        fixture_connect(&x, 0, LATE);
        run_for(x.event, SOON);
        CHECK_EQ(fake_qmp_n_commands(x.peer), 0);
        CHECK(!qmp_is_ready(x.q));
        fake_qmp_greet(x.peer);
        RUN_UNTIL(x.event, x.n_ready == 1);
}

static void test_events(void) {
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_event(x.peer, "STOP", NULL);
        RUN_UNTIL(x.event, x.n_events == 1);
        CHECK_STREQ(x.last_event, "STOP");
        CHECK(!x.last_data);
        CHECK_EQ(x.last_usec, UINT64_C(1700000000250000));

        fake_qmp_event(x.peer, "SHUTDOWN", "{\"guest\": true}");
        RUN_UNTIL(x.event, x.n_events == 2);
        CHECK_STREQ(x.last_data, "{\"guest\":true}");

        /* QEMU could not read its clock; nonsense; no line feed but LF alone; an empty line. */
        fake_qmp_say(x.peer,
                        "{\"event\": \"A\", \"timestamp\": {\"seconds\": -1, \"microseconds\": -1}}\n\r\n"
                        "{\"event\": \"B\", \"timestamp\": {\"seconds\": 18446744073709551615, "
                        "\"microseconds\": 1}}\n");
        RUN_UNTIL(x.event, x.n_events == 4);
        CHECK_STREQ(x.last_event, "B");
        CHECK_EQ(x.last_usec, 0);
}

static void check_word(const char *json, const char *word) {
        _cleanup_json_ Json *doc = NULL;

        CHECK(json_parse(json, strlen(json), NULL, &doc, NULL) >= 0);
        CHECK_STREQ(qmp_word(doc, "reason"), word);
}

/* A QEMU that a guest has taken over says what it likes. */
static void test_words(void) {
        static const char long_word[] =
                        "{\"reason\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                        "aaaaaaa\"}";

        check_word("{\"reason\":\"guest-shutdown\"}", "guest-shutdown");
        check_word("{\"reason\":\"pre2-x\"}", "pre2-x");
        check_word("{}", "");
        check_word("{\"reason\":\"\"}", "unknown");
        check_word("{\"reason\":7}", "unknown");
        check_word("{\"reason\":\"\\u001b]0;title\\u0007\"}", "unknown");
        check_word("{\"reason\":\"running\\nHint: run me\"}", "unknown");
        check_word("{\"reason\":\"Running\"}", "unknown");
        check_word("{\"reason\":\"caf\u00e9\"}", "unknown");
        check_word(long_word, "unknown");
        CHECK_STREQ(qmp_word(NULL, "reason"), "");
}

/* So do its errors, which are shown, too. */
static void test_hostile_description(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_refuse(x.peer, x.held[0], "GenericError", "\\u001b[2J<0>\\n\\u009b1m");
        RUN_UNTIL(x.event, reply.n == 1);
        CHECK_EQ(reply.r, -EPROTO);
        CHECK_STREQ(reply.message, "QEMU refused 'query-status': \\x1b[2J<0>\\x0a\\xc2\\x9b1m");
}

static void test_split_messages(void) {
        static const char text[] = "{\"event\": \"ONE\"}\r\n{\"event\": \"TWO\"}\r\n";
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, NULL);
        for (size_t i = 0; i < strlen(text); i++) {
                fake_qmp_say_n(x.peer, text + i, 1);
                run_idle(x.event);
        }
        CHECK_EQ(x.n_events, 2);
        CHECK_STREQ(x.last_event, "TWO");
}

static void test_replies(void) {
        _cleanup_fixture_ Fixture x;
        Reply replies[3] = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-a", LATE, &replies[0]);
        call(&x, "query-b", LATE, &replies[1]);
        call(&x, "query-c", LATE, &replies[2]);
        RUN_UNTIL(x.event, x.n_held == 3);
        CHECK_STREQ(x.held_names[2], "query-c");
        CHECK(x.held[0] < x.held[1] && x.held[1] < x.held[2]);
        fake_qmp_return(x.peer, x.held[2], "\"c\"");
        fake_qmp_refuse(x.peer, x.held[0], "DeviceNotFound", "Device 'x\\u001b[1m' not found\\nat all");
        fake_qmp_return(x.peer, x.held[1], "null");
        RUN_UNTIL(x.event, replies[1].n == 1);
        CHECK_STREQ(replies[2].text, "\"c\"");
        CHECK_EQ(replies[0].r, -EPROTO);
        CHECK_EQ(replies[0].code, ERROR_QMP_FAILED);
        CHECK_STREQ(replies[0].message, "QEMU refused 'query-a': Device 'x\\x1b[1m' not found\\x0aat all");
        CHECK_EQ(replies[1].r, 0);
        CHECK_STREQ(replies[1].text, "null");
        for (int i = 0; i < 3; i++)
                reply_done(&replies[i]);
}

static void test_error_without_id(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply first = {}, second = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-a", LATE, &first);
        call(&x, "query-b", LATE, &second);
        RUN_UNTIL(x.event, x.n_held == 2);
        fake_qmp_say(x.peer,
                        "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n");
        fake_qmp_return(x.peer, x.held[1], "{}");
        RUN_UNTIL(x.event, second.n == 1);
        CHECK_EQ(first.r, -EPROTO);
        CHECK_EQ(second.r, 0);
        CHECK_EQ(x.n_closed, 0);
}

static void keep_arguments(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        Fixture *x = userdata;
        uint64_t u;

        CHECK_EQ(json_get_unsigned(command->arguments, "value", &u), 0);
        CHECK(u == UINT64_MAX);
        hold(peer, command, x);
        fake_qmp_return(peer, command->id, "{}");
}

static void test_arguments(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, keep_arguments);
        CHECK_EQ(qmp_call(x.q, "qom-set", "{\"value\":18446744073709551615}", LATE, on_reply, &reply, NULL),
                        0);
        RUN_UNTIL(x.event, reply.n == 1);
        CHECK_STREQ(x.held_names[0], "qom-set");
        CHECK_EQ(qmp_call(x.q, "", NULL, LATE, on_reply, &reply, NULL), -EINVAL);
        CHECK_EQ(qmp_call(x.q, "a\"b", NULL, LATE, on_reply, &reply, NULL), -EINVAL);
}

static void test_call_deadline(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply slow = {}, fast = {}, after = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-slow", SOON, &slow);
        call(&x, "query-fast", LATE, &fast);
        RUN_UNTIL(x.event, x.n_held == 2);
        fake_qmp_return(x.peer, x.held[1], "{}");
        RUN_UNTIL(x.event, slow.n == 1);
        CHECK_EQ(fast.r, 0);
        CHECK_EQ(slow.r, -ETIMEDOUT);
        CHECK_EQ(slow.code, ERROR_QMP_TIMEOUT);
        CHECK_STREQ(slow.message, "QEMU did not answer 'query-slow' within 30 ms");

        fake_qmp_return(x.peer, x.held[0], "\"late\"");
        call(&x, "query-after", LATE, &after);
        RUN_UNTIL(x.event, x.n_held == 3);
        fake_qmp_return(x.peer, x.held[2], "{}");
        RUN_UNTIL(x.event, after.n == 1);
        CHECK_EQ(after.r, 0);
        CHECK_EQ(slow.n, 1);
        CHECK_EQ(x.n_closed, 0);
}

static unsigned n_again;

static void call_again(void *userdata, int r, const Json *result, const Error *error) {
        Qmp *q = userdata;

        CHECK_EQ(r, -ETIMEDOUT);
        if (++n_again < 10)
                CHECK_EQ(qmp_call(q, "query-again", NULL, 0, call_again, q, NULL), 0);
}

/* Who tries again at once does so on the event loop's next turn, and stops nobody else. */
static void test_deadline_again(void) {
        _cleanup_fixture_ Fixture x;
        unsigned before = 0;

        fixture_init_ready(&x, NULL, hold);
        CHECK_EQ(qmp_call(x.q, "query-again", NULL, 0, call_again, x.q, NULL), 0);
        while (n_again < 10) {
                run_once(x.event);
                CHECK(n_again <= before + 1);
                before = n_again;
        }
}

static void test_in_flight(void) {
        _cleanup_fixture_ Fixture x;
        Reply replies[20] = {};

        fixture_init_ready(&x, NULL, hold);
        for (unsigned i = 0; i < 20; i++) {
                char name[16];

                snprintf(name, sizeof(name), "query-%u", i);
                call(&x, name, LATE, &replies[i]);
        }
        run_idle(x.event);
        CHECK_EQ(x.n_held, QMP_IN_FLIGHT_MAX);
        for (unsigned i = 0; i < 20; i++) {
                char name[16];

                fake_qmp_return(x.peer, x.held[i], "{}");
                run_idle(x.event);
                CHECK_EQ(replies[i].n, 1);
                CHECK_EQ(x.n_held, MIN(i + 1 + QMP_IN_FLIGHT_MAX, 20U));
                snprintf(name, sizeof(name), "query-%u", i);
                CHECK_STREQ(x.held_names[i], name);
        }
        for (unsigned i = 0; i < 20; i++)
                reply_done(&replies[i]);
}

static void test_queue(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply held = {}, waiting = {}, refused = {};

        fixture_init_ready(&x, NULL, hold);
        for (unsigned i = 0; i < QMP_IN_FLIGHT_MAX; i++)
                call(&x, "query-held", LATE, &held);
        call(&x, "query-waiting", SOON, &waiting);
        for (unsigned i = 1; i < QMP_QUEUE_MAX; i++)
                call(&x, "query-held", LATE, &held);
        CHECK_EQ(qmp_call(x.q, "query-status", NULL, LATE, on_reply, &refused, NULL), -ENOBUFS);
        RUN_UNTIL(x.event, waiting.n == 1);
        CHECK_EQ(waiting.r, -ETIMEDOUT);
        call(&x, "query-held", LATE, &held); /* its place is free again */
        CHECK_EQ(qmp_call(x.q, "query-status", NULL, LATE, on_reply, &refused, NULL), -ENOBUFS);
        CHECK_EQ(x.n_held, QMP_IN_FLIGHT_MAX);

        fake_qmp_hang_up(x.peer);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(held.n, QMP_IN_FLIGHT_MAX + QMP_QUEUE_MAX);
        CHECK_EQ(held.r, -ECONNRESET);
        CHECK_EQ(held.code, ERROR_QMP_FAILED);
        CHECK_EQ(refused.n, 0);
        CHECK_EQ(qmp_call(x.q, "query-status", NULL, LATE, on_reply, &refused, NULL), -ENOTCONN);
}

static void test_cancel(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply canceled = {}, held = {}, last = {};
        QmpCall *in_flight, *waiting;

        fixture_init_ready(&x, NULL, hold);
        CHECK_EQ(qmp_call(x.q, "query-canceled", NULL, SOON, on_reply, &canceled, &in_flight), 0);
        for (unsigned i = 1; i < QMP_IN_FLIGHT_MAX; i++)
                call(&x, "query-held", LATE, &held);
        CHECK_EQ(qmp_call(x.q, "query-canceled", NULL, SOON, on_reply, &canceled, &waiting), 0);
        call(&x, "query-last", LATE, &last);
        CHECK(!qmp_cancel(waiting));
        CHECK(!qmp_cancel(in_flight));
        CHECK(!qmp_cancel(NULL));
        run_for(x.event, SOON * 2);

        /* QEMU still owes an answer, so nothing takes that place before. */
        CHECK_EQ(x.n_held, QMP_IN_FLIGHT_MAX);
        fake_qmp_return(x.peer, x.held[0], "{}");
        RUN_UNTIL(x.event, x.n_held == QMP_IN_FLIGHT_MAX + 1);
        CHECK_STREQ(x.held_names[QMP_IN_FLIGHT_MAX], "query-last");
        fake_qmp_return(x.peer, x.held[QMP_IN_FLIGHT_MAX], "{}");
        RUN_UNTIL(x.event, last.n == 1);
        CHECK_EQ(canceled.n, 0);
        CHECK_EQ(x.n_closed, 0);
}

static void test_end_of_file(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "quit", LATE, &reply);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_event(x.peer, "SHUTDOWN", NULL);
        fake_qmp_hang_up(x.peer);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_events, 1);
        CHECK_EQ(reply.r, -ECONNRESET);
        CHECK(x.closed_cleanly);
        CHECK_EQ(qmp_fd(x.q), -EBADF);
        CHECK(!qmp_is_ready(x.q));
        run_idle(x.event);
}

static void test_end_in_message(void) {
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_say(x.peer, "{\"event\": \"ONE\"}\r\n{\"event\": \"TW");
        fake_qmp_hang_up(x.peer);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_events, 1);
        CHECK(!x.closed_cleanly);
        CHECK_EQ(x.closed_code, ERROR_QMP_FAILED);
        CHECK_STREQ(x.closed_message, "QEMU left in the middle of a message");
}

/* The peer is gone when the command is sent, but what it said before it went still counts. */
static void test_call_after_hang_up(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_event(x.peer, "SHUTDOWN", NULL);
        fake_qmp_hang_up(x.peer);
        call(&x, "query-status", LATE, &reply);
        CHECK_EQ(x.n_closed, 0);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_events, 1);
        CHECK_EQ(reply.r, -ECONNRESET);
        CHECK(x.closed_cleanly);
}

/* It left without reading what it was sent, which the kernel reports as an error. */
static void test_hang_up_unread(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_set_deaf(x.peer, true);
        call(&x, "query-status", LATE, &reply);
        fake_qmp_event(x.peer, "SHUTDOWN", NULL);
        fake_qmp_hang_up(x.peer);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(x.n_events, 1);
        CHECK_EQ(reply.r, -ECONNRESET);
        CHECK(x.closed_cleanly);
}

/* It takes nothing any more, but stays. */
static void test_half_closed(void) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init(&x, NULL, 0, NULL);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        safe_close(x.fd);
        x.fd = TAKE_FD(pair[0]);
        fixture_connect(&x, 0, LATE);
        CHECK_EQ(write_all(pair[1], "{\"QMP\": {}}\r\n", 13), 0);
        CHECK_EQ(shutdown(pair[1], SHUT_RD), 0);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, x.n_closed == 1);
        CHECK_EQ(reply.r, -ECONNRESET);
}

static ino_t inode_of(int fd) {
        struct stat st;

        CHECK_EQ(fstat(fd, &st), 0);
        return st.st_ino;
}

static ino_t received_inodes[4];
static unsigned n_received;

static void take_fds(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        CHECK(n_received < ELEMENTSOF(received_inodes));
        received_inodes[n_received++] = command->fd >= 0 ? inode_of(command->fd) : 0;
        fake_qmp_return(peer, command->id, "{}");
}

static void test_descriptors(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};
        int first = memfd_with("first", "1", 1), second = memfd_with("second", "2", 1);
        ino_t inodes[2] = { inode_of(first), inode_of(second) };

        fixture_init_ready(&x, NULL, take_fds);
        CHECK_EQ(qmp_call_fd(x.q, "getfd", "{\"fdname\":\"a\"}", first, LATE, on_reply, &reply, NULL), 0);
        CHECK(fcntl(first, F_GETFD) < 0 && errno == EBADF); /* sent, so not kept */
        call(&x, "query-status", LATE, &reply);
        CHECK_EQ(qmp_call_fd(x.q, "getfd", "{\"fdname\":\"b\"}", second, LATE, on_reply, &reply, NULL), 0);
        RUN_UNTIL(x.event, reply.n == 3);
        CHECK(received_inodes[0] == inodes[0]);
        CHECK(received_inodes[1] == 0);
        CHECK(received_inodes[2] == inodes[1]);
        CHECK(fcntl(second, F_GETFD) < 0 && errno == EBADF);
        n_received = 0;
}

/* A descriptor that cannot be sent harms its own call alone. */
static void test_unsendable(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply bad = {}, good = {};
        int fd = open("/proc/self/exe", O_RDONLY | O_PATH | O_CLOEXEC);

        fixture_init_ready(&x, NULL, NULL);
        CHECK(fd >= 0);
        close(fd);
        CHECK_EQ(qmp_call_fd(x.q, "getfd", "{}", fd, LATE, on_reply, &bad, NULL), 0);
        CHECK_EQ(bad.n, 0);
        call(&x, "query-status", LATE, &good);
        RUN_UNTIL(x.event, good.n == 1 && bad.n == 1);
        CHECK_EQ(bad.r, -EBADF);
        CHECK_EQ(good.r, 0);
        CHECK_EQ(x.n_closed, 0);
}

static void test_raw(void) {
        static const char *const refused[] = { "", "x", "[]", "{}", "{\"execute\":1}",
                "{\"execute\":\"a b\"}", "{\"execute\":\"a\",\"arguments\":1}",
                "{\"execute\":\"a\",\"control\":{}}", "{\"execute\":\"a\"} x" };
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {}, late = {};
        _cleanup_error_ Error *error = NULL;

        fixture_init_ready(&x, NULL, hold);
        CHECK_EQ(qmp_call_raw(x.q, "{\"id\": {\"mine\": [1]}, \"execute\": \"query-a\"}", LATE, on_raw_reply,
                                 &reply, NULL, &error),
                        0);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_return(x.peer, x.held[0], "{\"n\": 18446744073709551615}");
        RUN_UNTIL(x.event, reply.n == 1);
        CHECK_STREQ(reply.text, "{\"return\":{\"n\":18446744073709551615},\"id\":{\"mine\":[1]}}");

        CHECK_EQ(qmp_call_raw(x.q, "{\"execute\": \"query-b\", \"arguments\": {}}\n", LATE, on_raw_reply,
                                 &reply, NULL, &error),
                        0);
        RUN_UNTIL(x.event, x.n_held == 2);
        fake_qmp_refuse(x.peer, x.held[1], "GenericError", "no");
        RUN_UNTIL(x.event, reply.n == 2);
        CHECK_EQ(reply.r, 0);
        CHECK_STREQ(reply.text, "{\"error\":{\"class\":\"GenericError\",\"desc\":\"no\"}}");

        for (size_t i = 0; i < ELEMENTSOF(refused); i++) {
                _cleanup_error_ Error *why = NULL;

                CHECK_EQ(qmp_call_raw(x.q, refused[i], LATE, on_raw_reply, &reply, NULL, &why), -EBADMSG);
                CHECK(why);
        }
        CHECK_EQ(qmp_call_raw(x.q, "{\"execute\":\"query-c\"}", SOON, on_raw_reply, &late, NULL, NULL), 0);
        RUN_UNTIL(x.event, late.n == 1);
        CHECK_EQ(late.r, -ETIMEDOUT);
        CHECK(!late.text);
}

static void call_from_ready(Fixture *x) {
        static Reply ignored; /* nobody answers it */

        CHECK_EQ(qmp_call(x->q, "query-b", NULL, LATE, on_reply, &ignored, NULL), 0);
        CHECK_EQ(ignored.n, 0);
}

/* What was called before the handshake goes out before what ready() calls. */
static void test_call_from_ready(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply early = {};

        fixture_init(&x, NULL, 0, hold);
        x.on_ready = call_from_ready;
        fixture_connect(&x, 0, LATE);
        call(&x, "query-a", LATE, &early);
        RUN_UNTIL(x.event, x.n_held == 2);
        CHECK_STREQ(x.held_names[0], "query-a");
        CHECK_STREQ(x.held_names[1], "query-b");
}

int main(void) {
        test_handshake();
        test_calls_behind_negotiation();
        test_late_greeting();
        test_events();
        test_words();
        test_hostile_description();
        test_split_messages();
        test_replies();
        test_error_without_id();
        test_arguments();
        test_call_deadline();
        test_deadline_again();
        test_in_flight();
        test_queue();
        test_cancel();
        test_end_of_file();
        test_end_in_message();
        test_call_after_hang_up();
        test_hang_up_unread();
        test_half_closed();
        test_descriptors();
        test_unsendable();
        test_raw();
        test_call_from_ready();
        return 0;
}
