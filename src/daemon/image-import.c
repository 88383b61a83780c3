/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Import and export: a job around vmctl-image, which copies, checks and converts. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "image-transfer.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "worker.h"

#define FILE_COPY "copy"
#define FILE_UNPACKED "unpacked"
#define FILE_CONVERTED "converted" /* from a format that no VM uses */

/* A day: a pipe may be fed by a slow network. Who waits that long can cancel. */
#define IMPORT_TIMEOUT (24 * 3600 * USEC_PER_SEC)

typedef struct Import {
        ImageStore *store; /* borrowed */
        Job *job;
        ImageRecord record;
        char *format; /* as stated, or NULL */
        bool unpacked;
        char *folder; /* ".new-UUID": where the file is made */
        int folder_fd;
        int input; /* owned until the worker runs */
        Worker *worker;
        ImageCommit *commit;
} Import;

static Import *import_free(Import *i) {
        if (!i)
                return NULL;
        worker_free(i->worker);
        image_commit_free(i->commit);
        if (i->record.name)
                image_name_release(i->store, i->record.name);
        image_record_done(&i->record);
        safe_close(i->folder_fd);
        safe_close(i->input);
        if (i->folder)
                image_store_delete(i->store, i->folder);
        free(i->format);
        free(i->folder);
        free(i);
        return NULL;
}
DEFINE_CLEANUP(Import *, import_free);

static void import_finish(Import *i, const Error *error) {
        Job *job = i->job;

        import_free(i);
        (void)job_finish(job, job_result_of(error), error);
}

static void import_cancel(Job *job, void *userdata) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "The import was canceled");
        import_finish(userdata, e);
}

static void on_progress(void *userdata, const JobProgress *p) {
        Import *i = userdata;

        job_set_progress(i->job, p);
}

/* The link in the folder of the import goes with it; the image has its own. */
static void on_committed(void *userdata, Image *image, const Error *error) {
        Import *i = userdata;

        i->commit = NULL;
        import_finish(i, error);
}

int image_take_facts(const Json *result, ImageRecord *rec) {
        const char *format = json_get_string(result, "format"),
                   *digest = json_get_string(result, "content-digest"),
                   *source = json_get_string(result, "source-format");
        int r;

        if (!image_format_is_usable(format) ||
                        json_get_unsigned(result, "virtual-size", &rec->virtual_size) < 0 ||
                        json_get_unsigned(result, "size", &rec->size) < 0)
                return -EBADMSG;
        r = free_and_strdup(&rec->format, format);
        if (r >= 0)
                r = free_and_strdup(&rec->source_format, source ?: format);
        if (r >= 0 && digest)
                r = free_and_strdup(&rec->content_digest, digest);
        return r < 0 ? r : rec->content_digest ? 0 : -EBADMSG;
}

static void on_imported(void *userdata, const Json *result, const Error *error);

static const WorkerHandlers import_handlers = { .progress = on_progress, .done = on_imported };

static int open_file(const Import *i, const char *name, int flags) {
        int fd = openat(i->folder_fd, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

        return fd < 0 ? -errno : fd;
}

/* vmctl-image, over a file of the client's (`digest` NULL), or over ours once it is unpacked. */
static int run_image(Import *i, int input, const char *output, const char *scratch, const char *digest) {
        _cleanup_close_ int out = open_file(i, output, O_CREAT | O_TRUNC), spare = -EBADF;
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        if (out < 0)
                return out;
        if (scratch) {
                spare = open_file(i, scratch, O_CREAT | O_TRUNC);
                if (spare < 0)
                        return spare;
        }
        r = image_import_request(
                        i->store, i->format, digest, digest ? i->record.name : NULL, &request, &len);
        if (r >= 0) {
                const WorkerFile files[] = { { "--input", input, digest != NULL }, { "--output", out, true },
                        { "--scratch", spare, true } };
                const WorkerSpec spec = { .program = "vmctl-image",
                        .verb = "import",
                        .files = files,
                        .n_files = ELEMENTSOF(files),
                        .timeout_usec = IMPORT_TIMEOUT };

                r = worker_run(i->store->manager, &spec, request, len, &import_handlers, i, &i->worker);
        }
        return r;
}

static int commit(Import *i, const Json *result, const char *file) {
        _cleanup_free_ char *name = NULL;
        ImageRecord rec;
        int r;

        r = image_take_facts(result, &i->record);
        if (r >= 0)
                r = free_and_strdup(&name, i->record.name);
        if (r < 0)
                return r;
        rec = i->record;
        i->record = (ImageRecord){ .name = TAKE_PTR(name) }; /* it is reserved until we end */
        return image_commit(i->store, &rec, i->folder_fd, file, NULL, on_committed, i, &i->commit);
}

static void fail_errno(Import *i, int r) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "The image cannot be put into the store");
        import_finish(i, e);
}

/* Where the image is now: import says which of its files became it. */
static const char *file_of(const Import *i, const Json *result) {
        const char *file = json_get_string(result, "file");

        if (i->unpacked)
                return streq_ptr(file, "output") ? FILE_CONVERTED : FILE_UNPACKED;
        return streq_ptr(file, "scratch") ? FILE_CONVERTED : FILE_COPY;
}

static void on_unpacked(void *userdata, const Json *result, const Error *error) {
        const char *digest = json_get_string(result, "content-digest");
        _cleanup_close_ int input = -EBADF;
        Import *i = userdata;
        Worker *worker = TAKE_PTR(i->worker);
        int r;

        if (error)
                import_finish(i, error);
        else {
                i->unpacked = true;
                input = digest ? open_file(i, FILE_UNPACKED, 0) : -EBADMSG;
                r = input < 0 ? input : run_image(i, input, FILE_CONVERTED, NULL, digest);
                if (r < 0)
                        fail_errno(i, r);
        }
        worker_free(worker);
}

static const WorkerHandlers unpack_handlers = { .progress = on_progress, .done = on_unpacked };

/* What the client gave turned out to be compressed: vmctl-pull takes the copy for a download. */
static int unpack(Import *i) {
        _cleanup_close_ int copy = open_file(i, FILE_COPY, 0),
                            unpacked = open_file(i, FILE_UNPACKED, O_CREAT | O_EXCL);
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        if (copy < 0 || unpacked < 0)
                return copy < 0 ? copy : unpacked;
        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "url", "file:///import");
        json_put_unsigned(w, "max-size", i->store->manager->config.image_size_max);
        json_write_end(w);
        r = json_writer_finish(w, &request, &len);
        if (r >= 0) {
                const WorkerFile files[] = { { "--source", copy }, { "--output", unpacked } };
                const WorkerSpec spec = { .program = "vmctl-pull",
                        .files = files,
                        .n_files = ELEMENTSOF(files),
                        .timeout_usec = IMPORT_TIMEOUT };

                r = worker_run(i->store->manager, &spec, request, len, &unpack_handlers, i, &i->worker);
        }
        return r;
}

/* The worker that has ended lends the result and the error until they were used. */
static void on_imported(void *userdata, const Json *result, const Error *error) {
        Import *i = userdata;
        Worker *worker = TAKE_PTR(i->worker);
        int r = 0;

        if (!error)
                r = commit(i, result, file_of(i, result));
        else if (error_code(error) == ERROR_COMPRESSED && !i->unpacked)
                r = unpack(i);
        else
                import_finish(i, error);
        if (r < 0)
                fail_errno(i, r);
        worker_free(worker);
}

int image_import_request(const ImageStore *s, const char *format, const char *digest, const char *name,
                char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        if (format)
                json_put_string(w, "format", format);
        json_put_unsigned(w, "max-size", s->manager->config.image_size_max);
        json_put_boolean(w, "in-place", digest != NULL);
        if (digest)
                json_put_string(w, "content-digest", digest);
        if (name)
                json_put_string(w, "name", name);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int make_folder(Import *i) {
        char uuid[SD_ID128_UUID_STRING_MAX];
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        i->folder = strf(".new-%s", sd_id128_to_uuid_string(id, uuid));
        if (!i->folder)
                return -ENOMEM;
        i->folder_fd = make_dir_at(i->store->fd, i->folder, 0700);
        return i->folder_fd < 0 ? i->folder_fd : 0;
}

static int import_run(Import *i) {
        int r;

        r = make_folder(i);
        if (r >= 0)
                r = run_image(i, i->input, FILE_COPY, FILE_CONVERTED, NULL);
        i->input = safe_close(i->input);
        return r;
}

int image_import(ImageStore *s, int fd, const ImageOptions *options, Job **ret, Error **reterr) {
        const JobSpec spec = { "import", JOB_TARGET_IMAGE, options->name, options->owner, options->owner,
                import_cancel, NULL };
        _cleanup_(import_freep) Import *i = malloc(sizeof(Import));
        int r;

        if (!i)
                return error_set_errno(reterr, -ENOMEM, "Cannot import '%s'", options->name);
        *i = (Import){
                .store = s,
                .record = { .owner = options->owner, .shared = options->shared },
                .folder_fd = -EBADF,
                .input = fcntl(fd, F_DUPFD_CLOEXEC, 3),
        };
        r = image_name_reserve(s, options->name, reterr);
        if (r < 0)
                return r;
        i->record.name = strdup(options->name);
        if (!i->record.name || free_and_strdup(&i->format, options->format) < 0) {
                image_name_release(s, options->name);
                return error_set_errno(reterr, -ENOMEM, "Cannot import '%s'", options->name);
        }
        r = i->input < 0 ? -errno : import_run(i);
        if (r >= 0)
                r = job_new(s->manager, &spec, &i->job);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot import '%s'", options->name);
        i->job->userdata = i;
        *ret = TAKE_PTR(i)->job;
        return 0;
}

typedef struct Export {
        Job *job;
        Worker *worker;
} Export;

static Export *export_free(Export *x) {
        if (x)
                worker_free(x->worker);
        free(x);
        return NULL;
}
DEFINE_CLEANUP(Export *, export_free);

static void on_export_progress(void *userdata, const JobProgress *p) {
        Export *x = userdata;

        job_set_progress(x->job, p);
}

static void on_exported(void *userdata, const Json *result, const Error *error) {
        _cleanup_(export_freep) Export *x = userdata;

        (void)job_finish(x->job, job_result_of(error), error);
}

static const WorkerHandlers export_handlers = { .progress = on_export_progress, .done = on_exported };

static void export_cancel(Job *job, void *userdata) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "The export was canceled");
        export_free(userdata);
        (void)job_finish(job, JOB_CANCELED, e);
}

static int export_request(const Image *image, const char *format, const char *compression, char **ret,
                size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "source-format", image->record.format);
        json_put_string(w, "format", format ?: image->record.format);
        json_put_string(w, "compression", compression ?: "none");
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

/* Where a copy is put together that cannot be written from front to back. It has no name. */
static int open_scratch(const ImageStore *s) {
        int fd = openat(s->partial_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return fd < 0 && errno != EOPNOTSUPP && errno != EISDIR ? -errno : fd;
}

int image_export(Image *image, int fd, const char *format, const char *compression, uid_t owner, Job **ret,
                Error **reterr) {
        const JobSpec job = { "export", JOB_TARGET_IMAGE, image_name(image), owner, owner, export_cancel,
                NULL };
        _cleanup_close_ int input = image_open(image), scratch = open_scratch(image->manager->images);
        const WorkerFile files[] = { { "--input", input }, { "--output", fd },
                { "--scratch", scratch, true } };
        const WorkerSpec spec = { .program = "vmctl-image",
                .verb = "export",
                .files = files,
                .n_files = ELEMENTSOF(files),
                .timeout_usec = IMPORT_TIMEOUT };
        _cleanup_(export_freep) Export *x = calloc(1, sizeof(Export));
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        if (format && !image_format_is_usable(format))
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "format '%s' is not supported: 'raw' or 'qcow2'", format);
        if (compression && !streq(compression, "none") && !streq(compression, "zstd"))
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "compression '%s' is not supported: 'none' or 'zstd'", compression);
        r = !x ? -ENOMEM : input < 0 ? input : export_request(image, format, compression, &request, &len);
        if (r >= 0)
                r = worker_run(image->manager, &spec, request, len, &export_handlers, x, &x->worker);
        if (r >= 0)
                r = job_new(image->manager, &job, &x->job);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot export image '%s'", image_name(image));
        x->job->userdata = x;
        *ret = TAKE_PTR(x)->job;
        return 0;
}
