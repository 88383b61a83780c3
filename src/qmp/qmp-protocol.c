/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What QEMU says, and what it means: greeting, negotiation, replies, events. Any callback that is made here
 * may free the client, which the caller has pinned. */
#include "qmp-client.h"
#include "util/log.h"
#include "util/string-util.h"

/* Arrays and objects in QMP nest some ten levels; a value takes 16 bytes of text on average, not less. */
static const JsonLimits message_limits = {
        .max_size = QMP_MESSAGE_MAX,
        .max_depth = 64,
        .max_values = QMP_MESSAGE_MAX / 16,
};

/* QEMU's JSON parser drops what it has of an unfinished command when it meets a byte that UTF-8 never has,
 * and answers with an error that has no id. */
#define RESYNC "\xff"

const char *qmp_word(const Json *object, const char *key) {
        const Json *value = json_get(object, key);
        const char *word = json_string(value);
        size_t n = word ? strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-") : 0;

        if (!value)
                return "";
        return n > 0 && n <= QMP_WORD_MAX && word[n] == '\0' ? word : "unknown";
}

static int protocol_error(Error **reterr, const char *what) {
        return error_set(reterr, ERROR_QMP_FAILED, "QEMU broke the monitor's protocol: %s", what);
}

static void on_negotiated(void *userdata, int r, const Json *result, const Error *error) {
        Qmp *q = userdata;

        if (q->state != QMP_NEGOTIATING)
                return;
        /* A connection that was taken over has mostly negotiated long ago, which QEMU answers with an error.
         * Either way it takes commands now. */
        if (r < 0 && !(q->reattached && r == -EPROTO)) {
                qmp_end(q, error_copy(error));
                return;
        }
        q->state = QMP_READY;
        q->handshake_deadline = USEC_INFINITY;
        qmp_settle(q);
        if (q->handlers.ready)
                q->handlers.ready(q, q->userdata);
}

int qmp_negotiate(Qmp *q) {
        _cleanup_(qmp_call_freep) QmpCall *c = NULL;
        int r;

        r = qmp_call_new("qmp_capabilities", q->reattached ? RESYNC : "", NULL, q->next_id++, -EBADF, &c);
        if (r < 0)
                return r;
        c->qmp = q;
        c->deadline = USEC_INFINITY; /* the handshake's counts */
        c->reply = on_negotiated;
        c->userdata = q;
        qmp_link_call(TAKE_PTR(c), QMP_CALL_IN_FLIGHT);
        q->state = QMP_NEGOTIATING;
        return 0;
}

static int on_greeting(Qmp *q, const Json *message, Error **reterr) {
        int r;

        /* Also when a connection is taken over of which nobody has read so far. */
        if (q->reattached && q->state == QMP_NEGOTIATING)
                return 0;
        if (q->state != QMP_GREETING)
                return protocol_error(reterr, "a second greeting");
        r = qmp_negotiate(q);
        return r < 0 ? error_set_errno(reterr, r, "Failed to answer QEMU's greeting") : 0;
}

static QmpCall *find_in_flight(Qmp *q, uint64_t id) {
        QmpCall *c;

        TAILQ_FOREACH(c, &q->in_flight, link)
                if (c->id == id)
                        return c;
        return NULL;
}

/* Which command a reply is for. An error without an id says that QEMU could not read a command; since it
 * answers in order, that was the oldest. */
static QmpCall *find_replied(Qmp *q, const Json *message) {
        const Json *id = json_get(message, "id");
        uint64_t number;

        if (id)
                return json_unsigned(id, &number) >= 0 ? find_in_flight(q, number) : NULL;
        if (json_get(message, "return") || (q->reattached && q->state == QMP_NEGOTIATING))
                return NULL;
        return TAILQ_FIRST(&q->in_flight);
}

static int on_reply(Qmp *q, const Json *message, Error **reterr) {
        QmpCall *c = find_replied(q, message);

        if (!c && q->reattached) {
                log_debug("Ignoring an answer to a command of this connection's former life");
                return 0;
        }
        if (!c || !qmp_call_is_sent(c))
                return protocol_error(reterr, "an answer to no command");
        qmp_unlink_call(c);
        qmp_call_answer(c, message);
        qmp_call_free(c);
        return 0;
}

/* CLOCK_REALTIME in microseconds. QEMU says -1 seconds if it cannot read its clock. */
static uint64_t event_usec(const Json *message) {
        const Json *timestamp = json_get(message, "timestamp");
        uint64_t seconds, microseconds, usec;

        if (json_get_unsigned(timestamp, "seconds", &seconds) < 0 ||
                        json_get_unsigned(timestamp, "microseconds", &microseconds) < 0 ||
                        __builtin_mul_overflow(seconds, USEC_PER_SEC, &usec) ||
                        __builtin_add_overflow(usec, microseconds, &usec))
                return 0;
        return usec;
}

static int on_event(Qmp *q, const Json *message, Error **reterr) {
        const char *name = json_get_string(message, "event");
        const Json *data = json_get(message, "data");

        if (!name || (data && json_type(data) != JSON_OBJECT))
                return protocol_error(reterr, "a malformed event");
        if (q->handlers.event)
                q->handlers.event(q, name, data, event_usec(message), q->userdata);
        return 0;
}

static int on_message(Qmp *q, const Json *message, Error **reterr) {
        static const struct {
                const char *key;
                int (*handle)(Qmp *q, const Json *message, Error **reterr);
        } kinds[] = {
                { "QMP", on_greeting },
                { "return", on_reply },
                { "error", on_reply },
                { "event", on_event },
        };
        int (*handle)(Qmp *, const Json *, Error **) = NULL;

        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (json_get(message, kinds[i].key)) {
                        if (handle)
                                return protocol_error(reterr, "a message of two kinds");
                        handle = kinds[i].handle;
                }
        if (!handle)
                return protocol_error(reterr, "a message of no known kind");
        if (q->state == QMP_GREETING && handle != on_greeting)
                return protocol_error(reterr, "a message ahead of the greeting");
        return handle(q, message, reterr);
}

static int on_line(Qmp *q, const char *line, size_t len, Error **reterr) {
        _cleanup_json_ Json *message = NULL;
        int r;

        if (len == 0)
                return 0;
        r = json_parse(line, len, &message_limits, &message, reterr);
        return r < 0 ? r : on_message(q, message, reterr);
}

void qmp_take_line(Qmp *q) {
        _cleanup_error_ Error *error = NULL, *why = NULL;
        bool may_be_cut = q->first_line;
        size_t len;
        const char *line = qmp_stream_take(&q->stream, &len);
        int r;

        q->first_line = false;
        r = on_line(q, line, len, &error);
        if (r >= 0 || !qmp_is_alive(q))
                return;
        if (may_be_cut && r != -ENOMEM) {
                log_debug("Skipping the rest of a message: %s", error_message(error));
                return;
        }
        if (r != -EPROTO)
                error_set(&why, r == -ENOMEM ? ERROR_NO_MEMORY : ERROR_QMP_FAILED,
                                "Cannot understand what QEMU sent on its monitor: %s", error_message(error));
        qmp_end(q, TAKE_PTR(why) ?: TAKE_PTR(error));
}
