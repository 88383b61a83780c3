/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "errors.h"
#include "names.h"
#include "util/string-util.h"

/* Errors that don't come from vmctld. A name that ends in '.' stands for all that begin so. */
static const struct {
        const char *name;
        ErrorCode code;
        const char *message;          /* NULL: the error's own */
        const char *hint, *user_hint; /* the latter where your own service is meant; NULL: the same */
} foreign_errors[] = {
        { SD_BUS_ERROR_SERVICE_UNKNOWN, ERROR_FAILED,
                        "vmctld is not running, and the bus does not know how to start it",
                        "Look at it with 'systemctl status vmctld', start it with 'systemctl start vmctld'.",
                        "Start it with 'systemctl --user start vmctld', or choose the system service with "
                        "'--system'." },
        { SD_BUS_ERROR_NAME_HAS_NO_OWNER, ERROR_FAILED, "vmctld is not running",
                        "Start it with 'systemctl start vmctld'.",
                        "Start it with 'systemctl --user start vmctld'." },
        { "org.freedesktop.DBus.Error.Spawn.", ERROR_FAILED, NULL,
                        "'journalctl -u vmctld' tells why it does not start.",
                        "'journalctl --user -u vmctld' tells why it does not start." },
        { "org.freedesktop.systemd1.", ERROR_FAILED, NULL,
                        "'systemctl status vmctld' tells why it does not start.",
                        "'systemctl --user status vmctld' tells why it does not start." },
        /* of a unit that is masked, whose name on the bus is an alias of it */
        { SD_BUS_ERROR_FILE_EXISTS, ERROR_FAILED, NULL,
                        "'systemctl status vmctld' tells why it does not start.",
                        "'systemctl --user status vmctld' tells why it does not start." },
        { "org.freedesktop.DBus.Error.TimedOut", ERROR_TIMEOUT, "vmctld did not start in time",
                        "'systemctl status vmctld vmctl-launch.socket' and 'journalctl -u vmctld' may tell "
                        "why.",
                        "'journalctl --user -u vmctld' may tell why." },
        { SD_BUS_ERROR_NO_REPLY, ERROR_TIMEOUT, "vmctld did not answer",
                        "'journalctl -u vmctld' may tell why.",
                        "'journalctl --user -u vmctld' may tell why." },
        { SD_BUS_ERROR_TIMEOUT, ERROR_TIMEOUT, "vmctld did not answer in time",
                        "'journalctl -u vmctld' may tell why.",
                        "'journalctl --user -u vmctld' may tell why." },
        { SD_BUS_ERROR_DISCONNECTED, ERROR_FAILED, "The connection was lost", NULL, NULL },
        { SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, ERROR_FAILED,
                        "This needs a password, and there is nobody to ask for it",
                        "Run it on a terminal, as root, or as a member of the group 'vmctl'.", NULL },
        { SD_BUS_ERROR_UNKNOWN_METHOD, ERROR_FAILED, NULL,
                        "This vmctld is older than vmctl: restart it after an update.", NULL },
        { SD_BUS_ERROR_UNKNOWN_INTERFACE, ERROR_FAILED, NULL,
                        "This vmctld is older than vmctl: restart it after an update.", NULL },
};

static bool name_matches(const char *pattern, const char *name) {
        size_t n = strlen(pattern);

        return pattern[n - 1] == '.' ? startswith(name, pattern) != NULL : streq(pattern, name);
}

static bool is_disconnect(const sd_bus_error *e, int r) {
        int number = e ? sd_bus_error_get_errno(e) : -r;

        return number == ENOTCONN || number == ECONNRESET || number == EPIPE;
}

/* An object that is not there says so by the bus's name for it. */
static int set_no_object(Error **reterr, const char *path, const sd_bus_error *e, const char *message) {
        _cleanup_free_ char *image = path ? client_image_name(path) : NULL;

        if (image)
                return error_set(reterr, ERROR_NO_SUCH_IMAGE, "There is no image '%s'", image);
        if (path && startswith(path, VMCTL_JOB_PREFIX "/"))
                return error_set(reterr, ERROR_NO_SUCH_JOB, "There is no such job");
        if (path && startswith(path, VMCTL_VM_PREFIX "/"))
                return error_set_named(reterr, ERROR_NO_SUCH_VM, e->name, error_code_hint(ERROR_NO_SUCH_VM),
                                "There is no such VM");
        return error_set_named(reterr, ERROR_FAILED, e->name, NULL, message);
}

static int set_named(Error **reterr, const ErrorSource *source, const char *path, const sd_bus_error *e) {
        const char *message = isempty(e->message) ? e->name : e->message;
        ErrorCode code;

        for (size_t i = 0; i < ELEMENTSOF(foreign_errors); i++)
                if (name_matches(foreign_errors[i].name, e->name))
                        return error_set_named(reterr, foreign_errors[i].code, e->name,
                                        source->is_user && foreign_errors[i].user_hint
                                                        ? foreign_errors[i].user_hint
                                                        : foreign_errors[i].hint,
                                        foreign_errors[i].message ?: message);
        if (sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return set_no_object(reterr, path, e, message);
        code = error_code_from_name(e->name);
        if ((int)code >= 0)
                return error_set(reterr, code, "%s", message);
        (void)error_set_named(reterr, ERROR_FAILED, e->name, NULL, message);
        return -sd_bus_error_get_errno(e);
}

int client_error_set(
                Error **reterr, const ErrorSource *source, const char *path, const sd_bus_error *e, int r) {
        ErrorCode code = r == -ENOMEM ? ERROR_NO_MEMORY : r == -ETIMEDOUT ? ERROR_TIMEOUT : ERROR_IO;

        if (e && !sd_bus_error_is_set(e))
                e = NULL;
        if (source->host && is_disconnect(e, r)) {
                (void)error_set_named(reterr, ERROR_FAILED, SD_BUS_ERROR_DISCONNECTED,
                                "'ssh HOST systemd-stdio-bridge' shows what is wrong.",
                                "The connection to the host was lost");
                return e ? -sd_bus_error_get_errno(e) : r;
        }
        if (e)
                return set_named(reterr, source, path, e);
        if (is_disconnect(NULL, r)) {
                (void)error_set_named(reterr, ERROR_FAILED, SD_BUS_ERROR_DISCONNECTED, NULL,
                                "The connection was lost");
                return r;
        }
        (void)error_set(reterr, code, "%s", strerror(-r));
        return r;
}

bool client_is_cut_off(const Error *e) {
        return error_is(e, ERROR_SERVICE_ENDING) || streq(error_name(e), SD_BUS_ERROR_NO_REPLY) ||
                        streq(error_name(e), SD_BUS_ERROR_NAME_HAS_NO_OWNER);
}
