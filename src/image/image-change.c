/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What changes or removes an image that is there. */
#include "image-operations.h"

static OperationSpec about(const Image *image, uid_t requester, Operation *parent) {
        return (OperationSpec){
                .requester = requester,
                .target = JOB_TARGET_IMAGE,
                .target_name = image_name(image),
                .target_uuid = image->record.uuid,
                .target_owner = image->record.owner,
                .parent = parent,
        };
}

/* Another name, or other users. */
typedef struct ImageChange {
        Operation op;
        Image *image; /* borrowed: when it is removed, that ends its changes first */
        char *text;   /* the new name; NULL: it stays */
        RecordName *name;
        bool only_if_named; /* as it was when this began: op.target_name */
        bool shares, shared;
} ImageChange;

static void change_done(Operation *op) {
        ImageChange *c = (ImageChange *)op;

        record_name_free(c->name);
        free(c->text);
}

/* What has begun to be written cannot be called off. */
static const OperationType change_type = { OPERATION_IMAGE_CHANGE, sizeof(ImageChange),
        .done = change_done };

static int format_change(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const ImageChange *c = userdata;
        ImageRecord rec = c->image->record; /* a view */
        int r;

        if (c->only_if_named && !streq(rec.name, c->op.target_name))
                return error_set(reterr, ERROR_NO_SUCH_IMAGE, "Image '%s' is called '%s' now",
                                c->op.target_name, rec.name);
        if (c->text)
                rec.name = c->text;
        if (c->shares)
                rec.shared = c->shared;
        r = image_record_format(&rec, ret, ret_len);
        return r < 0 ? error_set_errno(reterr, r, "Cannot change image '%s'", rec.name) : 0;
}

/* The object on the bus is known by the name, and who may not see it any more is told that it is gone: it
 * goes and comes. */
static void apply(ImageChange *c) {
        RecordName *old = c->image->name;
        Image *image = c->image;

        image_leave(image);
        if (c->shares)
                image->record.shared = c->shared;
        if (c->text) {
                free(image->record.name);
                image->record.name = TAKE_PTR(c->text);
                record_name_free(old);
                old = TAKE_PTR(c->name);
        }
        image_enter(image, old);
}

static void on_changed(void *userdata, int r, const Error *error) {
        ImageChange *c = userdata;

        if (r < 0) {
                c->name = record_name_free(c->name); /* whoever hears of it can take it */
                operation_fail(&c->op, error);
                return;
        }
        apply(c);
        operation_complete(&c->op, NULL);
}

static const RecordChange record_change = { .format = format_change, .done = on_changed };

static int change_new(Image *image, uid_t requester, Operation *parent, waiter_t done, void *userdata,
                ImageChange **ret, Error **reterr) {
        const OperationSpec spec = about(image, requester, parent);
        Operation *op;
        int r;

        r = operation_new(&image->store->core->operations, &change_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        r = operation_wait(op, parent, done, userdata, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        *ret = (ImageChange *)op;
        (*ret)->image = image;
        return 0;
}

static int change_begin(ImageChange *c, Error **reterr) {
        int r = record_write(c->image->stored, &record_change, c, reterr);

        if (r >= 0)
                return 0;
        c->name = record_name_free(c->name);
        operation_drop(&c->op, reterr);
        return r;
}

static int admit_change(Image *image, Error **reterr) {
        Operation *other;

        return operation_admit(&image->store->core->operations, OPERATION_IMAGE_CHANGE, image->record.uuid,
                        image_name(image), &other, reterr);
}

/* *name is taken over, and NULL then, or stays the caller's. */
static int rename_to(Image *image, RecordName **name, uid_t requester, Operation *parent, waiter_t done,
                void *userdata, Error **reterr) {
        char *text = strdup(record_name(*name));
        ImageChange *c;
        int r;

        if (!text)
                return error_set_errno(reterr, -ENOMEM, "Cannot rename image '%s'", image_name(image));
        r = change_new(image, requester, parent, done, userdata, &c, reterr);
        if (r < 0) {
                free(text);
                return r;
        }
        c->text = text;
        c->name = TAKE_PTR(*name);
        c->only_if_named = parent;
        return change_begin(c, reterr);
}

int image_rename(Image *image, const char *name, uid_t requester, waiter_t done, void *userdata,
                Error **reterr) {
        _cleanup_(record_name_freep) RecordName *reserved = NULL;
        int r;

        r = admit_change(image, reterr);
        if (r >= 0)
                r = record_name_reserve(image->store->records, name, NULL, &reserved, reterr);
        return r < 0 ? r : rename_to(image, &reserved, requester, NULL, done, userdata, reterr);
}

int image_displace(Image *image, RecordName **other, Operation *parent, waiter_t done, void *userdata,
                Error **reterr) {
        return rename_to(image, other, parent->requester, parent, done, userdata, reterr);
}

int image_set_shared(
                Image *image, bool shared, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        ImageChange *c;
        int r;

        r = admit_change(image, reterr);
        if (r >= 0)
                r = change_new(image, requester, NULL, done, userdata, &c, reterr);
        if (r < 0)
                return r;
        c->shares = true;
        c->shared = shared;
        return change_begin(c, reterr);
}

static int check_unused(const Image *image, Error **reterr) {
        _cleanup_strv_ char **users = NULL;

        if (image_users(image, &users) < 0)
                return error_set_errno(reterr, -ENOMEM, "Cannot remove image '%s'", image_name(image));
        if (users)
                return error_set(reterr, ERROR_IMAGE_IN_USE, "Image '%s' is needed by VM '%s'%s",
                                image_name(image), users[0], users[1] ? " and others" : "");
        return 0;
}

static int admit_removal(const Image *image, Error **reterr) {
        Operation *other;
        int r;

        r = check_unused(image, reterr);
        return r < 0 ? r
                     : operation_admit(&image->store->core->operations, OPERATION_IMAGE_REMOVE,
                                       image->record.uuid, image_name(image), &other, reterr);
}

/* It is out of the store when this returns 0. */
static int take_away(Image *image, waiter_t done, void *userdata, RecordName **ret_name, Error **reterr) {
        int r;

        r = record_remove(&image->stored, done, userdata, reterr);
        if (r < 0)
                return r;
        image_leave(image);
        if (ret_name)
                *ret_name = TAKE_PTR(image->name);
        image_free(image);
        return 0;
}

int image_discard(Image *image, Error **reterr) {
        int r = admit_removal(image, reterr);

        return r < 0 ? r : take_away(image, NULL, NULL, NULL, reterr);
}

int image_supersede(Image *image, RecordName **ret_name, Error **reterr) {
        int r = check_unused(image, reterr);

        return r < 0 ? r : take_away(image, NULL, NULL, ret_name, reterr);
}

static const OperationType removal_type = { OPERATION_IMAGE_REMOVE, sizeof(Operation) };

/* That files are left is no failure of the removal: the next start tries again. */
static void on_files_gone(void *userdata, int r, const Error *error) {
        operation_complete(userdata, NULL);
}

int image_remove(Image *image, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        const OperationSpec spec = about(image, requester, NULL);
        Operation *op;
        int r;

        r = admit_removal(image, reterr);
        if (r >= 0)
                r = operation_new(&image->store->core->operations, &removal_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r >= 0)
                r = take_away(image, on_files_gone, op, NULL, reterr);
        if (r < 0)
                operation_drop(op, reterr);
        return r < 0 ? r : 0;
}
