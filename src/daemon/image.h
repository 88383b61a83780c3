/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An image of the store: a file that never changes once it is there, and what is known of it. Images of the
 * same content share the file: it has a link in the folder of each, so the file system counts its users, and
 * nothing is left behind when the last folder goes. VMs hold an image by its UUID. */

#include "accounts.h"
#include "operation.h"
#include "record-store.h"
#include "spec/image-record.h"

typedef struct Manager Manager;

typedef struct Image {
        Manager *manager;   /* borrowed */
        ImageRecord record; /* as it is on disk */
        RecordName *name;   /* owned; NULL: it is about to come */
        Record *stored;     /* owned; its folder */
        Charge charge;      /* the owner's */
        uint64_t last_used; /* usec, CLOCK_REALTIME: when a VM was made from it, or it came */
} Image;

/* An image of this record, charged for. Both are taken over, also on failure. It is not in the index yet. */
int image_new(Manager *manager, ImageRecord *record, Charge *charge, uint64_t last_used, Image **ret);
Image *image_free(Image *image); /* its files stay, unless they are a draft */
DEFINE_CLEANUP(Image *, image_free);

static inline const char *image_name(const Image *image) {
        return image->record.name;
}

/* Its owner may use it, and everybody one that is shared; root uses no others, but may manage all. */
bool image_may_be_used_by(const Image *image, uid_t uid);

/* Opens the file for reading. Negative errno. */
int image_open(const Image *image);

/* The VMs made from it, a vector of names that the caller frees; and whether there are any. */
int image_users(const Image *image, char ***ret);
bool image_is_in_use(const Image *image);
void image_touch(Image *image); /* a VM is made from it now */

/* The operations, each for whoever asked. Each either fails with a negative errno and an error, and then
 * calls nobody, or returns 0 and calls `done` once, later. The name, or who may use it, is another one when
 * that is on disk. ERROR_IMAGE_EXISTS, ERROR_BUSY. */
int image_rename(Image *image, const char *name, uid_t requester, waiter_t done, void *userdata,
                Error **reterr);
int image_set_shared(
                Image *image, bool shared, uid_t requester, waiter_t done, void *userdata, Error **reterr);

/* The image is gone from the index at once; `done` is called when its files are gone, too.
 * ERROR_IMAGE_IN_USE, ERROR_BUSY. */
int image_remove(Image *image, uid_t requester, waiter_t done, void *userdata, Error **reterr);

/* The same where nobody waits for the files. */
int image_discard(Image *image, Error **reterr);

/* Writes a copy to fd (borrowed): a job. `format` and `compression` may be NULL. */
int image_export(Image *image, int fd, const char *format, const char *compression, uid_t requester,
                Job **ret, Error **reterr);

/* For the store. Into the index under its name (taken over), and out of it, the name staying its own. */
void image_enter(Image *image, RecordName *name);
void image_leave(Image *image);

/* A newer image takes the name of this one, if it is called so still. Its users keep it under the name
 * `other` (taken over), when that is on disk: part of `parent`, calls `done` as above. */
int image_displace(Image *image, RecordName **other, Operation *parent, waiter_t done, void *userdata,
                Error **reterr);

/* The same for one without users: it is removed at once, and its name handed over. */
int image_supersede(Image *image, RecordName **ret_name, Error **reterr);
