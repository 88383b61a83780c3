/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "broken.h"

static const char *title(const BrokenRecord *b) {
        return streq(b->kind, "vm") ? "VM" : b->kind;
}

static int read_records(BrokenList *l, const char *kind) {
        BrokenRecord b;
        int r;

        r = sd_bus_message_enter_container(l->reply, 'a', "(ssss)");
        while (r >= 0 &&
                        (r = sd_bus_message_read(l->reply, "(ssss)", &b.kind, &b.name, &b.path, &b.reason)) >
                                        0) {
                BrokenRecord *grown;

                if (kind && !streq(kind, b.kind))
                        continue;
                grown = reallocarray(l->records, l->n + 1, sizeof(BrokenRecord));
                if (!grown)
                        return -ENOMEM;
                l->records = grown;
                l->records[l->n++] = b;
        }
        return r;
}

int broken_list_fetch(Ctl *c, const char *kind, BrokenList *ret) {
        _cleanup_error_ Error *error = NULL;
        int r;

        r = client_get(c->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "BrokenRecords", "a(ssss)", &ret->reply,
                        &error);
        if (streq(error_name(error), SD_BUS_ERROR_UNKNOWN_PROPERTY)) /* another host's older service */
                return 0;
        if (r >= 0)
                r = read_records(ret, kind);
        return r < 0 ? ctl_report(c, error, r, "Failed to ask what is broken") : 0;
}

void broken_list_done(BrokenList *l) {
        free(l->records);
        sd_bus_message_unref(l->reply);
        *l = (BrokenList){};
}

const BrokenRecord *broken_list_find(const BrokenList *l, const char *name) {
        for (size_t i = 0; i < l->n; i++)
                if (streq(l->records[i].name, name))
                        return &l->records[i];
        return NULL;
}

int broken_new_removal(Ctl *c, const char *kind, const char *name, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        int r;

        r = client_new_call(c->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "RemoveBrokenRecord", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ss", kind, name);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

bool broken_is_none(const Error *e) {
        return error_is(e, ERROR_NO_SUCH_VM) || error_is(e, ERROR_NO_SUCH_IMAGE) ||
                        streq(error_name(e), SD_BUS_ERROR_UNKNOWN_METHOD);
}

/* Who restores files, or edits one, as root leaves them to root. Nothing of that is a reason to remove them;
 * the reason ends as the kernel says it. */
const char *broken_hint(const Ctl *c, const BrokenRecord *b) {
        if (endswith(b->reason, strerror(EACCES)))
                return client_is_user(c->client)
                                ? "Make the file yours again, then 'systemctl --user restart vmctld'."
                                : "Give it back to the service: 'chown -R vmctld:vmctld /var/lib/vmctl', "
                                  "then "
                                  "'systemctl restart vmctld'.";
        return streq(b->kind, "vm")
                        ? "If it can be mended, restart vmctld then; 'vmctl destroy' removes it with all "
                          "its files."
                        : "If it can be mended, restart vmctld then; 'vmctl image remove' removes it with "
                          "all its files.";
}

void broken_complain(const Ctl *c, const BrokenRecord *b) {
        (void)ctl_complain(
                        broken_hint(c, b), "Broken %s '%s': %s: %s", title(b), b->name, b->path, b->reason);
}

void broken_write(JsonWriter *w, const BrokenRecord *b) {
        json_write_object(w);
        json_put_string(w, "Kind", b->kind);
        json_put_string(w, "Name", b->name);
        json_put_string(w, "State", "broken");
        json_put_string(w, "FailureMessage", b->reason);
        json_put_string(w, "Path", b->path);
        json_write_end(w);
}
