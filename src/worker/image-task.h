/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* One run of vmctl-image. */

#include "confine.h"
#include "file-copy.h"
#include "image.h"
#include "progress.h"
#include "json/json.h"

typedef enum ImageFile {
        IMAGE_FILE_INPUT,
        IMAGE_FILE_OUTPUT,
        IMAGE_FILE_SCRATCH,
        _IMAGE_FILE_MAX,
        _IMAGE_FILE_INVALID = -EINVAL,
} ImageFile;

DECLARE_STRING_TABLE(image_file, ImageFile);

typedef struct ImageTask {
        int argc;
        char **argv;
        Identity identity;
        int fds[_IMAGE_FILE_MAX]; /* inherited; borrowed */
        char *label;              /* of the input, in messages */
        Json *request;
        /* what it says */
        ImageFormat format;        /* import: what the client calls it; export: what it shall become */
        ImageFormat source_format; /* export: what it is */
        uint64_t max_size;         /* bytes of a file that is written */
        const char *compression;   /* lent by the request, as is the next */
        const char *content_digest;
        const char *name;
        bool any_content;
        bool in_place;
        /* for progress lines */
        Progress progress;
        const char *phase;
        uint64_t total;
} ImageTask;

/* One for each verb; each writes the members of the result. */
int image_import(ImageTask *t, JsonWriter *w, Error **reterr);
int image_describe(ImageTask *t, JsonWriter *w, Error **reterr);
int image_export(ImageTask *t, JsonWriter *w, Error **reterr);

/* What image_inspect() looks at; lives as long as the task. */
int image_task_file(const ImageTask *t, ImageFile file, FileIdentity *ret, Error **reterr);

/* From one file to another, told as progress of this phase. */
FileCopy image_task_copy(ImageTask *t, ImageFile from, ImageFile to, const char *phase);

/* The service's own file for a result. ERROR_FAILED where there is none, or it is not empty. */
int image_task_check_empty(const ImageTask *t, ImageFile file, Error **reterr);

int image_task_sync(const ImageTask *t, ImageFile file, Error **reterr);

/* Has qemu-img write `to` (empty) anew in that format: for images that image_inspect() has taken. */
int image_convert(ImageTask *t, ImageFile from, const ImageHeader *header, ImageFile to, ImageFormat format,
                Error **reterr);
