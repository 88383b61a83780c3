/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `image inspect`: all about an image of the store, or what the header of a file says. The service reads
 * that header, in the same way as when it takes the file for an image, from a descriptor that is opened
 * here. */

#include <inttypes.h>
#include <stdio.h>

#include "client/decode.h"
#include "fields.h"
#include "image-list.h"
#include "json-print.h"
#include "spec-args.h"
#include "table.h"
#include "text.h"
#include "util/fd-util.h"
#include "verbs.h"

/* A worker looks at it. */
#define INSPECT_TIMEOUT_USEC (60 * USEC_PER_SEC)

static void print_sizes(const char *name, const Json *facts, const char *virtual_key, const char *size_key,
                const char *allocated_key) {
        term_label(name);
        fields_print_size("", fields_number(facts, virtual_key));
        fields_print_size(" virtual, file ", fields_number(facts, size_key));
        fields_print_size(", on disk ", fields_number(facts, allocated_key));
        putchar('\n');
}

static void print_users(char *const *users) {
        const char *before = "";

        if (strv_length(users) == 0)
                return;
        term_label("VMs");
        STRV_FOREACH(user, users) {
                printf("%s", before);
                term_print(stdout, *user);
                before = ", ";
        }
        putchar('\n');
}

static void print_image(const Ctl *c, const Json *image, char *const *users) {
        const char *source = fields_string(image, "SourceFormat");

        printf("%s● %s", term_style(stdout, STYLE_GREEN), term_normal(stdout));
        term_print(stdout, fields_string(image, "Name"));
        putchar('\n');
        term_label("Format");
        fields_print_word("", image, "Format");
        if (!streq(source, fields_string(image, "Format")))
                fields_print_word(", was ", image, "SourceFormat");
        putchar('\n');
        print_sizes("Size", image, "VirtualSize", "Size", "Allocated");
        fields_print_owner(c, image);
        term_label("Access");
        puts(json_get_boolean(image, "Shared") > 0 ? "shared with everybody on the host" : "private");
        fields_print("Source", image, "URL");
        fields_print("SHA-256", image, "SHA256");
        fields_print("fs-verity", image, "ContentDigest");
        fields_print("UUID", image, "UUID");
        fields_print_time("Created", image, "Created");
        fields_print_time("Last used", image, "LastUsed");
        print_users(users);
}

static int add_snapshot(Table *t, const Json *s) {
        _cleanup_free_ char *when = text_timestamp(fields_number(s, "created")),
                            *state = text_size(fields_number(s, "vm-state-size"));
        int r;

        if (!when || !state)
                return -ENOMEM;
        r = table_add(t, fields_string(s, "id"), STYLE_NONE);
        if (r >= 0)
                r = table_add(t, fields_string(s, "name"), STYLE_NONE);
        if (r >= 0)
                r = table_add(t, when, STYLE_NONE);
        return r < 0 ? r : table_add(t, state, STYLE_NONE);
}

static int print_snapshots(const Json *list) {
        static const Column columns[] = {
                { "SNAPSHOT" },
                { "NAME", .shrink = true },
                { "CREATED" },
                { "VM STATE", .right = true },
        };
        _cleanup_(table_freep) Table *t = NULL;

        if (json_length(list) == 0)
                return 0;
        t = table_new(columns, ELEMENTSOF(columns), json_length(list));
        if (!t)
                return ctl_oom();
        for (size_t i = 0; i < json_length(list); i++)
                if (add_snapshot(t, json_element(list, i)) < 0)
                        return ctl_oom();
        putchar('\n');
        table_print(t, stdout, term_columns());
        return 0;
}

static void print_flags(const Json *facts) {
        static const char *const flags[] = { "encrypted", "dirty", "corrupt" };
        const char *before = "";

        for (size_t i = 0; i < ELEMENTSOF(flags); i++) {
                if (json_get_boolean(facts, flags[i]) <= 0)
                        continue;
                if (!*before)
                        term_label("State");
                printf("%s%s", before, flags[i]);
                before = ", ";
        }
        if (*before)
                putchar('\n');
}

static int print_facts(const char *path, const Json *facts) {
        const char *refused = fields_string(facts, "refused");

        printf("%s● %s", term_style(stdout, *refused ? STYLE_RED : STYLE_GREEN), term_normal(stdout));
        term_print(stdout, path);
        putchar('\n');
        fields_print("Format", facts, "format");
        print_sizes("Size", facts, "virtual-size", "size", "allocated");
        fields_print("Compat", facts, "compat");
        if (fields_number(facts, "cluster-size") > 0) {
                term_label("Clusters");
                fields_print_size("", fields_number(facts, "cluster-size"));
                putchar('\n');
        }
        fields_print("Compressed", facts, "compression");
        print_flags(facts);
        fields_print("Backing", facts, "backing-file");
        fields_print("... is", facts, "backing-format");
        fields_print("Data file", facts, "data-file");
        fields_print("Refused", facts, "refused");
        return print_snapshots(json_get(facts, "snapshots"));
}

static int print_json(const Json *v) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_value(w, v);
        return json_print(w);
}

static int call_inspect(Ctl *c, int fd, Json **ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = client_new_call(c->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "InspectImage", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "ha{sv}", fd, 0);
        if (r >= 0)
                r = client_call(c->client, m, INSPECT_TIMEOUT_USEC, &reply, reterr);
        return r < 0 ? r : client_decode(reply, ret);
}

static int inspect_file(Ctl *c, const char *path) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = -EBADF;
        _cleanup_json_ Json *facts = NULL;
        int r;

        if (c->host)
                return ctl_complain("Run vmctl there: 'ssh HOST vmctl image inspect ...'.",
                                "Failed to inspect '%s': files cannot be handed to another host", path);
        r = spec_open_file(path, &fd, &e);
        if (r < 0)
                return ctl_complain(NULL, "Failed to inspect '%s': %s", path, error_message(e));
        r = call_inspect(c, fd, &facts, &error);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to inspect '%s'", path);
        return c->json ? print_json(facts) : print_facts(path, facts);
}

/* As in `image list`, where there is more of it. */
static int print_image_json(const Json *image, char *const *users) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_object(w);
        for (size_t i = 0; i < json_length(image); i++) {
                json_write_key(w, json_key(image, i));
                json_write_value(w, json_member(image, i));
        }
        json_write_key(w, "Users");
        json_write_array(w);
        STRV_FOREACH(user, users)
                json_write_string(w, *user);
        json_write_end(w);
        json_write_end(w);
        return json_print(w);
}

/* Its users are no property: they change without it. */
static int show_image(Ctl *c, const Json *image) {
        _cleanup_(image_list_done) ImageList l = {};
        char **users = NULL;
        int r;

        r = image_list_fetch(c, &l);
        if (r != 0)
                return r;
        for (size_t i = 0; i < l.n; i++)
                if (streq(l.images[i].name, fields_string(image, "Name")))
                        users = l.images[i].users;
        if (c->json)
                return print_image_json(image, users);
        print_image(c, image, users);
        return 0;
}

static int neither(const char *name) {
        return ctl_complain(error_code_hint(ERROR_NO_SUCH_IMAGE),
                        "There is neither an image nor a file '%s'", name);
}

int verb_image_inspect(Ctl *c, const Args *args) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_image_path(args->words[0]);
        const char *name = args->words[0];
        _cleanup_json_ Json *image = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_connect(c);
        if (r != 0)
                return r;
        if (strchr(name, '/'))
                return inspect_file(c, name);
        r = client_get_all(c->client, path, VMCTL_IMAGE, &image, &error);
        if (r >= 0)
                return show_image(c, image);
        if (!error_is(error, ERROR_NO_SUCH_IMAGE))
                return ctl_report(c, error, r, "Failed to inspect image '%s'", name);
        return spec_image_kind(name) == IMAGE_FILE ? inspect_file(c, name) : neither(name);
}
