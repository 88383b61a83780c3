/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What client.c and call.c share. */

#include "agent.h"
#include "client.h"
#include "errors.h"

struct ClientCall;

struct Client {
        sd_bus *bus;
        char *host; /* NULL: this one */
        bool is_user, may_ask;
        char *owner; /* the service's unique name, as far as known */
        Agent agent;
        void (*about_to_ask)(void *userdata);
        void *about_to_ask_userdata;

        /* call.c's */
        struct ClientCall *calls; /* those without an answer, in their order; borrowed */
        size_t n_sent;
        bool asking; /* one of them may ask */
};

/* How long somebody may take to find and type a password. */
#define CLIENT_ASK_USEC (300 * USEC_PER_SEC)

/* Whether the failure is polkit's wish to ask somebody, and that is allowed. */
bool client_wants_to_ask(const Client *c, const sd_bus_error *e);
/* A copy of a call that was sent, with leave to ask; the agent is there then. */
int client_copy_asking(Client *c, sd_bus_message *call, sd_bus_message **ret);
/* Takes the service's unique name from a reply, if it was called. */
int client_note_owner(Client *c, sd_bus_message *call, sd_bus_message *reply);
/* A failed call as an error. */
int client_call_error(const Client *c, sd_bus_message *call, const sd_bus_error *e, int r, Error **reterr);
