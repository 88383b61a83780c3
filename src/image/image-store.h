/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The images of this host, below state_dir/images: the index, kept in memory and filled at start-up from one
 * folder for each image, UUID/{image.json,disk}. All but what waits for the rest of a download, in
 * ".partial/HASH", is record-store.h's. */

#include "core/core.h"
#include "image-partial.h"
#include "image.h"

#define IMAGE_DISK "disk"
#define IMAGE_RECORD_FILE "image.json"

typedef struct Transfer Transfer;

/* Who tells clients. */
typedef struct ImageHooks {
        void (*image_new)(void *userdata, Image *image);
        void (*image_removed)(void *userdata, Image *image); /* it is out of the index already */
        void (*image_changed)(void *userdata, Image *image);
} ImageHooks;

/* The names of the VMs that are made from an image: the first whose place is *i or later, which becomes the
 * next place; NULL at the end. */
typedef const char *(*image_next_user_t)(void *userdata, const Image *image, size_t *i);

struct ImageStore {
        Core *core;           /* borrowed */
        int fd;               /* folder */
        RecordStore *records; /* owned; NULL: the service ends, and nothing is begun any more */
        Partials *partials;   /* owned */
        Transfer *transfers;  /* downloads under way: image-transfer.c's */
        const ImageHooks *hooks;
        image_next_user_t next_user;
        void *userdata;
};

int image_store_new(Core *core, int state_fd, const ImageHooks *hooks, image_next_user_t next_user,
                void *userdata, ImageStore **ret);
/* Reads all. An image that cannot be read is reported and left alone. */
int image_store_load(ImageStore *s);

/* At the end of the service, before its operations are freed: what is being written comes to an end now. */
void image_store_close(ImageStore *s);
ImageStore *image_store_free(ImageStore *s);
DEFINE_CLEANUP(ImageStore *, image_store_free);

/* All images, sorted by name: for (size_t i = 0; (image = image_store_next(s, &i));). */
Image *image_store_next(const ImageStore *s, size_t *i);

/* NULL when there is none. */
Image *image_find(const ImageStore *s, const char *name);
Image *image_find_by_uuid(const ImageStore *s, const char *uuid);
Image *image_find_by_url(const ImageStore *s, const char *url, uid_t user); /* that this user may use */
Image *image_find_by_content(const ImageStore *s, const ImageRecord *rec);  /* that its owner may use */
int image_get(const ImageStore *s, const char *name, uid_t user, Image **ret, Error **reterr); /* ditto */

/* Opens the file for reading. Negative errno. */
int image_open(const Image *image);

/* The VMs made from it, a vector of names that the caller frees; and whether there are any. */
int image_users(const Image *image, char ***ret);
bool image_is_in_use(const Image *image);
void image_touch(Image *image); /* a VM is made from it now */

/* Into the index under its name (taken over), and out of it, the name staying its own. */
void image_enter(Image *image, RecordName *name);
void image_leave(Image *image);

/* A name for an image whose own name a newer one has, or is about to. */
int image_reserve_displaced(ImageStore *s, const ImageRecord *rec, RecordName **ret, Error **reterr);
