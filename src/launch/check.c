/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "host/passt.h"
#include "launch.h"
#include "spec/name.h"
#include "util/log.h"

/* Whole, with what they end in: getopt_long() would take "--u" for "--uid". What the shim is to be, and
 * which devices it has, is said by us. */
static const char *const shim_table[] = {
        "--console-log-max=",
        "--console-log-old=",
        "--console-log=",
        "--control=",
        "--exit-record=",
        "--file=",
        "--helper-arg=",
        "--helper-fd=",
        "--helper=" PASST_PATH,
        "--listen-console=",
        "--listen-log=",
        "--owner=",
        "--pass=",
        "--private-network",
        "--qemu-log-max=",
        "--qemu-log=",
        "--serial=",
        NULL,
};
static const char *const reader_table[] = { "--console-log-old=", "--console-log=", "--tail=", NULL };

static int refuse(const char *what, const char *value) {
        _cleanup_free_ char *shown = string_escape(value, strlen(value), 256);

        log_error("vmctld asks for %s that it has no business with: %s", what, shown ?: "");
        return -EPERM;
}

int check_unit(const char *unit) {
        const char *rest = startswith(unit, "vmctl-");
        size_t n = rest ? strlen(rest) : 0;
        _cleanup_free_ char *name = NULL;

        if (n <= strlen(".scope") || !streq(rest + n - strlen(".scope"), ".scope"))
                return refuse("a unit", unit);
        name = strndup(rest, n - strlen(".scope"));
        if (!name)
                return -ENOMEM;
        return vm_name_is_valid(name) ? 0 : refuse("a unit", unit);
}

int check_uid(const Config *c, uid_t uid) {
        char text[16];

        if (c->uid_count == 0 ? uid == 0 : config_has_uid(c, uid))
                return 0;
        (void)snprintf(text, sizeof(text), "%u", (unsigned)uid);
        return refuse("a user ID", text);
}

int check_timeout(uint64_t usec) {
        char text[32];

        if (usec <= CONFIG_STOP_TIMEOUT_MAX + 60 * USEC_PER_SEC)
                return 0;
        (void)snprintf(text, sizeof(text), "%" PRIu64 " us", usec);
        return refuse("a time", text);
}

static bool is_listed(const char *const *table, const char *option) {
        for (; *table; table++)
                if ((*table)[strlen(*table) - 1] == '=' ? startswith(option, *table) != NULL
                                                        : streq(option, *table))
                        return true;
        return false;
}

static int check_shim(const Config *c, char *const *options) {
        char *const *o = options;

        for (; o && *o && !streq(*o, "--"); o++)
                if (!is_listed(shim_table, *o))
                        return refuse("an option", *o);
        if (!o || !*o || !o[1])
                return refuse("a program", "none");
        return streq(o[1], c->qemu) ? 0 : refuse("a program", o[1]);
}

int check_options(const Config *c, LaunchProgram program, char *const *options) {
        if (program == LAUNCH_SHIM)
                return check_shim(c, options);
        STRV_FOREACH(o, options)
                if (program == LAUNCH_READER ? !is_listed(reader_table, *o)
                                             : streq(*o, "--uid") || streq(*o, "--gid"))
                        return refuse("an option", *o);
        return 0;
}

int check_environment(char *const *environment) {
        STRV_FOREACH(e, environment) {
                size_t i = 0, n = strcspn(*e, "=");

                while (launch_environment[i] &&
                                (strlen(launch_environment[i]) != n ||
                                                !startswith(*e, launch_environment[i])))
                        i++;
                if (!launch_environment[i])
                        return refuse("a variable", *e);
        }
        return 0;
}
