/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the client's tests share: a client and a fake peer on one event loop, and what was called back. */

#include "fake-qmp.h"
#include "qmp.h"
#include "util/test.h"

/* Nothing in these tests takes long; what has not come by then never will. */
#define PATIENCE_USEC (20 * USEC_PER_SEC)

/* Deadlines that are meant to pass, and ones that are not. */
#define SOON (30 * USEC_PER_MSEC)
#define LATE (60 * USEC_PER_SEC)

typedef struct Reply {
        unsigned n; /* how often the callback came */
        int r;
        char *text; /* the result, or the raw answer, as JSON text */
        ErrorCode code;
        char *message;
        Qmp **free_client; /* the callback frees this one */
} Reply;

void reply_done(Reply *reply);
#define _cleanup_reply_ _cleanup_(reply_done)

/* For qmp_call() and qmp_call_raw(), with a Reply as userdata. */
void on_reply(void *userdata, int r, const Json *result, const Error *error);
void on_raw_reply(void *userdata, int r, const char *text, const Error *error);

typedef struct Fixture {
        sd_event *event;
        FakeQmp *peer;
        int fd;
        Qmp *q;

        unsigned n_ready, n_events, n_closed;
        char *last_event, *last_data; /* last_data: JSON text, or NULL */
        uint64_t last_usec;
        bool closed_cleanly;
        ErrorCode closed_code;
        char *closed_message;
        void (*on_ready)(struct Fixture *x), (*on_event)(struct Fixture *x), (*on_closed)(struct Fixture *x);

        /* The ids of commands that nobody has answered, if the handler is hold(). */
        uint64_t held[64];
        char *held_names[64];
        unsigned n_held;
} Fixture;

/* A peer, and the other end of its socket; `event` may be shared, NULL makes one. */
void fixture_init(Fixture *x, sd_event *event, FakeQmpFlags peer_flags, fake_qmp_command_t handler);
/* A client on that end. */
void fixture_connect(Fixture *x, QmpFlags flags, uint64_t deadline_usec);
/* Both, and everything is well: the client is ready. */
void fixture_init_ready(Fixture *x, sd_event *event, fake_qmp_command_t handler);
void fixture_done(Fixture *x);
#define _cleanup_fixture_ _cleanup_(fixture_done)

/* A handler: keeps the ids in the fixture, for the test to answer. */
void hold(FakeQmp *peer, const FakeQmpCommand *command, void *userdata);

void call(Fixture *x, const char *command, uint64_t timeout_usec, Reply *reply);

uint64_t monotonic_usec(void);

/* Runs the loop once; fails when nothing comes to pass. */
void run_once(sd_event *event);
#define RUN_UNTIL(event, condition)      \
        do {                             \
                while (!(condition))     \
                        run_once(event); \
        } while (false)

/* Runs what is there to be run now. */
void run_idle(sd_event *event);
void run_for(sd_event *event, uint64_t usec);
