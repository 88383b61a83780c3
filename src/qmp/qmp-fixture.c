/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include "qmp-fixture.h"
#include "util/fd-util.h"

void reply_done(Reply *reply) {
        free(reply->text);
        free(reply->message);
        *reply = (Reply){};
}

static char *to_text(const Json *v) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        char *text;

        if (!v)
                return NULL;
        CHECK_EQ(json_writer_new(0, &w), 0);
        json_write_value(w, v);
        CHECK_EQ(json_writer_finish(w, &text, NULL), 0);
        return text;
}

static char *copy(const char *s) {
        char *c = s ? strdup(s) : NULL;

        CHECK(!!c == !!s);
        return c;
}

static void record(Reply *reply, int r, char *text, const Error *error) {
        reply->n++;
        reply->r = r;
        CHECK(!error == (r >= 0));
        reply->code = error ? error_code(error) : _ERROR_CODE_INVALID;
        free(reply->message);
        reply->message = copy(error ? error_message(error) : NULL);
        free(reply->text);
        reply->text = text;
        if (reply->free_client)
                *reply->free_client = qmp_free(*reply->free_client);
}

void on_reply(void *userdata, int r, const Json *result, const Error *error) {
        record(userdata, r, to_text(result), error);
}

void on_raw_reply(void *userdata, int r, const char *text, const Error *error) {
        record(userdata, r, copy(text), error);
}

static void on_ready(Qmp *q, void *userdata) {
        Fixture *x = userdata;

        x->n_ready++;
        if (x->on_ready)
                x->on_ready(x);
}

static void on_event(Qmp *q, const char *name, const Json *data, uint64_t usec, void *userdata) {
        Fixture *x = userdata;

        x->n_events++;
        free(x->last_event);
        x->last_event = copy(name);
        free(x->last_data);
        x->last_data = to_text(data);
        x->last_usec = usec;
        if (x->on_event)
                x->on_event(x);
}

static void on_closed(Qmp *q, const Error *error, void *userdata) {
        Fixture *x = userdata;

        x->n_closed++;
        x->closed_cleanly = !error;
        x->closed_code = error_code(error);
        x->closed_message = copy(error_message(error));
        if (x->on_closed)
                x->on_closed(x);
}

void fixture_init(Fixture *x, sd_event *event, FakeQmpFlags peer_flags, fake_qmp_command_t handler) {
        *x = (Fixture){ .event = sd_event_ref(event), .fd = -EBADF };
        if (!x->event)
                CHECK(sd_event_new(&x->event) >= 0);
        CHECK_EQ(fake_qmp_new(x->event, peer_flags, handler, x, &x->fd, &x->peer), 0);
}

void fixture_connect(Fixture *x, QmpFlags flags, uint64_t deadline_usec) {
        static const QmpHandlers handlers = { .ready = on_ready, .event = on_event, .closed = on_closed };

        CHECK_EQ(qmp_new(x->event, TAKE_FD(x->fd), flags, deadline_usec, &handlers, x, &x->q), 0);
}

void fixture_init_ready(Fixture *x, sd_event *event, fake_qmp_command_t handler) {
        fixture_init(x, event, 0, handler);
        fixture_connect(x, 0, LATE);
        RUN_UNTIL(x->event, x->n_ready == 1);
        CHECK(qmp_is_ready(x->q));
        run_idle(x->event);
}

void fixture_done(Fixture *x) {
        qmp_free(x->q);
        fake_qmp_free(x->peer);
        safe_close(x->fd);
        for (unsigned i = 0; i < x->n_held; i++)
                free(x->held_names[i]);
        free(x->last_event);
        free(x->last_data);
        free(x->closed_message);
        sd_event_unref(x->event);
}

void hold(FakeQmp *peer, const FakeQmpCommand *command, void *userdata) {
        Fixture *x = userdata;

        CHECK(x->n_held < ELEMENTSOF(x->held));
        x->held[x->n_held] = command->id;
        x->held_names[x->n_held++] = copy(command->name);
}

void call(Fixture *x, const char *command, uint64_t timeout_usec, Reply *reply) {
        unsigned n = reply->n;

        CHECK_EQ(qmp_call(x->q, command, NULL, timeout_usec, on_reply, reply, NULL), 0);
        CHECK_EQ(reply->n, n); /* never from inside the call */
}

uint64_t monotonic_usec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

void run_once(sd_event *event) {
        int r = sd_event_run(event, PATIENCE_USEC);

        if (r <= 0)
                TEST_FAIL("nothing came to pass: %s", strerror(-r));
}

void run_idle(sd_event *event) {
        int r;

        do {
                r = sd_event_run(event, 0);
        } while (r > 0);
        CHECK_EQ(r, 0);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata) {
        *(bool *)userdata = true;
        return 0;
}

void run_for(sd_event *event, uint64_t usec) {
        sd_event_source *timer = NULL;
        bool passed = false;

        CHECK(sd_event_add_time_relative(event, &timer, CLOCK_MONOTONIC, usec, 1, on_time, &passed) >= 0);
        RUN_UNTIL(event, passed);
        sd_event_source_unref(timer);
}
