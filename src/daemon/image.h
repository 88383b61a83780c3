/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An image of the store: a file that never changes once it is there, and what is known of it. Images of the
 * same content share the file: it has a link in the folder of each, so the file system counts its users, and
 * nothing is left behind when the last folder goes. VMs hold an image by its UUID. */

#include "job.h"
#include "record-store.h"
#include "spec/image-record.h"
#include "waiters.h"

typedef struct Image Image;
typedef struct Task Task;

struct Image {
        Manager *manager; /* borrowed */
        ImageRecord record;
        Record *stored;             /* owned: the folder */
        uint64_t last_used;         /* usec, CLOCK_REALTIME: when a VM was made from it, or it came */
        struct ImageChange *change; /* owned; its record being written, or its folder being removed */
};

/* An image of this record, which is taken over (also on failure). */
int image_new(Manager *manager, ImageRecord *record, uint64_t last_used, Image **ret);
Image *image_free(Image *image);
DEFINE_CLEANUP(Image *, image_free);

static inline const char *image_name(const Image *image) {
        return image->record.name;
}
bool image_may_be_used_by(const Image *image, uid_t uid); /* its owner, root, or it is shared */

/* Opens the file for reading. Negative errno. */
int image_open(const Image *image);

/* The VMs made from it, a vector of names that the caller frees; and whether there are any. */
int image_users(const Image *image, char ***ret);
bool image_is_in_use(const Image *image);
void image_touch(Image *image); /* a VM is made from it now */

/* The operations. Each either fails with a negative errno and an error, and then calls nobody, or returns 0
 * and calls `done` once, later, when the change is on disk. One at a time: else ERROR_BUSY. */
int image_rename(Image *image, const char *name, waiter_t done, void *userdata, Error **reterr);
int image_set_shared(Image *image, bool shared, waiter_t done, void *userdata, Error **reterr);

/* The image is gone from the index at once; its files follow. ERROR_IMAGE_IN_USE. */
int image_remove(Image *image, Error **reterr);

/* Writes a copy to fd (borrowed): a job. `format` and `compression` may be NULL. */
int image_export(Image *image, int fd, const char *format, const char *compression, uid_t owner, Job **ret,
                Error **reterr);
