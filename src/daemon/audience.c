/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>

#include "audience.h"
#include "bus-paths.h"
#include "util/log.h"
#include "util/string-util.h"

#define CLIENTS_MAX 4096 /* more than a bus takes connections; whoever comes later hears nothing */

typedef struct Client {
        Audience *audience;
        char *name; /* unique, as ":1.42" */
        uid_t uid;
        bool inspect;
        sd_bus_slot *leaving;
} Client;

struct Audience {
        sd_bus *bus; /* borrowed */
        bool broadcast;
        Client **clients; /* owned */
        size_t n;
};

static void client_free(Client *c) {
        sd_bus_slot_unref(c->leaving);
        free(c->name);
        free(c);
}

int audience_new(sd_bus *bus, bool broadcast, Audience **ret) {
        Audience *a = malloc(sizeof(Audience));

        if (!a)
                return -ENOMEM;
        *a = (Audience){ .bus = bus, .broadcast = broadcast };
        *ret = a;
        return 0;
}

Audience *audience_free(Audience *a) {
        if (!a)
                return NULL;
        for (size_t i = 0; i < a->n; i++)
                client_free(a->clients[i]);
        free(a->clients);
        free(a);
        return NULL;
}

static int on_leaving(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Client *c = userdata;
        Audience *a = c->audience;

        for (size_t i = 0; i < a->n; i++)
                if (a->clients[i] == c) {
                        a->clients[i] = a->clients[--a->n];
                        client_free(c);
                        break;
                }
        return 0;
}

static Client *find(const Audience *a, const char *name) {
        for (size_t i = 0; i < a->n; i++)
                if (streq(a->clients[i]->name, name))
                        return a->clients[i];
        return NULL;
}

static int watch(Client *c) {
        _cleanup_free_ char *match = strf(
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='%s',arg2=''",
                        c->name);

        return match ? sd_bus_add_match_async(c->audience->bus, &c->leaving, match, on_leaving, NULL, c)
                     : -ENOMEM;
}

static Client *add(Audience *a, const char *name) {
        Client *c, **grown;

        if (a->n >= CLIENTS_MAX)
                return NULL;
        grown = reallocarray(a->clients, a->n + 1, sizeof(Client *));
        if (!grown)
                return NULL;
        a->clients = grown;
        c = malloc(sizeof(Client));
        if (!c)
                return NULL;
        *c = (Client){ .audience = a, .name = strdup(name) };
        if (!c->name || watch(c) < 0) {
                client_free(c);
                return NULL;
        }
        a->clients[a->n++] = c;
        return c;
}

void audience_note(Audience *a, const char *client, uid_t uid, int inspect) {
        Client *c;

        if (a->broadcast || !client)
                return;
        c = find(a, client) ?: add(a, client);
        if (!c) {
                log_debug("Client '%s' will hear no signals: there are too many", client);
                return;
        }
        c->uid = uid;
        if (inspect >= 0)
                c->inspect = inspect > 0;
}

static int send_copy(const Audience *a, const Client *c, sd_bus_message *signal) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
        int r;

        r = sd_bus_message_rewind(signal, true);
        if (r >= 0)
                r = sd_bus_message_new_signal(a->bus, &copy, sd_bus_message_get_path(signal),
                                sd_bus_message_get_interface(signal), sd_bus_message_get_member(signal));
        if (r >= 0)
                r = sd_bus_message_copy(copy, signal, true);
        return r < 0 ? r : sd_bus_send_to(a->bus, copy, c->name, NULL);
}

int audience_send(Audience *a, uid_t owner, sd_bus_message *signal) {
        int r;

        if (a->broadcast)
                return sd_bus_send(a->bus, signal, NULL);
        /* Sealed, so that it can be read; it is never sent itself, so the cookie is nobody's. */
        r = sd_bus_message_seal(signal, 1, 0);
        for (size_t i = 0; r >= 0 && i < a->n; i++) {
                const Client *c = a->clients[i];

                if (c->uid == 0 || c->uid == owner || owner == AUDIENCE_EVERYBODY || c->inspect)
                        r = send_copy(a, c, signal);
        }
        return r;
}

/* As sd-bus does it for a property without a getter: the field is of the D-Bus type. */
static int append_field(sd_bus_message *m, const char *type, const void *field) {
        if (streq(type, "s"))
                field = *(char *const *)field ?: "";
        return sd_bus_message_append_basic(m, type[0], field);
}

static int append_property(sd_bus_message *m, const char *interface, const sd_bus_vtable *v, void *object) {
        const char *type = v->x.property.signature;
        void *field = (uint8_t *)object + v->x.property.offset;
        sd_bus *bus = sd_bus_message_get_bus(m);
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", v->x.property.member);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', type);
        if (r >= 0)
                r = v->x.property.get ? v->x.property.get(bus, NULL, interface, v->x.property.member, m,
                                                        field, NULL)
                                      : append_field(m, type, field);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

/* names NULL: all. */
static int append_properties(sd_bus_message *m, const char *interface, const sd_bus_vtable *vtable,
                void *object, char *const *names) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        for (const sd_bus_vtable *v = vtable; r >= 0 && v->type != _SD_BUS_VTABLE_END; v++)
                if (v->type == _SD_BUS_VTABLE_PROPERTY &&
                                (!names || strv_contains(names, v->x.property.member)))
                        r = append_property(m, interface, v, object);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int audience_properties_changed(Audience *a, uid_t owner, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object, char *const *names) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(
                        a->bus, &m, path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0)
                r = append_properties(m, interface, vtable, object, names);
        if (r >= 0)
                r = sd_bus_message_append(m, "as", 0);
        return r < 0 ? r : audience_send(a, owner, m);
}

static const char *const standard_interfaces[] = { "org.freedesktop.DBus.Peer",
        "org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Properties" };

int audience_object_added(Audience *a, uid_t owner, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(a->bus, &m, BUS_PATH_MANAGER, "org.freedesktop.DBus.ObjectManager",
                        "InterfacesAdded");
        if (r >= 0)
                r = sd_bus_message_append(m, "o", path);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sa{sv}}");
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(standard_interfaces); i++)
                r = sd_bus_message_append(m, "{sa{sv}}", standard_interfaces[i], 0);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sa{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0)
                r = append_properties(m, interface, vtable, object, NULL);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : audience_send(a, owner, m);
}

int audience_object_removed(Audience *a, uid_t owner, const char *path, const char *interface) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(a->bus, &m, BUS_PATH_MANAGER, "org.freedesktop.DBus.ObjectManager",
                        "InterfacesRemoved");
        if (r >= 0)
                r = sd_bus_message_append(m, "oas", path, 4, standard_interfaces[0], standard_interfaces[1],
                                standard_interfaces[2], interface);
        return r < 0 ? r : audience_send(a, owner, m);
}

int audience_manager_signal(Audience *a, uid_t owner, const char *member, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = sd_bus_message_new_signal(a->bus, &m, BUS_PATH_MANAGER, "org.vmctl1.Manager", member);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
        return r < 0 ? r : audience_send(a, owner, m);
}
