/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* One command on its way: its text, what of it was sent, and who waits for the answer. Internal to the
 * client. */

#include <sys/queue.h>

#include "qmp-stream.h"
#include "qmp.h"

typedef enum QmpCallState {
        QMP_CALL_WAITING,    /* in the client's queue: nothing of it was sent */
        QMP_CALL_IN_FLIGHT,  /* its turn has come; QEMU has or gets it, and owes one answer */
        QMP_CALL_UNSENDABLE, /* the socket refused it; the caller is to be told from the event loop */
} QmpCallState;

struct QmpCall {
        Qmp *qmp; /* borrowed */
        TAILQ_ENTRY(QmpCall) link;
        QmpCallState state;
        uint64_t id;
        uint64_t timeout_usec;
        uint64_t deadline; /* CLOCK_MONOTONIC in microseconds, USEC_INFINITY none */

        char *text; /* until all of it is sent */
        size_t len, sent;
        int fd;      /* owned, until it is sent */
        int failure; /* of an unsendable one */

        /* Neither of the two: nobody waits any more. */
        qmp_reply_t reply;
        qmp_raw_reply_t raw_reply;
        void *userdata;
        Json *raw; /* the command as the caller gave it, for its "id" */

        char command[];
};

typedef TAILQ_HEAD(QmpCallList, QmpCall) QmpCallList;

/* prefix goes out ahead of the command's text. fd is taken over, also on failure. -EINVAL: no such name can
 * be a command's. */
int qmp_call_new(const char *command, const char *prefix, const char *arguments, uint64_t id, int fd,
                QmpCall **ret);
int qmp_call_new_raw(const char *text, uint64_t id, QmpCall **ret, Error **reterr);
QmpCall *qmp_call_free(QmpCall *c);
DEFINE_CLEANUP(QmpCall *, qmp_call_free);

/* Goes on sending. 0: all is sent; else as qmp_stream_send(). */
int qmp_call_send(QmpCall *c, QmpStream *stream);
bool qmp_call_is_sent(const QmpCall *c);

/* The caller is told, or else forgotten. Both may run the callback, once in the call's life; it may free
 * everything, the call included unless that is in no list. */
void qmp_call_answer(QmpCall *c, const Json *message); /* with "return" or "error" in it */
void qmp_call_fail(QmpCall *c, int r, const Error *error);
void qmp_call_abandon(QmpCall *c);
