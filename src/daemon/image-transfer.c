/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is fetched of a URL, for all who pull it at the time: vmctl-pull downloads, decompresses and verifies
 * into ".partial/HASH", vmctl-image looks at the result, and converts what no VM can use as it is; then each
 * pull gets an image of its own that shares the content. The folder stays when that fails in a way that
 * another try may mend, and the next one goes on with what is there. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-transfer.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"

#define TRANSFERS_MAX 64                            /* each is a process with up to 64 MiB */
#define TRANSFER_TIMEOUT (24 * 3600 * USEC_PER_SEC) /* a stall is noticed far earlier, by vmctl-pull */
#define CHECK_TIMEOUT (3600 * USEC_PER_SEC)

#define FILE_IMAGE "image"         /* decompressed */
#define FILE_RECEIVED "received"   /* as it came, where that is compressed */
#define FILE_STATE "state"         /* vmctl-pull's own notes */
#define FILE_CONVERTED "converted" /* from a format that no VM uses */

static void on_checked(void *userdata, const Json *result, const Error *error);
static void serve_next(Transfer *t);

static void unlink_transfer(Transfer *t) {
        for (Transfer **p = &t->store->transfers; *p; p = &(*p)->next)
                if (*p == t) {
                        *p = t->next;
                        return;
                }
}

static void transfer_free(Transfer *t) {
        if (!t)
                return;
        unlink_transfer(t);
        worker_free(t->worker);
        image_commit_free(t->commit);
        image_record_done(&t->facts);
        safe_close(t->folder_fd);
        free(t->url);
        free(t->checksums);
        free(t->known);
        free(t->format);
        free(t->folder);
        free(t);
}
static void transfer_freep(Transfer **t) {
        transfer_free(*t);
}

static void transfer_discard(Transfer *t) {
        _cleanup_free_ char *folder = strf(".partial/%s", t->folder);
        ImageStore *s = t->store;

        transfer_free(t);
        if (folder)
                image_store_delete(s, folder);
}

/* What vmctl-pull has noted nothing of it does not go on with. */
static bool has_something(const Transfer *t) {
        struct stat st;

        return fstatat(t->folder_fd, FILE_STATE, &st, AT_SYMLINK_NOFOLLOW) >= 0 && st.st_size > 0;
}

/* The age of what is kept counts from now on. */
void transfer_abandon(Transfer *t) {
        if (!has_something(t)) {
                transfer_discard(t);
                return;
        }
        (void)futimens(t->folder_fd, NULL);
        transfer_free(t);
}

void transfers_free(ImageStore *s) {
        while (s->transfers) {
                Transfer *t = s->transfers;
                Pull *p = t->pulls;

                /* The last one takes the transfer with it. */
                while (p) {
                        Pull *next = p->next;

                        pull_free(p);
                        p = next;
                }
        }
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

        while (t->pulls)
                pull_finish(t->pulls, NULL, e);
        if (is_worth_keeping(e))
                transfer_abandon(t);
        else
                transfer_discard(t);
}

static void fail_all_errno(Transfer *t, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "%s", what);
        fail_all(t, e);
}

/* All who wanted this very image have it now. */
static void serve_alike(Transfer *t, Pull *p, Image *image) {
        for (Pull *q = t->pulls, *next; q; q = next) {
                _cleanup_error_ Error *e = NULL;
                int r;

                next = q->next;
                if (q == p || !pull_wants_the_same(p, q))
                        continue;
                r = pull_check_digest(q, t->facts.sha256, &e);
                pull_finish(q, r < 0 ? NULL : image, e);
        }
        pull_finish(p, image, NULL);
}

static void on_committed(void *userdata, Image *image, const Error *error) {
        Transfer *t = userdata;
        Pull *p = t->committing;

        t->commit = NULL;
        t->committing = NULL;
        if (image && p)
                serve_alike(t, p, image);
        else if (p)
                pull_finish(p, NULL, error);
        else if (image) /* who wanted it has called it off */
                (void)image_remove(image, NULL);
        serve_next(t);
}

static void serve_next(Transfer *t) {
        while (t->pulls) {
                _cleanup_error_ Error *e = NULL;
                Pull *p = t->pulls;
                ImageRecord rec;
                int r;

                r = pull_check_digest(p, t->facts.sha256, &e);
                if (r < 0) {
                        pull_finish(p, NULL, e);
                        continue;
                }
                r = pull_make_record(p, &t->facts, &rec);
                if (r >= 0)
                        r = image_commit(t->store, &rec, t->folder_fd, t->file, p->replaces, on_committed, t,
                                        &t->commit);
                if (r >= 0) {
                        t->committing = p;
                        return;
                }
                (void)error_set_errno(&e, r, "Image '%s' cannot be put into the store", p->name);
                pull_finish(p, NULL, e);
        }
        transfer_discard(t);
}

static void on_progress(void *userdata, const JobProgress *progress) {
        const Transfer *t = userdata;

        for (const Pull *p = t->pulls; p; p = p->next)
                if (p->handlers->progress)
                        p->handlers->progress(p->userdata, progress);
}

static const WorkerHandlers check_handlers = { .progress = on_progress, .done = on_checked };

static int open_file(const Transfer *t, const char *name, int flags) {
        int fd = openat(t->folder_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

        return fd < 0 ? -errno : fd;
}

static int run_check(Transfer *t) {
        _cleanup_close_ int input = open_file(t, FILE_IMAGE, 0),
                            output = open_file(t, FILE_CONVERTED, O_TRUNC);
        const WorkerFile files[] = { { "--input", input, true }, { "--output", output, true } };
        const WorkerSpec spec = { .program = "vmctl-image",
                .verb = "import",
                .files = files,
                .n_files = ELEMENTSOF(files),
                .timeout_usec = CHECK_TIMEOUT };
        _cleanup_free_ char *request = NULL, *shown = NULL;
        size_t len;
        int r;

        if (input < 0 || output < 0)
                return MIN(input, output);
        shown = url_without_credentials(t->url);
        if (!shown)
                return -ENOMEM;
        r = image_import_request(t->store, t->format, t->facts.content_digest, shown, &request, &len);
        return r < 0 ? r
                     : worker_run(t->store->manager, &spec, request, len, &check_handlers, t, &t->worker);
}

static void on_checked(void *userdata, const Json *result, const Error *error) {
        Transfer *t = userdata;
        int r = error ? 0 : image_take_facts(result, &t->facts);

        if (error)
                fail_all(t, error);
        else if (r < 0)
                fail_all_errno(t, r, "vmctl-image says nothing of use of the image");
        else {
                t->file = streq_ptr(json_get_string(result, "file"), "output") ? FILE_CONVERTED : FILE_IMAGE;
                t->worker = worker_free(t->worker);
                serve_next(t);
        }
}

/* The image that we have is what the server would send. */
static void serve_known(Transfer *t) {
        Image *image = image_find_by_uuid(t->store, t->known);
        _cleanup_error_ Error *e = NULL;
        Pull *p;

        if (!image) {
                (void)error_set(&e, ERROR_NO_SUCH_IMAGE, "The image of this URL was removed meanwhile");
                fail_all(t, e);
                return;
        }
        while ((p = t->pulls)) {
                t->pulls = p->next;
                p->transfer = NULL;
                pull_deliver(p, image);
        }
        transfer_discard(t);
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

/* Whether it is what they asked for is told before whether it is an image. False: nobody is left. */
static bool judge_digests(Transfer *t) {
        for (Pull *p = t->pulls, *next; p; p = next) {
                _cleanup_error_ Error *e = NULL;

                next = p->next;
                if (pull_check_digest(p, t->facts.sha256, &e) < 0)
                        pull_finish(p, NULL, e);
        }
        if (t->pulls)
                return true;
        transfer_discard(t);
        return false;
}

static void on_downloaded(void *userdata, const Json *result, const Error *error) {
        Transfer *t = userdata;
        int r;

        if (error) {
                fail_all(t, error);
                return;
        }
        if (json_get_boolean(result, "not-modified") > 0) {
                serve_known(t);
                return;
        }
        r = take_download(t, result);
        t->worker = worker_free(t->worker);
        if (r >= 0 && !judge_digests(t))
                return;
        if (r >= 0)
                r = run_check(t);
        if (r < 0)
                fail_all_errno(t, r, "The image that was downloaded cannot be looked at");
}

static const WorkerHandlers download_handlers = { .progress = on_progress, .done = on_downloaded };

static int format_request(const Transfer *t, const Image *known, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "url", t->url);
        if (t->checksums)
                json_put_string(w, "checksums", t->checksums);
        json_put_unsigned(w, "max-size", t->store->manager->config.image_size_max);
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

static int run_download(Transfer *t, const Image *known) {
        _cleanup_close_ int image = open_file(t, FILE_IMAGE, 0), received = open_file(t, FILE_RECEIVED, 0),
                            state = open_file(t, FILE_STATE, 0);
        const WorkerFile files[] = { { "--output", image }, { "--received", received },
                { "--state", state } };
        const WorkerSpec spec = { .program = "vmctl-pull",
                .files = files,
                .n_files = ELEMENTSOF(files),
                .network = true,
                .timeout_usec = TRANSFER_TIMEOUT };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        if (image < 0 || received < 0 || state < 0)
                return image < 0 ? image : received < 0 ? received : state;
        r = format_request(t, known, &request, &len);
        return r < 0 ? r
                     : worker_run(t->store->manager, &spec, request, len, &download_handlers, t, &t->worker);
}

/* FNV-1a, for a name; vmctl-pull goes on with a folder only if it is of the same URL. */
static uint64_t hash(uint64_t h, const char *s) {
        for (const char *c = s ?: ""; *c; c++)
                h = (h ^ (uint8_t)*c) * UINT64_C(1099511628211);
        return (h ^ '\n') * UINT64_C(1099511628211);
}

static int open_folder(Transfer *t) {
        t->folder = strf("%016" PRIx64, hash(hash(UINT64_C(14695981039346656037), t->url), t->checksums));
        if (!t->folder)
                return -ENOMEM;
        for (const Transfer *other = t->store->transfers; other; other = other->next)
                if (other->folder && streq(other->folder, t->folder))
                        return -EBUSY;
        t->folder_fd = make_dir_at(t->store->partial_fd, t->folder, 0700);
        if (t->folder_fd < 0)
                return t->folder_fd;
        /* systemd-tmpfiles leaves alone what is locked. */
        (void)flock(t->folder_fd, LOCK_EX | LOCK_NB);
        return 0;
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
                r = open_folder(t);
        if (r >= 0)
                r = run_download(t, known);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

static Transfer *find_transfer(const ImageStore *s, const PullOptions *o, const Image *known) {
        for (Transfer *t = s->transfers; t; t = t->next)
                if (streq(t->url, o->url) && streq_ptr(t->checksums, o->checksums) &&
                                streq_ptr(t->format, o->image.format) &&
                                streq_ptr(t->known, known ? known->record.uuid : NULL))
                        return t;
        return NULL;
}

int transfer_join(Pull *p, const PullOptions *o, const Image *known, Error **reterr) {
        ImageStore *s = p->store;
        Transfer *t;
        size_t n = 0;
        int r;

        t = find_transfer(s, o, known);
        if (!t) {
                for (const Transfer *other = s->transfers; other; other = other->next)
                        n++;
                r = n >= TRANSFERS_MAX ? -EBUSY : transfer_new(s, o, known, &t);
                if (r == -EBUSY)
                        return error_set(reterr, ERROR_BUSY,
                                        n >= TRANSFERS_MAX ? "Too many downloads are under way"
                                                           : "The same URL is being downloaded with other "
                                                             "options");
                if (r < 0)
                        return error_set_errno(reterr, r, "Cannot begin to download");
                t->next = s->transfers;
                s->transfers = t;
        }
        p->transfer = t;
        p->next = t->pulls;
        t->pulls = p;
        return 0;
}
