/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "manager.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"

#define SAVE_TIMEOUT (30 * USEC_PER_SEC)

/* A new record on its way to the disk; the image has it when it is there. */
typedef struct ImageChange {
        Image *image; /* borrowed */
        char *name;   /* NULL: stays */
        bool shared;
        char *text;
        size_t len;
        waiter_t done;
        void *userdata;
        Task *task;
} ImageChange;

static ImageChange *change_free(ImageChange *c) {
        if (!c)
                return NULL;
        task_free(c->task);
        free(c->name);
        free(c->text);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(ImageChange *, change_free);

int image_new(Manager *manager, ImageRecord *record, uint64_t last_used, Image **ret) {
        Image *image = malloc(sizeof(Image));

        if (!image) {
                image_record_done(record);
                return -ENOMEM;
        }
        *image = (Image){ .manager = manager, .record = *record, .last_used = last_used };
        *record = (ImageRecord){};
        *ret = image;
        return 0;
}

Image *image_free(Image *image) {
        if (!image)
                return NULL;
        change_free(image->change);
        record_free(image->stored);
        image_record_done(&image->record);
        free(image);
        return NULL;
}

bool image_may_be_used_by(const Image *image, uid_t uid) {
        return image->record.shared || image->record.owner == uid || uid == 0;
}

int image_open(const Image *image) {
        _cleanup_free_ char *path = strf("%s/" IMAGE_DISK, image->record.uuid);
        int fd;

        if (!path)
                return -ENOMEM;
        fd = openat(image->manager->images->fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        return fd < 0 ? -errno : fd;
}

static bool is_used_by(const Image *image, const Vm *vm) {
        return streq_ptr(vm->record.image_uuid, image->record.uuid);
}

int image_users(const Image *image, char ***ret) {
        _cleanup_strv_ char **names = NULL;
        const Manager *m = image->manager;

        for (size_t i = 0; i < m->n_vms; i++)
                if (is_used_by(image, m->vms[i]) && strv_extend(&names, vm_name(m->vms[i])) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(names);
        return 0;
}

bool image_is_in_use(const Image *image) {
        const Manager *m = image->manager;

        for (size_t i = 0; i < m->n_vms; i++)
                if (is_used_by(image, m->vms[i]))
                        return true;
        return false;
}

/* Kept as the folder's time of modification: nobody has to wait for that, and to lose it does no harm. */
void image_touch(Image *image) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        image->last_used = (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
        (void)utimensat(image->manager->images->fd, image->record.uuid, (struct timespec[]){ now, now }, 0);
        image->manager->hooks->image_changed(image->manager, image);
}

static int save(void *argument) {
        const ImageChange *c = argument;
        _cleanup_close_ int fd = openat(c->image->manager->images->fd, c->image->record.uuid,
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        int r = fd < 0 ? -errno
                       : write_file_at(fd, IMAGE_RECORD_FILE, c->text, c->len, 0600, WRITE_FILE_SYNC);

        return r < 0 ? MIN(-r, 254) : 0;
}

/* The object on the bus is known by the name: it goes and comes. */
static int take_name(Image *image, char *name) {
        ImageStore *s = image->manager->images;

        image_store_take_out(s, image);
        free(image->record.name);
        image->record.name = name;
        return image_store_add(s, image);
}

static void on_saved(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(change_freep) ImageChange *c = userdata;
        _cleanup_error_ Error *e = NULL;
        Image *image = c->image;
        int r = status > 0 ? -status : status;

        image->change = NULL;
        if (c->name)
                image_name_release(image->manager->images, c->name);
        if (r < 0)
                (void)error_set_errno(
                                &e, r, "The record of image '%s' cannot be written", image_name(image));
        else if (c->name) {
                r = take_name(image, TAKE_PTR(c->name));
                if (r < 0)
                        (void)error_set_errno(&e, r, "The image cannot be renamed");
        } else {
                /* Those who see it no longer are told that it is gone, and others that it is there. */
                image_store_take_out(image->manager->images, image);
                image->record.shared = c->shared;
                r = image_store_add(image->manager->images, image);
        }
        if (c->done)
                c->done(c->userdata, r, e);
}

static int change(
                Image *image, const char *name, bool shared, waiter_t done, void *userdata, Error **reterr) {
        _cleanup_(change_freep) ImageChange *c = malloc(sizeof(ImageChange));
        ImageRecord rec = image->record; /* a view */
        int r;

        if (!c)
                return error_set_errno(reterr, -ENOMEM, "Cannot change image '%s'", image_name(image));
        *c = (ImageChange){ .image = image, .shared = shared, .done = done, .userdata = userdata };
        if (image->change)
                return error_set(reterr, ERROR_BUSY, "Image '%s' is being changed already",
                                image_name(image));
        r = free_and_strdup(&c->name, name);
        rec.name = c->name ?: rec.name;
        rec.shared = shared;
        if (r >= 0)
                r = image_record_format(&rec, &c->text, &c->len);
        if (r >= 0)
                r = task_call(image->manager->event, save, c, SAVE_TIMEOUT, on_saved, c, &c->task);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot change image '%s'", image_name(image));
        image->change = TAKE_PTR(c);
        return 0;
}

int image_rename(Image *image, const char *name, waiter_t done, void *userdata, Error **reterr) {
        int r;

        r = image_name_reserve(image->manager->images, name, reterr);
        if (r < 0)
                return r;
        r = change(image, name, image->record.shared, done, userdata, reterr);
        if (r < 0)
                image_name_release(image->manager->images, name);
        return r;
}

int image_set_shared(Image *image, bool shared, waiter_t done, void *userdata, Error **reterr) {
        return change(image, NULL, shared, done, userdata, reterr);
}

int image_remove(Image *image, Error **reterr) {
        _cleanup_free_ char *hidden = strf(".old-%s", image->record.uuid);
        ImageStore *s = image->manager->images;
        _cleanup_strv_ char **users = NULL;

        if (!hidden || image_users(image, &users) < 0)
                return error_set_errno(reterr, -ENOMEM, "Cannot remove image '%s'", image_name(image));
        if (users)
                return error_set(reterr, ERROR_IMAGE_IN_USE, "Image '%s' is needed by VM '%s'%s",
                                image_name(image), users[0], users[1] ? " and others" : "");
        if (image->change)
                return error_set(reterr, ERROR_BUSY, "Image '%s' is being changed", image_name(image));
        if (renameat(s->fd, image->record.uuid, s->fd, hidden) < 0 && errno != ENOENT)
                return error_set_errno(reterr, -errno, "Cannot remove image '%s'", image_name(image));
        image_store_take_out(s, image);
        image_free(image);
        image_store_delete(s, hidden);
        return 0;
}
