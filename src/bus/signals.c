/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>

#include "core/bus-paths.h"
#include "signals.h"
#include "util/string-util.h"

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

int signal_properties_changed(Clients *c, const Hearers *hearers, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object, char *const *names) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(
                        clients_bus(c), &m, path, "org.freedesktop.DBus.Properties", "PropertiesChanged");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0)
                r = append_properties(m, interface, vtable, object, names);
        if (r >= 0)
                r = sd_bus_message_append(m, "as", 0);
        return r < 0 ? r : clients_send(c, hearers, m);
}

static const char *const standard_interfaces[] = { "org.freedesktop.DBus.Peer",
        "org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Properties" };

int signal_object_added(Clients *c, const Hearers *hearers, const char *path, const char *interface,
                const sd_bus_vtable *vtable, void *object) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(clients_bus(c), &m, BUS_PATH_MANAGER,
                        "org.freedesktop.DBus.ObjectManager", "InterfacesAdded");
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
        return r < 0 ? r : clients_send(c, hearers, m);
}

int signal_object_removed(Clients *c, const Hearers *hearers, const char *path, const char *interface) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = sd_bus_message_new_signal(clients_bus(c), &m, BUS_PATH_MANAGER,
                        "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved");
        if (r >= 0)
                r = sd_bus_message_append(m, "oas", path, 4, standard_interfaces[0], standard_interfaces[1],
                                standard_interfaces[2], interface);
        return r < 0 ? r : clients_send(c, hearers, m);
}

int signal_of_manager(Clients *c, const Hearers *hearers, const char *member, const char *types, ...) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = sd_bus_message_new_signal(clients_bus(c), &m, BUS_PATH_MANAGER, "org.vmctl1.Manager", member);
        if (r < 0)
                return r;
        va_start(ap, types);
        r = sd_bus_message_appendv(m, types, ap);
        va_end(ap);
        return r < 0 ? r : clients_send(c, hearers, m);
}
