/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A transfer that breaks off goes on where it was: with a range, and only if the server can promise that it
 * is still the same file (If-Range with a strong validator). An answer to anything else starts over. */
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "http.h"
#include "transfer.h"
#include "util/fd-util.h"

#define FAILURES_MAX 5 /* new attempts in a row that bring nothing */
#define DELAY_MAX 30000
#define RETRY_AFTER_MAX 120 /* seconds: who wants us to wait longer is asked again nevertheless */
#define READ_SIZE (256 * KIB)

void transfer_done(Transfer *t) {
        pipeline_free(t->pipeline);
        pull_state_done(&t->state);
}

static void tell(void *userdata) {
        Transfer *t = userdata;

        if (!progress_is_due(t->progress))
                return;
        pipeline_keep(t->pipeline); /* so that a kill costs less than what was told */
        progress_tell(t->progress, t->progress->phase ?: "connecting", t->offset, t->state.length);
}

/* The state goes first, so that it never tells of bytes that are something else's. */
int transfer_start_over(Transfer *t, Error **reterr) {
        int r;

        t->pipeline = pipeline_free(t->pipeline);
        pull_state_done(&t->state);
        t->offset = 0;
        t->resumed = false;
        r = pull_state_write(t->state_fd, NULL, reterr);
        return r < 0 ? r : pipeline_new(&t->config, &t->pipeline, reterr);
}

/* With what an earlier worker left, where it is known what that is. */
static int begin(Transfer *t, Error **reterr) {
        int r;

        if (t->source_fd >= 0 || t->config.received_fd < 0 || pull_state_read(t->state_fd, &t->state) == 0)
                return transfer_start_over(t, reterr);
        if (!streq(t->state.url, t->request->url.text) || !pull_state_validator(&t->state))
                return transfer_start_over(t, reterr);
        r = pipeline_resume(&t->config, &t->pipeline, &t->offset, reterr);
        if (r < 0)
                return r;
        if (t->offset == 0 || (t->state.length > 0 && t->offset > t->state.length))
                return transfer_start_over(t, reterr);
        t->resumed = true;
        t->furthest = t->offset;
        return 0;
}

static int set_state(Transfer *t, const HttpResponse *a, Error **reterr) {
        PullState s = { .strong_date = a->strong_date, .length = a->length != UINT64_MAX ? a->length : 0 };
        _cleanup_url_ Url url = {};
        int r;

        r = url_parse(a->url, &url, NULL);
        if (r >= 0)
                r = free_and_strdup(&s.url, t->request->url.text);
        if (r >= 0)
                r = free_and_strdup(&s.effective, url.plain);
        if (r >= 0)
                r = free_and_strdup(&s.etag, a->etag);
        if (r >= 0)
                r = free_and_strdup(&s.last_modified, a->last_modified);
        pull_state_done(&t->state);
        t->state = s;
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the server's answer");
        return pull_state_write(t->state_fd, &t->state, reterr);
}

/* The rest, and of the same file? */
static bool continues(const Transfer *t, const HttpResponse *a) {
        const PullState *s = &t->state;

        if (a->range_start != t->offset)
                return false;
        if (s->length > 0 && a->range_total != UINT64_MAX && a->range_total != s->length)
                return false;
        if (s->etag)
                return streq_ptr(a->etag, s->etag);
        return !a->last_modified || streq_ptr(a->last_modified, s->last_modified);
}

static int on_response(void *userdata, const HttpResponse *a, Error **reterr) {
        Transfer *t = userdata;
        int r = 0;

        if (a->status == 206) {
                t->mismatch = !continues(t, a);
                if (t->mismatch)
                        return error_set(reterr, ERROR_DOWNLOAD_FAILED,
                                        "the server sent another part of the file than it was asked for");
                if (t->state.length == 0 && a->range_total != UINT64_MAX)
                        t->state.length = a->range_total;
        } else {
                if (t->offset > 0)
                        r = transfer_start_over(t, reterr);
                if (r >= 0)
                        r = set_state(t, a, reterr);
        }
        if (r >= 0)
                progress_tell(t->progress, "downloading", t->offset, t->state.length);
        return r;
}

static int on_data(void *userdata, const void *data, size_t len, Error **reterr) {
        Transfer *t = userdata;
        int r;

        r = pipeline_feed(t->pipeline, data, len, reterr);
        if (r < 0)
                return r;
        t->offset += len;
        tell(t);
        return 0;
}

/* Where the bytes came from, unless that takes a password; mirrors often have different validators. */
static const char *choose_url(const Transfer *t, bool avoid_effective) {
        bool usable = t->offset > 0 && !avoid_effective && !t->request->url.has_credentials;

        return usable ? t->state.effective : t->request->url.text;
}

static int request_once(
                Transfer *t, Http *h, const char *url, bool conditional, HttpResult *ret, Error **reterr) {
        const PullRequest *q = t->request;
        const HttpRequest request = {
                .url = url,
                .may_downgrade = t->verified,
                .offset = t->offset,
                .if_range = pull_state_validator(&t->state),
                .if_none_match = conditional ? q->etag : NULL,
                .if_modified_since = conditional ? q->last_modified : NULL,
                .proxy = q->proxy,
                .stall_timeout = q->stall_timeout,
                .on_response = on_response,
                .on_data = on_data,
                .on_progress = tell,
                .userdata = t,
        };

        progress_tell(t->progress, "connecting", t->offset, t->state.length);
        return http_get(h, &request, ret, reterr);
}

/* Whether a failed request is to be followed by another one, and what is done before it. */
static int recover(Transfer *t, const HttpResult *result, const char *url, bool *avoid_effective) {
        bool unsatisfiable = result->status == 416 && t->offset > 0;

        if (t->offset > t->furthest) {
                t->furthest = t->offset;
                t->failures = 0;
        }
        if (unsatisfiable && t->restarted)
                return -EIO;
        if (unsatisfiable || t->mismatch) {
                t->restarted = t->restarted || unsatisfiable;
                t->mismatch = false;
                t->failures++;
                return t->failures > FAILURES_MAX ? -EIO : transfer_start_over(t, NULL);
        }
        if (result->by_callback)
                return -EIO;
        if (result->status >= 400 && url != t->request->url.text) { /* what redirects lead to expires */
                *avoid_effective = true;
                return 0;
        }
        if (!result->may_retry || ++t->failures > FAILURES_MAX)
                return -EIO;
        return 0;
}

/* Doubles from one failure to the next, and is as long as the server asks for. */
static void pause_before_retry(const Transfer *t, const HttpResult *result) {
        uint64_t asked = MIN(result->retry_after, (uint64_t)RETRY_AFTER_MAX) * 1000, own = 0, ms;

        if (t->failures > 0)
                own = MIN(t->request->retry_delay << (t->failures - 1), (uint64_t)DELAY_MAX);
        ms = MAX(own, asked);
        (void)poll(NULL, 0, (int)ms);
}

/* What the unpacking says about the content lacks a subject, and so does a reason for a failed request. */
static int explain(const Transfer *t, int r, const Error *e, Error **reterr) {
        ErrorCode code = error_code(e);
        const char *shown = t->request->url.shown;

        if (code == ERROR_INVALID_IMAGE)
                return error_set(reterr, code, "What '%s' gives is no usable image: %s", shown,
                                error_message(e));
        if (code != ERROR_DOWNLOAD_FAILED && code != ERROR_DOWNLOAD_REFUSED)
                (void)error_set(reterr, code, "%s", error_message(e));
        else if (t->attempts > 1)
                (void)error_set(reterr, code, "Failed to download '%s' in %u attempts: %s", shown,
                                t->attempts, error_message(e));
        else
                (void)error_set(reterr, code, "Failed to download '%s': %s", shown, error_message(e));
        return r;
}

/* 304: is it an answer to what was asked, from the one whose ETag it is? */
static bool is_not_modified(const Transfer *t, const HttpResult *result) {
        const char *from = t->request->refresh_url;
        _cleanup_url_ Url url = {};

        return !from || (url_parse(result->url, &url, NULL) >= 0 && streq(url.plain, from));
}

static bool is_complete(const Transfer *t) {
        return t->state.length == 0 || t->offset >= t->state.length;
}

/* One attempt: 1 when all is done, 0 when another one is to follow. */
static int attempt(Transfer *t, Http *h, bool *conditional, bool *avoid_effective, Error **reterr) {
        bool ask = *conditional && t->offset == 0;
        const char *url = choose_url(t, *avoid_effective);
        _cleanup_(http_result_done) HttpResult result = {};
        _cleanup_error_ Error *e = NULL;
        int r;

        t->attempts++;
        r = request_once(t, h, url, ask, &result, &e);
        if (r >= 0 && result.status == 304 && ask) {
                *conditional = false;
                t->not_modified = is_not_modified(t, &result);
                return t->not_modified;
        }
        if (r >= 0 && result.status == 304)
                r = error_set(&e, ERROR_DOWNLOAD_REFUSED, "the server answered with status 304 unasked");
        else if (r >= 0 && !is_complete(t)) {
                result.may_retry = true;
                r = error_set(&e, ERROR_DOWNLOAD_FAILED, "the server sent less than it announced");
        } else if (r >= 0)
                return 1;
        if (recover(t, &result, url, avoid_effective) < 0)
                return explain(t, r, e, reterr);
        if (t->offset > 0 && !pull_state_validator(&t->state)) { /* no server could vouch for the rest */
                r = transfer_start_over(t, reterr);
                if (r < 0)
                        return r;
        }
        pause_before_retry(t, &result);
        return 0;
}

/* A file URL's file, whose size was looked at once: what it grows by meanwhile does not belong to it. */
static int read_source(Transfer *t, Error **reterr) {
        _cleanup_free_ uint8_t *buffer = malloc(READ_SIZE);
        _cleanup_error_ Error *e = NULL;
        int r = 0;

        if (!buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the file");
        progress_tell(t->progress, "downloading", 0, t->state.length);
        while (r >= 0 && t->offset < t->state.length) {
                ssize_t n = pread(t->source_fd, buffer,
                                (size_t)MIN((uint64_t)READ_SIZE, t->state.length - t->offset),
                                (off_t)t->offset);

                if (n <= 0)
                        return error_set(reterr, ERROR_DOWNLOAD_FAILED, "Failed to read '%s': %s",
                                        t->request->url.shown,
                                        n < 0 ? strerror(errno) : "it became shorter meanwhile");
                r = on_data(t, buffer, (size_t)n, &e);
        }
        return r < 0 ? explain(t, r, e, reterr) : 0;
}

/* A file has no ETag, but its size and time of change serve as one. */
static int take_source(Transfer *t, Error **reterr) {
        struct stat st;

        if (fstat(t->source_fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to read the file");
        t->state = (PullState){
                .effective = strdup(t->request->url.plain),
                .etag = strf("\"%jx-%jx.%lx\"", (uintmax_t)st.st_size, (uintmax_t)st.st_mtim.tv_sec,
                                st.st_mtim.tv_nsec),
                .length = (uint64_t)st.st_size,
        };
        if (!t->state.effective || !t->state.etag)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the file");
        t->not_modified = t->request->refresh && streq_ptr(t->request->etag, t->state.etag);
        return t->not_modified ? 0 : read_source(t, reterr);
}

int transfer_run(Transfer *t, Error **reterr) {
        bool conditional = t->request->refresh, avoid_effective = false;
        _cleanup_(http_freep) Http *h = NULL;
        int r;

        r = t->pipeline ? 0 : begin(t, reterr);
        if (r < 0)
                return r;
        if (t->source_fd >= 0)
                return take_source(t, reterr);
        if (t->offset > 0 &&
                        t->offset == t->state.length) /* all is here, but for a worker that was killed */
                return 0;
        r = http_new(&h, reterr);
        while (r == 0)
                r = attempt(t, h, &conditional, &avoid_effective, reterr);
        return r < 0 ? r : 0;
}

int transfer_finish(Transfer *t, PipelineResult *ret, Error **reterr) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = pipeline_finish(t->pipeline, ret, &e);
        return r < 0 ? explain(t, r, e, reterr) : 0;
}
