/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "call-queue.h"
#include "util/log.h"

struct QueuedCall {
        CallQueue *queue; /* borrowed */
        TAILQ_ENTRY(QueuedCall) link;
        sd_bus_message *message; /* owned; NULL once it is sent */
        sd_bus_slot *slot;       /* owned; there while it is in flight */
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

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *unused) {
        QueuedCall *c = userdata;
        CallQueue *q = c->queue;

        TAILQ_REMOVE(&q->sent, c, link);
        q->in_flight--;
        if (c->reply)
                c->reply(m, sd_bus_message_get_error(m), c->userdata);
        call_free(c);
        send_waiting(q);
        return 0;
}

static int send_one(QueuedCall *c) {
        CallQueue *q = c->queue;
        int r;

        if (c->reply)
                r = sd_bus_call_async(q->bus, &c->slot, c->message, on_reply, c, q->timeout);
        else
                r = sd_bus_send(q->bus, c->message, NULL);
        if (r < 0)
                return r;
        TAILQ_REMOVE(&q->waiting, c, link);
        if (!c->reply) {
                call_free(c);
                return 0;
        }
        c->message = sd_bus_message_unref(c->message);
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
                c->message = sd_bus_message_unref(c->message);
                (void)sd_bus_error_set_errno(&error, r);
                if (c->reply)
                        c->reply(NULL, &error, c->userdata);
                call_free(c);
        }
}

int call_queue_add(CallQueue *q, sd_bus_message *m, call_reply_t reply, void *userdata, QueuedCall **ret) {
        QueuedCall *c = malloc(sizeof(QueuedCall));
        int r = 0;

        if (!c)
                return -ENOMEM;
        *c = (QueuedCall){
                .queue = q, .message = sd_bus_message_ref(m), .reply = reply, .userdata = userdata
        };
        if (!reply)
                r = sd_bus_message_set_expect_reply(m, false);
        if (r < 0) {
                call_free(c);
                return r;
        }
        TAILQ_INSERT_TAIL(&q->waiting, c, link);
        if (TAILQ_FIRST(&q->waiting) == c && q->in_flight < q->in_flight_max) {
                QueuedCall *sent = reply ? c : NULL;

                r = send_one(c);
                if (r < 0) {
                        TAILQ_REMOVE(&q->waiting, c, link);
                        call_free(c);
                        return r;
                }
                c = sent;
        }
        if (ret)
                *ret = c;
        return 0;
}

QueuedCall *queued_call_cancel(QueuedCall *c) {
        if (!c)
                return NULL;
        c->reply = NULL;
        if (!c->message)
                return NULL;
        TAILQ_REMOVE(&c->queue->waiting, c, link);
        return call_free(c);
}
