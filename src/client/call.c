/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "call.h"
#include "client-private.h"

#define CALLS_AT_ONCE 32 /* a bus lets a client wait for some 100 replies */

typedef enum CallStep {
        CALL_QUEUED,
        CALL_SENT,
        CALL_TO_ASK, /* polkit wants to */
        CALL_ASKING, /* sent once more, with leave to */
} CallStep;

typedef struct ClientCall {
        Client *client;
        ClientCall *next;
        CallStep step;
        sd_bus_message *m;
        uint64_t timeout_usec;
        ClientCallHandler done; /* NULL: nobody waits for it */
        void *userdata;
        sd_bus_slot *slot; /* while it is sent */
} ClientCall;

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr);

static int send_call(ClientCall *call) {
        bool asks = call->step == CALL_TO_ASK;
        Client *c = call->client;
        int r = 0;

        if (asks) {
                _cleanup_(sd_bus_message_unrefp) sd_bus_message *sent = TAKE_PTR(call->m);

                r = client_copy_asking(c, sent, &call->m);
                if (r < 0)
                        call->m = TAKE_PTR(sent);
        }
        if (r >= 0)
                r = sd_bus_call_async(c->bus, &call->slot, call->m, on_reply, call,
                                asks ? MAX(call->timeout_usec, CLIENT_ASK_USEC) : call->timeout_usec);
        if (r < 0)
                return r;
        call->step = asks ? CALL_ASKING : CALL_SENT;
        c->asking |= asks;
        c->n_sent++;
        return 0;
}

static void leave_bus(ClientCall *call) {
        Client *c = call->client;

        if (call->step == CALL_ASKING)
                c->asking = false;
        if (call->step == CALL_SENT || call->step == CALL_ASKING)
                c->n_sent--;
        call->step = CALL_QUEUED;
        call->slot = sd_bus_slot_unref(call->slot);
}

static void unlink_call(ClientCall *call) {
        for (ClientCall **p = &call->client->calls; *p; p = &(*p)->next)
                if (*p == call) {
                        *p = call->next;
                        return;
                }
}

/* The caller may free the call meanwhile, or make others. */
static void complete(ClientCall *call, sd_bus_message *reply, const sd_bus_error *e, int r) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = sd_bus_message_ref(call->m);
        _cleanup_error_ Error *error = NULL;

        leave_bus(call);
        unlink_call(call);
        if (sd_bus_is_open(call->client->bus) <= 0) { /* which sd-bus says in other words */
                e = NULL;
                r = -ENOTCONN;
        }
        if (!reply)
                (void)client_call_error(call->client, m, e, r, &error);
        call->done(call->userdata, reply, error);
}

static ClientCall *find_next(const Client *c) {
        for (ClientCall *call = c->calls; call; call = call->next)
                if (call->step == CALL_QUEUED || (call->step == CALL_TO_ASK && !c->asking))
                        return call;
        return NULL;
}

static void send_next(Client *c) {
        ClientCall *call;
        int r;

        while (!client_is_busy(c) && (call = find_next(c))) {
                r = send_call(call);
                if (r < 0)
                        complete(call, NULL, NULL, r);
        }
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        ClientCall *call = userdata;
        Client *c = call->client;
        int r;

        if (!call->done)
                leave_bus(call); /* freed by its slot */
        else if (e && call->step == CALL_SENT && client_wants_to_ask(c, e)) {
                leave_bus(call);
                call->step = CALL_TO_ASK;
        } else {
                r = e ? -sd_bus_error_get_errno(e) : client_note_owner(c, call->m, m);
                complete(call, r < 0 ? NULL : m, e, r);
        }
        send_next(c);
        return 0;
}

int client_call_begin(Client *c, sd_bus_message *m, uint64_t timeout_usec, ClientCallHandler done,
                void *userdata, ClientCall **ret) {
        _cleanup_(client_call_freep) ClientCall *call = malloc(sizeof(ClientCall));
        ClientCall **p;
        int r;

        if (!call)
                return -ENOMEM;
        *call = (ClientCall){
                .client = c,
                .m = sd_bus_message_ref(m),
                .timeout_usec = timeout_usec,
                .done = done,
                .userdata = userdata,
        };
        for (p = &c->calls; *p; p = &(*p)->next)
                ;
        *p = call;
        if (!client_is_busy(c)) {
                r = send_call(call);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(call);
        return 0;
}

static void destroy(void *userdata) {
        ClientCall *call = userdata;

        sd_bus_message_unref(call->m);
        free(call);
}

/* One that was sent is awaited by the bus all the same, so it counts until it is answered. */
ClientCall *client_call_free(ClientCall *call) {
        if (!call)
                return NULL;
        unlink_call(call);
        if (call->slot) {
                _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = TAKE_PTR(call->slot);

                call->done = NULL;
                call->m = sd_bus_message_unref(call->m); /* holds the bus, which is to hold this */
                (void)sd_bus_slot_set_destroy_callback(slot, destroy);
                if (sd_bus_slot_set_floating(slot, true) >= 0)
                        return NULL;
                (void)sd_bus_slot_set_destroy_callback(slot, NULL);
        }
        destroy(call);
        return NULL;
}

bool client_call_is_waiting(const ClientCall *call) {
        return call->step == CALL_QUEUED || call->step == CALL_TO_ASK;
}

bool client_is_busy(const Client *c) {
        return c->n_sent >= CALLS_AT_ONCE;
}
