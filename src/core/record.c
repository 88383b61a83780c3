/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One record: its folder, and the queue of its changes.
 *
 * At most one child works on it. `task` is that child until it has been reaped, also when it was killed and
 * its change has been answered: nothing else touches the files before. Whoever calls out holds a reference,
 * since the object may give the record up in any callback. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record-seal.h"
#include "record-store-internal.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define WRITE_TIMEOUT (30 * USEC_PER_SEC)  /* a disk that takes longer for some KiB is broken */
#define COMMIT_TIMEOUT (60 * USEC_PER_SEC) /* work and the store's folder come on top */
#define DELETE_TIMEOUT (10 * 60 * USEC_PER_SEC)
#define STATUS_MAX 254 /* 255 is a child that could not even begin */

typedef enum RecordState {
        RECORD_DRAFT,
        RECORD_COMMITTING,
        RECORD_FAILED, /* it could not be committed, but its folder may have the final name */
        RECORD_STORED,
        RECORD_DOOMED,    /* ours: the child is awaited, then the files are deleted */
        RECORD_FORGOTTEN, /* nobody's */
} RecordState;

typedef struct Change {
        const RecordChange *ops; /* NULL: the disk is to hold again what memory does */
        void *userdata;
        struct Change *next;
} Change;

struct Record {
        RecordStore *store;    /* borrowed; NULL: it is gone */
        Record *next, **place; /* among the store's */
        unsigned refs;
        RecordState state;
        char *uuid, *folder;
        char *target;       /* the folder that a commit makes of it */
        RecordName *pinned; /* borrowed; as long as that is not certain */
        void *object;       /* borrowed */
        int fd;             /* of a draft's folder */
        Change *changes;    /* the first one is at work while `task` is there and not killed */
        size_t n_changes;
        Task *task;
        bool killed;
        bool suspect;       /* the change that failed last may be on disk all the same */
        struct stat before; /* of the document, when its change began */
        sd_event_source *doom;
        waiter_t deleted;
        void *deleted_userdata;
};

static Record *record_unref(Record *r) {
        if (--r->refs > 0)
                return NULL;
        if (r->place) {
                *r->place = r->next;
                if (r->next)
                        r->next->place = r->place;
        }
        if (r->pinned)
                record_name_unpin(r->pinned);
        task_free(r->task);
        sd_event_source_disable_unref(r->doom);
        safe_close(r->fd);
        free(r->uuid);
        free(r->folder);
        free(r->target);
        free(r);
        return NULL;
}
DEFINE_CLEANUP(Record *, record_unref);

static Record *record_ref(Record *r) {
        r->refs++;
        return r;
}

static int record_alloc(
                RecordStore *s, RecordState state, const char *folder, const char *uuid, Record **ret) {
        Record *r = malloc(sizeof(Record));

        if (!r)
                return -ENOMEM;
        *r = (Record){
                .store = s,
                .next = s->records,
                .place = &s->records,
                .refs = 1,
                .state = state,
                .uuid = strdup(uuid),
                .folder = strdup(folder),
                .fd = -EBADF,
        };
        if (r->next)
                r->next->place = &r->next;
        s->records = r;
        if (!r->uuid || !r->folder) {
                record_unref(r);
                return -ENOMEM;
        }
        *ret = r;
        return 0;
}

int record_adopt(RecordStore *s, const char *folder, const char *uuid, Record **ret) {
        return record_alloc(s, RECORD_STORED, folder, uuid, ret);
}

/* --- Drafts */

int record_new(RecordStore *s, const char *uuid, void *object, Record **ret, Error **reterr) {
        _cleanup_free_ char *folder = strf(".new-%s", uuid);
        _cleanup_(record_unrefp) Record *r = NULL;
        int q;

        q = folder ? record_alloc(s, RECORD_DRAFT, folder, uuid, &r) : -ENOMEM;
        if (q >= 0 && mkdirat(s->fd, folder, 0700) < 0)
                q = -errno;
        if (q < 0)
                return error_set_errno(reterr, q, "Cannot make a folder for the new %s", s->type->kind);
        r->object = object;
        r->fd = openat(s->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (r->fd < 0) {
                q = error_set_errno(reterr, -errno, "Cannot open the folder of the new %s", s->type->kind);
                (void)unlinkat(s->fd, folder, AT_REMOVEDIR);
                return q;
        }
        *ret = TAKE_PTR(r);
        return 0;
}

void record_set_object(Record *r, void *object) {
        r->object = object;
}

int record_fd(const Record *r) {
        return r->fd;
}

const char *record_folder(const Record *r) {
        return r->folder;
}

bool record_is_changing(const Record *r) {
        return r->changes;
}

/* --- What children do */

typedef struct Writing {
        const RecordStore *store;
        const Record *record;
        const Change *change;
        int folder_fd;
        char *text;
        size_t len;
} Writing;

static void writing_done(Writing *w) {
        if (w->folder_fd != w->record->fd)
                safe_close(w->folder_fd);
        free(w->text);
}

static int do_write(const Writing *w) {
        const Change *c = w->change;
        int r = c->ops && c->ops->work ? c->ops->work(c->userdata) : 0;

        return r < 0 ? r
                     : write_file_at(w->folder_fd, w->store->type->document, w->text, w->len, 0600,
                                       WRITE_FILE_SYNC);
}

static int to_status(int r) {
        return r < 0 ? MIN(-r, STATUS_MAX) : 0;
}

static int write_child(void *argument) {
        return to_status(do_write(argument));
}

static int commit_child(void *argument) {
        const Writing *w = argument;
        const Record *record = w->record;
        int store_fd = w->store->fd, r;

        r = do_write(w);
        if (r >= 0 &&
                        (renameat(store_fd, record->folder, store_fd, record->target) < 0 ||
                                        fsync(store_fd) < 0))
                r = -errno;
        return to_status(r);
}

typedef struct Deletion {
        int fd;
        const char *folder;
} Deletion;

static int delete_child(void *argument) {
        const Deletion *d = argument;

        /* First the name must be gone for good: no record may come back without its files. */
        return to_status(fsync(d->fd) < 0 ? -errno : remove_tree_at(d->fd, d->folder));
}

/* --- Changes */

static const char *label(const Record *r) {
        return r->object ? r->store->type->name(r->object) : r->folder;
}

static int explain(const Record *r, int status, Error **reterr) {
        const char *kind = r->store->type->kind;

        if (status == -ETIMEDOUT)
                return error_set(reterr, ERROR_TIMEOUT,
                                "The disk takes too long to write the record of %s '%s'", kind, label(r));
        if (status == -EINTR || status > STATUS_MAX)
                return error_set(reterr, ERROR_IO, "The record of %s '%s' was not written: the writer died",
                                kind, label(r));
        return error_set_errno(reterr, status > 0 ? -status : status,
                        "The record of %s '%s' cannot be written", kind, label(r));
}

static Change *pop_change(Record *r) {
        Change *c = r->changes;

        r->changes = c->next;
        r->n_changes--;
        return c;
}

/* Nothing of the record may be relied on afterwards. */
static void complete(Change *c, int r, const Error *error) {
        const RecordChange *ops = c->ops;
        void *userdata = c->userdata;

        free(c);
        if (ops)
                ops->done(userdata, r, error);
        else if (r < 0)
                log_error("A change that was refused may come back with a restart: %s",
                                error_message(error));
}

static void cancel_changes(Record *r) {
        while (r->changes) {
                Change *c = pop_change(r);
                _cleanup_error_ Error *e = NULL;
                int q = 0;

                if (c->ops)
                        q = error_set(&e, ERROR_CANCELED,
                                        "It was removed, or the service ended, before the change was "
                                        "written");
                complete(c, q, e);
        }
}

static int format(const Record *r, const Change *c, Writing *ret, Error **reterr) {
        _cleanup_free_ char *plain = NULL;
        size_t len;
        int q;

        q = c->ops ? c->ops->format(c->userdata, &plain, &len, reterr)
                   : r->store->type->format(r->object, &plain, &len);
        if (q >= 0)
                q = record_seal(plain, len, &ret->text, &ret->len);
        if (q >= 0 && ret->len > r->store->type->size_max)
                q = -EFBIG; /* it could not be read again */
        return q;
}

static void on_written(void *userdata, int status, const char *output, size_t len);

/* Opened by us: the name may be another's when the child comes to it. */
static int open_folder(Record *r, int *ret) {
        int fd = r->fd;

        if (fd < 0)
                fd = openat(r->store->fd, r->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (fd < 0)
                return -errno;
        if (fstatat(fd, r->store->type->document, &r->before, AT_SYMLINK_NOFOLLOW) < 0)
                r->before = (struct stat){};
        *ret = fd;
        return 0;
}

/* Forks the child for a change. */
static int begin(Record *r, const Change *c, Error **reterr) {
        _cleanup_(writing_done)
                        Writing w = { .store = r->store, .record = r, .change = c, .folder_fd = -EBADF };
        bool commit = r->state == RECORD_COMMITTING;
        _cleanup_error_ Error *e = NULL;
        int q;

        q = format(r, c, &w, &e);
        if (q >= 0)
                q = open_folder(r, &w.folder_fd);
        if (q >= 0)
                q = task_call(r->store->event, commit ? commit_child : write_child, &w,
                                commit ? COMMIT_TIMEOUT : WRITE_TIMEOUT, on_written, r, &r->task);
        if (q >= 0)
                return 0;
        if (!e)
                return explain(r, q, reterr);
        if (reterr)
                *reterr = TAKE_PTR(e);
        return q;
}

/* In a callback of the loop. */
static void go_on(Record *r) {
        while (r->store && r->state == RECORD_STORED && !r->task && r->changes) {
                _cleanup_error_ Error *e = NULL;
                int q = begin(r, r->changes, &e);

                if (q < 0)
                        complete(pop_change(r), q, e);
        }
}

/* A change that failed may have reached the disk: the child was killed, or failed, behind its rename. */
static bool is_document_replaced(const Record *r) {
        _cleanup_free_ char *path = strf("%s/%s", r->folder, r->store->type->document);
        struct stat now;

        return path && fstatat(r->store->fd, path, &now, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        (now.st_ino != r->before.st_ino || now.st_dev != r->before.st_dev);
}

static void put_back(Record *r) {
        bool suspect = r->suspect;
        Change *c;

        r->suspect = false;
        if (!suspect || r->state != RECORD_STORED || !is_document_replaced(r))
                return;
        c = malloc(sizeof(Change));
        if (!c) {
                log_error("A change of %s '%s' that was refused may come back with a restart",
                                r->store->type->kind, label(r));
                return;
        }
        *c = (Change){ .next = r->changes };
        r->changes = c;
        r->n_changes++;
}

static void delete_files(Record *r);

static void on_gone(void *userdata) {
        _cleanup_(record_unrefp) Record *r = record_ref(userdata);

        r->task = task_free(r->task);
        r->killed = false;
        if (r->state == RECORD_DOOMED)
                delete_files(r);
        else {
                put_back(r);
                go_on(r);
        }
}

static void end_task(Record *r) {
        r->killed = true;
        if (r->task && task_kill(r->task, on_gone, r) > 0)
                return;
        r->task = task_free(r->task);
        r->killed = false;
}

static void settle_commit(Record *r, bool ok) {
        if (!ok) {
                r->state = RECORD_FAILED;
                return;
        }
        r->state = RECORD_STORED;
        free(r->folder);
        r->folder = TAKE_PTR(r->target);
        r->fd = safe_close(r->fd);
        if (r->pinned)
                record_name_unpin(TAKE_PTR(r->pinned));
}

static void on_written(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(record_unrefp) Record *r = record_ref(userdata);
        _cleanup_error_ Error *e = NULL;
        Change *c = pop_change(r);
        int q = 0;

        if (status != 0)
                q = explain(r, status, &e);
        r->suspect = q < 0 && c->ops;
        end_task(r);
        if (r->state == RECORD_COMMITTING)
                settle_commit(r, q >= 0);
        if (!r->task)
                put_back(r);
        complete(c, q, e);
        go_on(r);
}

static int add_change(Record *r, const RecordChange *ops, void *userdata, Error **reterr) {
        Change **last = &r->changes, *c = malloc(sizeof(Change));
        int q;

        if (!c)
                return error_set_errno(
                                reterr, -ENOMEM, "Cannot change %s '%s'", r->store->type->kind, label(r));
        *c = (Change){ .ops = ops, .userdata = userdata };
        if (!r->task && !r->changes) {
                q = begin(r, c, reterr);
                if (q < 0) {
                        free(c);
                        return q;
                }
        }
        while (*last)
                last = &(*last)->next;
        *last = c;
        r->n_changes++;
        return 0;
}

static int check(const Record *r, RecordState state, Error **reterr) {
        if (!r->store)
                return error_set(reterr, ERROR_CANCELED, "The service ends");
        if (r->state != state)
                return error_set(reterr, ERROR_INVALID_STATE, "%s '%s' cannot be changed now",
                                r->store->type->kind, label(r));
        if (r->n_changes >= RECORD_CHANGES_MAX)
                return error_set(reterr, ERROR_BUSY, "Too many changes of %s '%s' are waiting",
                                r->store->type->kind, label(r));
        return 0;
}

int record_write(Record *r, const RecordChange *change, void *userdata, Error **reterr) {
        int q;

        q = check(r, RECORD_STORED, reterr);
        return q < 0 ? q : add_change(r, change, userdata, reterr);
}

int record_commit(Record *r, RecordName *name, const RecordChange *change, void *userdata, Error **reterr) {
        int q;

        q = check(r, RECORD_DRAFT, reterr);
        if (q < 0)
                return q;
        r->target = strdup(name ? name->name : r->uuid);
        if (!r->target)
                return error_set_errno(reterr, -ENOMEM, "Cannot store the new %s", r->store->type->kind);
        if (name) {
                record_name_pin(name);
                r->pinned = name;
        }
        r->state = RECORD_COMMITTING;
        q = add_change(r, change, userdata, reterr);
        if (q < 0)
                r->state = RECORD_FAILED;
        return q;
}

/* --- The end */

static void finish(Record *r, int q, const Error *error) {
        waiter_t deleted = r->deleted;
        void *userdata = r->deleted_userdata;

        record_unref(r);
        if (deleted)
                deleted(userdata, q, error);
}

static void on_deleted(void *userdata, int status, const char *output, size_t len) {
        _cleanup_error_ Error *e = NULL;
        Record *r = userdata;
        int q = 0;

        if (status != 0) {
                q = error_set(&e, ERROR_IO,
                                "Some files of the %s could not be deleted; the service tries again later",
                                r->store->type->kind);
                log_warning("Cannot delete '%s/%s', ignoring: %s", r->store->path, r->folder,
                                strerror(status > 0 ? status : -status));
                record_store_leave_over(r->store, r->folder);
        } else
                record_store_sweep(r->store);
        finish(r, q, e);
}

/* The child of a commit may have come as far as to the final name. */
static void take_back_name(Record *r) {
        _cleanup_free_ char *hidden = NULL;
        int store_fd = r->store->fd;
        struct stat ours, there;

        if (!r->target || fstat(r->fd, &ours) < 0 ||
                        fstatat(store_fd, r->target, &there, AT_SYMLINK_NOFOLLOW) < 0 ||
                        ours.st_dev != there.st_dev || ours.st_ino != there.st_ino)
                return;
        hidden = strf(".old-%s", r->uuid);
        if (!hidden || renameat(store_fd, r->target, store_fd, hidden) < 0) {
                log_error("Cannot remove '%s/%s', which comes back with a restart", r->store->path,
                                r->target);
                return;
        }
        free(r->folder);
        r->folder = TAKE_PTR(hidden);
}

/* When both have come: a turn of the loop, and the child's end. */
static void delete_files(Record *r) {
        int q;

        if (r->task || r->doom)
                return;
        take_back_name(r);
        if (r->pinned)
                record_name_unpin(TAKE_PTR(r->pinned));
        q = task_call(r->store->event, delete_child, &(Deletion){ r->store->fd, r->folder }, DELETE_TIMEOUT,
                        on_deleted, r, &r->task);
        if (q < 0)
                on_deleted(r, q, NULL, 0);
}

static int on_doom(sd_event_source *source, void *userdata) {
        Record *r = userdata;

        r->doom = sd_event_source_disable_unref(r->doom);
        delete_files(r);
        return 0;
}

/* The owner's reference is ours from now on. */
static void doom(Record *r, waiter_t deleted, void *userdata) {
        _cleanup_(record_unrefp) Record *pinned = record_ref(r);

        r->state = RECORD_DOOMED;
        r->object = NULL;
        r->deleted = deleted;
        r->deleted_userdata = userdata;
        end_task(r);
        cancel_changes(pinned);
}

static int hide(Record *r, Error **reterr) {
        _cleanup_free_ char *hidden = strf(".old-%s", r->uuid);
        const RecordStore *s = r->store;
        int q = hidden ? 0 : -ENOMEM;

        if (q >= 0 && renameat(s->fd, r->folder, s->fd, hidden) < 0 && errno != ENOENT)
                q = -errno;
        if (q < 0)
                return error_set_errno(
                                reterr, q, "Cannot remove the folder of %s '%s'", s->type->kind, label(r));
        free(r->folder);
        r->folder = TAKE_PTR(hidden);
        return 0;
}

int record_remove(Record **record, waiter_t done, void *userdata, Error **reterr) {
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *source = NULL;
        Record *r = *record;
        int q;

        if (!r->store)
                return error_set(reterr, ERROR_CANCELED, "The service ends");
        q = sd_event_add_defer(r->store->event, &source, on_doom, r);
        if (q < 0)
                return error_set_errno(reterr, q, "Cannot remove %s '%s'", r->store->type->kind, label(r));
        q = r->state == RECORD_STORED ? hide(r, reterr) : 0;
        if (q < 0)
                return q;
        r->doom = TAKE_PTR(source);
        *record = NULL;
        doom(r, done, userdata);
        return 0;
}

Record *record_free(Record *r) {
        _cleanup_(record_unrefp) Record *forgotten = r;

        if (!r)
                return NULL;
        if (r->store && r->state != RECORD_STORED) {
                if (record_remove(&forgotten, NULL, NULL, NULL) >= 0)
                        return NULL;
                log_warning("'%s/%s' is deleted at the next start", r->store->path, r->folder);
        }
        r->state = RECORD_FORGOTTEN;
        r->object = NULL;
        r->task = task_free(r->task);
        cancel_changes(r);
        return NULL;
}

void record_orphan(Record *r) {
        _cleanup_(record_unrefp) Record *pinned = record_ref(r);
        bool ours = r->state == RECORD_DOOMED;
        _cleanup_error_ Error *e = NULL;

        *r->place = r->next;
        if (r->next)
                r->next->place = r->place;
        r->place = NULL;
        r->task = task_free(r->task);
        r->doom = sd_event_source_disable_unref(r->doom);
        if (r->pinned)
                record_name_unpin(TAKE_PTR(r->pinned));
        r->store = NULL;
        if (ours) {
                int q = error_set(&e, ERROR_CANCELED, "The service ends before the files are deleted");

                finish(r, q, e);
        } else
                cancel_changes(pinned);
}
