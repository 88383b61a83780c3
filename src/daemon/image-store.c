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
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"

#define DELETE_TIMEOUT (10 * 60 * USEC_PER_SEC) /* as for VMs; the next start-up would finish it */
#define PARTIAL_AGE_MAX (7 * 24 * 3600)         /* seconds; as in tmpfiles.d/vmctl.conf */

typedef struct Deletion {
        ImageStore *store;
        char *folder; /* NULL: transfers that nobody went on with */
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

ImageStore *image_store_free(ImageStore *s) {
        if (!s)
                return NULL;
        transfers_free(s);
        image_store_forget_commits(s);
        for (size_t i = 0; i < s->n_images; i++)
                image_free(s->images[i]);
        free(s->images);
        while (s->deletions) {
                Deletion *d = s->deletions;

                s->deletions = d->next;
                deletion_free(d);
        }
        record_store_free(s->records);
        strv_free(s->reserved);
        safe_close(s->fd);
        safe_close(s->partial_fd);
        free(s);
        return NULL;
}

/* The index of the first image whose name is not below `name`. */
static size_t position(const ImageStore *s, const char *name) {
        size_t low = 0, high = s->n_images;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (strcmp(image_name(s->images[middle]), name) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

Image *image_find(const ImageStore *s, const char *name) {
        size_t i = position(s, name);

        return i < s->n_images && streq(image_name(s->images[i]), name) ? s->images[i] : NULL;
}

Image *image_find_by_uuid(const ImageStore *s, const char *uuid) {
        for (size_t i = 0; i < s->n_images; i++)
                if (streq_ptr(s->images[i]->record.uuid, uuid))
                        return s->images[i];
        return NULL;
}

/* The caller's own goes before one that is shared by somebody else. */
Image *image_find_by_url(const ImageStore *s, const char *url, uid_t user) {
        Image *found = NULL;

        for (size_t i = 0; i < s->n_images; i++) {
                Image *image = s->images[i];

                if (!streq_ptr(image->record.url, url) || !image_may_be_used_by(image, user))
                        continue;
                if (image->record.owner == user)
                        return image;
                found = image;
        }
        return found;
}

/* Only among those that its owner may use: who claims a digest gets nothing that was not his already. */
Image *image_find_by_content(const ImageStore *s, const ImageRecord *rec) {
        for (size_t i = 0; i < s->n_images; i++) {
                Image *image = s->images[i];

                if (streq(image->record.content_digest, rec->content_digest) &&
                                image->record.size == rec->size &&
                                streq(image->record.format, rec->format) &&
                                image_may_be_used_by(image, rec->owner))
                        return image;
        }
        return NULL;
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

int image_name_reserve(ImageStore *s, const char *name, Error **reterr) {
        int r;

        r = vm_name_check(name, reterr);
        if (r < 0)
                return r;
        if (image_find(s, name) || strv_contains(s->reserved, name) ||
                        record_name_is_taken(s->records, name, NULL))
                return error_set(reterr, ERROR_IMAGE_EXISTS, "There already is an image '%s'", name);
        r = strv_extend(&s->reserved, name);
        return r < 0 ? error_set_errno(reterr, r, "Cannot reserve the name '%s'", name) : 0;
}

void image_name_release(ImageStore *s, const char *name) {
        size_t kept = 0;

        for (size_t i = 0; s->reserved && s->reserved[i]; i++)
                if (streq(s->reserved[i], name))
                        free(s->reserved[i]);
                else
                        s->reserved[kept++] = s->reserved[i];
        if (s->reserved)
                s->reserved[kept] = NULL;
}

int image_store_add(ImageStore *s, Image *image) {
        size_t i = position(s, image_name(image));
        Image **grown = reallocarray(s->images, s->n_images + 1, sizeof(Image *));

        if (!grown) {
                image_free(image);
                return -ENOMEM;
        }
        s->images = grown;
        memmove(s->images + i + 1, s->images + i, (s->n_images++ - i) * sizeof(Image *));
        s->images[i] = image;
        s->manager->hooks->image_new(s->manager, image);
        return 0;
}

void image_store_take_out(ImageStore *s, Image *image) {
        size_t i = position(s, image_name(image));

        memmove(s->images + i, s->images + i + 1, (--s->n_images - i) * sizeof(Image *));
        s->manager->hooks->image_removed(s->manager, image);
}

/* Nobody went on with it for a week. */
static bool is_stale(int dir_fd, const char *name) {
        struct stat st;

        return fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        st.st_mtim.tv_sec + PARTIAL_AGE_MAX < time(NULL);
}

static int sweep_partial(int dir_fd) {
        int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        for (struct dirent *de; dir && (de = readdir(dir));)
                if (de->d_name[0] != '.' && is_stale(dir_fd, de->d_name) &&
                                remove_tree_at(dir_fd, de->d_name) < 0)
                        r = 1;
        return r;
}

static int delete (void *argument) {
        const Deletion *d = argument;

        if (d->folder)
                return remove_tree_at(d->store->fd, d->folder) < 0;
        return sweep_partial(d->store->partial_fd);
}

static void on_deleted(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(deletion_freep) Deletion *d = userdata;

        for (Deletion **p = &d->store->deletions; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        if (status != 0)
                log_warning("Some files of removed images could not be deleted from '%s/images'",
                                d->store->manager->config.state_dir);
}

void image_store_delete(ImageStore *s, const char *folder) {
        _cleanup_(deletion_freep) Deletion *d = malloc(sizeof(Deletion));

        if (d)
                *d = (Deletion){ .store = s, .next = s->deletions };
        if (!d || free_and_strdup(&d->folder, folder) < 0 ||
                        task_call(s->manager->event, delete, d, DELETE_TIMEOUT, on_deleted, d, &d->task) <
                                        0) {
                log_error("'%s' in the store of images is deleted at the next start-up",
                                folder ?: "What is left");
                return;
        }
        s->deletions = TAKE_PTR(d);
}

/* Two of one name: a service that died had put a newer image in the place of one that VMs need still. */
static int make_name_unique(ImageStore *s, ImageRecord *rec) {
        Image *other = image_find(s, rec->name);
        ImageRecord *older;
        char *name;

        if (!other)
                return 0;
        older = other->record.created < rec->created ? &other->record : rec;
        name = image_displaced_name(older);
        if (!name)
                return -ENOMEM;
        if (older == &other->record)
                image_store_take_out(s, other);
        free(older->name);
        older->name = name;
        return older == rec ? 0 : image_store_add(s, other);
}

/* The folder's time of modification: see image_touch(). */
static uint64_t last_used(const ImageStore *s, const char *folder) {
        struct stat st;

        if (fstatat(s->fd, folder, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return 0;
        return (uint64_t)st.st_mtim.tv_sec * USEC_PER_SEC + (uint64_t)st.st_mtim.tv_nsec / NSEC_PER_USEC;
}

static int load_image(void *userdata, Record **record, const Json *document, Error **reterr) {
        ImageStore *s = userdata;
        ImageRecord rec;
        Image *image;
        int r;

        r = image_record_read(document, &rec, reterr);
        if (r < 0)
                return r;
        r = make_name_unique(s, &rec);
        if (r < 0) {
                image_record_done(&rec);
                return r;
        }
        r = image_new(s->manager, &rec, last_used(s, record_folder(*record)), &image);
        if (r < 0)
                return r;
        image->stored = TAKE_PTR(*record);
        record_set_object(image->stored, image);
        return image_store_add(s, image);
}

static int format_image(void *object, char **ret, size_t *ret_len) {
        const Image *image = object;

        return image_record_format(&image->record, ret, ret_len);
}

static const RecordType image_records = {
        .document = IMAGE_RECORD_FILE,
        .kind = "image",
        .size_max = IMAGE_RECORD_MAX_SIZE,
        .sealed_since = IMAGE_RECORD_SEALED_SINCE,
        .exists = ERROR_IMAGE_EXISTS,
        .check_name = vm_name_check,
        .load = load_image,
        .format = format_image,
};

int image_store_new(Manager *manager, int state_fd, ImageStore **ret) {
        _cleanup_(image_store_freep) ImageStore *s = malloc(sizeof(ImageStore));
        _cleanup_free_ char *path = NULL;
        int r;

        if (!s)
                return -ENOMEM;
        *s = (ImageStore){ .manager = manager, .fd = -EBADF, .partial_fd = -EBADF };
        /* Files of images are found again by their path at each start of a VM, by a process of ours. */
        s->fd = make_dir_at(state_fd, "images", 0700);
        if (s->fd < 0)
                return s->fd;
        s->partial_fd = make_dir_at(s->fd, ".partial", 0700);
        if (s->partial_fd < 0)
                return s->partial_fd;
        path = strf("%s/images", manager->config.state_dir);
        r = path ? record_store_new(manager->event, s->fd, path, &image_records, s, &s->records) : -ENOMEM;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int image_store_load(ImageStore *s) {
        const RecordBroken *b;
        size_t n;
        int r;

        r = record_store_load(s->records);
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s/images': %m", s->manager->config.state_dir);
        b = record_store_broken(s->records, &n);
        for (size_t i = 0; i < n; i++)
                log_error("Ignoring image '%s', as '%s' cannot be read: %s", b[i].name, b[i].path,
                                b[i].reason);
        image_store_delete(s, NULL);
        return 0;
}
