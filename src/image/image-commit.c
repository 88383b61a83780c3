/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last step into the store. All is made in a draft of the record store, by a child, and gets its name in
 * one rename. Only then is it decided whether the image can have its name: names are held by whoever
 * reserved them, and what a newer image takes its name from is known by its UUID. What cannot have it is
 * removed again.
 *
 * The digest is what a worker says that was fed with bytes from outside. Among images of one owner it
 * decides whether they share a file: who has it lie deceives nobody but themselves. With images of others
 * a file is shared only after a child of ours has compared every byte. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "core/file-acl.h"
#include "core/file-compare.h"
#include "core/task.h"
#include "image-transfer.h"
#include "util/fd-util.h"
#include "util/log.h"

#define COMPARE_TIMEOUT (3600 * USEC_PER_SEC) /* both files are read; later, the content is not shared */

typedef enum CommitStep {
        COMMIT_COMPARE, /* with the file that it may share */
        COMMIT_WRITE,
        COMMIT_CLAIM, /* it is on disk; what has its name gets another one. From here on, no way back. */
        COMMIT_UNDO,
} CommitStep;

struct ImageCommit {
        ImageStore *store; /* borrowed */
        Operation *op;     /* borrowed */
        CommitStep step;
        Image *image; /* owned until it is in the index */
        const char *const *scrap;
        int dir_fd;           /* borrowed */
        char *file;           /* below that */
        char *shared_content; /* below the store: the same content, or NULL */
        uint64_t shared_allocated;
        Reservation *reservation; /* borrowed */
        char *replaces;
        Task *task;
        Error *error;
        void (*done)(void *userdata, Image *image, const Error *error);
        void *userdata;
};

int reservation_new(RecordName *name, Reservation **ret) {
        Reservation *r = malloc(sizeof(Reservation));

        if (!r) {
                record_name_free(name);
                return -ENOMEM;
        }
        *r = (Reservation){ .refs = 1, .name = name };
        *ret = r;
        return 0;
}

Reservation *reservation_ref(Reservation *r) {
        r->refs++;
        return r;
}

Reservation *reservation_unref(Reservation *r) {
        if (!r || --r->refs > 0)
                return NULL;
        record_name_free(r->name);
        free(r);
        return NULL;
}

ImageCommit *image_commit_free(ImageCommit *c) {
        if (!c)
                return NULL;
        task_free(c->task);
        image_free(c->image);
        error_free(c->error);
        free(c->file);
        free(c->shared_content);
        free(c->replaces);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(ImageCommit *, image_commit_free);

static void finish(ImageCommit *c, Image *image) {
        void (*done)(void *userdata, Image *image, const Error *error) = c->done;
        _cleanup_error_ Error *error = TAKE_PTR(c->error);
        void *userdata = c->userdata;

        image_commit_free(c);
        done(userdata, image, error);
}

static void on_undone(void *userdata, int r, const Error *error) {
        finish(userdata, NULL);
}

/* It ends with this error (copied), when nothing of it is left. */
static void undo(ImageCommit *c, const Error *why) {
        c->step = COMMIT_UNDO;
        c->error = error_copy(why);
        c->task = task_free(c->task); /* it only reads */
        if (record_remove(&c->image->stored, on_undone, c, NULL) >= 0)
                return;
        log_warning("What was to become image '%s' comes back with a restart, or is deleted then",
                        image_name(c->image));
        finish(c, NULL);
}

static bool is_to_be_replaced(const ImageCommit *c, const Image *there) {
        return there && streq_ptr(c->replaces, there->record.uuid) &&
                        there->record.owner == c->image->record.owner &&
                        streq_ptr(there->record.url, c->image->record.url);
}

static void claim(ImageCommit *c);

static void on_displaced(void *userdata, int r, const Error *error) {
        ImageCommit *c = userdata;

        if (r < 0 && is_to_be_replaced(c, image_find(c->store, image_name(c->image))))
                undo(c, error);
        else
                claim(c);
}

/* VMs that need the old one keep it, under another name. One that is being changed is not done away with
 * either: it may be about to get another name. */
static int displace(ImageCommit *c, Image *old, Error **reterr) {
        _cleanup_(record_name_freep) RecordName *other = NULL;
        int r;

        if (!image_is_in_use(old) && !record_is_changing(old->stored))
                return image_supersede(old, &c->reservation->name, reterr);
        r = image_reserve_displaced(c->store, &old->record, &other, reterr);
        if (r >= 0) {
                log_info("The earlier content of image '%s' is to be called '%s'", image_name(old),
                                record_name(other));
                r = image_displace(old, &other, c->op, on_displaced, c, reterr);
        }
        return r;
}

static int find_name(const ImageCommit *c, Image **ret_old, Error **reterr) {
        ImageStore *s = c->store;
        Image *there;

        *ret_old = NULL;
        if (!s->records)
                return error_set(reterr, ERROR_CANCELED, "The service ends");
        if (c->reservation->name)
                return 0;
        there = image_find(s, image_name(c->image));
        if (is_to_be_replaced(c, there)) {
                *ret_old = there;
                return 0;
        }
        return record_name_reserve(s->records, image_name(c->image), NULL, &c->reservation->name, reterr);
}

/* It is on disk, and is to have its name. Names may be held for others by now, or be free again. */
static void claim(ImageCommit *c) {
        _cleanup_error_ Error *e = NULL;
        Image *old, *image;
        int r;

        c->step = COMMIT_CLAIM;
        r = find_name(c, &old, &e);
        if (r >= 0 && old)
                r = displace(c, old, &e);
        if (r < 0) {
                undo(c, e);
                return;
        }
        if (!c->reservation->name)
                return; /* on_displaced() goes on */
        image = TAKE_PTR(c->image);
        image_enter(image, TAKE_PTR(c->reservation->name));
        finish(c, image);
}

/* --- In the child */

/* A file system may have no links, or no more of them for this file: then content is not shared. */
static int link_content(const ImageCommit *c, int folder_fd) {
        int dir_fd = c->dir_fd < 0 ? folder_fd : c->dir_fd;

        if (c->shared_content && linkat(c->store->fd, c->shared_content, folder_fd, IMAGE_DISK, 0) >= 0)
                return 0;
        return linkat(dir_fd, c->file, folder_fd, IMAGE_DISK, 0) < 0 ? -errno : 0;
}

static int remove_scrap(const ImageCommit *c, int folder_fd) {
        for (const char *const *s = c->scrap; s && *s; s++)
                if (unlinkat(folder_fd, *s, 0) < 0 && errno != ENOENT)
                        return -errno;
        return 0;
}

/* Nobody writes to it from now on. All may read it who get to it, as qemu-img does that opens it anew by its
 * descriptor; nobody else gets into the folder. */
static int seal_content(int folder_fd) {
        _cleanup_close_ int fd = openat(folder_fd, IMAGE_DISK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return fd < 0 ? -errno : file_acl_clear(fd, 0444);
}

static int work(void *userdata) {
        const ImageCommit *c = userdata;
        int fd = record_fd(c->image->stored), r;

        r = link_content(c, fd);
        if (r >= 0)
                r = remove_scrap(c, fd);
        return r < 0 ? r : seal_content(fd);
}

static int format(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const ImageCommit *c = userdata;
        int r = image_record_format(&c->image->record, ret, ret_len);

        return r < 0 ? error_set_errno(reterr, r, "Image '%s' cannot be put into the store",
                                       image_name(c->image))
                     : 0;
}

static void on_written(void *userdata, int r, const Error *error) {
        ImageCommit *c = userdata;

        if (c->step == COMMIT_UNDO) /* undo() hears it from record_remove() */
                return;
        if (r < 0)
                undo(c, error);
        else
                claim(c);
}

static const RecordChange change = { .format = format, .work = work, .done = on_written };

static int write_record(ImageCommit *c, Error **reterr) {
        c->step = COMMIT_WRITE;
        if (c->shared_content)
                c->image->record.allocated = c->shared_allocated;
        return record_commit(c->image->stored, NULL, &change, c, reterr);
}

static int compare(void *argument) {
        const ImageCommit *c = argument;
        int dir_fd = c->dir_fd < 0 ? record_fd(c->image->stored) : c->dir_fd;
        _cleanup_close_ int a = openat(dir_fd, c->file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW),
                            b = openat(c->store->fd, c->shared_content, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        return a < 0 || b < 0 || file_compare(a, b) != 1;
}

static void on_compared(void *userdata, int status, const char *output, size_t len) {
        _cleanup_error_ Error *e = NULL;
        ImageCommit *c = userdata;

        c->task = task_free(c->task);
        if (status != 0) {
                log_notice("Image '%s' does not share its content with an image that it is said to be the "
                           "same as",
                                image_name(c->image));
                free(TAKE_PTR(c->shared_content));
        }
        if (write_record(c, &e) < 0)
                undo(c, e);
}

/* --- The beginning */

static int share_content(ImageCommit *c, bool *ret_compare) {
        ImageRecord *rec = &c->image->record;
        const Image *same = image_find_by_content(c->store, rec);

        *ret_compare = false;
        if (!same)
                return 0;
        c->shared_content = strf("%s/" IMAGE_DISK, same->record.uuid);
        if (!c->shared_content)
                return -ENOMEM;
        c->shared_allocated = same->record.allocated;
        *ret_compare = same->record.owner != rec->owner;
        return 0;
}

static int begin(ImageCommit *c, bool is_stored, Error **reterr) {
        bool compares = false;
        Image *old;
        int r;

        r = find_name(c, &old, reterr); /* what has no chance is not written at all */
        if (r < 0)
                return r;
        r = is_stored ? 0 : share_content(c, &compares);
        if (r < 0)
                return error_set_errno(
                                reterr, r, "Image '%s' cannot be put into the store", image_name(c->image));
        if (!compares)
                return write_record(c, reterr);
        c->step = COMMIT_COMPARE;
        r = task_call(c->store->core->event, compare, c, COMPARE_TIMEOUT, on_compared, c, &c->task);
        return r < 0 ? error_set_errno(reterr, r, "Image '%s' cannot be put into the store",
                                       image_name(c->image))
                     : 0;
}

static int complete_record(ImageRecord *rec, int dir_fd, const char *file, Error **reterr) {
        char uuid[SD_ID128_UUID_STRING_MAX];
        struct timespec ts;
        struct stat st;
        sd_id128_t id;
        int r = 0;

        clock_gettime(CLOCK_REALTIME, &ts);
        rec->created = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
        if (!rec->uuid) {
                r = sd_id128_randomize(&id);
                if (r >= 0)
                        r = free_and_strdup(&rec->uuid, sd_id128_to_uuid_string(id, uuid));
        }
        if (r >= 0 && fstatat(dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
                r = -errno;
        if (r < 0)
                return error_set_errno(reterr, r, "Image '%s' cannot be put into the store", rec->name);
        rec->allocated = (uint64_t)st.st_blocks * 512;
        return 0;
}

/* The record is the image's on success. */
static int make_image(ImageCommit *c, ImageRecord *rec, Charge *paid, Record **draft, Error **reterr) {
        int dir_fd = draft ? record_fd(*draft) : c->dir_fd, r;
        Core *core = c->store->core;
        const Image *old;

        if (!c->store->records)
                return error_set(reterr, ERROR_CANCELED, "The service ends");
        r = complete_record(rec, dir_fd, c->file, reterr);
        /* A start that finds both decides by this which of them has the name, whatever the clock said. */
        old = c->replaces ? image_find_by_uuid(c->store, c->replaces) : NULL;
        if (old)
                rec->created = MAX(rec->created, old->record.created + 1);
        if (r >= 0 && !paid->accounts)
                r = charge(core->accounts, rec->owner, RESOURCE_IMAGES, 1, paid, reterr);
        if (r < 0)
                return r;
        r = image_new(c->store, rec, paid, rec->created, &c->image);
        if (r < 0)
                return error_set_errno(reterr, r, "There is no place for another image");
        if (!draft)
                return record_new(c->store->records, c->image->record.uuid, c->image, &c->image->stored,
                                reterr);
        c->image->stored = TAKE_PTR(*draft);
        record_set_object(c->image->stored, c->image);
        return 0;
}

int image_commit_new(ImageStore *s, const ImageCommitSpec *spec, ImageCommit **ret, Error **reterr) {
        _cleanup_(image_commit_freep) ImageCommit *c = malloc(sizeof(ImageCommit));
        _cleanup_(image_record_done) ImageRecord rec = *spec->record;
        _cleanup_charge_ Charge paid = charge_take(spec->charge);
        int r;

        *spec->record = (ImageRecord){};
        if (!c)
                return error_set_errno(reterr, -ENOMEM, "There is no place for another image");
        *c = (ImageCommit){
                .store = s,
                .op = spec->op,
                .scrap = spec->scrap,
                .dir_fd = spec->draft ? -EBADF : spec->dir_fd,
                .file = strdup(spec->file),
                .reservation = spec->reservation,
                .replaces = spec->replaces ? strdup(spec->replaces) : NULL,
                .done = spec->done,
                .userdata = spec->userdata,
        };
        if (!c->file || (spec->replaces && !c->replaces))
                return error_set_errno(reterr, -ENOMEM, "There is no place for another image");
        r = make_image(c, &rec, &paid, spec->draft, reterr);
        if (r >= 0)
                r = begin(c, spec->is_stored, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

bool image_commit_cancel(ImageCommit *c) {
        if (c->step == COMMIT_CLAIM)
                return false;
        if (c->step != COMMIT_UNDO)
                undo(c, c->op->reason);
        return true;
}
