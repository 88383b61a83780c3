/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <unistd.h>

#include "client-private.h"
#include "decode.h"
#include "util/string-util.h"

#define DBUS_SERVICE "org.freedesktop.DBus"
#define DBUS_LOCAL DBUS_SERVICE ".Local"

/* Whether the bus knows the service: it runs there, or would be started. */
static bool bus_has_service(sd_bus *bus) {
        _cleanup_strv_ char **activatable = NULL;

        if (sd_bus_get_name_creds(bus, VMCTL_SERVICE, 0, NULL) >= 0)
                return true;
        return sd_bus_list_names(bus, NULL, &activatable) >= 0 && strv_contains(activatable, VMCTL_SERVICE);
}

static int open_system_or_user(sd_bus **ret, bool *ret_user) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *system = NULL;
        int r;

        r = sd_bus_open_system(&system);
        if (r >= 0 && (geteuid() == 0 || bus_has_service(system))) {
                *ret = TAKE_PTR(system);
                return 0;
        }
        if (geteuid() == 0)
                return r;
        *ret_user = true;
        return sd_bus_open_user(ret);
}

static int connect_bus(Client *c, ClientBus bus) {
        if (c->host)
                return sd_bus_open_system_remote(&c->bus, c->host);
        if (bus == CLIENT_BUS_SYSTEM)
                return sd_bus_open_system(&c->bus);
        if (bus == CLIENT_BUS_AUTO)
                return open_system_or_user(&c->bus, &c->is_user);
        c->is_user = true;
        return sd_bus_open_user(&c->bus);
}

static int connect_failed(const Client *c, int r, Error **reterr) {
        _cleanup_free_ char *message = NULL;
        _cleanup_error_ Error *e = NULL;

        if (!c->host && r == -ENOMEDIUM)
                return error_set_named(reterr, ERROR_FAILED, error_code_name(ERROR_FAILED),
                                "Log in properly (su and sudo don't suffice), or use '--system'.",
                                "There is no user bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR "
                                "is set");
        r = client_error(c, r, &e);
        message = c->host ? strf("Failed to connect to host '%s': %s", c->host, error_message(e))
                          : strf("Failed to connect to the %s bus: %s", c->is_user ? "user" : "system",
                                            error_message(e));
        (void)error_set_named(
                        reterr, error_code(e), error_name(e), error_hint(e), message ?: "Out of memory");
        return r;
}

int client_new(ClientBus bus, const char *host, bool may_ask, Client **ret, Error **reterr) {
        _cleanup_(client_freep) Client *c = malloc(sizeof(Client));
        int r;

        if (!c)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        *c = (Client){ .may_ask = may_ask, .host = host ? strdup(host) : NULL };
        if (host && !c->host)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        r = connect_bus(c, bus);
        if (r < 0)
                return connect_failed(c, r, reterr);
        *ret = TAKE_PTR(c);
        return 0;
}

Client *client_free(Client *c) {
        if (!c)
                return NULL;
        assert(!c->calls);
        agent_stop(&c->agent);
        sd_bus_flush_close_unref(c->bus);
        free(c->owner);
        free(c->host);
        free(c);
        return NULL;
}

sd_bus *client_bus(const Client *c) {
        return c->bus;
}

bool client_is_user(const Client *c) {
        return c->is_user;
}

bool client_set_may_ask(Client *c, bool may_ask) {
        bool before = c->may_ask;

        c->may_ask = may_ask;
        return before;
}

void client_on_ask(Client *c, void (*about_to_ask)(void *userdata), void *userdata) {
        c->about_to_ask = about_to_ask;
        c->about_to_ask_userdata = userdata;
}

int client_get_user(Client *c, uid_t *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *name;
        uint32_t uid;
        int r;

        r = sd_bus_get_unique_name(c->bus, &name);
        if (r >= 0)
                r = sd_bus_call_method(c->bus, DBUS_SERVICE, "/org/freedesktop/DBus", DBUS_SERVICE,
                                "GetConnectionUnixUser", NULL, &reply, "s", name);
        if (r >= 0)
                r = sd_bus_message_read(reply, "u", &uid);
        if (r < 0)
                return r;
        *ret = uid;
        return 0;
}

/*
 * Errors
 */

static ErrorSource source_of(const Client *c) {
        return (ErrorSource){ .host = c->host, .is_user = c->is_user };
}

int client_call_error(const Client *c, sd_bus_message *call, const sd_bus_error *e, int r, Error **reterr) {
        const ErrorSource source = source_of(c);

        return client_error_set(reterr, &source, sd_bus_message_get_path(call), e, r);
}

int client_error(const Client *c, int r, Error **reterr) {
        const ErrorSource source = source_of(c);

        return client_error_set(reterr, &source, NULL, NULL, r);
}

int client_error_named(const Client *c, const char *name, const char *message, Error **reterr) {
        const sd_bus_error e = SD_BUS_ERROR_MAKE_CONST(name, message);
        const ErrorSource source = source_of(c);

        return client_error_set(reterr, &source, NULL, &e, 0);
}

/*
 * Calls that block
 */

bool client_wants_to_ask(const Client *c, const sd_bus_error *e) {
        return c->may_ask && sd_bus_error_has_name(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

/* A message that was sent can't be changed any more. */
int client_copy_asking(Client *c, sd_bus_message *call, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
        int r;

        if (c->about_to_ask)
                c->about_to_ask(c->about_to_ask_userdata);
        if (!c->is_user && !c->host)
                agent_start(&c->agent);
        r = sd_bus_message_new_method_call(c->bus, &copy, sd_bus_message_get_destination(call),
                        sd_bus_message_get_path(call), sd_bus_message_get_interface(call),
                        sd_bus_message_get_member(call));
        if (r >= 0)
                r = sd_bus_message_rewind(call, true);
        if (r >= 0)
                r = sd_bus_message_copy(copy, call, true);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(copy, true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(copy);
        return 0;
}

int client_new_call(Client *c, const char *path, const char *interface, const char *member,
                sd_bus_message **ret) {
        return sd_bus_message_new_method_call(c->bus, ret, VMCTL_SERVICE, path, interface, member);
}

int client_note_owner(Client *c, sd_bus_message *call, sd_bus_message *reply) {
        if (!streq_ptr(sd_bus_message_get_destination(call), VMCTL_SERVICE))
                return 0;
        return free_and_strdup(&c->owner, sd_bus_message_get_sender(reply));
}

static int call_and_wait(Client *c, sd_bus_message *call, uint64_t timeout_usec, bool may_ask,
                sd_bus_message **ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *again = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = sd_bus_call(c->bus, call, timeout_usec, &error, &reply);
        if (r < 0 && may_ask && client_wants_to_ask(c, &error)) {
                sd_bus_error_free(&error);
                r = client_copy_asking(c, call, &again);
                if (r >= 0)
                        r = sd_bus_call(c->bus, again, MAX(timeout_usec, CLIENT_ASK_USEC), &error, &reply);
        }
        if (r >= 0)
                r = client_note_owner(c, call, reply);
        if (r < 0)
                return client_call_error(c, call, &error, r, reterr);
        if (ret)
                *ret = TAKE_PTR(reply);
        return 0;
}

int client_call(Client *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                Error **reterr) {
        return call_and_wait(c, call, timeout_usec, true, ret, reterr);
}

int client_call_fd(Client *c, sd_bus_message *call, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r, fd;

        r = client_call(c, call, 0, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "h", &fd); /* the reply's, which is about to go */
        if (r < 0)
                return client_error(c, r, reterr);
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? client_error(c, -errno, reterr) : fd;
}

int client_get_all(Client *c, const char *path, const char *interface, Json **ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = client_new_call(c, path, DBUS_PROPERTIES, "GetAll", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r < 0)
                return client_error(c, r, reterr);
        r = client_call(c, m, 0, &reply, reterr);
        if (r < 0)
                return r;
        r = client_decode(reply, ret);
        return r < 0 ? client_error(c, r, reterr) : 0;
}

int client_get(Client *c, const char *path, const char *interface, const char *property, const char *type,
                sd_bus_message **ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = client_new_call(c, path, DBUS_PROPERTIES, "Get", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", interface, property);
        if (r < 0)
                return client_error(c, r, reterr);
        r = call_and_wait(c, m, 0, false, &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_enter_container(reply, 'v', type);
        if (r < 0)
                return client_error(c, r, reterr);
        *ret = TAKE_PTR(reply);
        return 0;
}

int client_get_string(Client *c, const char *path, const char *interface, const char *property, char **ret,
                Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *s;
        char *copy;
        int r;

        r = client_get(c, path, interface, property, "s", &reply, reterr);
        if (r < 0)
                return r;
        r = sd_bus_message_read(reply, "s", &s);
        copy = r < 0 ? NULL : strdup(s);
        if (!copy)
                return client_error(c, r < 0 ? r : -ENOMEM, reterr);
        *ret = copy;
        return 0;
}

/*
 * The service's coming and going
 */

struct ServiceWatch {
        Client *client;
        void (*changed)(void *userdata, bool present);
        void *userdata;
        sd_bus_slot *owner, *disconnected, *asked;
};

bool client_from_service(const Client *c, sd_bus_message *m) {
        return c->owner && streq_ptr(sd_bus_message_get_sender(m), c->owner);
}

bool client_has_service(const Client *c) {
        return c->owner;
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *before, *now;
        ServiceWatch *w = userdata;
        int r;

        if (!streq_ptr(sd_bus_message_get_sender(m), DBUS_SERVICE) ||
                        sd_bus_message_read(m, "sss", &name, &before, &now) < 0)
                return 0;
        r = free_and_strdup(&w->client->owner, isempty(now) ? NULL : now);
        if (r < 0)
                return r;
        w->changed(w->userdata, !isempty(now));
        return 0;
}

/* Who it was when we began to look out: the bus answers before it passes on what the service sends after
 * that.
 */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        ServiceWatch *w = userdata;
        const char *owner;

        if (sd_bus_message_is_method_error(m, NULL) || sd_bus_message_read(m, "s", &owner) < 0)
                return 0;
        return free_and_strdup(&w->client->owner, owner);
}

/* sd-bus itself tells this, when all calls have had their errors. */
static int on_disconnected(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        ServiceWatch *w = userdata;

        w->changed(w->userdata, false);
        return 0;
}

int service_watch_new(Client *c, void (*changed)(void *userdata, bool present), void *userdata,
                ServiceWatch **ret) {
        _cleanup_(service_watch_freep) ServiceWatch *w = malloc(sizeof(ServiceWatch));
        int r;

        if (!w)
                return -ENOMEM;
        *w = (ServiceWatch){ .client = c, .changed = changed, .userdata = userdata };
        r = sd_bus_add_match_async(c->bus, &w->owner,
                        "type='signal',sender='" DBUS_SERVICE "',interface='" DBUS_SERVICE
                        "',member='NameOwnerChanged',arg0='" VMCTL_SERVICE "'",
                        on_owner_changed, NULL, w);
        if (r >= 0)
                r = sd_bus_match_signal(c->bus, &w->disconnected, DBUS_LOCAL, "/org/freedesktop/DBus/Local",
                                DBUS_LOCAL, "Disconnected", on_disconnected, w);
        if (r >= 0)
                r = sd_bus_call_method_async(c->bus, &w->asked, DBUS_SERVICE, "/org/freedesktop/DBus",
                                DBUS_SERVICE, "GetNameOwner", on_owner, w, "s", VMCTL_SERVICE);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(w);
        return 0;
}

ServiceWatch *service_watch_free(ServiceWatch *w) {
        if (!w)
                return NULL;
        sd_bus_slot_unref(w->owner);
        sd_bus_slot_unref(w->disconnected);
        sd_bus_slot_unref(w->asked);
        free(w);
        return NULL;
}
