/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctld asks vmctl-prepare for: one JSON object. */

#include "image-header.h"
#include "json/json.h"

#define REQUEST_SIZE_MAX (256 * KIB) /* a public key file, all of it escaped, fits */

typedef struct Request {
        Json *root; /* owned; lends the strings */
        const char *name;
        const char *instance_id; /* not NULL where cloud_init is set */
        const char *user;        /* never NULL */
        const char *ssh_key;     /* the text of a public key file, or NULL */
        char *hostname;          /* owned, never NULL: the VM's name made fit where none was given */
        bool generate_key;
        bool cloud_init;
        ImageFormat image_format; /* _IMAGE_FORMAT_INVALID: not stated */
        uint64_t disk_size;       /* bytes; 0: as the base */
} Request;

/* ERROR_UNKNOWN_OPTION or ERROR_INVALID_SPEC names the key. *ret owns what it holds, also of an error. */
int request_parse(const char *text, size_t len, Request *ret, Error **reterr);
void request_done(Request *r);
#define _cleanup_request_ _cleanup_(request_done)
