/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the store knows of an image: the file image.json beside it. */

#include "util/error.h"
#include "json/json.h"

#define IMAGE_RECORD_VERSION 2
#define IMAGE_RECORD_SEALED_SINCE 2      /* earlier ones have no checksum */
#define IMAGE_RECORD_MAX_SIZE (64 * KIB) /* a URL may have 8 KiB, all of it escaped */
#define IMAGE_URL_MAX 8192

typedef struct ImageRecord {
        char *name; /* owned, as all strings here */
        char *uuid; /* RFC 9562 text: names the folder, and stays when the image is renamed */
        uid_t owner;
        bool shared;         /* everybody on the host may use it */
        char *format;        /* "raw" or "qcow2" */
        char *source_format; /* what it was when it came */
        uint64_t virtual_size, size,
                        allocated; /* bytes: of the disk, of the file, of the file without holes */
        char *content_digest;      /* fs-verity digest of the file, hexadecimal */
        uint64_t created;          /* usec, CLOCK_REALTIME */

        /* of an image that was pulled; else NULL */
        char *url;
        char *final_url;            /* where that led to: the one that etag and last_modified are of */
        char *sha256;               /* of the file as it was published, hexadecimal */
        char *etag, *last_modified; /* as the server gave them; may be NULL */
} ImageRecord;

void image_record_done(ImageRecord *rec);

/* The text of image.json; *ret is the caller's to free. */
int image_record_format(const ImageRecord *rec, char **ret, size_t *ret_len);

/* Reads it back; the error says what is wrong with which key. -EBADMSG, -EOPNOTSUPP (a later version),
 * -ENOMEM. */
int image_record_read(const Json *doc, ImageRecord *ret, Error **reterr);
int image_record_parse(const char *text, size_t len, ImageRecord *ret, Error **reterr);

bool image_format_is_usable(const char *format); /* by a VM: "raw" or "qcow2" */

/* Is it an http, https or file URL of a sane size? ERROR_INVALID_URL. */
int url_check(const char *url, Error **reterr);

/* The URL as everybody may see it: without user name and password. NULL when memory is short. */
char *url_without_credentials(const char *url);

/* A name for an image from the last part of a URL or path, without the endings that tell of formats. NULL
 * when memory is short or nothing fit for a name is left. */
char *image_name_from_path(const char *path);
