/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/socket.h>

#include "qmp-stream.h"
#include "util/fd-util.h"

/* At first: events and most answers fit. */
#define BUFFER_MIN (4 * KIB)

/* For one read, so that other connections get their turn. */
#define READ_MAX (64 * KIB)

/* A peer that waits is looked at ten times a second, not for each message. */
#define BUDGET_RESUME (QMP_BUDGET_RATE / 10)

void qmp_stream_done(QmpStream *s) {
        free(s->buf);
        *s = (QmpStream){ .fd = safe_close(s->fd) };
}

static int make_room(QmpStream *s) {
        size_t size;
        char *grown;

        if (s->start > 0) {
                memmove(s->buf, s->buf + s->start, s->end - s->start);
                s->end -= s->start;
                s->scanned -= s->start;
                s->start = 0;
        }
        if (s->end < s->size)
                return 0;
        if (s->size >= QMP_MESSAGE_MAX)
                return -EFBIG;
        size = MAX(s->size * 2, BUFFER_MIN);
        size = MIN(size, QMP_MESSAGE_MAX);
        grown = realloc(s->buf, size);
        if (!grown)
                return -ENOMEM;
        s->buf = grown;
        s->size = size;
        return 0;
}

int qmp_stream_read(QmpStream *s) {
        ssize_t n;
        int r;

        r = make_room(s);
        if (r < 0)
                return r;
        do {
                /* Without room for control messages the kernel drops descriptors that the peer sends. */
                n = recv(s->fd, s->buf + s->end, MIN(s->size - s->end, READ_MAX), MSG_DONTWAIT);
        } while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        s->end += (size_t)n;
        return n > 0;
}

bool qmp_stream_peek(QmpStream *s, size_t *ret_len) {
        const char *newline = NULL;

        if (s->scanned < s->end)
                newline = memchr(s->buf + s->scanned, '\n', s->end - s->scanned);
        if (!newline) {
                s->scanned = s->end;
                return false;
        }
        s->scanned = (size_t)(newline - s->buf);
        *ret_len = s->scanned - s->start;
        return true;
}

const char *qmp_stream_take(QmpStream *s, size_t *ret_len) {
        const char *line = s->buf + s->start;
        size_t len = s->scanned - s->start;

        s->start = s->scanned = s->scanned + 1;
        *ret_len = len > 0 && line[len - 1] == '\r' ? len - 1 : len;
        return line;
}

bool qmp_stream_is_empty(const QmpStream *s) {
        return s->start == s->end;
}

void qmp_stream_trim(QmpStream *s) {
        if (!s->buf || !qmp_stream_is_empty(s))
                return;
        free(s->buf);
        *s = (QmpStream){ .fd = s->fd };
}

ssize_t qmp_stream_send(QmpStream *s, const char *data, size_t len, int pass_fd) {
        struct iovec iov = { .iov_base = (char *)data, .iov_len = len };
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = {};
        struct msghdr message = { .msg_iov = &iov, .msg_iovlen = 1 };
        ssize_t n;

        if (pass_fd >= 0) {
                control.header.cmsg_level = SOL_SOCKET;
                control.header.cmsg_type = SCM_RIGHTS;
                control.header.cmsg_len = CMSG_LEN(sizeof(int));
                memcpy(CMSG_DATA(&control.header), &pass_fd, sizeof(int));
                message.msg_control = &control;
                message.msg_controllen = sizeof(control);
        }
        do {
                n = sendmsg(s->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
        } while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

QmpBudget qmp_budget_full(uint64_t now_usec) {
        return (QmpBudget){ .left = QMP_BUDGET_BURST, .refilled_usec = now_usec };
}

void qmp_budget_refill(QmpBudget *b, uint64_t now_usec) {
        uint64_t passed = now_usec - b->refilled_usec;
        int64_t gained;

        if (passed >= (uint64_t)(QMP_BUDGET_BURST - b->left) * USEC_PER_SEC / QMP_BUDGET_RATE) {
                *b = qmp_budget_full(now_usec);
                return;
        }
        gained = (int64_t)(passed * QMP_BUDGET_RATE / USEC_PER_SEC);
        b->left += gained;
        b->refilled_usec += (uint64_t)gained * USEC_PER_SEC / QMP_BUDGET_RATE; /* keeps the fraction */
}

bool qmp_budget_take(QmpBudget *b, size_t len) {
        if (b->left <= 0)
                return false;
        b->left -= 1 + (int64_t)(len / QMP_BUDGET_UNIT);
        return true;
}

uint64_t qmp_budget_wait_usec(const QmpBudget *b) {
        return (uint64_t)MAX(BUDGET_RESUME - b->left, INT64_C(1)) * USEC_PER_SEC / QMP_BUDGET_RATE;
}
