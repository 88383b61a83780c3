/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The connection to the service, for all clients of ours. Read next: call.h for calls that do not block,
 * jobs.h for what takes long.
 *
 * All functions are for one thread. What waits here for the bus is said to block; all else needs the bus to
 * be processed, by an event loop that client_bus() is attached to or by sd_bus_process(). Errors are named,
 * have a message, and a hint where there is one (util/error.h); `reterr` may be NULL. */

#include <systemd/sd-bus.h>

#include "names.h"
#include "json/json.h"

typedef struct Client Client;

typedef enum ClientBus {
        CLIENT_BUS_AUTO, /* the system's, if root asks or the service is there; else the user's */
        CLIENT_BUS_SYSTEM,
        CLIENT_BUS_USER,
} ClientBus;

/* Connects; blocks. `host` is NULL, or where ssh leads: its system bus. `may_ask`: somebody can be asked for
 * a password, by a desktop's agent or by polkit's on the terminal. The message of an error is complete. */
int client_new(ClientBus bus, const char *host, bool may_ask, Client **ret, Error **reterr);
/* Ends the connection. Calls, jobs and watches of it have to be gone. */
Client *client_free(Client *c);
DEFINE_CLEANUP(Client *, client_free);

sd_bus *client_bus(const Client *c); /* lent */
bool client_is_user(const Client *c);
/* Whether to ask from now on; returns what held until now. */
bool client_set_may_ask(Client *c, bool may_ask);
/* Called before polkit's agent gets the terminal; NULL: nobody is. */
void client_on_ask(Client *c, void (*about_to_ask)(void *userdata), void *userdata);
/* Whom the bus takes us for: on another host that is not the user who calls. Blocks. */
int client_get_user(Client *c, uid_t *ret);

/* A call to an object of the service, to be filled with arguments. Negative errno. */
int client_new_call(Client *c, const char *path, const char *interface, const char *member,
                sd_bus_message **ret);

/* Sends a call, to the service or anybody, and blocks for its reply (ret may be NULL). When polkit wants to
 * ask somebody, the call is repeated with leave to. timeout_usec 0: the default of D-Bus. */
int client_call(Client *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                Error **reterr);
/* The same for a call whose reply is a descriptor, which is returned and the caller's. */
int client_call_fd(Client *c, sd_bus_message *call, Error **reterr);

/* All properties of an object as a tree, named as on the bus; for json_free(). Blocks. */
int client_get_all(Client *c, const char *path, const char *interface, Json **ret, Error **reterr);
/* One property, whose value is what is next in the message; or a string, which the caller frees. Both block;
 * nobody is asked for a password for so little. */
int client_get(Client *c, const char *path, const char *interface, const char *property, const char *type,
                sd_bus_message **ret, Error **reterr);
int client_get_string(Client *c, const char *path, const char *interface, const char *property, char **ret,
                Error **reterr);

/* What failed with a negative errno, without a word from the bus, as an error. Returns `r`. */
int client_error(const Client *c, int r, Error **reterr);
/* The same for what an error of the service, of that name, says. */
int client_error_named(const Client *c, const char *name, const char *message, Error **reterr);

/* Whether a signal came from the service, not from somebody who sends its likes: known by a watch, or else
 * by its last reply. */
bool client_from_service(const Client *c, sd_bus_message *m);

/* Whether it is there, by the same knowledge. */
bool client_has_service(const Client *c);

/* The service's coming and going, and the end of the connection, which is its going, too. */
typedef struct ServiceWatch ServiceWatch;

/* `changed` must not free the client. Negative errno. */
int service_watch_new(Client *c, void (*changed)(void *userdata, bool present), void *userdata,
                ServiceWatch **ret);
ServiceWatch *service_watch_free(ServiceWatch *w);
DEFINE_CLEANUP(ServiceWatch *, service_watch_free);
