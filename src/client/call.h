/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Calls that do not block: their replies are told by the bus's loop. A client sends so many at a time as a
 * bus lets wait for replies; the others go out in their order. Those that polkit wants to ask somebody for
 * are repeated with leave to, one at a time, as a terminal can take one question at a time: only the agent's
 * start blocks, for some milliseconds. */

#include "client.h"

typedef struct ClientCall ClientCall;

/* `reply` is NULL if the call failed, then `error` says why. Both are lent. Called once, from the loop,
 * never from a function of this file; may free the call. */
typedef void (*ClientCallHandler)(void *userdata, sd_bus_message *reply, const Error *error);

/* Takes a reference of the message. timeout_usec 0: the default of D-Bus; it counts from when it is sent.
 * The caller frees *ret, before the client; freeing it makes its reply unheard, but undoes nothing. */
int client_call_begin(Client *c, sd_bus_message *m, uint64_t timeout_usec, ClientCallHandler done,
                void *userdata, ClientCall **ret);
ClientCall *client_call_free(ClientCall *call);
DEFINE_CLEANUP(ClientCall *, client_call_free);

/* Whether nothing has been done for it: it was not sent yet, or waits for its turn to ask. */
bool client_call_is_waiting(const ClientCall *call);
/* Whether the next call would have to wait: who opens files for one rather waits before. */
bool client_is_busy(const Client *c);
