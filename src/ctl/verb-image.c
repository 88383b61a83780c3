/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that look at images or change what is known of them: list, remove, share, unshare, rename, prune. */

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "broken.h"
#include "image-list.h"
#include "json-print.h"
#include "table.h"
#include "text.h"
#include "verbs.h"

/* Of files of some GiB; the service does it with the file system's help. */
#define REMOVE_TIMEOUT_USEC (60 * USEC_PER_SEC)

#define UNUSED_DEFAULT_USEC (UINT64_C(30) * 24 * 3600 * USEC_PER_SEC)

/*
 * list
 */

static int add_size(Table *t, uint64_t bytes) {
        _cleanup_free_ char *text = text_size(bytes);

        return text ? table_add(t, text, STYLE_NONE) : -ENOMEM;
}

static int add_ago(Table *t, uint64_t usec) {
        uint64_t now = now_realtime();
        _cleanup_free_ char *ago = NULL, *text = NULL;

        if (usec == 0)
                return table_add(t, NULL, STYLE_NONE);
        if (now < usec + USEC_PER_SEC)
                return table_add(t, "now", STYLE_NONE);
        ago = text_duration(now - usec);
        text = ago ? strf("%.*s ago", (int)strcspn(ago, " "), ago) : NULL;
        return text ? table_add(t, text, STYLE_NONE) : -ENOMEM;
}

static int add_owner(Table *t, const Ctl *c, uid_t uid) {
        const struct passwd *pw = c->host ? NULL : getpwuid(uid);

        return pw ? table_add(t, pw->pw_name, STYLE_NONE) : table_addf(t, "%u", uid);
}

static int add_row(Table *t, const Ctl *c, const ListedImage *i, bool show_owner) {
        int r;

        r = table_add(t, i->name, STYLE_NONE);
        if (r >= 0)
                r = table_add(t, i->format, STYLE_NONE);
        if (r >= 0)
                r = add_size(t, i->allocated);
        if (r >= 0)
                r = add_size(t, i->virtual_size);
        if (r >= 0)
                r = table_add(t, i->shared ? "shared" : "private", STYLE_NONE);
        if (r >= 0 && show_owner)
                r = add_owner(t, c, i->owner);
        if (r >= 0)
                r = table_addf(t, "%zu", strv_length(i->users));
        if (r >= 0)
                r = add_ago(t, i->used_usec);
        if (r >= 0)
                r = table_add(t, i->url, STYLE_NONE);
        return r;
}

/* Where all are one's own, or on another host all the first one's owner's, there is no need to say so. */
static bool has_several_owners(const Ctl *c, const ImageList *l) {
        uid_t usual = c->host && l->n > 0 ? l->images[0].owner : getuid();

        for (size_t i = 0; i < l->n; i++)
                if (l->images[i].owner != usual)
                        return true;
        return false;
}

static int add_broken_row(Table *t, const BrokenRecord *b, size_t n_columns) {
        int r;

        r = table_add(t, b->name, STYLE_NONE);
        if (r >= 0)
                r = table_add(t, "broken", style_of_state("broken"));
        for (size_t i = 2; r >= 0 && i < n_columns; i++)
                r = table_add(t, NULL, STYLE_NONE);
        return r;
}

static int print_table(const Ctl *c, const ImageList *l, const BrokenList *broken) {
        static const Column columns[] = {
                { "NAME", .shrink = true },
                { "FORMAT" },
                { "SIZE", .right = true },
                { "VIRTUAL", .right = true },
                { "ACCESS" },
                { "OWNER" },
                { "VMS", .right = true },
                { "USED", .right = true },
                { "SOURCE", .shrink = true },
        };
        bool show_owner = has_several_owners(c, l);
        _cleanup_(table_freep) Table *t = NULL;
        Column shown[ELEMENTSOF(columns)];
        uint64_t sum = 0;
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(columns); i++)
                if (show_owner || !streq(columns[i].title, "OWNER"))
                        shown[n++] = columns[i];
        t = table_new(shown, n, l->n + broken->n);
        if (!t)
                return ctl_oom();
        for (size_t i = 0; i < l->n; i++) {
                sum += l->images[i].allocated;
                if (add_row(t, c, &l->images[i], show_owner) < 0)
                        return ctl_oom();
        }
        for (size_t i = 0; i < broken->n; i++)
                if (add_broken_row(t, &broken->records[i], n) < 0)
                        return ctl_oom();
        table_print(t, stdout, term_columns());
        if (term_is_tty(stdout)) {
                _cleanup_free_ char *size = text_size(sum);

                printf("\n%zu image%s, %s.\n", l->n, l->n == 1 ? "" : "s", size ?: "?");
        }
        fflush(stdout); /* the reasons stand below */
        for (size_t i = 0; i < broken->n; i++)
                broken_complain(c, &broken->records[i]);
        return 0;
}

/* A part of what `image inspect --json` prints, under the same names. */
static void write_image(JsonWriter *w, const ListedImage *i) {
        json_write_object(w);
        json_put_string(w, "Name", i->name);
        json_put_string(w, "Object", i->path);
        json_put_string(w, "Format", i->format);
        json_put_unsigned(w, "Owner", i->owner);
        json_put_boolean(w, "Shared", i->shared);
        json_put_unsigned(w, "VirtualSize", i->virtual_size);
        json_put_unsigned(w, "Size", i->size);
        json_put_unsigned(w, "Allocated", i->allocated);
        json_put_unsigned(w, "Created", i->created_usec);
        json_put_unsigned(w, "LastUsed", i->used_usec);
        json_put_string(w, "URL", i->url);
        json_write_key(w, "Users");
        json_write_array(w);
        STRV_FOREACH(user, i->users)
                json_write_string(w, *user);
        json_write_end(w);
        json_write_end(w);
}

static int print_json(const ImageList *l, const BrokenList *broken) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_array(w);
        for (size_t i = 0; i < l->n; i++)
                write_image(w, &l->images[i]);
        for (size_t i = 0; i < broken->n; i++)
                broken_write(w, &broken->records[i]);
        json_write_end(w);
        return json_print(w);
}

int verb_image_list(Ctl *c, const Args *args) {
        _cleanup_(broken_list_done) BrokenList broken = {};
        _cleanup_(image_list_done) ImageList l = {};
        bool quiet = args_has(args, "quiet") && !c->json;
        int r;

        r = image_list_fetch(c, &l);
        if (r == 0 && !quiet)
                r = broken_list_fetch(c, "image", &broken);
        if (r != 0)
                return r;
        if (c->json)
                return print_json(&l, &broken);
        if (!quiet)
                return print_table(c, &l, &broken);
        for (size_t i = 0; i < l.n; i++)
                puts(l.images[i].name);
        return 0;
}

/*
 * remove, share, unshare: one image after another
 */

/* There is no image of that name: it may be one that cannot be read. */
static int remove_broken(Ctl *c, const char *name, int none, Error **error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        r = broken_new_removal(c, "image", name, &m);
        if (r >= 0)
                r = client_call(c->client, m, REMOVE_TIMEOUT_USEC, NULL, &e);
        if (r < 0 && (!e || broken_is_none(e)))
                return none;
        error_free(*error);
        *error = TAKE_PTR(e);
        return r;
}

/* *error is NULL, and set when it fails. */
static int call_change(Ctl *c, const char *verb, const char *name, Error **error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = client_image_path(name);
        bool remove = streq(verb, "remove");
        int r;

        r = path ? client_new_call(c->client, path, VMCTL_IMAGE, remove ? "Remove" : "SetShared", &m)
                 : -ENOMEM;
        if (r >= 0 && !remove)
                r = sd_bus_message_append(m, "b", streq(verb, "share"));
        r = r < 0 ? client_error(c->client, r, error)
                  : client_call(c->client, m, REMOVE_TIMEOUT_USEC, NULL, error);
        return remove && r < 0 && error_is(*error, ERROR_NO_SUCH_IMAGE) ? remove_broken(c, name, r, error)
                                                                        : r;
}

int verb_image_change(Ctl *c, const Args *args) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        const char *verb = verb_word(args->verb);
        int result = 0, r;

        r = ctl_connect(c);
        if (r != 0)
                return r;
        if (c->json && json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        if (w)
                json_write_array(w);
        for (size_t i = 0; i < args->n_words; i++) {
                _cleanup_error_ Error *error = NULL;

                r = call_change(c, verb, args->words[i], &error);
                if (w)
                        json_write_result(w, args->words[i], error);
                if (r < 0)
                        r = ctl_report(c, error, r, "Failed to %s image '%s'", verb, args->words[i]);
                result = result != 0 ? result : r;
        }
        if (w) {
                json_write_end(w);
                r = json_print(w);
        }
        return result != 0 ? result : r;
}

int verb_image_rename(Ctl *c, const Args *args) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_image_path(args->words[0]);
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_new_call(c, path, VMCTL_IMAGE, "Rename", &m);
        if (r != 0)
                return r;
        r = sd_bus_message_append(m, "s", args->words[1]);
        if (r >= 0)
                r = client_call(c->client, m, 0, NULL, &error);
        if (r >= 0)
                return 0;
        return ctl_report(c, error, r, "Failed to rename image '%s'", args->words[0]);
}

/*
 * prune
 */

static int append_prune(sd_bus_message *m, uint64_t unused_usec, bool all, bool dry_run) {
        int r;

        r = sd_bus_message_append(m, "t", unused_usec);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && all)
                r = sd_bus_message_append(m, "{sv}", "all", "b", true);
        if (r >= 0 && dry_run)
                r = sd_bus_message_append(m, "{sv}", "dry-run", "b", true);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int call_prune(Ctl *c, uint64_t unused_usec, bool all, bool dry_run, char ***ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_error_ Error *error = NULL;
        int r;

        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "PruneImages", &m);
        if (r != 0)
                return r;
        r = append_prune(m, unused_usec, all, dry_run);
        if (r >= 0)
                r = client_call(c->client, m, REMOVE_TIMEOUT_USEC, &reply, &error);
        if (r >= 0)
                r = sd_bus_message_read_strv(reply, ret);
        return r < 0 ? ctl_report(c, error, r, "Failed to prune images") : 0;
}

static int print_names(const Ctl *c, char *const *names) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (!c->json) {
                STRV_FOREACH(name, names)
                        puts(*name);
                return 0;
        }
        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_array(w);
        STRV_FOREACH(name, names)
                json_write_string(w, *name);
        json_write_end(w);
        return json_print(w);
}

int verb_image_prune(Ctl *c, const Args *args) {
        bool all = args_has(args, "all"), dry_run = args_has(args, "dry-run");
        const char *text = args_get(args, "unused-for");
        uint64_t unused_usec = UNUSED_DEFAULT_USEC;
        _cleanup_strv_ char **names = NULL;
        int r;

        if (text && parse_timespan(text, &unused_usec) < 0) {
                ctl_complain("As in '--unused-for 30d'; 0 is all that no VM needs.", "'%s' is no time",
                                text);
                return EXIT_USAGE;
        }
        r = call_prune(c, unused_usec, all, dry_run, &names);
        if (r != 0)
                return r;
        r = print_names(c, names);
        if (r == 0 && !c->json && term_is_tty(stderr))
                (void)fprintf(stderr, "%s %zu image%s.\n", dry_run ? "Would remove" : "Removed",
                                strv_length(names), strv_length(names) == 1 ? "" : "s");
        return r;
}
