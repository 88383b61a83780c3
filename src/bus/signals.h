/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The signals that we send, to those clients who may hear of their object (clients.h). */

#include <systemd/sd-bus-vtable.h>

#include "clients.h"

/* The standard signals about an object with one interface of ours, its properties read from the vtable.
 * `names`: a NULL-terminated list. */
int signal_properties_changed(Clients *c, const Hearers *hearers, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object, char *const *names);
int signal_object_added(Clients *c, const Hearers *hearers, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object);
int signal_object_removed(Clients *c, const Hearers *hearers, const char *path, const char *interface);

/* A signal of org.vmctl1.Manager. */
int signal_of_manager(Clients *c, const Hearers *hearers, const char *member, const char *types, ...);
