/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Who hears of what. On the system bus signals about a VM are not broadcast: each goes to the clients that
 * may see the VM, and have called us since they connected (as every proxy does when it is made, and again
 * when our name gets a new owner). On a user's bus all are one user, and signals are broadcast as usual. */

#include <systemd/sd-bus-vtable.h>
#include <systemd/sd-bus.h>

#include "util/macro.h"

typedef struct Audience Audience;

#define AUDIENCE_EVERYBODY ((uid_t)-1) /* as owner of what all may see */

int audience_new(sd_bus *bus, bool broadcast, Audience **ret);
Audience *audience_free(Audience *a);
DEFINE_CLEANUP(Audience *, audience_free);

/* A client has called and may see the VMs of uid and, if inspect is positive, all; negative: as before. It
 * is forgotten when it leaves the bus. */
void audience_note(Audience *a, const char *client, uid_t uid, int inspect);

/* Sends a signal about something of this owner's. `signal` is complete but not sealed. */
int audience_send(Audience *a, uid_t owner, sd_bus_message *signal);

/* The standard signals about an object with one interface of ours, its properties read from the vtable.
 * `names`: a NULL-terminated list. */
int audience_properties_changed(Audience *a, uid_t owner, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object, char *const *names);
int audience_object_added(Audience *a, uid_t owner, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object);
int audience_object_removed(Audience *a, uid_t owner, const char *path, const char *interface);

/* A signal of org.vmctl1.Manager. */
int audience_manager_signal(Audience *a, uid_t owner, const char *member, const char *types, ...);
