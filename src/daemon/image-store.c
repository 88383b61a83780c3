/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "image-transfer.h"
#include "manager.h"
#include "message-ids.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"

#define DELETE_TIMEOUT (10 * 60 * USEC_PER_SEC) /* as for records; the next start-up would finish it */
#define PARTIAL_AGE_MAX (7 * 24 * 3600)         /* seconds; as in tmpfiles.d/vmctl.conf */
#define NAME_TRIES_MAX 1000

/* Of a download of which nothing is needed any more. */
typedef struct Deletion {
        ImageStore *store;
        char *folder;
        Task *task;
        struct Deletion *next;
} Deletion;

static Deletion *deletion_free(Deletion *d) {
        if (!d)
                return NULL;
        task_free(d->task);
        free(d->folder);
        free(d);
        return NULL;
}
DEFINE_CLEANUP(Deletion *, deletion_free);

static int load_image(void *userdata, Record **record, const Json *document, Error **reterr);

static int format_image(void *object, char **ret, size_t *ret_len) {
        const Image *image = object;

        return image_record_format(&image->record, ret, ret_len);
}

static const RecordType record_type = {
        .document = IMAGE_RECORD_FILE,
        .kind = "image",
        .size_max = IMAGE_RECORD_MAX_SIZE,
        .sealed_since = IMAGE_RECORD_SEALED_SINCE,
        .exists = ERROR_IMAGE_EXISTS,
        .check_name = vm_name_check,
        .load = load_image,
        .format = format_image,
};

static int open_store(ImageStore *s, int state_fd) {
        _cleanup_free_ char *path = strf("%s/images", s->manager->config.state_dir);

        if (!path)
                return -ENOMEM;
        /* Files of images are found again by their path at each start of a VM, by a process of ours. */
        s->fd = make_dir_at(state_fd, "images", 0700);
        if (s->fd < 0)
                return s->fd;
        s->partial_fd = make_dir_at(s->fd, ".partial", 0700);
        if (s->partial_fd < 0)
                return s->partial_fd;
        return record_store_new(s->manager->event, s->fd, path, &record_type, s, &s->records);
}

int image_store_new(Manager *manager, int state_fd, ImageStore **ret) {
        _cleanup_(image_store_freep) ImageStore *s = malloc(sizeof(ImageStore));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (ImageStore){ .manager = manager, .fd = -EBADF, .partial_fd = -EBADF };
        r = open_store(s, state_fd);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

/* What this completes finds nothing to go on with. */
void image_store_close(ImageStore *s) {
        RecordStore *records;
        Image *image;

        if (!s)
                return;
        records = TAKE_PTR(s->records);
        for (size_t i = 0; records && (image = record_store_next(records, &i)); i = 0)
                image_free(image);
        record_store_free(records);
}

ImageStore *image_store_free(ImageStore *s) {
        if (!s)
                return NULL;
        image_store_close(s);
        transfers_free(s);
        while (s->deletions) {
                Deletion *d = s->deletions;

                s->deletions = d->next;
                deletion_free(d);
        }
        safe_close(s->fd);
        safe_close(s->partial_fd);
        free(s);
        return NULL;
}

Image *image_store_next(const ImageStore *s, size_t *i) {
        return s->records ? record_store_next(s->records, i) : NULL;
}

Image *image_find(const ImageStore *s, const char *name) {
        return s->records ? record_store_find(s->records, name) : NULL;
}

Image *image_find_by_uuid(const ImageStore *s, const char *uuid) {
        Image *image;

        for (size_t i = 0; (image = image_store_next(s, &i));)
                if (streq_ptr(image->record.uuid, uuid))
                        return image;
        return NULL;
}

/* The caller's own goes before one that is shared by somebody else. */
Image *image_find_by_url(const ImageStore *s, const char *url, uid_t user) {
        Image *found = NULL, *image;

        for (size_t i = 0; (image = image_store_next(s, &i));) {
                if (!streq_ptr(image->record.url, url) || !image_may_be_used_by(image, user))
                        continue;
                if (image->record.owner == user)
                        return image;
                found = image;
        }
        return found;
}

/* What a worker said the content is: so it is only a hint for images of others (image-commit.c). */
Image *image_find_by_content(const ImageStore *s, const ImageRecord *rec) {
        Image *found = NULL, *image;

        for (size_t i = 0; (image = image_store_next(s, &i));) {
                if (!streq(image->record.content_digest, rec->content_digest) ||
                                image->record.size != rec->size ||
                                !streq(image->record.format, rec->format) ||
                                !image_may_be_used_by(image, rec->owner))
                        continue;
                if (image->record.owner == rec->owner)
                        return image;
                found = image;
        }
        return found;
}

int image_get(const ImageStore *s, const char *name, uid_t user, Image **ret, Error **reterr) {
        Image *image = image_find(s, name);
        int r;

        if (!image || !image_may_be_used_by(image, user)) {
                r = vm_name_check(name, reterr);
                return r < 0 ? r : error_set(reterr, ERROR_NO_SUCH_IMAGE, "There is no image '%s'", name);
        }
        *ret = image;
        return 0;
}

int image_reserve_displaced(ImageStore *s, const ImageRecord *rec, RecordName **ret, Error **reterr) {
        int r = 0;

        for (int i = 1; i <= NAME_TRIES_MAX; i++) {
                _cleanup_free_ char *name = i == 1
                                ? strf("%.*s-%.8s", VM_NAME_MAX - 9, rec->name, rec->uuid)
                                : strf("%.*s-%.8s-%i", VM_NAME_MAX - 14, rec->name, rec->uuid, i);

                if (!name)
                        return error_set_errno(reterr, -ENOMEM, "Cannot rename image '%s'", rec->name);
                r = record_name_reserve(s->records, name, rec->owner, NULL, ret, reterr);
                if (r >= 0 || !record_name_is_taken(s->records, name, NULL))
                        return r;
        }
        return r;
}

/* --- Downloads that nobody goes on with */

static int delete (void *argument) {
        const Deletion *d = argument;

        return remove_tree_at(d->store->fd, d->folder) < 0;
}

static void on_deleted(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(deletion_freep) Deletion *d = userdata;

        for (Deletion **p = &d->store->deletions; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        if (status != 0)
                log_warning("'%s/images/%s' could not be deleted", d->store->manager->config.state_dir,
                                d->folder);
}

/* From now on it is in nobody's way; what is called so dies with the service. */
static int hide_partial(const ImageStore *s, const char *folder, char **ret) {
        _cleanup_free_ char *hidden = NULL;
        char uuid[SD_ID128_UUID_STRING_MAX];
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        hidden = strf(".old-%s", sd_id128_to_uuid_string(id, uuid));
        if (!hidden)
                return -ENOMEM;
        if (renameat(s->partial_fd, folder, s->fd, hidden) < 0)
                return -errno;
        *ret = TAKE_PTR(hidden);
        return 0;
}

void image_store_delete_partial(ImageStore *s, const char *folder) {
        _cleanup_(deletion_freep) Deletion *d = malloc(sizeof(Deletion));
        int r = -ENOMEM;

        if (d) {
                *d = (Deletion){ .store = s, .next = s->deletions };
                r = hide_partial(s, folder, &d->folder);
        }
        if (r >= 0)
                r = task_call(s->manager->event, delete, d, DELETE_TIMEOUT, on_deleted, d, &d->task);
        if (r < 0)
                log_warning_errno(r, "Cannot delete the download '%s', ignoring: %m", folder);
        else
                s->deletions = TAKE_PTR(d);
}

/* Nobody went on with it for a week. */
static bool is_stale(const ImageStore *s, const char *folder) {
        struct stat st;

        return fstatat(s->partial_fd, folder, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        st.st_mtim.tv_sec + PARTIAL_AGE_MAX < time(NULL);
}

/* Before anybody pulls; the store deletes them with all else that is left over. */
static void hide_stale(const ImageStore *s) {
        int fd = openat(s->partial_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_strv_ char **stale = NULL;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        for (struct dirent *de; dir && (de = readdir(dir));)
                if (de->d_name[0] != '.' && is_stale(s, de->d_name))
                        (void)strv_extend(&stale, de->d_name);
        if (dir)
                closedir(dir);
        STRV_FOREACH(folder, stale) {
                _cleanup_free_ char *hidden = NULL;
                int r = hide_partial(s, *folder, &hidden);

                if (r < 0)
                        log_warning_errno(r, "Cannot delete the download '%s', ignoring: %m", *folder);
        }
}

/* --- The start */

/* Two of one name: a service that died had put a newer image in the place of one that VMs need still, or
 * somebody copied a folder. The newer one has it. */
static int enter_both(ImageStore *s, Image *image, Image *there, Error **reterr) {
        Image *older = there && there->record.created < image->record.created ? there : image;
        RecordName *other, *name;
        char *text;
        int r;

        r = image_reserve_displaced(s, &older->record, &other, reterr);
        if (r < 0)
                return r;
        text = strdup(record_name(other));
        if (!text) {
                record_name_free(other);
                return -ENOMEM;
        }
        name = older == there ? there->name : NULL;
        if (older == there)
                image_leave(there);
        free(older->record.name);
        older->record.name = text;
        image_enter(older, other);
        if (older == there)
                image_enter(image, name);
        return 0;
}

static int enter_loaded(ImageStore *s, Image *image, Error **reterr) {
        RecordName *name;
        int r;

        if (record_name_is_taken(s->records, image_name(image), NULL))
                return enter_both(s, image, image_find(s, image_name(image)), reterr);
        r = record_name_reserve(s->records, image_name(image), image->record.owner, NULL, &name, reterr);
        if (r >= 0)
                image_enter(image, name);
        return r;
}

static int load_image(void *userdata, Record **record, const Json *document, Error **reterr) {
        _cleanup_(image_freep) Image *image = NULL;
        _cleanup_charge_ Charge charge = {};
        ImageStore *s = userdata;
        ImageRecord rec;
        struct stat st;
        int r;

        if (fstatat(s->fd, record_folder(*record), &st, AT_SYMLINK_NOFOLLOW) < 0)
                return error_set_errno(reterr, -errno, "It cannot be looked at");
        r = image_record_read(document, &rec, reterr);
        if (r < 0)
                return r;
        r = charge_anyway(s->manager->accounts, rec.owner, RESOURCE_IMAGES, 1, &charge);
        if (r < 0) {
                image_record_done(&rec);
                return r;
        }
        r = image_new(s->manager, &rec, &charge,
                        (uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC +
                                        (uint64_t)st.st_mtim.tv_nsec / NSEC_PER_USEC,
                        &image);
        if (r >= 0)
                r = enter_loaded(s, image, reterr);
        if (r < 0)
                return r;
        record_set_object(*record, image);
        TAKE_PTR(image)->stored = TAKE_PTR(*record);
        return 0;
}

static void tell_of_broken(const ImageStore *s) {
        const LogSubject subject = { .message_id = MESSAGE_RECORD_BROKEN };
        const RecordBroken *broken;
        size_t n;

        broken = record_store_broken(s->records, &n);
        for (size_t i = 0; i < n; i++)
                log_at(LOG_ERR, &subject, "Ignoring image '%s', as '%s' cannot be read: %s", broken[i].name,
                                broken[i].path, broken[i].reason);
}

int image_store_load(ImageStore *s) {
        int r;

        hide_stale(s);
        r = record_store_load(s->records);
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s/images': %m", s->manager->config.state_dir);
        tell_of_broken(s);
        return 0;
}
