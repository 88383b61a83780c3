/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* One GET request, by libcurl. */

#include "util/error.h"

typedef struct HttpResponse {
        long status;
        const char *url;           /* who answered, after redirects */
        const char *etag;          /* NULL: none, or none that is fit to be kept */
        const char *last_modified; /* the same */
        bool strong_date;     /* a minute or more older than the answer, as RFC 9110, 8.8.2.2 asks for */
        uint64_t length;      /* of the body; UINT64_MAX: not known */
        uint64_t range_start; /* of a 206; UINT64_MAX: none, or no valid one */
        uint64_t range_total; /* the same; UINT64_MAX also where the server does not know */
} HttpResponse;

typedef struct HttpRequest {
        const char *url;
        bool may_downgrade; /* follow a redirect from https to http: for what is verified by other means */
        uint64_t offset;    /* ask for the bytes from here on; needs if_range */
        const char *if_range;
        const char *if_none_match; /* NULL: unconditional */
        const char *if_modified_since;
        const char *proxy; /* NULL: what the environment says */
        uint64_t stall_timeout;
        /* Called before the first byte, for 200 and 206 alone. A failure ends the request. */
        int (*on_response)(void *userdata, const HttpResponse *response, Error **reterr);
        int (*on_data)(void *userdata, const void *data, size_t len, Error **reterr);
        void (*on_progress)(void *userdata); /* now and then, also when nothing comes */
        void *userdata;
} HttpRequest;

typedef struct HttpResult {
        long status;          /* 200, 206, or 304 when it succeeded; 0: there was no answer */
        char *url;            /* owned: who answered */
        bool may_retry;       /* it failed, and another attempt may not */
        bool by_callback;     /* it failed because a callback did */
        uint64_t retry_after; /* seconds that the server asks for; 0: it does not */
} HttpResult;

void http_result_done(HttpResult *r);

typedef struct Http Http;

int http_new(Http **ret, Error **reterr);
Http *http_free(Http *h);
DEFINE_CLEANUP(Http *, http_free);

/* Blocks. ERROR_DOWNLOAD_FAILED or _REFUSED, or what a callback returned; the message is a reason without a
 * subject. */
int http_get(Http *h, const HttpRequest *request, HttpResult *ret, Error **reterr);
