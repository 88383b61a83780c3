/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What is done with images of the store, and how something gets into it. */

#include "image-store.h"

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

/* At the end of the service, after its operations were freed. */
void image_transfers_free(ImageStore *s); /* NULL: there is none */

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

/* A newer image takes the name of this one, if it is called so still. Its users keep it under the name
 * `other` (taken over), when that is on disk: part of `parent`, calls `done` as above. */
int image_displace(Image *image, RecordName **other, Operation *parent, waiter_t done, void *userdata,
                Error **reterr);

/* The same for one without users: it is removed at once, and its name handed over. */
int image_supersede(Image *image, RecordName **ret_name, Error **reterr);
