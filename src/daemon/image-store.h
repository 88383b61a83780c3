/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The images of this host, below state_dir/images: the index, kept in memory and filled at start-up from one
 * folder for each image, UUID/{image.json,disk}, and the operations that put something in. All but what
 * waits for the rest of a download, in ".partial/HASH", is record-store.h's. */

#include "image.h"
#include "spec/vm-record.h"

#define IMAGE_DISK "disk"
#define IMAGE_RECORD_FILE "image.json"

typedef struct Transfer Transfer;

typedef struct ImageStore {
        Manager *manager;           /* borrowed */
        int fd, partial_fd;         /* folders */
        RecordStore *records;       /* owned; NULL: the service ends, and nothing is begun any more */
        Transfer *transfers;        /* owned list of downloads under way */
        struct Deletion *deletions; /* owned list */
} ImageStore;

int image_store_new(Manager *manager, int state_fd, ImageStore **ret);
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

/* Import: a file, or what comes out of a pipe, by descriptor (borrowed). A job. */
typedef struct ImageOptions {
        const char *name;
        const char *format; /* as stated; NULL: told from the header */
        uid_t owner;
        bool shared;
} ImageOptions;
int image_import(ImageStore *s, int fd, const ImageOptions *options, uid_t requester, Job **ret,
                Error **reterr);

/* What is in a file (borrowed), as vmctl-image says it. `done` asks for the facts: they are there for as
 * long as it runs. */
int image_inspect(ImageStore *s, int fd, uid_t requester, waiter_t done, void *userdata, Operation **ret,
                Error **reterr);
const Json *image_inspect_facts(const Operation *op);

typedef struct PullOptions {
        const char *url;
        const char *sha256;    /* NULL: not checked */
        const char *checksums; /* a URL, or NULL */
        bool refresh;
        ImageOptions image; /* name NULL: by the URL */
} PullOptions;

/* A pull, which is under way when this returns 0: operation_wait() for it in the same turn of the loop. As a
 * part of `parent` (or NULL). When it is done pull_image() tells the image's UUID, for as long as the
 * waiters run: it may be gone, or called otherwise, by the time that somebody looks for it. */
int pull_new(ImageStore *s, const PullOptions *options, uid_t requester, Operation *parent, Operation **ret,
                Error **reterr);
const char *pull_image(const Operation *op);

/* The same as a job of its own. */
int image_pull(ImageStore *s, const PullOptions *options, uid_t requester, Job **ret, Error **reterr);
