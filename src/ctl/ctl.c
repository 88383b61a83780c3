/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "agent.h"
#include "ctl.h"
#include "message-json.h"
#include "term.h"

/* Somebody may have to find and type a password. */
#define INTERACTIVE_TIMEOUT_USEC (120 * USEC_PER_SEC)

/* Errors that don't come from vmctld. A name that ends in '.' stands for all that begin so. */
static const struct {
        const char *name;
        const char *message;          /* NULL: the error's own */
        const char *hint, *user_hint; /* the latter where your own service is meant; NULL: the same */
} foreign_errors[] = {
        { SD_BUS_ERROR_SERVICE_UNKNOWN, "vmctld is not running, and the bus does not know how to start it",
                        "Look at it with 'systemctl status vmctld', start it with 'systemctl start vmctld'.",
                        "Start it with 'systemctl --user start vmctld', or choose the system service with "
                        "'--system'." },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, "vmctld is not running", "Start it with 'systemctl start vmctld'.",
                        "Start it with 'systemctl --user start vmctld'." },
        { "org.freedesktop.DBus.Error.Spawn.", NULL, "'journalctl -u vmctld' tells why it does not start.",
                        "'journalctl --user -u vmctld' tells why it does not start." },
        { "org.freedesktop.systemd1.", NULL, "'systemctl status vmctld' tells why it does not start.",
                        "'systemctl --user status vmctld' tells why it does not start." },
        { SD_BUS_ERROR_NO_REPLY, "vmctld did not answer", "'journalctl -u vmctld' may tell why.",
                        "'journalctl --user -u vmctld' may tell why." },
        { SD_BUS_ERROR_TIMEOUT, "vmctld did not answer in time", "'journalctl -u vmctld' may tell why.",
                        "'journalctl --user -u vmctld' may tell why." },
        { SD_BUS_ERROR_DISCONNECTED, "The connection was lost", NULL, NULL },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED,
                        "This needs a password, and there is nobody to ask for it",
                        "Run it on a terminal, as root, or as a member of the group 'vmctl'.", NULL },
        { SD_BUS_ERROR_UNKNOWN_METHOD, NULL, "This vmctld is older than vmctl: restart it after an update.",
                        NULL },
        { SD_BUS_ERROR_UNKNOWN_INTERFACE, NULL,
                        "This vmctld is older than vmctl: restart it after an update.", NULL },
};

static bool name_matches(const char *pattern, const char *name) {
        size_t n = strlen(pattern);

        return pattern[n - 1] == '.' ? startswith(name, pattern) != NULL : streq(pattern, name);
}

static bool is_disconnect(const sd_bus_error *e, int r) {
        int number = e && sd_bus_error_is_set(e) ? sd_bus_error_get_errno(e) : -r;

        return number == ENOTCONN || number == ECONNRESET || number == EPIPE;
}

void ctl_explain(const Ctl *c, const sd_bus_error *e, int r, const char **ret_message,
                const char **ret_hint) {
        ErrorCode code;

        *ret_hint = NULL;
        if (c->host && is_disconnect(e, r)) {
                *ret_message = "The connection to the host was lost";
                *ret_hint = "'ssh HOST systemd-stdio-bridge' shows what is wrong.";
                return;
        }
        if (!e || !sd_bus_error_is_set(e)) {
                *ret_message = strerror(r < 0 ? -r : r);
                return;
        }
        *ret_message = isempty(e->message) ? e->name : e->message;
        for (size_t i = 0; i < ELEMENTSOF(foreign_errors); i++)
                if (name_matches(foreign_errors[i].name, e->name)) {
                        *ret_message = foreign_errors[i].message ?: *ret_message;
                        *ret_hint = c->bus_is_user && foreign_errors[i].user_hint
                                        ? foreign_errors[i].user_hint
                                        : foreign_errors[i].hint;
                        return;
                }
        /* What an object that isn't there says: of those that vmctl names, ctl_name_image() told the others.
         */
        if (sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT)) {
                *ret_message = "There is no such VM";
                *ret_hint = error_code_hint(ERROR_NO_SUCH_VM);
                return;
        }
        code = error_code_from_name(e->name);
        if ((int)code >= 0)
                *ret_hint = error_code_hint(code);
}

static void print_hint(const char *hint) {
        (void)fprintf(stderr, "%sHint: ", term_style(stderr, STYLE_DIM));
        term_print(stderr, hint);
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
}

static bool is_timeout(const sd_bus_error *e, int r) {
        if (e && sd_bus_error_is_set(e))
                return sd_bus_error_has_names(e, SD_BUS_ERROR_TIMEOUT, SD_BUS_ERROR_NO_REPLY,
                                "org.vmctl1.Error.Timeout", "org.vmctl1.Error.QmpTimeout",
                                "org.vmctl1.Error.GuestNotReady");
        return r == -ETIMEDOUT;
}

/* What vmctl failed to do names its object in quotes. A message that names it too is a sentence of its own,
 * which would say that for a second time. */
static bool speaks_for_itself(const char *message, const char *what) {
        const char *begin = strchr(what, '\''), *end = strrchr(what, '\'');

        return begin != end && memmem(message, strlen(message), begin, (size_t)(end - begin) + 1);
}

/* The last lines of a guest's output may be part of it. */
static void print_message(const char *message) {
        for (const char *line = message; line;) {
                size_t len = strcspn(line, "\n");
                _cleanup_free_ char *copy = strndup(line, len);

                if (copy)
                        term_print(stderr, copy);
                line = line[len] == '\n' ? line + len + 1 : NULL;
                if (line)
                        (void)fputs("\n", stderr);
        }
}

int ctl_report(Ctl *c, const sd_bus_error *e, int r, const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        const char *message, *hint;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);

        ctl_explain(c, e, r, &message, &hint);
        (void)fprintf(stderr, "%svmctl: ", term_style(stderr, STYLE_RED));
        if (!what || !speaks_for_itself(message, what)) {
                term_print(stderr, what ?: "Failed");
                (void)fputs(": ", stderr);
        }
        print_message(message);
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
        if (hint)
                print_hint(hint);
        if (is_timeout(e, r))
                return EXIT_TIMED_OUT;
        return r < 0 ? r : -EIO;
}

int ctl_complain(const char *hint, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);

        (void)fprintf(stderr, "%svmctl: ", term_style(stderr, STYLE_RED));
        term_print(stderr, message ?: strerror(ENOMEM));
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
        if (hint)
                print_hint(hint);
        return -EIO;
}

void ctl_print_warnings(Ctl *c, const char *path, const char *name) {
        _cleanup_strv_ char **warnings = NULL;

        if (sd_bus_get_property_strv(c->bus, CTL_SERVICE, path, CTL_VM, "Warnings", NULL, &warnings) < 0)
                return;
        STRV_FOREACH(w, warnings) {
                (void)fprintf(stderr, "%sWarning: ", term_style(stderr, STYLE_YELLOW));
                if (name)
                        (void)fprintf(stderr, "VM '%s': ", name);
                term_print(stderr, *w);
                (void)fprintf(stderr, "%s\n", term_normal(stderr));
        }
}

/* Whether the bus knows the service: it runs there, or would be started. */
static bool bus_has_service(sd_bus *bus) {
        _cleanup_strv_ char **activatable = NULL;

        if (sd_bus_get_name_creds(bus, CTL_SERVICE, 0, NULL) >= 0)
                return true;
        return sd_bus_list_names(bus, NULL, &activatable) >= 0 && strv_contains(activatable, CTL_SERVICE);
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

int ctl_connect(Ctl *c) {
        int r;

        if (c->bus)
                return 0;
        if (c->host)
                r = sd_bus_open_system_remote(&c->bus, c->host);
        else if (c->choice == BUS_SYSTEM)
                r = sd_bus_open_system(&c->bus);
        else if (c->choice == BUS_USER) {
                c->bus_is_user = true;
                r = sd_bus_open_user(&c->bus);
        } else
                r = open_system_or_user(&c->bus, &c->bus_is_user);
        if (r >= 0)
                return 0;
        if (c->host)
                return ctl_report(c, NULL, r, "Failed to connect to host '%s'", c->host);
        if (r == -ENOMEDIUM)
                return ctl_complain("Log in properly (su and sudo don't suffice), or use '--system'.",
                                "There is no user bus: neither DBUS_SESSION_BUS_ADDRESS nor XDG_RUNTIME_DIR "
                                "is set");
        return ctl_report(c, NULL, r, "Failed to connect to the %s bus", c->bus_is_user ? "user" : "system");
}

void ctl_done(Ctl *c) {
        agent_stop(c);
        free(c->owner);
        sd_bus_slot_unref(c->follow);
        sd_bus_flush_close_unref(c->bus);
        *c = (Ctl){};
}

char *ctl_vm_path(const char *name) {
        char *path = NULL;

        return sd_bus_path_encode(CTL_VM_PREFIX, name, &path) < 0 ? NULL : path;
}

char *ctl_image_path(const char *name) {
        char *path = NULL;

        return sd_bus_path_encode(CTL_IMAGE_PREFIX, name, &path) < 0 ? NULL : path;
}

char *ctl_vm_name(const char *path) {
        char *name = NULL;

        return sd_bus_path_decode(path, CTL_VM_PREFIX, &name) <= 0 ? NULL : name;
}

char *ctl_image_name(const char *path) {
        char *name = NULL;

        return sd_bus_path_decode(path, CTL_IMAGE_PREFIX, &name) <= 0 ? NULL : name;
}

void ctl_name_image(sd_bus_error *e, const char *name) {
        if (!sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return;
        sd_bus_error_free(e);
        (void)sd_bus_error_setf(e, error_code_name(ERROR_NO_SUCH_IMAGE), "There is no image '%s'", name);
}

int ctl_new_call(Ctl *c, const char *path, const char *interface, const char *member, sd_bus_message **ret) {
        int r = ctl_connect(c);

        if (r != 0)
                return r;
        r = sd_bus_message_new_method_call(c->bus, ret, CTL_SERVICE, path, interface, member);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to make a call") : 0;
}

int ctl_note_owner(Ctl *c, sd_bus_message *reply) {
        return free_and_strdup(&c->owner, sd_bus_message_get_sender(reply));
}

static int on_owner_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *before, *now;
        Ctl *c = userdata;
        int r;

        if (!streq_ptr(sd_bus_message_get_sender(m), "org.freedesktop.DBus") ||
                        sd_bus_message_read(m, "sss", &name, &before, &now) < 0)
                return 0;
        r = free_and_strdup(&c->owner, isempty(now) ? NULL : now);
        if (r < 0)
                return r;
        if (c->service_changed)
                c->service_changed(c->service_changed_userdata, !isempty(now));
        return 0;
}

int ctl_follow_service(Ctl *c, void (*changed)(void *userdata, bool present), void *userdata) {
        c->service_changed = changed;
        c->service_changed_userdata = userdata;
        if (c->follow || !changed)
                return 0;
        return sd_bus_add_match_async(c->bus, &c->follow,
                        "type='signal',sender='org.freedesktop.DBus',interface='org.freedesktop.DBus',"
                        "member='NameOwnerChanged',arg0='" CTL_SERVICE "'",
                        on_owner_changed, NULL, c);
}

bool ctl_from_service(const Ctl *c, sd_bus_message *m) {
        return c->owner && streq_ptr(sd_bus_message_get_sender(m), c->owner);
}

bool ctl_wants_to_ask(const Ctl *c, const sd_bus_error *e) {
        return c->ask_password && sd_bus_error_has_name(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
}

/* A message that was sent can't be changed any more. */
static int copy_call(Ctl *c, sd_bus_message *call, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
        int r;

        r = sd_bus_message_new_method_call(c->bus, &copy, sd_bus_message_get_destination(call),
                        sd_bus_message_get_path(call), sd_bus_message_get_interface(call),
                        sd_bus_message_get_member(call));
        if (r >= 0)
                r = sd_bus_message_rewind(call, true);
        if (r >= 0)
                r = sd_bus_message_copy(copy, call, true);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(copy);
        return 0;
}

static int send_call(Ctl *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_call(c->bus, call, timeout_usec, reterr, &reply);
        if (r < 0)
                return r;
        r = ctl_note_owner(c, reply);
        if (r < 0)
                return sd_bus_error_set_errno(reterr, r);
        if (ret)
                *ret = TAKE_PTR(reply);
        return 0;
}

int ctl_call_asking(Ctl *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                sd_bus_error *reterr) {
        int r;

        agent_start(c);
        r = sd_bus_message_set_allow_interactive_authorization(call, true);
        if (r < 0)
                return sd_bus_error_set_errno(reterr, r);
        return send_call(c, call, MAX(timeout_usec, INTERACTIVE_TIMEOUT_USEC), ret, reterr);
}

int ctl_call(Ctl *c, sd_bus_message *call, uint64_t timeout_usec, sd_bus_message **ret,
                sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *again = NULL;
        int r;

        r = send_call(c, call, timeout_usec, ret, reterr);
        if (r >= 0 || !ctl_wants_to_ask(c, reterr))
                return r;
        sd_bus_error_free(reterr);
        r = copy_call(c, call, &again);
        if (r < 0)
                return sd_bus_error_set_errno(reterr, r);
        return ctl_call_asking(c, again, timeout_usec, ret, reterr);
}

int ctl_call_fd(Ctl *c, sd_bus_message *call, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r, fd;

        r = ctl_call(c, call, 0, &reply, reterr);
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd); /* the reply's, which is about to go */
        if (r < 0)
                return r;
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? -errno : fd;
}

int ctl_get_user(Ctl *c, uid_t *ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *name;
        uint32_t uid;
        int r;

        r = sd_bus_get_unique_name(c->bus, &name);
        if (r >= 0)
                r = sd_bus_call_method(c->bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                "org.freedesktop.DBus", "GetConnectionUnixUser", NULL, &reply, "s", name);
        if (r >= 0)
                r = sd_bus_message_read(reply, "u", &uid);
        if (r < 0)
                return r;
        *ret = uid;
        return 0;
}

int ctl_get_all(Ctl *c, const char *path, const char *interface, Json **ret, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = sd_bus_message_new_method_call(
                        c->bus, &m, CTL_SERVICE, path, "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0)
                r = ctl_call(c, m, 0, &reply, reterr);
        if (r >= 0)
                r = message_to_json(reply, ret);
        return r;
}

int ctl_step(Ctl *c, uint64_t deadline, Progress *progress) {
        uint64_t now, until;
        int r;

        r = sd_bus_process(c->bus, NULL);
        if (r != 0)
                return r < 0 ? r : 0;
        if (progress)
                progress_update(progress);
        now = now_monotonic();
        if (now >= deadline)
                return -ETIMEDOUT;
        until = progress ? MIN(deadline, progress_next(progress)) : deadline;
        r = sd_bus_wait(c->bus, until == UINT64_MAX ? UINT64_MAX : MAX(until, now) - now);
        return r < 0 && r != -EINTR ? r : 0;
}
