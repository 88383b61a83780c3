/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctld asks vmctl-pull for: one JSON object. */

#include "checksums.h"
#include "pull-url.h"
#include "json/json.h"

#define PULL_REQUEST_SIZE_MAX (64 * KIB)
#define HEADER_VALUE_MAX 512 /* longer ones are not kept */

typedef struct PullRequest {
        Json *root; /* owned; lends the strings */
        Url url;
        Url checksums; /* no text: there are none */
        Checksums expected;
        bool refresh; /* fetch only if it is not what these tell of: */
        const char *etag;
        const char *last_modified;
        const char *refresh_url; /* where that was got from in the end; NULL: not known */
        const char *proxy;       /* NULL: what the environment says */
        uint64_t max_size;       /* bytes of the unpacked image */
        uint64_t stall_timeout;  /* seconds without a byte */
        uint64_t retry_delay;    /* milliseconds before the first new attempt; doubles with each */
} PullRequest;

/* ERROR_UNKNOWN_OPTION or ERROR_INVALID_SPEC names the key. *ret owns what it holds, also of an error. */
int pull_request_parse(const char *text, size_t len, PullRequest *ret, Error **reterr);
void pull_request_done(PullRequest *r);

/* Can be sent as a header's value, and kept as JSON. */
bool header_value_is_valid(const char *s);
