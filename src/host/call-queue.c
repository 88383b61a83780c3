/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "call-queue.h"
#include "util/clock.h"
#include "util/log.h"

struct QueuedCall {
        CallQueue *queue; /* borrowed */
        TAILQ_ENTRY(QueuedCall) link;
        sd_bus_message *message; /* owned */
        sd_bus_slot *slot;       /* owned; there while it is in flight */
        uint64_t deadline;       /* CLOCK_MONOTONIC usec, once it is sent */
        bool last;               /* it is not sent again */
        call_reply_t reply;      /* NULL: nobody waits */
        void *userdata;
};

typedef TAILQ_HEAD(QueuedCallList, QueuedCall) QueuedCallList;

struct CallQueue {
        sd_bus *bus;
        uint64_t timeout;
        unsigned in_flight, in_flight_max;
        QueuedCallList waiting, sent;
};

int call_queue_new(sd_bus *bus, unsigned in_flight_max, uint64_t timeout_usec, CallQueue **ret) {
        CallQueue *q = malloc(sizeof(CallQueue));

        if (!q)
                return -ENOMEM;
        *q = (CallQueue){ .bus = sd_bus_ref(bus), .timeout = timeout_usec, .in_flight_max = in_flight_max };
        TAILQ_INIT(&q->waiting);
        TAILQ_INIT(&q->sent);
        *ret = q;
        return 0;
}

static QueuedCall *call_free(QueuedCall *c) {
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->message);
        free(c);
        return NULL;
}

static void drop(QueuedCallList *list) {
        QueuedCall *c;

        while ((c = TAILQ_FIRST(list))) {
                TAILQ_REMOVE(list, c, link);
                call_free(c);
        }
}

CallQueue *call_queue_free(CallQueue *q) {
        if (!q)
                return NULL;
        drop(&q->waiting);
        drop(&q->sent);
        sd_bus_unref(q->bus);
        free(q);
        return NULL;
}

static void send_waiting(CallQueue *q);

/* The bus says so for a peer that has left it with the call. sd-bus says the same when the time is over. */
static bool is_lost(const QueuedCall *c, const sd_bus_error *error) {
        return error && sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) && !c->last &&
                        now_usec() < c->deadline;
}

static int send_message(QueuedCall *c);

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        QueuedCall *c = userdata;
        CallQueue *q = c->queue;

        if (is_lost(c, sd_bus_message_get_error(m))) {
                c->last = true;
                c->slot = sd_bus_slot_unref(c->slot);
                if (send_message(c) >= 0)
                        return 0;
        }
        TAILQ_REMOVE(&q->sent, c, link);
        q->in_flight--;
        if (c->reply)
                c->reply(m, sd_bus_message_get_error(m), c->userdata);
        call_free(c);
        send_waiting(q);
        return 0;
}

static int send_message(QueuedCall *c) {
        c->deadline = now_usec() + c->queue->timeout;
        return sd_bus_call_async(c->queue->bus, &c->slot, c->message, on_reply, c, c->queue->timeout);
}

static int send_one(QueuedCall *c) {
        CallQueue *q = c->queue;
        int r;

        r = send_message(c);
        if (r < 0)
                return r;
        TAILQ_REMOVE(&q->waiting, c, link);
        TAILQ_INSERT_TAIL(&q->sent, c, link);
        q->in_flight++;
        return 0;
}

/* Whoever waits for one that cannot be sent is told; who added it is not in the way, since the loop runs. */
static void send_waiting(CallQueue *q) {
        QueuedCall *c;
        int r;

        while (q->in_flight < q->in_flight_max && (c = TAILQ_FIRST(&q->waiting))) {
                _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;

                r = send_one(c);
                if (r >= 0)
                        continue;
                TAILQ_REMOVE(&q->waiting, c, link);
                (void)sd_bus_error_set_errno(&error, r);
                if (c->reply)
                        c->reply(NULL, &error, c->userdata);
                call_free(c);
        }
}

int call_queue_add(CallQueue *q, sd_bus_message *m, call_reply_t reply, void *userdata, QueuedCall **ret) {
        QueuedCall *c = malloc(sizeof(QueuedCall));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (QueuedCall){
                .queue = q, .message = sd_bus_message_ref(m), .reply = reply, .userdata = userdata
        };
        TAILQ_INSERT_TAIL(&q->waiting, c, link);
        if (TAILQ_FIRST(&q->waiting) == c && q->in_flight < q->in_flight_max) {
                r = send_one(c);
                if (r < 0) {
                        TAILQ_REMOVE(&q->waiting, c, link);
                        call_free(c);
                        return r;
                }
        }
        if (ret)
                *ret = c;
        return 0;
}

QueuedCall *queued_call_cancel(QueuedCall *c) {
        if (!c)
                return NULL;
        c->reply = NULL;
        c->last = true;
        if (c->slot)
                return NULL;
        TAILQ_REMOVE(&c->queue->waiting, c, link);
        return call_free(c);
}
