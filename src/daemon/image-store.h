/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The images of this host, below state_dir/images: the index, kept in memory and filled at start-up from one
 * folder for each image, UUID/{image.json,disk}, and the operations that put something in. What is half done
 * lies in folders that begin with a dot: ".new-UUID" and ".old-UUID" die with the service, and what was
 * pulled of a URL waits in ".partial/HASH" for the rest of it. */

#include "image.h"
#include "spec/vm-record.h"

#define IMAGE_DISK "disk"
#define IMAGE_RECORD_FILE "image.json"

typedef struct Pull Pull;
typedef struct Transfer Transfer;

typedef struct ImageStore {
        Manager *manager;     /* borrowed */
        RecordStore *records; /* owned; what is on disk of images */
        int fd, partial_fd;   /* folders */
        Image **images;       /* owned, sorted by name */
        size_t n_images;
        char **reserved;                    /* names of images that are about to come */
        Transfer *transfers;                /* owned list of downloads under way */
        struct Deletion *deletions;         /* owned list */
        struct ImageCommit *killed_commits; /* owned list of those whose children are not gone yet */
} ImageStore;

int image_store_new(Manager *manager, int state_fd, ImageStore **ret);
ImageStore *image_store_free(ImageStore *s);
DEFINE_CLEANUP(ImageStore *, image_store_free);
int image_store_load(ImageStore *s);

/* NULL when there is none. */
Image *image_find(const ImageStore *s, const char *name);
Image *image_find_by_uuid(const ImageStore *s, const char *uuid);
Image *image_find_by_url(const ImageStore *s, const char *url, uid_t user); /* that this user may use */
Image *image_find_by_content(const ImageStore *s, const ImageRecord *rec);  /* that its owner may use */
int image_get(const ImageStore *s, const char *name, uid_t user, Image **ret, Error **reterr); /* ditto */

/* A name is taken from the moment on that somebody reserves it. ERROR_INVALID_NAME, ERROR_IMAGE_EXISTS. */
int image_name_reserve(ImageStore *s, const char *name, Error **reterr);
void image_name_release(ImageStore *s, const char *name);

/* Into the index (taken over, also on failure) and out of it. */
int image_store_add(ImageStore *s, Image *image);
void image_store_take_out(ImageStore *s, Image *image); /* the image is the caller's then */

/* Deletes a folder of the store in a child, and logs when that fails. */
void image_store_delete(ImageStore *s, const char *folder);

/* The last step of every way into the store: a folder ".new-UUID" with the file becomes an image. `record`
 * is complete but for uuid, created and allocated, and taken over (also on failure). The file is given by an
 * open descriptor and where it has a link (borrowed; the link stays). `replaces` (NULL: nothing): an image
 * with the same name which has it no longer when the new one is there. Calls `done` once, later. */
typedef struct ImageCommit ImageCommit;
typedef void (*image_commit_done_t)(void *userdata, Image *image, const Error *error);
int image_commit(ImageStore *s, ImageRecord *record, int dir_fd, const char *file, const char *replaces,
                image_commit_done_t done, void *userdata, ImageCommit **ret);
ImageCommit *image_commit_free(ImageCommit *c);
void image_store_forget_commits(ImageStore *s); /* that were freed, but whose children are not gone yet */

/* Import: a file, or what comes out of a pipe, by descriptor (borrowed). A job. */
typedef struct ImageOptions {
        const char *name;
        const char *format; /* as stated; NULL: told from the header */
        uid_t owner;
        bool shared;
} ImageOptions;
int image_import(ImageStore *s, int fd, const ImageOptions *options, Job **ret, Error **reterr);

/* Pull: `done` is called once, later, with the image or an error, unless it is freed before. */
typedef struct PullOptions {
        const char *url;
        const char *sha256;    /* NULL: not checked */
        const char *checksums; /* a URL, or NULL */
        bool refresh;
        ImageOptions image; /* name NULL: by the URL */
} PullOptions;
typedef struct PullHandlers {
        void (*progress)(void *userdata, const JobProgress *p);
        void (*done)(void *userdata, Image *image, const Error *error);
} PullHandlers;
int pull_new(ImageStore *s, const PullOptions *options, const PullHandlers *handlers, void *userdata,
                Pull **ret, Error **reterr);
const char *pull_name(const Pull *p); /* of the image */
Pull *pull_free(Pull *p);
DEFINE_CLEANUP(Pull *, pull_free);

/* A pull as a job of its own; and with a VM made from the image (src/daemon/vm.h has vm_create()): takes the
 * record, also on failure. */
int image_pull(ImageStore *s, const PullOptions *options, Job **ret, Error **reterr);
int vm_create_from_url(Manager *manager, VmRecord *record, const int files[static _VM_FILE_MAX],
                const PullOptions *options, Job **ret, Error **reterr);
