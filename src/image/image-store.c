/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/message-ids.h"
#include "image-store.h"
#include "spec/vm-spec.h"
#include "util/fd-util.h"
#include "util/log.h"

#define NAME_TRIES_MAX 1000

static int load_image(void *userdata, Record **record, const Json *document, Error **reterr);

static const char *name_of_image(const void *image) {
        return image_name(image);
}

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
        .name = name_of_image,
        .format = format_image,
};

static int open_store(ImageStore *s, int state_fd) {
        _cleanup_free_ char *path = strf("%s/images", s->core->config.state_dir);
        int r;

        if (!path)
                return -ENOMEM;
        /* Files of images are found again by their path at each start of a VM, by a process of ours. */
        s->fd = make_dir_at(state_fd, "images", 0700);
        if (s->fd < 0)
                return s->fd;
        r = partials_new(s->core->event, s->fd, path, &s->partials);
        return r < 0 ? r : record_store_new(s->core->event, s->fd, path, &record_type, s, &s->records);
}

int image_store_new(Core *core, int state_fd, const ImageHooks *hooks, image_next_user_t next_user,
                void *userdata, ImageStore **ret) {
        _cleanup_(image_store_freep) ImageStore *s = malloc(sizeof(ImageStore));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (ImageStore){
                .core = core, .fd = -EBADF, .hooks = hooks, .next_user = next_user, .userdata = userdata
        };
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
        partials_free(s->partials);
        safe_close(s->fd);
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
                r = record_name_reserve(s->records, name, NULL, ret, reterr);
                if (r >= 0 || !record_name_is_taken(s->records, name))
                        return r;
        }
        return r;
}

/* --- One image */

int image_open(const Image *image) {
        _cleanup_free_ char *path = strf("%s/" IMAGE_DISK, image->record.uuid);

        return path ? open_file_at(image->store->fd, path, O_RDONLY, 0) : -ENOMEM;
}

int image_users(const Image *image, char ***ret) {
        _cleanup_strv_ char **names = NULL;
        const ImageStore *s = image->store;
        const char *name;

        for (size_t i = 0; (name = s->next_user(s->userdata, image, &i));)
                if (strv_extend(&names, name) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(names);
        return 0;
}

bool image_is_in_use(const Image *image) {
        size_t i = 0;

        return image->store->next_user(image->store->userdata, image, &i);
}

/* Kept as the folder's time of modification: nobody has to wait for that, and to lose it does no harm. */
void image_touch(Image *image) {
        struct timespec now;

        clock_gettime(CLOCK_REALTIME, &now);
        image->last_used = (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC;
        (void)utimensat(image->store->fd, image->record.uuid, (struct timespec[]){ now, now }, 0);
        image->store->hooks->image_changed(image->store->userdata, image);
}

void image_enter(Image *image, RecordName *name) {
        image->name = name;
        record_name_set_object(name, image);
        image->store->hooks->image_new(image->store->userdata, image);
}

void image_leave(Image *image) {
        record_name_set_object(image->name, NULL);
        image->store->hooks->image_removed(image->store->userdata, image);
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

        if (record_name_is_taken(s->records, image_name(image)))
                return enter_both(s, image, image_find(s, image_name(image)), reterr);
        r = record_name_reserve(s->records, image_name(image), NULL, &name, reterr);
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
        r = charge_anyway(s->core->accounts, rec.owner, RESOURCE_IMAGES, 1, &charge);
        if (r < 0) {
                image_record_done(&rec);
                return r;
        }
        r = image_new(s, &rec, &charge,
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

        partials_hide_stale(s->partials);
        r = record_store_load(s->records);
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s/images': %m", s->core->config.state_dir);
        tell_of_broken(s);
        return 0;
}
