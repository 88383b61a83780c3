/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A peer that is broken, silent, greedy or malicious; and owners that let go at any moment. */
#include <dirent.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "qmp-fixture.h"
#include "qmp-stream.h"
#include "util/fd-util.h"

static char *repeat(const char *prefix, char c, size_t n, const char *suffix) {
        char *text = malloc(strlen(prefix) + n + strlen(suffix) + 1);

        CHECK(text);
        strcpy(text, prefix);
        memset(text + strlen(prefix), c, n);
        strcpy(text + strlen(prefix) + n, suffix);
        return text;
}

static void check_closed(Fixture *x, ErrorCode code, const char *part_of_message) {
        RUN_UNTIL(x->event, x->n_closed == 1);
        CHECK(!x->closed_cleanly);
        CHECK_EQ(x->closed_code, code);
        if (!strstr(x->closed_message, part_of_message))
                TEST_FAIL("\"%s\", expected \"%s\"", x->closed_message, part_of_message);
        run_idle(x->event);
        CHECK_EQ(x->n_closed, 1);
}

static void check_deadline(FakeQmpFlags flags, const char *part_of_message) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};
        uint64_t start = monotonic_usec();

        fixture_init(&x, NULL, flags, hold);
        fixture_connect(&x, 0, SOON);
        call(&x, "query-status", LATE, &reply);
        check_closed(&x, ERROR_QMP_TIMEOUT, part_of_message);
        CHECK(monotonic_usec() - start >= SOON);
        CHECK_EQ(reply.r, -ECONNRESET);
        CHECK_EQ(x.n_ready, 0);
}

static void refuse(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        fake_qmp_refuse(peer, command->id, "GenericError", "not today");
}

static void test_handshake_fails(void) {
        _cleanup_fixture_ Fixture x;

        check_deadline(FAKE_QMP_SILENT, "sent no greeting within 30 ms");
        check_deadline(FAKE_QMP_PASS_NEGOTIATION, "took no commands within 30 ms");
        fixture_init(&x, NULL, FAKE_QMP_PASS_NEGOTIATION, refuse);
        fixture_connect(&x, 0, LATE);
        check_closed(&x, ERROR_QMP_FAILED, "QEMU refused 'qmp_capabilities': not today");
}

static void check_garbage(bool greeted, const char *text, size_t len, const char *part_of_message) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        if (greeted) {
                fixture_init_ready(&x, NULL, hold);
        } else {
                fixture_init(&x, NULL, FAKE_QMP_SILENT, NULL);
                fixture_connect(&x, 0, LATE);
        }
        call(&x, "query-status", LATE, &reply);
        fake_qmp_say_n(x.peer, text, len);
        check_closed(&x, ERROR_QMP_FAILED, part_of_message);
        CHECK_EQ(reply.r, -ECONNRESET);
        CHECK(strstr(reply.message, part_of_message));
        CHECK_EQ(x.n_events, 0);
}

static void test_garbage(void) {
        static const char *const texts[] = { "hello\r\n", "\xff\xfe\r\n", "{\"event\"\r\n", "{} {}\r\n",
                "{\"event\": \"\\ud800\"}\r\n", "{\"event\": \"a\", \"event\": \"b\"}\r\n", "   \r\n" };
        _cleanup_free_ char *deep = repeat("", '[', 100000, "\r\n");

        for (size_t i = 0; i < ELEMENTSOF(texts); i++) {
                check_garbage(false, texts[i], strlen(texts[i]), "Cannot understand");
                check_garbage(true, texts[i], strlen(texts[i]), "Cannot understand");
        }
        check_garbage(true, "{\"event\": \"a\0b\"}\r\n", 18, "Cannot understand");
        check_garbage(true, deep, strlen(deep), "nested too deeply");
}

static void test_protocol_errors(void) {
        static const char *const early[] = { "{\"event\": \"STOP\"}\n", "{\"return\": {}}\n",
                "{\"error\": {}}\n" },
                                 *const unknown[] = { "[]\n", "{}\n", "42\n", "null\n", "{\"x\": 1}\n" },
                                 *const events[] = { "{\"event\": 1}\n",
                                         "{\"event\": \"A\", \"data\": []}\n", "{\"event\": null}\n" },
                                 *const answers[] = { "{\"return\": {}}\n", "{\"return\": {}, \"id\": 1}\n",
                                         "{\"return\": {}, \"id\": \"x\"}\n",
                                         "{\"error\": {}, \"id\": -1}\n",
                                         "{\"return\": {}, \"id\": 18446744073709551615}\n" };

        for (size_t i = 0; i < ELEMENTSOF(early); i++)
                check_garbage(false, early[i], strlen(early[i]), "ahead of the greeting");
        for (size_t i = 0; i < ELEMENTSOF(unknown); i++)
                check_garbage(true, unknown[i], strlen(unknown[i]), "no known kind");
        for (size_t i = 0; i < ELEMENTSOF(events); i++)
                check_garbage(true, events[i], strlen(events[i]), "malformed event");
        for (size_t i = 0; i < ELEMENTSOF(answers); i++)
                check_garbage(true, answers[i], strlen(answers[i]), "answer to no command");
        check_garbage(true, "{\"QMP\": {}}\n", 12, "second greeting");
        check_garbage(true, "{\"event\": \"A\", \"return\": {}}\n", 30, "two kinds");
}

static void test_duplicate_answer(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_return(x.peer, x.held[0], "1");
        fake_qmp_return(x.peer, x.held[0], "2");
        check_closed(&x, ERROR_QMP_FAILED, "answer to no command");
        CHECK_EQ(reply.n, 1);
        CHECK_STREQ(reply.text, "1");
}

/* 100 MB without a line feed, if one lets it. */
static void test_endless_line(void) {
        _cleanup_free_ char *piece = repeat("", 'x', MIB, "");
        _cleanup_fixture_ Fixture x;
        size_t said = 0;

        fixture_init_ready(&x, NULL, NULL);
        while (x.n_closed == 0 && said < 100 * MIB) {
                if (fake_qmp_n_unsent(x.peer) == 0) {
                        fake_qmp_say_n(x.peer, piece, MIB);
                        said += MIB;
                }
                run_once(x.event);
        }
        check_closed(&x, ERROR_QMP_FAILED, "more than 4194304 bytes");
        CHECK(said <= QMP_MESSAGE_MAX + 2 * MIB);
}

static void test_largest_message(void) {
        static const char prefix[] = "{\"event\": \"BIG\", \"data\": {\"x\": \"", suffix[] = "\"}}\r\n";
        _cleanup_free_ char *text = repeat(
                        prefix, 'x', QMP_MESSAGE_MAX - strlen(prefix) - strlen(suffix), suffix);
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_say_n(x.peer, text, strlen(text));
        RUN_UNTIL(x.event, x.n_events == 1);
        CHECK_EQ(strlen(text), QMP_MESSAGE_MAX);
        CHECK_STREQ(x.last_event, "BIG");
}

static void say_events(Fixture *x, unsigned n) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        CHECK(f);
        for (unsigned i = 0; i < n; i++)
                fputs("{\"event\": \"RTC_CHANGE\", \"data\": {\"offset\": 1}}\r\n", f);
        fclose(f);
        fake_qmp_say_n(x->peer, text, len);
}

/* Guests can cause as much: it must neither end the connection nor be slowed down. */
static void test_burst(void) {
        _cleanup_fixture_ Fixture x;
        uint64_t start;

        fixture_init_ready(&x, NULL, NULL);
        start = monotonic_usec();
        say_events(&x, 2000);
        RUN_UNTIL(x.event, x.n_events == 2000);
        CHECK(monotonic_usec() - start < USEC_PER_SEC);
        CHECK_EQ(x.n_closed, 0);
}

static uint64_t cpu_usec(void) {
        struct rusage usage;

        CHECK_EQ(getrusage(RUSAGE_SELF, &usage), 0);
        return (uint64_t)usage.ru_utime.tv_sec * USEC_PER_SEC + (uint64_t)usage.ru_utime.tv_usec +
                        (uint64_t)usage.ru_stime.tv_sec * USEC_PER_SEC + (uint64_t)usage.ru_stime.tv_usec;
}

/* More than that waits on the peer's side, while other connections go on as ever. */
static void test_flood(void) {
        const unsigned flood = 4 * QMP_BUDGET_BURST;
        _cleanup_fixture_ Fixture x, other;
        _cleanup_reply_ Reply reply = {};
        unsigned round_trips = 0, before;
        uint64_t start, cpu;

        fixture_init_ready(&x, NULL, NULL);
        fixture_init_ready(&other, x.event, NULL);
        start = monotonic_usec();
        say_events(&x, flood);
        while (x.n_events < QMP_BUDGET_BURST) {
                if (reply.n == round_trips) {
                        round_trips++;
                        call(&other, "query-status", LATE, &reply);
                }
                before = x.n_events;
                run_once(x.event);
                CHECK(x.n_events - before <= 64);
        }
        CHECK(round_trips >= 20);

        before = x.n_events;
        cpu = cpu_usec();
        run_for(x.event, 500 * USEC_PER_MSEC);
        CHECK(cpu_usec() - cpu < 250 * USEC_PER_MSEC);
        CHECK(x.n_events > before);
        CHECK(x.n_events - QMP_BUDGET_BURST <=
                        (monotonic_usec() - start) * QMP_BUDGET_RATE / USEC_PER_SEC + 1);
        CHECK(fake_qmp_n_unsent(x.peer) > 0);
        CHECK_EQ(x.n_closed, 0);
}

/* It takes no commands for a while. Nothing blocks or spins; afterwards all goes on, with nothing lost that
 * was begun. */
static void test_deaf_peer(void) {
        _cleanup_free_ char *arguments = repeat("{\"x\":\"", 'x', 300 * KIB, "\"}");
        _cleanup_reply_ Reply reply = {}, patient = {};
        _cleanup_fixture_ Fixture x;
        uint64_t cpu;

        fixture_init_ready(&x, NULL, NULL);
        fake_qmp_set_deaf(x.peer, true);

        call(&x, "query-patient", LATE, &patient);
        for (unsigned i = 0; i < 10; i++)
                CHECK_EQ(qmp_call(x.q, "query-big", arguments, SOON, on_reply, &reply, NULL), 0);
        cpu = cpu_usec();
        RUN_UNTIL(x.event, reply.n == 10);
        run_for(x.event, 100 * USEC_PER_MSEC);
        CHECK(cpu_usec() - cpu < 80 * USEC_PER_MSEC);
        CHECK_EQ(reply.r, -ETIMEDOUT);
        CHECK_EQ(patient.n, 0);

        fake_qmp_set_deaf(x.peer, false);
        call(&x, "query-after", LATE, &patient);
        RUN_UNTIL(x.event, patient.n == 2);
        CHECK_EQ(patient.r, 0);
        CHECK_EQ(reply.n, 10);
        CHECK_EQ(fake_qmp_n_commands(x.peer), 4); /* negotiation, patient, the one that was begun, after */
        CHECK_EQ(x.n_closed, 0);
}

/* More than the socket takes at once. */
static void test_large_command(void) {
        _cleanup_free_ char *arguments = repeat("{\"x\":\"", 'x', 400 * KIB, "\"}");
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        CHECK_EQ(qmp_call(x.q, "query-big", arguments, LATE, on_reply, &reply, NULL), 0);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_return(x.peer, x.held[0], "{}");
        RUN_UNTIL(x.event, reply.n == 1);
        CHECK_EQ(reply.r, 0);
}

/* It answers before it can know the question. */
static void test_answer_to_half_a_command(void) {
        _cleanup_free_ char *arguments = repeat("{\"x\":\"", 'x', 2 * MIB, "\"}");
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, x.n_held == 1);
        fake_qmp_return(x.peer, x.held[0], "{}");
        RUN_UNTIL(x.event, reply.n == 1);
        fake_qmp_set_deaf(x.peer, true);
        CHECK_EQ(qmp_call(x.q, "query-big", arguments, LATE, on_reply, &reply, NULL), 0);
        fake_qmp_return(x.peer, x.held[0] + 1, "{}");
        check_closed(&x, ERROR_QMP_FAILED, "answer to no command");
        CHECK_EQ(reply.n, 2);
}

static void free_client(Fixture *x) {
        x->q = qmp_free(x->q);
}

/* What comes behind finds nobody. */
static void negotiate_and_go(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        fake_qmp_say(peer,
                        "{\"return\": {}, \"id\": %" PRIu64
                        "}\n{\"event\": \"ONE\"}\n{\"event\": \"TWO\"}\n",
                        command->id);
        fake_qmp_hang_up(peer);
}

static void test_free_in_handlers(void) {
        for (int i = 0; i < 3; i++) {
                _cleanup_fixture_ Fixture x;
                _cleanup_reply_ Reply reply = {};

                fixture_init(&x, NULL, FAKE_QMP_PASS_NEGOTIATION, negotiate_and_go);
                if (i == 0)
                        x.on_ready = free_client;
                else if (i == 1)
                        x.on_event = free_client;
                else
                        x.on_closed = free_client;
                fixture_connect(&x, 0, LATE);
                call(&x, "query-status", LATE, &reply);
                RUN_UNTIL(x.event, !x.q);
                run_idle(x.event);
                CHECK_EQ(x.n_ready, 1);
                CHECK_EQ(x.n_events, i);
                CHECK_EQ(x.n_closed, i == 2);
                CHECK_EQ(reply.n, i == 2);
        }
}

typedef enum FreeAt {
        ANSWER,
        RAW_ANSWER,
        REFUSAL,
        DEADLINE,
        WAITING_DEADLINE,
        HANG_UP,
        UNSENDABLE,
        _FREE_AT_MAX
} FreeAt;

static void provoke(Fixture *x, FreeAt at) {
        if (at == ANSWER || at == RAW_ANSWER)
                fake_qmp_return(x->peer, x->held[0], "{}");
        else if (at == REFUSAL)
                fake_qmp_refuse(x->peer, x->held[0], "GenericError", "no");
        else if (at == HANG_UP)
                fake_qmp_hang_up(x->peer);
}

/* Further calls are pending, and more comes in behind what makes the callback. */
static void check_free_in_reply(FreeAt at) {
        uint64_t timeout = at == DEADLINE || at == WAITING_DEADLINE ? SOON : LATE;
        _cleanup_reply_ Reply freeing = {}, other = {};
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, hold);
        freeing.free_client = &x.q;
        if (at == WAITING_DEADLINE)
                for (unsigned i = 0; i < QMP_IN_FLIGHT_MAX; i++)
                        call(&x, "query-held", LATE, &other);
        if (at == RAW_ANSWER)
                CHECK_EQ(qmp_call_raw(x.q, "{\"execute\":\"a\"}", timeout, on_raw_reply, &freeing, NULL,
                                         NULL),
                                0);
        else if (at == UNSENDABLE)
                CHECK_EQ(qmp_call_fd(x.q, "getfd", NULL, 1000000, timeout, on_reply, &freeing, NULL), 0);
        else
                call(&x, "query-status", timeout, &freeing);
        for (unsigned i = 0; i < 12; i++)
                call(&x, "query-other", timeout, &other);
        if (at != UNSENDABLE)
                RUN_UNTIL(x.event, x.n_held > 0);
        provoke(&x, at);
        if (at <= REFUSAL)
                fake_qmp_event(x.peer, "BEHIND", NULL);
        RUN_UNTIL(x.event, freeing.n == 1);
        run_idle(x.event);
        CHECK(!x.q);
        CHECK_EQ(freeing.n, 1);
        CHECK_EQ(other.n + x.n_events + x.n_closed, 0);
}

static void test_free_in_replies(void) {
        for (FreeAt at = 0; at < _FREE_AT_MAX; at++)
                check_free_in_reply(at);
}

/* How many timers of this process will go off. */
static unsigned n_armed_timers(void) {
        DIR *dir = opendir("/proc/self/fdinfo");
        struct dirent *de;
        unsigned n = 0;

        CHECK(dir);
        while ((de = readdir(dir))) {
                _cleanup_free_ char *text = NULL;
                const char *value;

                if (de->d_name[0] == '.' || read_file_at(dirfd(dir), de->d_name, MIB, &text, NULL) < 0)
                        continue;
                value = strstr(text, "it_value: ");
                n += value && !startswith(value, "it_value: (0, 0)");
        }
        closedir(dir);
        return n;
}

static void test_idle(void) {
        _cleanup_fixture_ Fixture x;
        _cleanup_reply_ Reply reply = {};

        fixture_init_ready(&x, NULL, hold);
        CHECK_EQ(n_armed_timers(), 0);
        call(&x, "query-status", LATE, &reply);
        RUN_UNTIL(x.event, x.n_held == 1);
        run_idle(x.event);
        CHECK_EQ(n_armed_timers(), 1);
        fake_qmp_return(x.peer, x.held[0], "{}");
        fake_qmp_event(x.peer, "STOP", NULL);
        RUN_UNTIL(x.event, x.n_events == 1);
        run_idle(x.event);
        CHECK_EQ(n_armed_timers(), 0);
}

/* Being read slowly ends when there is nothing left. */
static void test_idle_after_flood(void) {
        const unsigned flood = QMP_BUDGET_BURST + 200;
        _cleanup_fixture_ Fixture x;

        fixture_init_ready(&x, NULL, NULL);
        say_events(&x, flood);
        RUN_UNTIL(x.event, x.n_events == flood);
        run_idle(x.event);
        CHECK_EQ(n_armed_timers(), 0);
        CHECK_EQ(x.n_closed, 0);
}

static void test_idle_memory(void) {
        enum { N = 50 };
        static Fixture x[N];
        sd_event *event = NULL;
        size_t before;

        CHECK(sd_event_new(&event) >= 0);
        for (unsigned i = 0; i < N; i++)
                fixture_init(&x[i], event, 0, NULL);
        before = mallinfo2().uordblks;
        for (unsigned i = 0; i < N; i++)
                fixture_connect(&x[i], 0, LATE);
        for (unsigned i = 0; i < N; i++)
                RUN_UNTIL(event, x[i].n_ready == 1);
        run_idle(event);
        CHECK(mallinfo2().uordblks - before < N * 3 * KIB); /* the peers' buffers included */
        for (unsigned i = 0; i < N; i++)
                fixture_done(&x[i]);
        sd_event_unref(event);
}

int main(void) {
        test_handshake_fails();
        test_garbage();
        test_protocol_errors();
        test_duplicate_answer();
        test_endless_line();
        test_largest_message();
        test_burst();
        test_flood();
        test_deaf_peer();
        test_large_command();
        test_answer_to_half_a_command();
        test_free_in_handlers();
        test_free_in_replies();
        test_idle();
        test_idle_after_flood();
        test_idle_memory();
        return 0;
}
