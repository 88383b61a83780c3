/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The client's state, shared by its two halves: qmp-client.c (the connection: sources, queue, interface) and
 * qmp-protocol.c (what is said on it). */

#include "qmp-call.h"
#include "qmp-stream.h"
#include "qmp.h"

typedef enum QmpState {
        QMP_GREETING,    /* waits for {"QMP": …} */
        QMP_NEGOTIATING, /* qmp_capabilities is on its way */
        QMP_READY,
        QMP_ENDED, /* closed() was or is being called */
} QmpState;

struct Qmp {
        unsigned n_ref;   /* the owner's, and one for each dispatch that is under way */
        bool freed;       /* by the owner: no more callbacks */
        bool reattached;  /* taken over in the middle of its life */
        bool first_line;  /* of such a one: may be the rest of a message */
        int send_failure; /* read what is left, then end */
        int failure;      /* an event source could not be set: end */
        QmpState state;
        uint64_t next_id;

        sd_event *event;
        sd_event_source *io, *timer, *deferred;
        QmpStream stream;
        QmpBudget budget;
        uint64_t throttled_until; /* 0: not at all */
        uint64_t handshake_deadline, handshake_usec;

        QmpCallList waiting, in_flight, unsendable;
        unsigned n_waiting, n_in_flight;

        QmpHandlers handlers;
        void *userdata;
};

/* False when the owner has freed it, or it has ended: to be asked after every callback. */
static inline bool qmp_is_alive(const Qmp *q) {
        return !q->freed && q->state != QMP_ENDED;
}

void qmp_link_call(QmpCall *c, QmpCallState state);
QmpCall *qmp_unlink_call(QmpCall *c); /* returns it; it is the caller's now */

/* Sends what can be sent, and sets the event sources as the state demands. */
void qmp_settle(Qmp *q);

/* Ends the connection. Only from the event loop. The error is taken; NULL if the peer said what it had to
 * say and left. */
void qmp_end(Qmp *q, Error *error);

/* Sends qmp_capabilities as soon as it can. */
int qmp_negotiate(Qmp *q);

/* Acts on the next line, which is there, and ends the connection if it is a wrong one. */
void qmp_take_line(Qmp *q);
