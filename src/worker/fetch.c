/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <poll.h>
#include <unistd.h>

#include "fetch.h"
#include "http.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define ATTEMPTS 6

typedef struct Fetch {
        char *text;
        size_t len, max;
        Progress *progress;
} Fetch;

static int on_response(void *userdata, const HttpResponse *response, Error **reterr) {
        Fetch *f = userdata;

        f->len = 0;
        if (response->status == 200)
                return 0;
        return error_set(
                        reterr, ERROR_DOWNLOAD_FAILED, "the server sent a part without being asked for one");
}

static int on_data(void *userdata, const void *data, size_t len, Error **reterr) {
        Fetch *f = userdata;

        if (len > f->max - f->len)
                return error_set(reterr, ERROR_DOWNLOAD_REFUSED,
                                "it is larger than %zu KiB, which no list of checksums is", f->max / 1024);
        memcpy(f->text + f->len, data, len);
        f->len += len;
        return 0;
}

static void on_progress(void *userdata) {
        Fetch *f = userdata;

        progress_tell(f->progress, "connecting", 0, 0);
}

static int fetch_file(Fetch *f, int fd, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = read_all(fd, f->max, &text, &len);
        if (r < 0)
                return error_set(reterr, ERROR_DOWNLOAD_FAILED, "%s", strerror(-r));
        return on_data(f, text, len, reterr);
}

static int fetch_http(Fetch *f, const PullRequest *q, const Url *url, Error **reterr) {
        const HttpRequest request = {
                .url = url->text,
                .proxy = q->proxy,
                .stall_timeout = q->stall_timeout,
                .on_response = on_response,
                .on_data = on_data,
                .on_progress = on_progress,
                .userdata = f,
        };
        _cleanup_(http_freep) Http *h = NULL;
        int r;

        r = http_new(&h, reterr);
        for (unsigned n = 1; r >= 0; n++) {
                _cleanup_(http_result_done) HttpResult result = {};

                r = http_get(h, &request, &result, reterr);
                if (r >= 0 || !result.may_retry || n == ATTEMPTS)
                        return r;
                (void)poll(NULL, 0, (int)MIN(q->retry_delay << (n - 1), UINT64_C(30000)));
                r = 0;
        }
        return r;
}

int fetch(const PullRequest *request, const Url *url, int source_fd, size_t max, Progress *progress,
                char **ret, size_t *ret_len, Error **reterr) {
        _cleanup_free_ char *text = malloc(max);
        Fetch f = { .text = text, .max = max, .progress = progress };
        _cleanup_error_ Error *e = NULL;
        int r;

        if (!text)
                return error_set_errno(reterr, -ENOMEM, "Failed to prepare the transfer");
        progress_tell(progress, "connecting", 0, 0);
        r = source_fd >= 0 ? fetch_file(&f, source_fd, &e) : fetch_http(&f, request, url, &e);
        if (r < 0) {
                (void)error_set(reterr, error_code(e), "Failed to download '%s': %s", url->shown,
                                error_message(e));
                return r;
        }
        *ret = TAKE_PTR(text);
        *ret_len = f.len;
        return 0;
}
