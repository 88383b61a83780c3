/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Who has called us on the bus: each connection with its user, whether it hears signals, and how much of
 * what we sent it may not have read yet. One match tells of all that leave.
 *
 * The bus keeps what a client does not read. dbus-daemon counts it as ours: a client that calls and never
 * reads would in the end keep us from being heard by anybody. dbus-broker counts it for the client's user,
 * and takes nothing more for any client of theirs in the end. So all that is sent to a client is charged to
 * its user (RESOURCE_UNREAD), and given back when it answers a Ping that was sent behind it, which every
 * D-Bus library does by itself as soon as it is let, or when the bus, asked for it, keeps less. While the
 * account is full that user's calls wait, but for short answers to clients that have read all, and signals
 * are not sent: when the client reads again it gets the ends of jobs, up to a bound, and then SignalsLost,
 * which says that there was more. */

#include <systemd/sd-bus.h>

#include "core/accounts.h"

typedef struct Client Client;
typedef struct Clients Clients;

typedef struct ClientHandlers {
        /* The bus has said who a client is: client_uid() is known. Or it did not (`known` false). */
        void (*identified)(Client *c, bool known, void *userdata);
        void (*left)(Client *c, void *userdata); /* frees what it keeps of the client, which goes then */
        void (*drained)(void *userdata);         /* there is room again in somebody's account, or may be */
} ClientHandlers;

/* everybody: all signals go to all, as on a user's own bus; then nobody is kept here. */
int clients_new(sd_bus *bus, Accounts *accounts, bool everybody, Clients **ret);
Clients *clients_free(Clients *c);
DEFINE_CLEANUP(Clients *, clients_free);
void clients_set_handlers(Clients *c, const ClientHandlers *handlers, void *userdata); /* both borrowed */

sd_bus *clients_bus(const Clients *c);

/* The client of this unique name, which is new if need be. NULL: out of memory. `identified` is called once,
 * later, for one that is new. */
Client *client_get(Clients *c, const char *name);
bool client_is_known(const Client *c);
uid_t client_uid(const Client *c); /* once it is known */

/* It has called, and may see the things of its user, or, if inspect is positive, all; negative: as before.
 * From now on it hears signals. */
void client_subscribe(Client *c, int inspect);

/* So much is about to be sent to it. -EDQUOT: not now; `drained` tells when to try again. */
int client_reserve(Client *c, uint64_t bytes);

/* Would it be reserved? Asks nobody anything. */
bool client_has_room(const Client *c, uint64_t bytes);

/* A call of this user waits for room. A client that makes one blocking call after the other answers no Ping,
 * so the bus is asked what it keeps for their clients; and, when this is called again, ever less often while
 * that is as much: `drained` tells when. */
void clients_inquire(Clients *c, uid_t uid);

/* Who hears of something: these users, root, and who may inspect all. */
typedef struct Hearers {
        const uid_t *uids; /* borrowed */
        size_t n;
        bool everybody;
        bool awaited; /* who cannot be told now is told when they read again, as of the end of a job */
} Hearers;
#define HEARERS(...)                                               \
        (&(const Hearers){ .uids = (const uid_t[]){ __VA_ARGS__ }, \
                        .n = sizeof((const uid_t[]){ __VA_ARGS__ }) / sizeof(uid_t) })

/* Sends a signal to those of them that have called. It is complete but not sealed. */
int clients_send(Clients *c, const Hearers *hearers, sd_bus_message *signal);
