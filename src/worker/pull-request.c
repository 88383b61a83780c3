/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>

#include "pull-request.h"
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

static int set_url(const Json *v, PullRequest *q, Error **reterr) {
        const char *s = json_string(v);

        return s ? url_parse(s, &q->url, reterr) : -EINVAL;
}

static int set_checksums(const Json *v, PullRequest *q, Error **reterr) {
        const char *s = json_string(v);

        return s ? url_parse(s, &q->checksums, reterr) : json_is_null(v) ? 0 : -EINVAL;
}

static int set_sha256(const Json *v, PullRequest *q, Error **reterr) {
        const char *s = json_string(v);

        if (!s)
                return json_is_null(v) ? 0 : -EINVAL;
        if (strlen(s) != SHA256_HEX_SIZE || !checksum_parse_hex(s, SHA256_HEX_SIZE, q->expected.sha256))
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

static int set_refresh(const Json *v, PullRequest *q, Error **reterr) {
        if (json_is_null(v))
                return 0;
        if (json_type(v) != JSON_OBJECT || set_header(json_get(v, "etag"), &q->etag) < 0 ||
                        set_header(json_get(v, "last-modified"), &q->last_modified) < 0)
                return -EINVAL;
        q->refresh_url = json_get_string(v, "url");
        q->refresh = q->etag || q->last_modified;
        return 0;
}

static int set_proxy(const Json *v, PullRequest *q, Error **reterr) {
        q->proxy = json_string(v);
        return q->proxy || json_is_null(v) ? 0 : -EINVAL;
}

static int set_max_size(const Json *v, PullRequest *q, Error **reterr) {
        return json_unsigned(v, &q->max_size) < 0 || q->max_size == 0 || q->max_size > INT64_MAX ? -EINVAL
                                                                                                 : 0;
}

static int set_stall_timeout(const Json *v, PullRequest *q, Error **reterr) {
        return json_unsigned(v, &q->stall_timeout) < 0 || q->stall_timeout == 0 ||
                                        q->stall_timeout > DURATION_MAX
                        ? -EINVAL
                        : 0;
}

static int set_retry_delay(const Json *v, PullRequest *q, Error **reterr) {
        return json_unsigned(v, &q->retry_delay) < 0 || q->retry_delay > DURATION_MAX ? -EINVAL : 0;
}

static const struct {
        const char *key;
        int (*set)(const Json *v, PullRequest *q, Error **reterr);
} key_table[] = {
        { "url", set_url },
        { "sha256", set_sha256 },
        { "checksums", set_checksums },
        { "refresh", set_refresh },
        { "proxy", set_proxy },
        { "max-size", set_max_size },
        { "stall-timeout", set_stall_timeout },
        { "retry-delay", set_retry_delay },
};

static int parse_member(const char *key, const Json *value, PullRequest *q, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(key_table); i++) {
                _cleanup_error_ Error *e = NULL;
                int r;

                if (!streq(key_table[i].key, key))
                        continue;
                r = key_table[i].set(value, q, &e);
                if (r < 0 && !e)
                        return error_set(reterr, ERROR_INVALID_SPEC, "'%s' has no valid value", key);
                if (r < 0)
                        return error_set(reterr, error_code(e), "%s", error_message(e));
                return 0;
        }
        return error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no option '%s'", key);
}

int pull_request_parse(const char *text, size_t len, PullRequest *ret, Error **reterr) {
        const JsonLimits limits = { .max_size = PULL_REQUEST_SIZE_MAX, .max_depth = 3, .max_values = 64 };
        int r;

        *ret = (PullRequest){ .stall_timeout = STALL_TIMEOUT_DEFAULT, .retry_delay = RETRY_DELAY_DEFAULT };
        r = json_parse(text, len, &limits, &ret->root, reterr);
        if (r < 0)
                return r;
        if (json_type(ret->root) != JSON_OBJECT)
                return error_set(reterr, ERROR_INVALID_SPEC, "The request is no JSON object");
        for (size_t i = 0; i < json_length(ret->root); i++) {
                r = parse_member(json_key(ret->root, i), json_member(ret->root, i), ret, reterr);
                if (r < 0)
                        return r;
        }
        if (!ret->url.text || ret->max_size == 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is missing",
                                ret->url.text ? "max-size" : "url");
        return 0;
}

void pull_request_done(PullRequest *q) {
        json_free(q->root);
        url_done(&q->url);
        url_done(&q->checksums);
        *q = (PullRequest){};
}
