/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A URL, taken apart once by libcurl's own parser, so that nobody reads another one than is fetched. */

#include "util/error.h"

#define URL_SIZE_MAX (8 * KIB)

typedef enum UrlScheme {
        URL_FILE,
        URL_HTTP,
        URL_HTTPS,
        _URL_SCHEME_MAX,
        _URL_SCHEME_INVALID = -EINVAL,
} UrlScheme;

typedef struct Url {
        char *text; /* as it was given */
        UrlScheme scheme;
        bool has_credentials;
        char *plain; /* without user and password */
        char *shown; /* for messages: without query and fragment, too, which often hold secrets; escaped */
        char *name;  /* the last part of the path, decoded; may be empty */
        char *path;  /* of a file URL, decoded; else NULL */
} Url;

/* ERROR_INVALID_URL. */
int url_parse(const char *text, Url *ret, Error **reterr);
void url_done(Url *u);
#define _cleanup_url_ _cleanup_(url_done)

/* Opens a file URL's regular file. Who may read it is the kernel's business: the worker has become somebody
 * without rights by then. */
int url_open_file(const Url *u, int *ret_fd, Error **reterr);
