/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The connection. Commands wait in one list until it is their turn, then stand in another until QEMU has
 * answered; what QEMU says comes in lines, a bounded number at a time.
 *
 * Calls into the client only send and note; callbacks run from the three event sources (socket, timer, and a
 * deferred one for what came up in between), which hold a reference, since any callback may free the
 * client: after each one, qmp_is_alive() says whether to go on. Every way in ends with qmp_settle(), which
 * sends what can be sent and sets the sources as the state demands. */
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>

#include "qmp-client.h"
#include "util/clock.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

/* Then other connections get their turn. */
#define MESSAGES_PER_DISPATCH 64

/* Deadlines are seconds: nobody notices this, and the event loop may join wake-ups. */
#define TIMER_ACCURACY_USEC (10 * USEC_PER_MSEC)

static uint64_t usec_add(uint64_t a, uint64_t b) {
        uint64_t sum;

        return __builtin_add_overflow(a, b, &sum) ? USEC_INFINITY : sum;
}

static Qmp *qmp_ref(Qmp *q) {
        q->n_ref++;
        return q;
}

static Qmp *qmp_unref(Qmp *q) {
        if (--q->n_ref > 0)
                return NULL;
        sd_event_unref(q->event);
        free(q);
        return NULL;
}
DEFINE_CLEANUP(Qmp *, qmp_unref);

static void disconnect(Qmp *q) {
        q->io = sd_event_source_disable_unref(q->io);
        q->timer = sd_event_source_disable_unref(q->timer);
        q->deferred = sd_event_source_disable_unref(q->deferred);
        qmp_stream_done(&q->stream);
}

static QmpCallList *list_of(QmpCall *c) {
        return c->state == QMP_CALL_WAITING              ? &c->qmp->waiting
                        : c->state == QMP_CALL_IN_FLIGHT ? &c->qmp->in_flight
                                                         : &c->qmp->unsendable;
}

QmpCall *qmp_unlink_call(QmpCall *c) {
        TAILQ_REMOVE(list_of(c), c, link);
        if (c->state == QMP_CALL_WAITING)
                c->qmp->n_waiting--;
        else if (c->state == QMP_CALL_IN_FLIGHT)
                c->qmp->n_in_flight--;
        return c;
}

void qmp_link_call(QmpCall *c, QmpCallState state) {
        c->state = state;
        TAILQ_INSERT_TAIL(list_of(c), c, link);
        if (state == QMP_CALL_WAITING)
                c->qmp->n_waiting++;
        else if (state == QMP_CALL_IN_FLIGHT)
                c->qmp->n_in_flight++;
}

/* The next call that has to be told of the connection's end: in the order in which they were made. */
static QmpCall *first_call(Qmp *q) {
        return TAILQ_FIRST(&q->unsendable) ?: TAILQ_FIRST(&q->in_flight) ?: TAILQ_FIRST(&q->waiting);
}

void qmp_end(Qmp *q, Error *error) {
        _cleanup_error_ Error *owned = error, *reset = NULL;

        if (!qmp_is_alive(q))
                return;
        log_debug("The monitor connection has ended: %s", owned ? error_message(owned) : "end of file");
        q->state = QMP_ENDED;
        disconnect(q);
        error_set(&reset, ERROR_QMP_FAILED, "The connection to QEMU's monitor has ended%s%s",
                        owned ? ": " : "", owned ? error_message(owned) : "");
        while (first_call(q)) {
                _cleanup_(qmp_call_freep) QmpCall *c = qmp_unlink_call(first_call(q));

                qmp_call_fail(c, -ECONNRESET, reset);
        }
        if (!q->freed && q->handlers.closed)
                q->handlers.closed(q, owned, q->userdata);
}

_printf_(3, 4) static void end_because(Qmp *q, ErrorCode code, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        Error *error = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);
        error_set(&error, code, "%s", message ?: "Out of memory");
        qmp_end(q, error);
}

/* Nothing more can be read. If that is because sending failed, the peer has mostly just gone. */
static void end_of_file(Qmp *q) {
        if (q->send_failure < 0 && q->send_failure != -EPIPE && q->send_failure != -ECONNRESET)
                end_because(q, ERROR_QMP_FAILED, "Failed to write to QEMU's monitor: %s",
                                strerror(-q->send_failure));
        else if (qmp_stream_is_empty(&q->stream))
                qmp_end(q, NULL);
        else
                end_because(q, ERROR_QMP_FAILED, "QEMU left in the middle of a message");
}

/* Returns false when enough was taken for now, or the connection has ended. */
static bool take_lines(Qmp *q, unsigned *n) {
        size_t len;

        while (qmp_is_alive(q) && qmp_stream_peek(&q->stream, &len)) {
                if (*n >= MESSAGES_PER_DISPATCH)
                        return false;
                if (!qmp_budget_take(&q->budget, len)) {
                        q->throttled_until = usec_add(now_usec(), qmp_budget_wait_usec(&q->budget));
                        return false;
                }
                qmp_take_line(q);
                (*n)++;
        }
        return qmp_is_alive(q);
}

static void receive(Qmp *q) {
        unsigned n = 0;
        int r;

        qmp_budget_refill(&q->budget, now_usec());
        if (!take_lines(q, &n))
                return;
        r = qmp_stream_read(&q->stream);
        if (r > 0)
                take_lines(q, &n);
        else if (r == 0 || r == -ECONNRESET) /* the latter if it left something of ours unread */
                end_of_file(q);
        else if (r == -EFBIG)
                end_because(q, ERROR_QMP_FAILED, "QEMU sent a message of more than %" PRIu64 " bytes",
                                QMP_MESSAGE_MAX);
        else if (r == -EAGAIN && q->send_failure < 0)
                end_of_file(q);
        else if (r != -EAGAIN)
                end_because(q, ERROR_QMP_FAILED, "Failed to read from QEMU's monitor: %s", strerror(-r));
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_(qmp_unrefp) Qmp *q = qmp_ref(userdata);

        if (revents & ~EPOLLOUT)
                receive(q);
        qmp_settle(q);
        return 0;
}

static int on_deferred(sd_event_source *s, void *userdata) {
        _cleanup_(qmp_unrefp) Qmp *q = qmp_ref(userdata);

        if (q->failure < 0)
                end_because(q, ERROR_QMP_FAILED, "Failed to watch QEMU's monitor: %s",
                                strerror(-q->failure));
        while (qmp_is_alive(q) && !TAILQ_EMPTY(&q->unsendable)) {
                _cleanup_(qmp_call_freep) QmpCall *c = qmp_unlink_call(TAILQ_FIRST(&q->unsendable));
                _cleanup_error_ Error *error = NULL;

                error_set_errno(&error, c->failure, "Failed to send '%s' to QEMU", c->command);
                qmp_call_fail(c, c->failure, error);
        }
        if (qmp_is_alive(q))
                receive(q);
        qmp_settle(q);
        return 0;
}

static QmpCall *find_overdue(QmpCallList *list, uint64_t now, uint64_t before_id) {
        QmpCall *c;

        TAILQ_FOREACH(c, list, link)
                if (c->deadline <= now && c->id < before_id)
                        return c;
        return NULL;
}

static void fail_overdue(Qmp *q, uint64_t now) {
        uint64_t before_id = q->next_id; /* calls that callbacks make have to wait for the next round */
        QmpCall *c;

        while (qmp_is_alive(q) &&
                        ((c = find_overdue(&q->in_flight, now, before_id)) ||
                                        (c = find_overdue(&q->waiting, now, before_id)))) {
                bool keep = c->state == QMP_CALL_IN_FLIGHT && c->sent > 0;
                _cleanup_error_ Error *error = NULL;

                error_set(&error, ERROR_QMP_TIMEOUT, "QEMU did not answer '%s' within %" PRIu64 " ms",
                                c->command, c->timeout_usec / USEC_PER_MSEC);
                if (!keep)
                        qmp_unlink_call(c);
                qmp_call_fail(c, -ETIMEDOUT, error);
                if (!keep)
                        qmp_call_free(c);
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        _cleanup_(qmp_unrefp) Qmp *q = qmp_ref(userdata);
        uint64_t now = now_usec();

        if (q->handshake_deadline <= now)
                end_because(q, ERROR_QMP_TIMEOUT, "QEMU's monitor %s within %" PRIu64 " ms",
                                q->state == QMP_GREETING ? "sent no greeting" : "took no commands",
                                q->handshake_usec / USEC_PER_MSEC);
        fail_overdue(q, now);
        if (qmp_is_alive(q) && q->throttled_until > 0 && q->throttled_until <= now) {
                q->throttled_until = 0;
                receive(q);
        }
        qmp_settle(q);
        return 0;
}

/* QEMU works off commands in order: behind qmp_capabilities, others need not wait for its answer. Where it
 * is not known what was said before, they do. */
static bool may_send(const Qmp *q) {
        return q->state == QMP_READY || (q->state == QMP_NEGOTIATING && !q->reattached);
}

/* Sends what is due. What fails is dealt with from the event loop. */
static void pump(Qmp *q) {
        QmpCall *c, *next;

        while (may_send(q) && q->n_in_flight < QMP_IN_FLIGHT_MAX && !TAILQ_EMPTY(&q->waiting))
                qmp_link_call(qmp_unlink_call(TAILQ_FIRST(&q->waiting)), QMP_CALL_IN_FLIGHT);
        for (c = TAILQ_FIRST(&q->in_flight); c && q->send_failure >= 0; c = next) {
                int r = qmp_call_is_sent(c) ? 0 : qmp_call_send(c, &q->stream);

                next = TAILQ_NEXT(c, link);
                if (r == -EAGAIN)
                        return;
                if (r >= 0)
                        continue;
                if (c->sent > 0 || r == -EPIPE || r == -ECONNRESET) {
                        q->send_failure = r;
                        return;
                }
                c->failure = r;
                qmp_link_call(qmp_unlink_call(c), QMP_CALL_UNSENDABLE);
        }
}

static bool is_unsent(Qmp *q) {
        QmpCall *last = TAILQ_LAST(&q->in_flight, QmpCallList);

        return last && !qmp_call_is_sent(last) && q->send_failure >= 0;
}

static uint64_t next_deadline(Qmp *q) {
        uint64_t next = q->handshake_deadline;
        QmpCall *c;

        TAILQ_FOREACH(c, &q->in_flight, link)
                next = MIN(next, c->deadline);
        TAILQ_FOREACH(c, &q->waiting, link)
                next = MIN(next, c->deadline);
        return q->throttled_until > 0 ? MIN(next, q->throttled_until) : next;
}

static int set_timer(Qmp *q, uint64_t usec) {
        int r;

        if (usec == USEC_INFINITY)
                return sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
        r = sd_event_source_set_time(q->timer, usec);
        return r < 0 ? r : sd_event_source_set_enabled(q->timer, SD_EVENT_ONESHOT);
}

static int set_sources(Qmp *q) {
        bool throttled = q->throttled_until > 0, lines, more;
        size_t len;
        int r;

        lines = qmp_stream_peek(&q->stream, &len); /* the socket may be silent while these wait */
        r = set_timer(q, next_deadline(q));
        if (r < 0)
                return r;
        r = sd_event_source_set_io_events(q->io, EPOLLIN | (is_unsent(q) ? EPOLLOUT : 0));
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(q->io, lines ? SD_EVENT_OFF : SD_EVENT_ON);
        if (r < 0)
                return r;
        more = !TAILQ_EMPTY(&q->unsendable) || (!throttled && (lines || q->send_failure < 0));
        return sd_event_source_set_enabled(q->deferred, more ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
}

void qmp_settle(Qmp *q) {
        if (!qmp_is_alive(q))
                return;
        pump(q);
        qmp_stream_trim(&q->stream);
        q->failure = set_sources(q);
        if (q->failure < 0)
                (void)sd_event_source_set_enabled(q->deferred, SD_EVENT_ONESHOT);
}

static int add_sources(Qmp *q) {
        int r;

        r = sd_event_add_io(q->event, &q->io, q->stream.fd, EPOLLIN, on_io, q);
        if (r < 0)
                return r;
        r = sd_event_add_time(q->event, &q->timer, CLOCK_MONOTONIC, USEC_INFINITY, TIMER_ACCURACY_USEC,
                        on_timer, q);
        if (r < 0)
                return r;
        r = sd_event_source_set_enabled(q->timer, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = sd_event_add_defer(q->event, &q->deferred, on_deferred, q);
        if (r < 0)
                return r;
        /* The event loop counts a deferred source as waiting ever since it was made, so at equal priority it
         * would come before everything else. */
        r = sd_event_source_set_priority(q->deferred, SD_EVENT_PRIORITY_NORMAL + 1);
        return r < 0 ? r : sd_event_source_set_enabled(q->deferred, SD_EVENT_OFF);
}

int qmp_new(sd_event *event, int fd, QmpFlags flags, uint64_t deadline_usec, const QmpHandlers *handlers,
                void *userdata, Qmp **ret) {
        _cleanup_close_ int owned_fd = fd;
        _cleanup_(qmp_freep) Qmp *q = NULL;
        uint64_t now = now_usec();
        int r;

        r = fd_set_nonblock(fd, true);
        if (r < 0)
                return r;
        q = malloc(sizeof(Qmp));
        if (!q)
                return -ENOMEM;
        *q = (Qmp){
                .n_ref = 1,
                .event = sd_event_ref(event),
                .reattached = flags & QMP_REATTACH,
                .first_line = flags & QMP_REATTACH,
                .stream.fd = TAKE_FD(owned_fd),
                .budget = qmp_budget_full(now),
                /* Commands of a former life may still be answered: with the clock's microseconds as first
                 * number, which are more than the commands ever sent, none of them is taken for ours. */
                .next_id = now,
                .handshake_deadline = usec_add(now, deadline_usec),
                .handshake_usec = deadline_usec,
                .handlers = *handlers,
                .userdata = userdata,
        };
        TAILQ_INIT(&q->waiting);
        TAILQ_INIT(&q->in_flight);
        TAILQ_INIT(&q->unsendable);
        r = add_sources(q);
        if (r < 0)
                return r;
        if (q->reattached) {
                r = qmp_negotiate(q);
                if (r < 0)
                        return r;
        }
        qmp_settle(q);
        *ret = TAKE_PTR(q);
        return 0;
}

Qmp *qmp_free(Qmp *q) {
        if (!q)
                return NULL;
        q->freed = true;
        disconnect(q);
        while (first_call(q))
                qmp_call_free(qmp_unlink_call(first_call(q)));
        return qmp_unref(q);
}

bool qmp_is_ready(const Qmp *q) {
        return q->state == QMP_READY;
}

int qmp_fd(const Qmp *q) {
        return q->stream.fd;
}

static void enqueue(Qmp *q, QmpCall *c, uint64_t timeout_usec, void *userdata, QmpCall **ret_call) {
        c->qmp = q;
        c->timeout_usec = timeout_usec;
        c->deadline = usec_add(now_usec(), timeout_usec);
        c->userdata = userdata;
        qmp_link_call(c, QMP_CALL_WAITING);
        qmp_settle(q);
        if (ret_call)
                *ret_call = c;
}

static int may_call(const Qmp *q) {
        return !qmp_is_alive(q) ? -ENOTCONN : q->n_waiting >= QMP_QUEUE_MAX ? -ENOBUFS : 0;
}

int qmp_call(Qmp *q, const char *command, const char *arguments, uint64_t timeout_usec, qmp_reply_t callback,
                void *userdata, QmpCall **ret_call) {
        return qmp_call_fd(q, command, arguments, -EBADF, timeout_usec, callback, userdata, ret_call);
}

int qmp_call_fd(Qmp *q, const char *command, const char *arguments, int fd, uint64_t timeout_usec,
                qmp_reply_t callback, void *userdata, QmpCall **ret_call) {
        _cleanup_close_ int owned_fd = fd;
        QmpCall *c;
        int r;

        r = may_call(q);
        if (r < 0)
                return r;
        r = qmp_call_new(command, "", arguments, q->next_id++, TAKE_FD(owned_fd), &c);
        if (r < 0)
                return r;
        c->reply = callback;
        enqueue(q, c, timeout_usec, userdata, ret_call);
        return 0;
}

int qmp_call_raw(Qmp *q, const char *text, uint64_t timeout_usec, qmp_raw_reply_t callback, void *userdata,
                QmpCall **ret_call, Error **reterr) {
        QmpCall *c;
        int r;

        r = may_call(q);
        if (r == -ENOBUFS)
                error_set(reterr, ERROR_BUSY, "%d commands wait for QEMU already", QMP_QUEUE_MAX);
        else if (r < 0)
                error_set(reterr, ERROR_QMP_FAILED, "There is no connection to QEMU's monitor");
        if (r < 0)
                return r;
        r = qmp_call_new_raw(text, q->next_id++, &c, reterr);
        if (r < 0)
                return r;
        c->raw_reply = callback;
        enqueue(q, c, timeout_usec, userdata, ret_call);
        return 0;
}

/* Nobody waits for it any more. If QEMU has seen the start of it, it must get the rest, and its answer must
 * be known when it comes. */
static void drop_call(QmpCall *c) {
        if (c->state == QMP_CALL_IN_FLIGHT && c->sent > 0) {
                qmp_call_abandon(c);
                return;
        }
        qmp_call_free(qmp_unlink_call(c));
}

QmpCall *qmp_cancel(QmpCall *call) {
        Qmp *q;

        if (!call)
                return NULL;
        q = call->qmp;
        drop_call(call);
        qmp_settle(q);
        return NULL;
}
