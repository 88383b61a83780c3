/* SPDX-License-Identifier: GPL-2.0-or-later */
/* enable, disable: whether vm@NAME.service is started at boot. That is systemd's business, so systemd is
 * asked, with the caller's rights; vmctld has no part in it. */

#include <stdio.h>

#include "spec/vm-spec.h"
#include "term.h"
#include "verbs.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER SYSTEMD ".Manager"

typedef struct UnitJob {
        const char *path, *sender; /* of the job, and PID 1's unique name; borrowed */
        char *result;              /* NULL: it has not ended */
} UnitJob;

static int new_call(Ctl *c, const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(
                        client_bus(c->client), ret, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, member);
}

/* What systemd says of itself is plain enough; ctl_report() would take it to be about vmctld. */
static int report(Ctl *c, const Error *e, int r, const char *what) {
        return startswith(error_name(e), SYSTEMD ".") ? ctl_complain(NULL, "%s: %s", what, error_message(e))
                                                      : ctl_report(c, e, r, "%s", what);
}

static char *unit_name(const char *vm) {
        return strf("vm@%s.service", vm);
}

static int unit_names(const Args *args, char ***ret) {
        _cleanup_strv_ char **units = NULL;
        int r;

        for (size_t i = 0; i < args->n_words; i++) {
                r = strv_push(&units, unit_name(args->words[i]));
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(units);
        return 0;
}

/* Whether a file defines it, so that it needs not be there yet. */
static bool has_file(Ctl *c, const char *name) {
        _cleanup_free_ char *unit = unit_name(name), *path = NULL, *source = NULL;

        return unit && sd_bus_path_encode(SYSTEMD_PATH "/unit", unit, &path) >= 0 &&
                        sd_bus_get_property_string(client_bus(c->client), SYSTEMD, path, SYSTEMD ".Unit",
                                        "SourcePath", NULL, &source) >= 0 &&
                        !isempty(source);
}

static int check_vm(Ctl *c, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        if (vm_name_check(name, &e) < 0) {
                ctl_complain(error_code_hint(error_code(e)), "%s", error_message(e));
                return EXIT_USAGE;
        }
        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "GetVM", &m);
        if (r != 0)
                return r;
        r = sd_bus_message_append(m, "s", name);
        if (r >= 0)
                r = client_call(c->client, m, 0, NULL, &error);
        return r >= 0 || has_file(c, name) ? 0 : ctl_report(c, error, r, "Failed to enable VM '%s'", name);
}

static int print_changes(sd_bus_message *m) {
        const char *type, *file, *source;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(sss)");
        while (r >= 0 && (r = sd_bus_message_read(m, "(sss)", &type, &file, &source)) > 0)
                if (term_is_tty(stderr))
                        (void)fprintf(stderr, isempty(source) ? "Removed %s%s.\n" : "Created %s → %s.\n",
                                        file, source);
        return r;
}

static int change_links(Ctl *c, bool enable, char **units) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_error_ Error *error = NULL;
        int r;

        r = new_call(c, enable ? "EnableUnitFiles" : "DisableUnitFiles", &m);
        if (r >= 0)
                r = sd_bus_message_append_strv(m, units);
        if (r >= 0)
                r = enable ? sd_bus_message_append(m, "bb", false, false)
                           : sd_bus_message_append(m, "b", false);
        if (r >= 0)
                r = client_call(c->client, m, 0, &reply, &error);
        if (r >= 0 && enable)
                r = sd_bus_message_skip(reply, "b");
        if (r >= 0)
                r = print_changes(reply);
        return r < 0 ? report(c, error, r, enable ? "Failed to enable" : "Failed to disable") : 0;
}

static int reload(Ctl *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        int r;

        r = new_call(c, "Reload", &m);
        if (r >= 0)
                r = client_call(c->client, m, 90 * USEC_PER_SEC, NULL, &error);
        return r < 0 ? report(c, error, r, "Failed to have systemd notice it") : 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *unit, *result;
        UnitJob *j = userdata;
        uint32_t id;

        if (!streq(sd_bus_message_get_sender(m), j->sender) ||
                        sd_bus_message_read(m, "uoss", &id, &job, &unit, &result) < 0 ||
                        !streq(job, j->path))
                return 0;
        return free_and_strdup(&j->result, result);
}

static int wait_for_job(Ctl *c, UnitJob *j, bool enable) {
        Progress progress;
        int r = 0;

        progress_begin(&progress,
                        enable ? "Waiting for the VM to be ready…" : "Waiting for the guest to shut down…");
        while (r >= 0 && !j->result)
                r = ctl_step(c, UINT64_MAX, &progress);
        progress_end(&progress);
        return r;
}

/* Signals that come before the reply are kept until we look for them. */
static int run_unit(Ctl *c, const char *name, bool enable) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        _cleanup_free_ char *unit = unit_name(name), *hint = NULL;
        UnitJob j = {};
        int r;

        if (!unit)
                return ctl_oom();
        r = sd_bus_match_signal(client_bus(c->client), &slot, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                        "JobRemoved", on_job_removed, &j);
        if (r >= 0)
                r = new_call(c, enable ? "StartUnit" : "StopUnit", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", unit, "replace");
        if (r >= 0)
                r = client_call(c->client, m, 0, &reply, &error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &j.path);
        j.sender = reply ? sd_bus_message_get_sender(reply) : NULL;
        if (r >= 0)
                r = wait_for_job(c, &j, enable);
        if (r < 0)
                return report(c, error, r, enable ? "Failed to start" : "Failed to stop");
        r = streq(j.result, "done") || streq(j.result, "skipped") ? 0 : -EIO;
        if (r < 0) {
                hint = strf("'systemctl %sstatus %s' tells why.", client_is_user(c->client) ? "--user " : "",
                                unit);
                ctl_complain(hint, "Failed to %s '%s': the job ended as '%s'", enable ? "start" : "stop",
                                unit, j.result);
        }
        free(j.result);
        return r;
}

int verb_enable(Ctl *c, const Args *args) {
        bool enable = streq(args->verb->name, "enable");
        _cleanup_strv_ char **units = NULL;
        int r, q;

        r = ctl_connect(c);
        for (size_t i = 0; r == 0 && enable && i < args->n_words; i++)
                r = check_vm(c, args->words[i]);
        if (r != 0)
                return r;
        if (unit_names(args, &units) < 0)
                return ctl_oom();
        r = change_links(c, enable, units);
        if (r == 0)
                r = reload(c);
        for (size_t i = 0; r >= 0 && args_has(args, "now") && i < args->n_words; i++) {
                q = run_unit(c, args->words[i], enable);
                r = r != 0 ? r : q;
        }
        return r;
}
