/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is fetched of a URL, for all who pull it at the time: vmctl-pull downloads, decompresses and verifies
 * into ".partial/HASH", vmctl-image looks at the result, and converts what no VM can use as it is; then one
 * pull after the other gets an image of its own that shares the content. The folder stays when that fails in
 * a way that another try may mend, and the next one goes on with what is there.
 *
 * A transfer belongs to none of its pulls: they come and go, and the first of those that are left is charged
 * for the worker. When none is left the worker is killed, and awaited before anybody else gets the folder: a
 * new transfer of the same folder waits for that. Only step() moves on, and it alone frees a transfer; it is
 * called by the loop, since a pull that ends can have others begin and end. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-transfer.h"
#include "util/fd-util.h"
#include "util/log.h"

#define TRANSFER_TIMEOUT (24 * 3600 * USEC_PER_SEC) /* a stall is noticed far earlier, by vmctl-pull */
#define CHECK_TIMEOUT (3600 * USEC_PER_SEC)

#define FILE_IMAGE "image"         /* decompressed */
#define FILE_RECEIVED "received"   /* as it came, where that is compressed */
#define FILE_STATE "state"         /* vmctl-pull's own notes */
#define FILE_CONVERTED "converted" /* from a format that no VM uses */

typedef enum TransferStep {
        TRANSFER_WAIT, /* for an earlier one of the same folder */
        TRANSFER_DOWNLOAD,
        TRANSFER_CHECK,
        TRANSFER_DELIVER,
        TRANSFER_END, /* nobody joins it any more */
} TransferStep;

struct Transfer {
        ImageStore *store; /* borrowed */
        TransferStep step;
        char *url;
        char *checksums;       /* or NULL */
        char *known;           /* UUID of the image that may be up to date still, or NULL */
        char *format;          /* as stated, or NULL */
        char *folder;          /* of the partials */
        int folder_fd;         /* owned, locked as long as somebody works in it; -EBADF: not open yet */
        const char *file;      /* in it: the finished image */
        Worker *worker;        /* one that has ended lends what it said */
        bool running, killed;  /* the worker */
        bool keeps;            /* what has come is of use for the next transfer */
        ImageRecord facts;     /* what was found out about the image; without name and owner */
        Pull *pulls;           /* borrowed; in the order in which they came */
        sd_event_source *kick; /* owned: has step() called */
        Transfer *next;
};

static void step(Transfer *t);

static void kick(Transfer *t) {
        (void)sd_event_source_set_enabled(t->kick, SD_EVENT_ONESHOT);
}

static int on_kick(sd_event_source *s, void *userdata) {
        step(userdata);
        return 0;
}

static bool is_of_folder(const Transfer *t, const Transfer *other) {
        return streq(t->folder, other->folder);
}

/* Those that wait for it can begin. */
static void unlink_transfer(Transfer *t) {
        for (Transfer **p = &t->store->transfers; *p; p = &(*p)->next)
                if (*p == t) {
                        *p = t->next;
                        break;
                }
        for (Transfer *other = t->store->transfers; other && t->folder; other = other->next)
                if (is_of_folder(t, other))
                        kick(other);
}

static Transfer *transfer_free(Transfer *t) {
        if (!t)
                return NULL;
        unlink_transfer(t);
        worker_free(t->worker);
        image_record_done(&t->facts);
        safe_close(t->folder_fd);
        sd_event_source_disable_unref(t->kick);
        free(t->url);
        free(t->checksums);
        free(t->known);
        free(t->format);
        free(t->folder);
        free(t);
        return NULL;
}
DEFINE_CLEANUP(Transfer *, transfer_free);

void image_transfers_free(ImageStore *s) {
        while (s && s->transfers)
                transfer_free(s->transfers);
}

Pull *transfer_pulls(Transfer *t) {
        return t ? t->pulls : NULL;
}

static void leave(Pull *p) {
        for (Pull **q = &p->transfer->pulls; *q; q = &(*q)->next)
                if (*q == p) {
                        *q = p->next;
                        break;
                }
        p->transfer = NULL;
        p->next = NULL;
}

void transfer_leave(Pull *p) {
        if (!p->transfer)
                return;
        if (p->result) /* what others would need of it is in the store now */
                p->transfer->keeps = false;
        kick(p->transfer);
        leave(p);
}

void transfer_go_on(Transfer *t) {
        kick(t);
}

/* --- The end */

/* What vmctl-pull has noted nothing of it does not go on with. */
static bool has_something(const Transfer *t) {
        struct stat st;

        return fstatat(t->folder_fd, FILE_STATE, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_size > 0;
}

static void put_away(Transfer *t) {
        if (t->folder_fd >= 0 && t->keeps && has_something(t))
                partials_keep(t->store->partials, t->folder_fd);
        else if (t->folder_fd >= 0)
                partials_delete(t->store->partials, t->folder);
        transfer_free(t);
}

static void on_gone(void *userdata) {
        Transfer *t = userdata;

        t->running = false;
        kick(t);
}

static void end(Transfer *t) {
        t->step = TRANSFER_END;
        if (t->running && !t->killed) {
                t->killed = true;
                t->running = worker_kill(t->worker, on_gone, t) > 0;
        }
        if (!t->running)
                put_away(t);
}

/* Another try goes on with what is there, unless that is of no use or fills the disk. */
static bool is_worth_keeping(const Error *error) {
        switch (error_code(error)) {
        case ERROR_DOWNLOAD_FAILED:
        case ERROR_DOWNLOAD_REFUSED: /* who knows for how long */
        case ERROR_TIMEOUT:
        case ERROR_FAILED:
        case ERROR_NO_MEMORY:
                return true;
        default:
                return false;
        }
}

static void fail_all(Transfer *t, const Error *error) {
        _cleanup_error_ Error *e = error_copy(error);

        t->step = TRANSFER_END;
        t->keeps = is_worth_keeping(e);
        while (t->pulls)
                pull_end(t->pulls, NULL, e);
        kick(t);
}

static void fail_all_errno(Transfer *t, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "%s", what);
        fail_all(t, e);
}

/* --- Workers */

static void on_progress(void *userdata, const JobProgress *progress) {
        const Transfer *t = userdata;

        for (const Pull *p = t->pulls; p; p = p->next)
                operation_set_progress(&p->op, progress);
}

static void on_downloaded(void *userdata, const Json *result, const Error *error);
static void on_checked(void *userdata, const Json *result, const Error *error);

static const WorkerHandlers download_handlers = { .progress = on_progress, .done = on_downloaded };
static const WorkerHandlers check_handlers = { .progress = on_progress, .done = on_checked };

/* Whoever cannot pay for it any more leaves, and the next one is asked. */
static void pay(Transfer *t) {
        while (t->pulls) {
                _cleanup_error_ Error *e = NULL;

                if (worker_charge(t->worker, t->pulls->op.requester, &e) >= 0)
                        return;
                pull_end(t->pulls, NULL, e);
        }
}

/* The one that has ended is done with. */
static int run_worker(Transfer *t, WorkerSpec *spec, const char *request, size_t len,
                const WorkerHandlers *handlers, Error **reterr) {
        int r;

        t->worker = worker_free(t->worker);
        spec->requester = t->pulls->op.requester;
        r = worker_run(t->store->core, spec, request, len, handlers, t, &t->worker, reterr);
        t->running = r >= 0;
        return r;
}

static int open_file(const Transfer *t, const char *name, int flags) {
        int fd = openat(t->folder_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

        return fd < 0 ? -errno : fd;
}

static int format_download(const Transfer *t, char **ret, size_t *ret_len) {
        const Image *known = t->known ? image_find_by_uuid(t->store, t->known) : NULL;
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "url", t->url);
        if (t->checksums)
                json_put_string(w, "checksums", t->checksums);
        json_put_unsigned(w, "max-size", t->store->core->config.image_size_max);
        if (known) {
                json_write_key(w, "refresh");
                json_write_object(w);
                if (known->record.final_url)
                        json_put_string(w, "url", known->record.final_url);
                if (known->record.etag)
                        json_put_string(w, "etag", known->record.etag);
                if (known->record.last_modified)
                        json_put_string(w, "last-modified", known->record.last_modified);
                json_write_end(w);
        }
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int open_folder(Transfer *t) {
        if (t->folder_fd >= 0)
                return 0;
        t->folder_fd = partials_open(t->store->partials, t->folder, t->pulls->op.requester);
        return t->folder_fd < 0 ? t->folder_fd : 0;
}

static int download(Transfer *t, Error **reterr) {
        _cleanup_close_ int image = -EBADF, received = -EBADF, state = -EBADF;
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        t->step = TRANSFER_DOWNLOAD;
        t->keeps = true;
        r = open_folder(t);
        if (r >= 0)
                r = image = open_file(t, FILE_IMAGE, 0);
        if (r >= 0)
                r = received = open_file(t, FILE_RECEIVED, 0);
        if (r >= 0)
                r = state = open_file(t, FILE_STATE, 0);
        if (r >= 0)
                r = format_download(t, &request, &len);
        if (r >= 0) {
                const WorkerFile files[] = { { "--output", image }, { "--received", received },
                        { "--state", state } };
                WorkerSpec spec = { .program = LAUNCH_PULL,
                        .files = files,
                        .n_files = ELEMENTSOF(files),
                        .network = true,
                        .timeout_usec = TRANSFER_TIMEOUT };

                return run_worker(t, &spec, request, len, &download_handlers, reterr);
        }
        return error_set_errno(reterr, r, "Cannot begin to download");
}

static int check(Transfer *t, Error **reterr) {
        _cleanup_close_ int input = open_file(t, FILE_IMAGE, 0),
                            output = open_file(t, FILE_CONVERTED, O_TRUNC);
        const WorkerFile files[] = { { "--input", input, true }, { "--output", output, true } };
        WorkerSpec spec = { .program = LAUNCH_IMAGE,
                .verb = "import",
                .files = files,
                .n_files = ELEMENTSOF(files),
                .timeout_usec = CHECK_TIMEOUT };
        _cleanup_free_ char *request = NULL, *shown = url_without_credentials(t->url);
        int r = input < 0 || output < 0 ? MIN(input, output) : shown ? 0 : -ENOMEM;
        size_t len;

        t->step = TRANSFER_CHECK;
        if (r >= 0)
                r = image_import_request(
                                t->store, t->format, t->facts.content_digest, shown, &request, &len);
        return r < 0 ? error_set_errno(reterr, r, "The image that was downloaded cannot be looked at")
                     : run_worker(t, &spec, request, len, &check_handlers, reterr);
}

/* A worker is begun for the first of the pulls that can pay for it. */
static void begin(Transfer *t, int (*what)(Transfer *t, Error **reterr)) {
        while (t->pulls) {
                _cleanup_error_ Error *e = NULL;

                if (what(t, &e) >= 0)
                        return;
                if (error_code(e) != ERROR_QUOTA_EXCEEDED) {
                        fail_all(t, e);
                        return;
                }
                pull_end(t->pulls, NULL, e);
        }
        kick(t);
}

/* --- What they say */

/* The image that we have is what the server would send. */
static void serve_known(Transfer *t) {
        t->step = TRANSFER_END;
        t->keeps = false;
        while (t->pulls) {
                Pull *p = t->pulls;

                leave(p);
                pull_deliver(p, t->known);
        }
        kick(t);
}

static int take_download(Transfer *t, const Json *result) {
        int r;

        r = free_and_strdup(&t->facts.url, t->url);
        if (r >= 0)
                r = free_and_strdup(&t->facts.final_url, json_get_string(result, "url"));
        if (r >= 0)
                r = free_and_strdup(&t->facts.sha256, json_get_string(result, "sha256"));
        if (r >= 0)
                r = free_and_strdup(&t->facts.content_digest, json_get_string(result, "content-digest"));
        if (r >= 0)
                r = free_and_strdup(&t->facts.etag, json_get_string(result, "etag"));
        if (r >= 0)
                r = free_and_strdup(&t->facts.last_modified, json_get_string(result, "last-modified"));
        return r < 0 ? r : t->facts.sha256 && t->facts.content_digest ? 0 : -EBADMSG;
}

/* Whether it is what they asked for is told before whether it is an image. */
static void judge_digests(Transfer *t) {
        bool again = true;

        while (again) {
                again = false;
                for (Pull *p = t->pulls; p && !again; p = p->next) {
                        _cleanup_error_ Error *e = NULL;

                        if (pull_check_digest(p, t->facts.sha256, &e) >= 0)
                                continue;
                        pull_end(p, NULL, e); /* others may have come and gone now */
                        again = true;
                }
        }
}

static void on_downloaded(void *userdata, const Json *result, const Error *error) {
        Transfer *t = userdata;
        int r;

        t->running = false;
        if (error) {
                fail_all(t, error);
                return;
        }
        if (json_get_boolean(result, "not-modified") > 0) {
                serve_known(t);
                return;
        }
        r = take_download(t, result);
        if (r < 0) {
                fail_all_errno(t, r, "vmctl-pull says nothing of use of the image");
                return;
        }
        judge_digests(t);
        if (t->pulls)
                begin(t, check);
        else
                t->keeps = false; /* it is what nobody wants */
        kick(t);
}

static void on_checked(void *userdata, const Json *result, const Error *error) {
        Transfer *t = userdata;
        int r = error ? 0 : image_take_facts(result, &t->facts);

        t->running = false;
        if (error)
                fail_all(t, error);
        else if (r < 0)
                fail_all_errno(t, r, "vmctl-image says nothing of use of the image");
        else {
                t->file = streq_ptr(json_get_string(result, "file"), "output") ? FILE_CONVERTED : FILE_IMAGE;
                t->step = TRANSFER_DELIVER;
                kick(t);
        }
}

/* --- The beginning */

static bool has_to_wait(const Transfer *t) {
        for (const Transfer *other = t->next; other; other = other->next) /* those that came earlier */
                if (is_of_folder(t, other))
                        return true;
        return false;
}

static void deliver(Transfer *t) {
        t->worker = worker_free(t->worker);
        if (t->pulls->step == PULL_TRANSFER)
                pull_commit(t->pulls, &t->facts, t->folder_fd, t->file, false);
}

static void step(Transfer *t) {
        if (t->step == TRANSFER_END || !t->pulls) {
                end(t);
                return;
        }
        switch (t->step) {
        case TRANSFER_WAIT:
                if (!has_to_wait(t))
                        begin(t, download);
                break;
        case TRANSFER_DOWNLOAD:
        case TRANSFER_CHECK:
                if (t->running)
                        pay(t);
                if (!t->pulls)
                        kick(t);
                break;
        case TRANSFER_DELIVER:
                deliver(t);
                break;
        case TRANSFER_END:
                break;
        }
}

/* FNV-1a, for a name; vmctl-pull goes on with a folder only if it is of the same URL. */
static uint64_t hash(uint64_t h, const char *s) {
        for (const char *c = s ?: ""; *c; c++)
                h = (h ^ (uint8_t)*c) * UINT64_C(1099511628211);
        return (h ^ '\n') * UINT64_C(1099511628211);
}

static bool is_for_others(const Transfer *t, const char *folder) {
        for (const Transfer *other = t->store->transfers; other; other = other->next)
                if (streq(other->folder, folder) &&
                                (!streq(other->url, t->url) || !streq_ptr(other->checksums, t->checksums)))
                        return true;
        return false;
}

/* Two URLs of one hash are soon found: whoever wants one of them must not have to wait for the other. */
static int choose_folder(Transfer *t) {
        uint64_t h = hash(hash(UINT64_C(14695981039346656037), t->url), t->checksums);

        do {
                free(t->folder);
                t->folder = strf("%016" PRIx64, h++);
        } while (t->folder && is_for_others(t, t->folder));
        return t->folder ? 0 : -ENOMEM;
}

static int transfer_new(ImageStore *s, const PullOptions *o, const Image *known, Transfer **ret) {
        _cleanup_(transfer_freep) Transfer *t = malloc(sizeof(Transfer));
        int r;

        if (!t)
                return -ENOMEM;
        *t = (Transfer){ .store = s, .folder_fd = -EBADF };
        r = free_and_strdup(&t->url, o->url);
        if (r >= 0)
                r = free_and_strdup(&t->checksums, o->checksums);
        if (r >= 0)
                r = free_and_strdup(&t->format, o->image.format);
        if (r >= 0 && known)
                r = free_and_strdup(&t->known, known->record.uuid);
        if (r >= 0)
                r = sd_event_add_defer(s->core->event, &t->kick, on_kick, t);
        if (r >= 0)
                r = sd_event_source_set_enabled(t->kick, SD_EVENT_OFF);
        if (r < 0)
                return r;
        r = choose_folder(t);
        if (r < 0)
                return r;
        t->next = s->transfers;
        s->transfers = t;
        *ret = TAKE_PTR(t);
        return 0;
}

Transfer *transfer_find(const ImageStore *s, const PullOptions *o, const Image *known) {
        for (Transfer *t = s->transfers; t; t = t->next)
                if (t->step != TRANSFER_END && t->pulls && streq(t->url, o->url) &&
                                streq_ptr(t->checksums, o->checksums) &&
                                streq_ptr(t->format, o->image.format) &&
                                streq_ptr(t->known, known ? known->record.uuid : NULL))
                        return t;
        return NULL;
}

static void add(Transfer *t, Pull *p) {
        Pull **last = &t->pulls;

        while (*last)
                last = &(*last)->next;
        *last = p;
        p->next = NULL;
        p->transfer = t;
}

int transfer_join(Pull *p, const PullOptions *o, const Image *known, Error **reterr) {
        Transfer *t = transfer_find(p->store, o, known);
        int r;

        if (t) {
                add(t, p);
                return 0;
        }
        r = transfer_new(p->store, o, known, &t);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot begin to download");
        add(t, p);
        r = has_to_wait(t) ? 0 : download(t, reterr);
        if (r >= 0)
                return 0;
        leave(p);
        end(t);
        return r;
}
