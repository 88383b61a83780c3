/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Method calls over one connection to the bus, of which a bounded number wait for their replies at a time:
 * the bus daemon refuses more of them, and would refuse one that matters. The rest wait here, and all go out
 * in the order in which they were added. One whose peer leaves the bus without an answer, as PID 1 does when
 * it executes itself anew, is sent once more: the bus keeps it until the peer is back. */

#include <stdint.h>
#include <systemd/sd-bus.h>

#include "util/macro.h"

typedef struct CallQueue CallQueue;
typedef struct QueuedCall QueuedCall;

/* in_flight_max: above 0. timeout_usec: for each call, from when it is sent. The bus is referenced. */
int call_queue_new(sd_bus *bus, unsigned in_flight_max, uint64_t timeout_usec, CallQueue **ret);

/* Drops all calls that are left: nobody is called any more, and no handle may be used. */
CallQueue *call_queue_free(CallQueue *q);
DEFINE_CLEANUP(CallQueue *, call_queue_free);

/* Called once, from the event loop, unless the call is canceled before. error: NULL, or why there is no
 * reply; then `reply` counts for nothing. The handle is no more. */
typedef void (*call_reply_t)(sd_bus_message *reply, const sd_bus_error *error, void *userdata);

/* The message is referenced. `reply` NULL: the answer goes to nobody. `ret`, which
 * may be NULL, lends a handle. */
int call_queue_add(CallQueue *q, sd_bus_message *m, call_reply_t reply, void *userdata, QueuedCall **ret);

/* One that was sent counts as in flight until its reply is there, which goes to nobody. NULL is fine. */
QueuedCall *queued_call_cancel(QueuedCall *c);
