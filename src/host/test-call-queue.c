/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Against a peer that answers when it is told to, or never. */
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "call-queue.h"
#include "util/test.h"

#define CALLS 200
#define IN_FLIGHT 64

typedef struct Fixture {
        sd_event *event;
        sd_bus *client, *server;
        CallQueue *queue;
        sd_bus_message *pending[CALLS]; /* what the peer has got, in order */
        size_t n_pending;
} Fixture;

typedef struct Caller {
        QueuedCall *call;
        unsigned replies, errors;
        uint64_t answered_at;
        Fixture *fixture;
} Caller;

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fixture *f = userdata;

        if (!sd_bus_message_is_method_call(m, "org.vmctl1.Test", NULL))
                return 0;
        CHECK(f->n_pending < CALLS);
        f->pending[f->n_pending++] = sd_bus_message_ref(m);
        return 1;
}

static void fixture_init(Fixture *f, uint64_t timeout, unsigned in_flight) {
        sd_id128_t id;
        int fds[2];

        *f = (Fixture){};
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_event_new(&f->event) >= 0);
        CHECK(sd_bus_new(&f->server) >= 0 && sd_bus_new(&f->client) >= 0);
        CHECK(sd_bus_set_fd(f->server, fds[0], fds[0]) >= 0 &&
                        sd_bus_set_fd(f->client, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(f->server, true, id) >= 0 && sd_bus_set_anonymous(f->server, true) >= 0);
        CHECK(sd_bus_add_filter(f->server, NULL, on_call, f) >= 0);
        CHECK(sd_bus_start(f->server) >= 0 && sd_bus_start(f->client) >= 0);
        CHECK(sd_bus_attach_event(f->server, f->event, 0) >= 0);
        CHECK(sd_bus_attach_event(f->client, f->event, 0) >= 0);
        CHECK_EQ(call_queue_new(f->client, in_flight, timeout, &f->queue), 0);
}

static void fixture_done(Fixture *f) {
        call_queue_free(f->queue);
        for (size_t i = 0; i < f->n_pending; i++)
                sd_bus_message_unref(f->pending[i]);
        sd_bus_close(f->client);
        sd_bus_close(f->server);
        sd_bus_unref(f->client);
        sd_bus_unref(f->server);
        sd_event_unref(f->event);
}

/* Until nothing is left to do at once. */
static void settle(Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->event, 0)) >= 0);
        while (r > 0);
}

static void on_reply(sd_bus_message *m, const sd_bus_error *error, void *userdata) {
        Caller *c = userdata;

        c->call = NULL;
        c->replies++;
        if (error)
                c->errors++;
        CHECK(sd_event_now(c->fixture->event, CLOCK_MONOTONIC, &c->answered_at) >= 0);
}

static void call(Fixture *f, Caller *c, uint32_t number) {
        sd_bus_message *m;

        *c = (Caller){ .fixture = f };
        CHECK(sd_bus_message_new_method_call(
                              f->client, &m, "org.vmctl1", "/org/vmctl1", "org.vmctl1.Test", "Test") >= 0);
        CHECK(sd_bus_message_append(m, "u", number) >= 0);
        CHECK_EQ(call_queue_add(f->queue, m, on_reply, c, &c->call), 0);
        sd_bus_message_unref(m);
        CHECK(c->call);
}

static uint32_t number_of(sd_bus_message *m) {
        uint32_t v;

        CHECK(sd_bus_message_rewind(m, true) >= 0 && sd_bus_message_read(m, "u", &v) > 0);
        return v;
}

static void answer(Fixture *f, size_t i) {
        CHECK(sd_bus_reply_method_return(f->pending[i], NULL) >= 0);
}

static void test_bound(void) {
        Caller callers[CALLS];
        Fixture f;

        fixture_init(&f, 60 * 1000000ULL, IN_FLIGHT);
        for (uint32_t i = 0; i < CALLS; i++)
                call(&f, &callers[i], i);
        settle(&f);
        CHECK_EQ(f.n_pending, IN_FLIGHT);
        answer(&f, 7);
        settle(&f);
        CHECK_EQ(f.n_pending, IN_FLIGHT + 1);
        CHECK_EQ(callers[7].replies, 1);
        for (size_t i = 0; i < CALLS; i++) {
                if (i != 7)
                        answer(&f, i);
                settle(&f);
        }
        for (uint32_t i = 0; i < CALLS; i++) {
                CHECK_EQ(number_of(f.pending[i]), i);
                CHECK_EQ(callers[i].replies, 1);
                CHECK_EQ(callers[i].errors, 0);
        }
        fixture_done(&f);
}

/* One that has not been sent never is; one that was sent keeps its place until its answer comes. */
static void test_cancel(void) {
        Caller callers[6];
        Fixture f;

        fixture_init(&f, 60 * 1000000ULL, 2);
        for (uint32_t i = 0; i < 6; i++)
                call(&f, &callers[i], i);
        callers[0].call = queued_call_cancel(callers[0].call);
        callers[3].call = queued_call_cancel(callers[3].call);
        CHECK(!queued_call_cancel(NULL));
        settle(&f);
        CHECK_EQ(f.n_pending, 2);
        answer(&f, 0);
        answer(&f, 1);
        settle(&f);
        CHECK_EQ(f.n_pending, 4);
        CHECK_EQ(number_of(f.pending[2]), 2);
        CHECK_EQ(number_of(f.pending[3]), 4);
        CHECK_EQ(callers[0].replies, 0);
        CHECK_EQ(callers[1].replies, 1);
        CHECK_EQ(callers[3].replies, 0);
        call_queue_free(f.queue);
        f.queue = NULL;
        answer(&f, 2);
        settle(&f);
        CHECK_EQ(callers[2].replies, 0);
        CHECK_EQ(callers[5].replies, 0);
        fixture_done(&f);
}

/* A peer that never answers: the second call has all of its time though it waited for the first one's end.
 */
static void test_deadline(void) {
        const uint64_t timeout = 100 * 1000;
        Caller callers[2];
        uint64_t start;
        Fixture f;

        fixture_init(&f, timeout, 1);
        settle(&f); /* the connection is made */
        CHECK(sd_event_now(f.event, CLOCK_MONOTONIC, &start) >= 0);
        call(&f, &callers[0], 0);
        call(&f, &callers[1], 1);
        while (callers[1].replies == 0)
                CHECK(sd_event_run(f.event, UINT64_MAX) >= 0);
        CHECK_EQ(callers[0].errors, 1);
        CHECK_EQ(callers[1].errors, 1);
        CHECK(callers[1].answered_at >= callers[0].answered_at + timeout / 2);
        CHECK_EQ(f.n_pending, 2);
        fixture_done(&f);
}

/* Nobody hears the answer, but it has its place among the others. */
static void test_forget(void) {
        sd_bus_message *m;
        Caller callers[3];
        Fixture f;

        fixture_init(&f, 60 * 1000000ULL, 1);
        call(&f, &callers[0], 0);
        call(&f, &callers[1], 1);
        CHECK(sd_bus_message_new_method_call(
                              f.client, &m, "org.vmctl1", "/org/vmctl1", "org.vmctl1.Test", "Test") >= 0);
        CHECK(sd_bus_message_append(m, "u", 99) >= 0);
        CHECK_EQ(call_queue_add(f.queue, m, NULL, NULL, NULL), 0);
        sd_bus_message_unref(m);
        call(&f, &callers[2], 2);
        settle(&f);
        CHECK_EQ(f.n_pending, 1);
        answer(&f, 0);
        settle(&f);
        CHECK_EQ(f.n_pending, 2);
        answer(&f, 1);
        settle(&f);
        CHECK_EQ(f.n_pending, 3);
        CHECK_EQ(number_of(f.pending[2]), 99);
        answer(&f, 2);
        settle(&f);
        CHECK_EQ(f.n_pending, 4);
        CHECK_EQ(number_of(f.pending[3]), 2);
        fixture_done(&f);
}

static void lose(Fixture *f, size_t i) {
        CHECK(sd_bus_reply_method_errorf(f->pending[i], SD_BUS_ERROR_NO_REPLY, "It has gone") >= 0);
}

/* The peer leaves, and comes back: it is asked again, but not for ever, nor for another error, nor what was
 * called off. */
static void test_lost(void) {
        Caller callers[4];
        Fixture f;

        fixture_init(&f, 60 * 1000000ULL, 3);
        for (uint32_t i = 0; i < 4; i++)
                call(&f, &callers[i], i);
        settle(&f);
        callers[2].call = queued_call_cancel(callers[2].call);
        for (size_t i = 0; i < 3; i++)
                lose(&f, i);
        settle(&f);
        CHECK_EQ(f.n_pending, 6);
        for (uint32_t i = 0; i < 2; i++) {
                CHECK_EQ(number_of(f.pending[3 + i]), i);
                CHECK_EQ(callers[i].replies, 0);
        }
        CHECK_EQ(number_of(f.pending[5]), 3);
        answer(&f, 3);
        lose(&f, 4);
        settle(&f);
        CHECK_EQ(callers[0].replies, 1);
        CHECK_EQ(callers[0].errors, 0);
        CHECK_EQ(callers[1].replies, 1);
        CHECK_EQ(callers[1].errors, 1);
        CHECK_EQ(callers[2].replies, 0);
        CHECK(sd_bus_reply_method_errorf(f.pending[5], SD_BUS_ERROR_FAILED, "No") >= 0);
        settle(&f);
        CHECK_EQ(callers[3].errors, 1);
        CHECK_EQ(f.n_pending, 6);
        fixture_done(&f);
}

/* Whoever waits hears that the connection is gone, in flight or not. */
static void test_disconnect(void) {
        Caller callers[4];
        Fixture f;

        fixture_init(&f, 60 * 1000000ULL, 2);
        for (uint32_t i = 0; i < 4; i++)
                call(&f, &callers[i], i);
        settle(&f);
        sd_bus_close(f.server);
        settle(&f);
        for (uint32_t i = 0; i < 4; i++) {
                CHECK_EQ(callers[i].replies, 1);
                CHECK_EQ(callers[i].errors, 1);
        }
        fixture_done(&f);
}

int main(void) {
        test_bound();
        test_cancel();
        test_deadline();
        test_forget();
        test_lost();
        test_disconnect();
        return 0;
}
