/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-pull: gets an image from a URL, unpacks it and verifies it. vmctld runs it once for each pull, so
 * that bytes from the network are read by a process that has no rights, and can reach nothing but the
 * network and its own files.
 *
 *     vmctl-pull [--uid N --gid N] --output FD [--received FD] [--state FD] [--source FD]
 *
 * The files may hold what an earlier worker left when it ended or was killed: with all three, for the same
 * URL and in the same boot, the transfer goes on where that one was. The service keeps them from one attempt
 * to the next, and has no more use for the last two when this one succeeds. The request is a JSON object on
 * standard input (pull-request.h); progress and the result are lines on standard output.
 *
 * What a file URL names is opened after the worker has become a user without rights, so that only what
 * everybody may read can be had that way; a client hands over other files by importing them. For these
 * the service uses --source, a regular file that stands in for the one that the URL names. */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "fetch.h"
#include "lockdown.h"
#include "reply.h"
#include "transfer.h"
#include "util/fd-util.h"
#include "worker-options.h"

typedef struct Pull {
        int argc;
        char **argv;
        Identity identity;
        int output_fd, received_fd, state_fd; /* inherited; borrowed */
        int source_fd, checksums_fd;          /* owned: file URLs' files */
        PullRequest request;
        bool digest_is_trusted; /* it came from the caller, or not over plain http */
        Progress progress;
        Transfer transfer;
        PipelineResult result;
} Pull;

static void pull_done(Pull *p) {
        transfer_done(&p->transfer);
        pull_request_done(&p->request);
        safe_close(p->source_fd);
        safe_close(p->checksums_fd);
}

static int parse_options(Pull *p, Error **reterr) {
        const WorkerOption table[] = {
                { "--output", &p->output_fd, 1 },
                { "--received", &p->received_fd, 1 },
                { "--state", &p->state_fd, 1 },
                { "--source", &p->source_fd, 1 },
        };
        int r;

        r = worker_parse_options(p->argc, p->argv, 1, table, ELEMENTSOF(table), &p->identity, reterr);
        if (r < 0)
                return r;
        return p->output_fd < 0 ? error_set(reterr, ERROR_FAILED, "vmctl-pull needs --output") : 0;
}

static int drop_privileges(Pull *p, Error **reterr) {
        const ConfineLimits limits = {
                .cpu_seconds = 6 * 3600,  /* a terabyte of xz */
                .address_space = 4 * GIB, /* CODEC_MEMORY_MAX_LOG, and what threads set aside */
                .file_size = INT64_MAX,   /* until the request says more */
        };

        (void)signal(SIGXFSZ, SIG_IGN); /* a write that fails says why */
        return confine(&p->identity, &limits, reterr);
}

static int read_request(Pull *p, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = worker_read_request(PULL_REQUEST_SIZE_MAX, &text, &len, reterr);
        if (r >= 0)
                r = pull_request_parse(text, len, &p->request, reterr);
        return r < 0 ? r : confine_file_size(pipeline_received_max(p->request.max_size), reterr);
}

/* All that has to be opened, before nothing can be opened any more. */
static int open_files(Pull *p, Error **reterr) {
        const struct {
                const Url *url;
                int *fd;
        } table[] = {
                { &p->request.url, &p->source_fd },
                { &p->request.checksums, &p->checksums_fd },
        };
        int r;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                if (!table[i].url->text || table[i].url->scheme != URL_FILE || *table[i].fd >= 0)
                        continue;
                r = url_open_file(table[i].url, table[i].fd, reterr);
                if (r < 0)
                        return r;
        }
        return pull_state_init(reterr);
}

static int lock_in(Pull *p, Error **reterr) {
        return lockdown(reterr);
}

/* Digests that are asked for and digests that are published have to be the same, too. */
static int get_checksums(Pull *p, Error **reterr) {
        PullRequest *q = &p->request;
        _cleanup_free_ char *text = NULL;
        Checksums found;
        size_t len;
        int r;

        p->digest_is_trusted = !isempty(q->expected.sha256) ||
                        (q->checksums.text && q->checksums.scheme != URL_HTTP);
        if (!q->checksums.text)
                return 0;
        r = fetch(q, &q->checksums, p->checksums_fd, CHECKSUMS_SIZE_MAX, &p->progress, &text, &len, reterr);
        if (r < 0)
                return r;
        r = checksums_find(text, len, q->url.name, &found, reterr);
        if (r < 0)
                return r;
        if (!isempty(q->expected.sha256) && !isempty(found.sha256) &&
                        !streq(q->expected.sha256, found.sha256))
                return error_set(reterr, ERROR_DIGEST_MISMATCH,
                                "'%s' is to have the SHA-256 %s, but '%s' lists %s", q->url.name,
                                q->expected.sha256, q->checksums.shown, found.sha256);
        if (isempty(q->expected.sha256))
                memcpy(q->expected.sha256, found.sha256, sizeof(found.sha256));
        memcpy(q->expected.sha512, found.sha512, sizeof(found.sha512));
        return 0;
}

static int check_digest(const Pull *p, const char *algorithm, const char *expected, const char *actual,
                Error **reterr) {
        if (isempty(expected) || streq(expected, actual))
                return 0;
        return error_set(reterr, ERROR_DIGEST_MISMATCH,
                        "What came from '%s' has the %s %s, but should have %s", p->request.url.shown,
                        algorithm, actual, expected);
}

static int verify(Pull *p, Error **reterr) {
        const Checksums *expected = &p->request.expected, *actual = &p->result.received;
        int r;

        r = check_digest(p, "SHA-256", expected->sha256, actual->sha256, reterr);
        return r < 0 ? r : check_digest(p, "SHA-512", expected->sha512, actual->sha512, reterr);
}

static int receive_once(Pull *p, Error **reterr) {
        Transfer *t = &p->transfer;
        int r;

        r = transfer_run(t, reterr);
        if (r < 0 || t->not_modified)
                return r;
        progress_tell(&p->progress, "verifying", t->offset, t->offset);
        r = transfer_finish(t, &p->result, reterr);
        return r < 0 ? r : verify(p, reterr);
}

/* About the transfer, not about what came. */
static bool is_of_transfer(const Error *error) {
        return error_code(error) == ERROR_DOWNLOAD_FAILED || error_code(error) == ERROR_DOWNLOAD_REFUSED;
}

/* A failure that may be due to what an earlier worker left is none until it happens without that. */
static int receive(Pull *p, Error **reterr) {
        Transfer *t = &p->transfer;
        int r;

        *t = (Transfer){
                .request = &p->request,
                .config = {
                        .output_fd = p->output_fd,
                        .received_fd = p->received_fd,
                        .max_size = p->request.max_size,
                        .sha512 = !isempty(p->request.expected.sha512),
                },
                .state_fd = p->state_fd,
                .source_fd = p->source_fd,
                .progress = &p->progress,
                .verified = p->digest_is_trusted,
        };
        r = receive_once(p, reterr);
        if (r < 0 && t->resumed && !is_of_transfer(*reterr)) {
                *reterr = error_free(*reterr);
                r = transfer_start_over(t, reterr);
                if (r >= 0)
                        r = receive_once(p, reterr);
        }
        if (r < 0 && !is_of_transfer(*reterr)) /* nothing to go on with */
                (void)transfer_start_over(t, NULL);
        return r;
}

static int sync_output(Pull *p, Error **reterr) {
        if (!p->transfer.not_modified && fsync(p->output_fd) < 0)
                return error_set_errno(reterr, -errno, "Failed to write the image to disk");
        return 0;
}

static void write_result(JsonWriter *w, const Pull *p) {
        const PullState *s = &p->transfer.state;

        if (p->transfer.not_modified) {
                json_put_boolean(w, "not-modified", true);
                return;
        }
        json_put_string(w, "sha256", p->result.received.sha256);
        if (!isempty(p->result.received.sha512))
                json_put_string(w, "sha512", p->result.received.sha512);
        json_put_string(w, "content-digest", p->result.content_digest);
        json_put_unsigned(w, "size", p->result.size);
        json_put_unsigned(w, "received", p->transfer.offset);
        json_put_string(w, "compression", compression_to_string(p->result.compression));
        json_put_string(w, "etag", s->etag);
        json_put_string(w, "last-modified", s->last_modified);
        json_put_string(w, "url", s->effective);
}

static int pull(void *userdata, JsonWriter *w, Error **reterr) {
        static int (*const steps[])(Pull *, Error **) = {
                parse_options,
                drop_privileges,
                read_request,
                open_files,
                lock_in,
                get_checksums,
                receive,
                sync_output,
        };
        Pull *p = userdata;

        for (size_t i = 0; i < ELEMENTSOF(steps); i++) {
                int r = steps[i](p, reterr);

                if (r < 0)
                        return r;
        }
        write_result(w, p);
        return 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(pull_done) Pull p = {
                .argc = argc,
                .argv = argv,
                .output_fd = -EBADF,
                .received_fd = -EBADF,
                .state_fd = -EBADF,
                .source_fd = -EBADF,
                .checksums_fd = -EBADF,
        };

        return reply_run(pull, NULL, &p);
}
