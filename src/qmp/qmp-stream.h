/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The bytes of a QMP connection: lines from a non-blocking stream socket, and how many of them a peer may
 * send. QEMU ends each message with CR LF, and a line feed cannot stand inside one. */

#include "util/macro.h"

/* The largest answer known, query-qmp-schema's, has 0.2 MiB; this leaves room for hundreds of virtual CPUs
 * and disks, and takes some 20 ms to parse. */
#define QMP_MESSAGE_MAX (4 * MIB)

typedef struct QmpStream {
        int fd; /* owned */
        char *buf;
        size_t size;
        size_t start, end; /* what was read and not yet taken */
        size_t scanned;    /* up to here no line feed */
} QmpStream;

void qmp_stream_done(QmpStream *s);

/* Reads once, a bounded amount. To be called when no whole line is there. 1: something came; 0: end of file;
 * -EAGAIN: nothing there; -EFBIG: a line that is longer than QMP_MESSAGE_MAX. */
int qmp_stream_read(QmpStream *s);

/* Whether a whole line is there, and how long it is. */
bool qmp_stream_peek(QmpStream *s, size_t *ret_len);

/* Takes the line that was found, without its end. Lent until the next call. */
const char *qmp_stream_take(QmpStream *s, size_t *ret_len);

/* Whether nothing was read that was not taken. */
bool qmp_stream_is_empty(const QmpStream *s);

/* Gives the memory back if it holds nothing: most connections are silent most of the time. */
void qmp_stream_trim(QmpStream *s);

/* Sends what the socket takes; pass_fd (or -EBADF) goes along with the first byte. Returns the number of
 * bytes, or -EAGAIN, -EPIPE, … */
ssize_t qmp_stream_send(QmpStream *s, const char *data, size_t len, int pass_fd);

/* How much a peer may say: a bucket that holds QMP_BUDGET_BURST messages' worth and is refilled steadily. A
 * peer that has emptied it is read as fast as the bucket fills, so what it sends too much waits in its own
 * memory. It is not cut off: a burst of a guest's making must not lose the VM's monitor. */
#define QMP_BUDGET_BURST 8192     /* a guest that sets its clock in a loop, jobs on all disks: hundreds */
#define QMP_BUDGET_RATE 1024      /* a second; some 1 % of one CPU */
#define QMP_BUDGET_UNIT (4 * KIB) /* of text, costs as much as a message */

typedef struct QmpBudget {
        int64_t left; /* negative after an expensive message */
        uint64_t refilled_usec;
} QmpBudget;

QmpBudget qmp_budget_full(uint64_t now_usec);
void qmp_budget_refill(QmpBudget *b, uint64_t now_usec);

/* Takes one message's cost. False, and nothing taken: the peer has to wait. */
bool qmp_budget_take(QmpBudget *b, size_t len);

/* How long to wait until it is worth while to go on. */
uint64_t qmp_budget_wait_usec(const QmpBudget *b);
