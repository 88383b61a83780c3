/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "record-seal.h"
#include "record-store-internal.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define SWEEP_TIMEOUT \
        (10 * 60 * USEC_PER_SEC) /* large files on a slow disk; the next start would finish it */

int record_store_new(sd_event *event, int dir_fd, const char *path, const RecordType *type, void *userdata,
                RecordStore **ret) {
        _cleanup_(record_store_freep) RecordStore *s = malloc(sizeof(RecordStore));

        if (!s)
                return -ENOMEM;
        *s = (RecordStore){
                .event = sd_event_ref(event),
                .fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3),
                .path = strdup(path),
                .type = type,
                .userdata = userdata,
        };
        if (s->fd < 0)
                return -errno;
        if (!s->path)
                return -ENOMEM;
        *ret = TAKE_PTR(s);
        return 0;
}

static RecordName *name_destroy(RecordName *n) {
        free(n->name);
        free(n);
        return NULL;
}

static void broken_done(RecordBroken *b) {
        free(b->name);
        free(b->folder);
        free(b->path);
        free(b->reason);
}

static void free_broken(RecordStore *s) {
        for (size_t i = 0; i < s->n_broken; i++)
                broken_done(&s->broken[i]);
        free(s->broken);
}

RecordStore *record_store_free(RecordStore *s) {
        if (!s)
                return NULL;
        task_free(s->sweep);
        while (s->records) /* what this completes may free others of them */
                record_orphan(s->records);
        for (size_t i = 0; i < s->n_names; i++)
                if (s->names[i]->broken)
                        name_destroy(s->names[i]);
                else
                        s->names[i]->store = NULL;
        free(s->names);
        free_broken(s);
        strv_free(s->left_over);
        safe_close(s->fd);
        free(s->path);
        sd_event_unref(s->event);
        free(s);
        return NULL;
}

static const char *name_of(const void *n) {
        return ((const RecordName *)n)->name;
}

static size_t position(const RecordStore *s, const char *name) {
        return sorted_position(s->names, s->n_names, name_of, name);
}

static RecordName *find_name(const RecordStore *s, const char *name) {
        size_t i = position(s, name);

        return i < s->n_names && streq(s->names[i]->name, name) ? s->names[i] : NULL;
}

static int add_name(RecordStore *s, const char *name, void *object, RecordName **ret) {
        RecordName *n = malloc(sizeof(RecordName)), **grown;
        size_t i = position(s, name);

        if (!n)
                return -ENOMEM;
        *n = (RecordName){ .store = s, .name = strdup(name), .object = object };
        grown = n->name ? reallocarray(s->names, s->n_names + 1, sizeof(RecordName *)) : NULL;
        if (!grown) {
                name_destroy(n);
                return -ENOMEM;
        }
        s->names = grown;
        memmove(s->names + i + 1, s->names + i, (s->n_names++ - i) * sizeof(RecordName *));
        s->names[i] = n;
        *ret = n;
        return 0;
}

int record_name_reserve(RecordStore *s, const char *name, void *object, RecordName **ret, Error **reterr) {
        const RecordName *other;
        int r;

        r = s->type->check_name(name, reterr);
        if (r < 0)
                return r;
        other = find_name(s, name);
        if (other)
                return error_set(reterr, s->type->exists, "There already is %s %s '%s'%s",
                                strchr("aeiou", s->type->kind[0]) ? "an" : "a", s->type->kind, name,
                                other->broken ? ", which cannot be read" : "");
        r = add_name(s, name, object, ret);
        return r < 0 ? error_set_errno(reterr, r, "Cannot reserve the name '%s'", name) : 0;
}

static void drop(RecordName *n) {
        RecordStore *s = n->store;

        if (s) {
                size_t i = position(s, n->name);

                memmove(s->names + i, s->names + i + 1, (--s->n_names - i) * sizeof(RecordName *));
        }
        name_destroy(n);
}

RecordName *record_name_free(RecordName *n) {
        if (!n)
                return NULL;
        n->released = true;
        n->object = NULL;
        if (n->pins == 0)
                drop(n);
        return NULL;
}

void record_name_pin(RecordName *n) {
        n->pins++;
}

void record_name_unpin(RecordName *n) {
        if (--n->pins == 0 && n->released)
                drop(n);
}

const char *record_name(const RecordName *n) {
        return n->name;
}

void record_name_set_object(RecordName *n, void *object) {
        n->object = object;
}

bool record_name_is_taken(const RecordStore *s, const char *name) {
        return find_name(s, name);
}

void *record_store_find(const RecordStore *s, const char *name) {
        const RecordName *n = find_name(s, name);

        return n ? n->object : NULL;
}

void *record_store_next(const RecordStore *s, size_t *i) {
        while (*i < s->n_names) {
                void *object = s->names[(*i)++]->object;

                if (object)
                        return object;
        }
        return NULL;
}

const RecordBroken *record_store_broken(const RecordStore *s, size_t *ret_n) {
        *ret_n = s->n_broken;
        return s->broken;
}

const RecordBroken *record_store_find_broken(const RecordStore *s, const char *name) {
        for (size_t i = 0; i < s->n_broken; i++)
                if (streq(s->broken[i].name, name))
                        return &s->broken[i];
        for (size_t i = 0; i < s->n_broken; i++)
                if (streq(s->broken[i].folder, name))
                        return &s->broken[i];
        return NULL;
}

static void forget_broken(RecordStore *s, size_t i) {
        RecordBroken b = s->broken[i];
        RecordName *n = find_name(s, b.name);

        memmove(s->broken + i, s->broken + i + 1, (--s->n_broken - i) * sizeof(RecordBroken));
        for (size_t k = 0; k < s->n_broken && n; k++)
                if (streq(s->broken[k].name, b.name))
                        n = NULL;
        if (n && n->broken)
                drop(n);
        broken_done(&b);
}

/* Its own UUID is not to be trusted; any will do for a folder that is about to go. */
int record_store_remove_broken(
                RecordStore *s, const char *path, waiter_t done, void *userdata, Error **reterr) {
        _cleanup_(record_freep) Record *record = NULL;
        char uuid[SD_ID128_UUID_STRING_MAX];
        sd_id128_t id;
        size_t i = 0;
        int r;

        while (i < s->n_broken && !streq(s->broken[i].path, path))
                i++;
        if (i == s->n_broken)
                return error_set(reterr, ERROR_FAILED, "'%s' has been removed meanwhile", path);
        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = record_adopt(s, s->broken[i].folder, sd_id128_to_uuid_string(id, uuid), &record);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot remove '%s'", path);
        r = record_remove(&record, done, userdata, reterr);
        if (r >= 0)
                forget_broken(s, i);
        return r;
}

/* A folder that was found, and what of it could be read so far. */
typedef struct Found {
        const char *folder;
        char *text;
        size_t len;
        Json *doc;
        Record *record;
} Found;

static void found_done(Found *f) {
        record_free(f->record);
        json_free(f->doc);
        free(f->text);
}

/* The name in a damaged document is most likely the right one. */
static char *name_of_broken(const RecordStore *s, const Found *f) {
        const JsonLimits limits = { .max_size = s->type->size_max };
        _cleanup_json_ Json *doc = NULL;
        const char *name = NULL;

        if (!s->type->folder_is_name && f->text && json_parse(f->text, f->len, &limits, &doc, NULL) >= 0)
                name = json_get_string(doc, "name");
        return strdup(name && s->type->check_name(name, NULL) >= 0 ? name : f->folder);
}

static int set_aside(RecordStore *s, const Found *f, const char *reason) {
        RecordBroken *grown = reallocarray(s->broken, s->n_broken + 1, sizeof(RecordBroken));
        RecordBroken *b;

        if (!grown)
                return -ENOMEM;
        s->broken = grown;
        b = &s->broken[s->n_broken++];
        *b = (RecordBroken){
                .name = name_of_broken(s, f),
                .folder = strdup(f->folder),
                .path = strf("%s/%s/%s", s->path, f->folder, s->type->document),
                .reason = strdup(reason),
        };
        return b->name && b->folder && b->path && b->reason ? 0 : -ENOMEM;
}

static int read_document(RecordStore *s, Found *f, Error **reterr) {
        _cleanup_free_ char *path = strf("%s/%s", f->folder, s->type->document);
        const char *name, *uuid;
        sd_id128_t id;
        int r;

        r = path ? read_file_at(s->fd, path, s->type->size_max, &f->text, &f->len) : -ENOMEM;
        if (r < 0)
                return error_set_errno(reterr, r, "It cannot be read");
        r = record_unseal(f->text, f->len, s->type->size_max, s->type->sealed_since, &f->doc, reterr);
        if (r < 0)
                return r;
        name = json_get_string(f->doc, "name");
        uuid = json_get_string(f->doc, "uuid");
        if (!name || !uuid || sd_id128_from_string(uuid, &id) < 0) /* the UUID becomes part of a path */
                return error_set(reterr, ERROR_IO, "'name' or 'uuid' is missing or not valid");
        if (!streq(s->type->folder_is_name ? name : uuid, f->folder))
                return error_set(reterr, ERROR_IO, "It is that of '%s'",
                                s->type->folder_is_name ? name : uuid);
        return record_adopt(s, f->folder, uuid, &f->record);
}

static int load_record(RecordStore *s, const char *folder) {
        _cleanup_(found_done) Found f = { .folder = folder };
        _cleanup_error_ Error *e = NULL;
        int r;

        r = read_document(s, &f, &e);
        if (r >= 0)
                r = s->type->load(s->userdata, &f.record, f.doc, &e);
        return r < 0 ? set_aside(s, &f, e ? error_message(e) : strerror(-r)) : 0;
}

static bool is_record(const RecordStore *s, const char *folder) {
        sd_id128_t id;

        return s->type->folder_is_name ? s->type->check_name(folder, NULL) >= 0
                                       : sd_id128_from_string(folder, &id) >= 0;
}

/* By the prefixes that records get here; whatever an administrator put there stays. */
static bool is_left_over(const char *folder) {
        return startswith(folder, ".new-") || startswith(folder, ".old-");
}

static int read_folders(const RecordStore *s, char ***records, char ***left_over) {
        int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        if (!dir) {
                r = -errno;
                safe_close(fd);
                return r;
        }
        for (struct dirent *de; r >= 0 && (errno = 0, de = readdir(dir));)
                if (is_left_over(de->d_name))
                        r = strv_extend(left_over, de->d_name);
                else if (is_record(s, de->d_name))
                        r = strv_extend(records, de->d_name);
        if (r >= 0)
                r = -errno;
        closedir(dir);
        return r;
}

static int compare_broken(const void *a, const void *b) {
        return strcmp(((const RecordBroken *)a)->name, ((const RecordBroken *)b)->name);
}

/* After all others: whoever can be read keeps their name. */
static int reserve_broken(RecordStore *s) {
        if (s->n_broken > 1)
                qsort(s->broken, s->n_broken, sizeof(RecordBroken), compare_broken);
        for (size_t i = 0; i < s->n_broken; i++) {
                RecordName *n;
                int r;

                if (find_name(s, s->broken[i].name))
                        continue;
                r = add_name(s, s->broken[i].name, NULL, &n);
                if (r < 0)
                        return r;
                n->broken = true;
        }
        return 0;
}

typedef struct Sweep {
        int fd;
        char *const *folders;
} Sweep;

static int sweep(void *argument) {
        const Sweep *w = argument;
        int r = 0;

        STRV_FOREACH(folder, w->folders)
                if (remove_tree_at(w->fd, *folder) < 0)
                        r = 1;
        return r;
}

static void on_swept(void *userdata, int status, const char *output, size_t len) {
        RecordStore *s = userdata;

        s->sweep = task_free(s->sweep);
        if (status == 0)
                s->left_over = strv_free(s->left_over);
        else
                log_warning("Some of what is left over in '%s' could not be deleted", s->path);
}

void record_store_sweep(RecordStore *s) {
        int r;

        if (!s->left_over || s->sweep)
                return;
        /* The list goes along with the fork. */
        r = task_call(s->event, sweep, &(Sweep){ s->fd, s->left_over }, SWEEP_TIMEOUT, on_swept, s,
                        &s->sweep);
        if (r < 0)
                log_warning_errno(r, "Cannot delete what is left over in '%s', ignoring: %m", s->path);
}

/* Not while a sweep is under way that does not know of it, and would take it for done. */
void record_store_leave_over(RecordStore *s, const char *folder) {
        if (!s->sweep)
                (void)strv_extend(&s->left_over, folder);
}

int record_store_load(RecordStore *s) {
        _cleanup_strv_ char **records = NULL;
        int r;

        r = read_folders(s, &records, &s->left_over);
        STRV_FOREACH(folder, records)
                if (r >= 0)
                        r = load_record(s, *folder);
        if (r >= 0)
                r = reserve_broken(s);
        if (r < 0)
                return r;
        record_store_sweep(s);
        return 0;
}
