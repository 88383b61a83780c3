/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>

#include "pull-request.h"
#include "request-keys.h"
#include "util/string-util.h"

#define STALL_TIMEOUT_DEFAULT 60
#define RETRY_DELAY_DEFAULT 1000
#define DURATION_MAX 3600000

bool header_value_is_valid(const char *s) {
        size_t n = strlen(s);

        for (size_t i = 0; i < n; i++)
                if (iscntrl((unsigned char)s[i]))
                        return false;
        return n > 0 && n <= HEADER_VALUE_MAX && utf8_is_valid(s, n);
}

static int set_url(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        return s ? url_parse(s, field, reterr) : -EINVAL;
}

static int set_checksums(const Json *v, void *field, Error **reterr) {
        return json_is_null(v) ? 0 : set_url(v, field, reterr);
}

static int set_sha256(const Json *v, void *field, Error **reterr) {
        const char *s = json_string(v);

        if (!s)
                return json_is_null(v) ? 0 : -EINVAL;
        if (strlen(s) != SHA256_HEX_SIZE || !checksum_parse_hex(s, SHA256_HEX_SIZE, field))
                return error_set(reterr, ERROR_INVALID_SPEC, "'sha256' is not 64 hexadecimal digits");
        return 0;
}

static int set_header(const Json *v, const char **field) {
        const char *s = json_string(v);

        if (!s)
                return json_is_null(v) ? 0 : -EINVAL;
        *field = header_value_is_valid(s) ? s : NULL;
        return 0;
}

static int set_refresh(const Json *v, void *field, Error **reterr) {
        PullRequest *q = field;

        if (json_is_null(v))
                return 0;
        if (json_type(v) != JSON_OBJECT || set_header(json_get(v, "etag"), &q->etag) < 0 ||
                        set_header(json_get(v, "last-modified"), &q->last_modified) < 0)
                return -EINVAL;
        q->refresh_url = json_get_string(v, "url");
        q->refresh = q->etag || q->last_modified;
        return 0;
}

static int set_bounded(const Json *v, void *field, uint64_t min, uint64_t max) {
        uint64_t n;

        if (json_unsigned(v, &n) < 0 || n < min || n > max)
                return -EINVAL;
        *(uint64_t *)field = n;
        return 0;
}

static int set_max_size(const Json *v, void *field, Error **reterr) {
        return set_bounded(v, field, 1, INT64_MAX);
}

static int set_stall_timeout(const Json *v, void *field, Error **reterr) {
        return set_bounded(v, field, 1, DURATION_MAX);
}

static int set_retry_delay(const Json *v, void *field, Error **reterr) {
        return set_bounded(v, field, 0, DURATION_MAX);
}

static const RequestKey keys[] = {
        { "url", set_url, offsetof(PullRequest, url) },
        { "sha256", set_sha256, offsetof(PullRequest, expected.sha256) },
        { "checksums", set_checksums, offsetof(PullRequest, checksums) },
        { "refresh", set_refresh, 0 },
        { "proxy", request_set_string, offsetof(PullRequest, proxy) },
        { "max-size", set_max_size, offsetof(PullRequest, max_size) },
        { "stall-timeout", set_stall_timeout, offsetof(PullRequest, stall_timeout) },
        { "retry-delay", set_retry_delay, offsetof(PullRequest, retry_delay) },
        {},
};

int pull_request_parse(const char *text, size_t len, PullRequest *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = PULL_REQUEST_SIZE_MAX, .max_depth = 3, .max_values = 64 };
        int r;

        *ret = (PullRequest){ .stall_timeout = STALL_TIMEOUT_DEFAULT, .retry_delay = RETRY_DELAY_DEFAULT };
        r = request_read(text, len, &limits, keys, ret, &ret->root, reterr);
        if (r >= 0 && (!ret->url.text || ret->max_size == 0))
                r = error_set(reterr, ERROR_INVALID_SPEC, "'%s' is missing",
                                ret->url.text ? "max-size" : "url");
        return r;
}

void pull_request_done(PullRequest *q) {
        json_free(q->root);
        url_done(&q->url);
        url_done(&q->checksums);
        *q = (PullRequest){};
}
