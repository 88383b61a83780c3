/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <curl/curl.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "http.h"
#include "pull-request.h"
#include "util/string-util.h"

#define CONNECT_TIMEOUT 30 /* seconds: name, connection and TLS together */
#define REDIRECTS_MAX 10
#define BUFFER_SIZE (256 * KIB)
#define STRONG_AGE 60 /* seconds */

struct Http {
        CURL *curl;
        char reason[CURL_ERROR_SIZE];
        /* of the request that is under way */
        const HttpRequest *request;
        bool responded;
        int result; /* of the callbacks */
        Error **reterr;
};

int http_new(Http **ret, Error **reterr) {
        _cleanup_(http_freep) Http *h = calloc(1, sizeof(Http));

        if (!h || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                return error_set_errno(reterr, -ENOMEM, "Failed to prepare the transfer");
        h->curl = curl_easy_init();
        if (!h->curl)
                return error_set_errno(reterr, -ENOMEM, "Failed to prepare the transfer");
        *ret = TAKE_PTR(h);
        return 0;
}

Http *http_free(Http *h) {
        if (h)
                curl_easy_cleanup(h->curl);
        free(h);
        return NULL;
}

void http_result_done(HttpResult *r) {
        free(r->url);
        *r = (HttpResult){};
}

/* Of the last answer, redirects aside. */
static const char *get_header(Http *h, const char *name) {
        struct curl_header *header;

        if (curl_easy_header(h->curl, name, 0, CURLH_HEADER, -1, &header) != CURLHE_OK)
                return NULL;
        return header_value_is_valid(header->value) ? header->value : NULL;
}

static bool is_strong_date(Http *h, const char *last_modified) {
        const char *date = get_header(h, "Date");
        time_t then, now;

        if (!date || !last_modified)
                return false;
        then = curl_getdate(last_modified, NULL);
        now = curl_getdate(date, NULL);
        return then >= 0 && now >= 0 && now - then >= STRONG_AGE;
}

/* "bytes 100-199/200", or an asterisk for the last one */
static void read_content_range(Http *h, HttpResponse *r) {
        const char *s = get_header(h, "Content-Range");
        uint64_t start, total = UINT64_MAX;
        char *copy, *dash, *slash;

        if (!s || strncasecmp(s, "bytes ", 6) != 0)
                return;
        copy = strdupa(s + 6);
        dash = strchr(copy, '-');
        slash = dash ? strchr(dash, '/') : NULL;
        if (!slash)
                return;
        *dash = *slash = '\0';
        if (parse_u64(copy, &start) < 0 || (!streq(slash + 1, "*") && parse_u64(slash + 1, &total) < 0))
                return;
        r->range_start = start;
        r->range_total = total;
}

static HttpResponse read_response(Http *h) {
        HttpResponse r = { .length = UINT64_MAX, .range_start = UINT64_MAX, .range_total = UINT64_MAX };
        curl_off_t length = -1;
        char *url = NULL;

        (void)curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &r.status);
        (void)curl_easy_getinfo(h->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        (void)curl_easy_getinfo(h->curl, CURLINFO_EFFECTIVE_URL, &url);
        if (length >= 0)
                r.length = (uint64_t)length;
        r.url = url ?: h->request->url;
        r.etag = get_header(h, "ETag");
        r.last_modified = get_header(h, "Last-Modified");
        r.strong_date = is_strong_date(h, r.last_modified);
        read_content_range(h, &r);
        return r;
}

static int respond(Http *h) {
        HttpResponse r = read_response(h);

        h->responded = true;
        if (r.status != 200 && r.status != 206)
                return error_set(h->reterr, ERROR_DOWNLOAD_REFUSED, "the server answered with status %ld",
                                r.status);
        return h->request->on_response(h->request->userdata, &r, h->reterr);
}

static size_t on_write(char *data, size_t size, size_t n, void *userdata) {
        Http *h = userdata;

        if (!h->responded)
                h->result = respond(h);
        if (h->result >= 0)
                h->result = h->request->on_data(h->request->userdata, data, size * n, h->reterr);
        return h->result < 0 ? 0 : size * n; /* 0 makes libcurl give up */
}

static int on_xferinfo(
                void *userdata, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up) {
        Http *h = userdata;

        h->request->on_progress(h->request->userdata);
        return 0;
}

static int add_header(struct curl_slist **list, const char *name, const char *value) {
        _cleanup_free_ char *line = strf("%s: %s", name, value);
        struct curl_slist *longer = line ? curl_slist_append(*list, line) : NULL;

        if (!longer)
                return -ENOMEM;
        *list = longer;
        return 0;
}

static int make_headers(const HttpRequest *q, struct curl_slist **list) {
        int r;

        r = add_header(list, "Accept-Encoding", "identity");
        if (r >= 0 && q->offset > 0)
                r = add_header(list, "If-Range", q->if_range);
        if (r >= 0 && q->if_none_match)
                r = add_header(list, "If-None-Match", q->if_none_match);
        if (r >= 0 && q->if_modified_since)
                r = add_header(list, "If-Modified-Since", q->if_modified_since);
        return r;
}

static inline void slist_freep(struct curl_slist **list) {
        curl_slist_free_all(*list);
}

/* Nothing of the last request stays, connections aside. Cookies, .netrc and other schemes are off unless
 * asked for, and libcurl sends a URL's password to that URL's host alone. */
static void set_options(Http *h, const HttpRequest *q, struct curl_slist *headers) {
        CURL *c = h->curl;
        bool secure = strncasecmp(q->url, "https:", 6) == 0;

        curl_easy_reset(c);
        curl_easy_setopt(c, CURLOPT_URL, q->url);
        curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, "http,https");
        curl_easy_setopt(c, CURLOPT_REDIR_PROTOCOLS_STR,
                        secure && !q->may_downgrade ? "https" : "http,https");
        curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(c, CURLOPT_MAXREDIRS, (long)REDIRECTS_MAX);
        curl_easy_setopt(c, CURLOPT_FAILONERROR, 1L);
        curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
        curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)CONNECT_TIMEOUT);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1L);
        curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)q->stall_timeout);
        curl_easy_setopt(c, CURLOPT_BUFFERSIZE, (long)BUFFER_SIZE);
        curl_easy_setopt(c, CURLOPT_USERAGENT, "vmctl/" VMCTL_VERSION);
        curl_easy_setopt(c, CURLOPT_HTTPHEADER, headers);
        curl_easy_setopt(c, CURLOPT_ERRORBUFFER, h->reason);
        curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_write);
        curl_easy_setopt(c, CURLOPT_WRITEDATA, h);
        curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
        curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_xferinfo);
        curl_easy_setopt(c, CURLOPT_XFERINFODATA, h);
        if (q->proxy)
                curl_easy_setopt(c, CURLOPT_PROXY, q->proxy);
}

/* By what went wrong, for those failures that are certain to come again. */
static bool is_final(CURLcode c) {
        static const CURLcode table[] = {
                CURLE_UNSUPPORTED_PROTOCOL,
                CURLE_URL_MALFORMAT,
                CURLE_OUT_OF_MEMORY,
                CURLE_TOO_MANY_REDIRECTS,
                CURLE_REMOTE_ACCESS_DENIED,
                CURLE_LOGIN_DENIED,
                CURLE_PEER_FAILED_VERIFICATION,
                CURLE_SSL_CACERT_BADFILE,
                CURLE_SSL_ISSUER_ERROR,
                CURLE_SSL_CERTPROBLEM,
                CURLE_BAD_FUNCTION_ARGUMENT,
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (table[i] == c)
                        return true;
        return false;
}

static bool is_final_status(long status) {
        return status >= 400 && status < 500 && status != 408 && status != 425 && status != 429;
}

/* What the next one who asks is told, too. 416 is about the part that we asked for. */
static bool is_refusal(CURLcode c, long status) {
        if (c == CURLE_HTTP_RETURNED_ERROR)
                return is_final_status(status) && status != 416;
        return is_final(c) && c != CURLE_OUT_OF_MEMORY;
}

static const char *status_words(long status) {
        switch (status) {
        case 401:
                return " (it wants a user and a password)";
        case 403:
                return " (it forbids that)";
        case 404:
                return " (there is no such file)";
        case 410:
                return " (the file is gone for good)";
        case 429:
                return " (too many requests)";
        case 503:
                return " (it is overloaded, or being worked on)";
        default:
                return "";
        }
}

static int set_reason(Http *h, CURLcode c, const HttpResult *result, Error **reterr) {
        ErrorCode code = is_refusal(c, result->status) ? ERROR_DOWNLOAD_REFUSED : ERROR_DOWNLOAD_FAILED;
        _cleanup_free_ char *reason = NULL;

        if (c == CURLE_HTTP_RETURNED_ERROR)
                return error_set(reterr, code, "the server answered with status %ld%s", result->status,
                                status_words(result->status));
        if (c == CURLE_UNSUPPORTED_PROTOCOL)
                return error_set(reterr, code,
                                "the server redirects to what is neither https nor http, or from https to "
                                "http, which is followed only when the digest is known");
        if (c == CURLE_TOO_MANY_REDIRECTS)
                return error_set(reterr, code, "there are more than %d redirects", REDIRECTS_MAX);
        reason = string_escape(h->reason, strlen(h->reason), 200);
        return error_set(reterr, code, "%s", isempty(reason) ? curl_easy_strerror(c) : reason);
}

static void read_result(Http *h, CURLcode c, HttpResult *ret) {
        curl_off_t retry_after = 0;
        char *url = NULL;

        (void)curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &ret->status);
        (void)curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &retry_after);
        (void)curl_easy_getinfo(h->curl, CURLINFO_EFFECTIVE_URL, &url);
        ret->url = strdup(url ?: h->request->url);
        ret->retry_after = retry_after > 0 ? (uint64_t)retry_after : 0;
        ret->by_callback = h->result < 0;
        ret->may_retry = !ret->by_callback && !is_final(c) &&
                        (c != CURLE_HTTP_RETURNED_ERROR || !is_final_status(ret->status));
}

/* An answer without a body is one nevertheless. */
static int finish(Http *h, HttpResult *result) {
        if (h->responded || result->status == 304)
                return 0;
        h->result = respond(h);
        result->by_callback = h->result < 0;
        return h->result;
}

int http_get(Http *h, const HttpRequest *q, HttpResult *ret, Error **reterr) {
        _cleanup_(slist_freep) struct curl_slist *headers = NULL;
        char range[32];
        CURLcode c;

        *ret = (HttpResult){};
        if (make_headers(q, &headers) < 0)
                return error_set_errno(reterr, -ENOMEM, "Failed to prepare the transfer");
        h->request = q;
        h->responded = false;
        h->result = 0;
        h->reterr = reterr;
        h->reason[0] = '\0';
        set_options(h, q, headers);
        if (q->offset > 0) {
                (void)snprintf(range, sizeof(range), "%" PRIu64 "-", q->offset);
                curl_easy_setopt(h->curl, CURLOPT_RANGE, range);
        }
        c = curl_easy_perform(h->curl);
        read_result(h, c, ret);
        if (!ret->url)
                return error_set_errno(reterr, -ENOMEM, "Failed to prepare the transfer");
        if (h->result < 0)
                return h->result;
        return c == CURLE_OK ? finish(h, ret) : set_reason(h, c, ret, reterr);
}
