/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An image of the store: a file that never changes once it is there, and what is known of it. Images of the
 * same content share the file: it has a link in the folder of each, so the file system counts its users, and
 * nothing is left behind when the last folder goes. VMs hold an image by its UUID. */

#include "core/accounts.h"
#include "core/record-store.h"
#include "spec/image-record.h"

typedef struct ImageStore ImageStore;

typedef struct Image {
        ImageStore *store;  /* borrowed */
        ImageRecord record; /* as it is on disk */
        RecordName *name;   /* owned; NULL: it is about to come */
        Record *stored;     /* owned; its folder */
        Charge charge;      /* the owner's */
        uint64_t last_used; /* usec, CLOCK_REALTIME: when a VM was made from it, or it came */
} Image;

/* An image of this record, charged for. Both are taken over, also on failure. It is not in the index yet. */
int image_new(ImageStore *store, ImageRecord *record, Charge *charge, uint64_t last_used, Image **ret);
Image *image_free(Image *image); /* its files stay, unless they are a draft */
DEFINE_CLEANUP(Image *, image_free);

static inline const char *image_name(const Image *image) {
        return image->record.name;
}

/* Its owner may use it, and everybody one that is shared; root uses no others, but may manage all. */
bool image_may_be_used_by(const Image *image, uid_t uid);
