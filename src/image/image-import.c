/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Import: vmctl-image copies a client's file into a draft of the store, looks at the copy, and converts what
 * no VM can use as it is; what is compressed is unpacked in between. */
#include <fcntl.h>
#include <stdio.h>
#include <systemd/sd-id128.h>
#include <unistd.h>

#include "image-transfer.h"
#include "util/fd-util.h"
#include "util/log.h"

#define FILE_COPY "copy"
#define FILE_UNPACKED "unpacked"
#define FILE_CONVERTED "converted" /* from a format that no VM uses */

/* A day: a pipe may be fed by a slow network. Who waits that long can cancel. */
#define IMPORT_TIMEOUT (24 * 3600 * USEC_PER_SEC)

typedef enum ImportStep {
        IMPORT_COPY,   /* and look at it */
        IMPORT_UNPACK, /* the copy */
        IMPORT_CHECK,  /* what came out of it */
        IMPORT_COMMIT,
        IMPORT_KILL, /* until the worker is gone */
        IMPORT_CLEAN,
} ImportStep;

typedef struct Import {
        Operation op;
        ImageStore *store; /* borrowed */
        ImportStep step;
        ImageRecord record; /* the image's, as far as it is known */
        Record *draft;      /* owned: where the file is made */
        Reservation *reservation;
        Charge charge; /* for the image, as long as there is none */
        char *format;  /* as stated, or NULL */
        Worker *worker;
        ImageCommit *commit;
        bool refused; /* nobody knows it: the caller is told at once */
        Error *error; /* what it ends with when all is cleaned up */
} Import;

static void import_done(Operation *op) {
        Import *i = (Import *)op;

        worker_free(i->worker);
        image_commit_free(i->commit);
        record_free(i->draft);
        reservation_unref(i->reservation);
        charge_release(&i->charge);
        image_record_done(&i->record);
        error_free(i->error);
        free(i->format);
}

static void end(Import *i, const Error *error) {
        i->worker = worker_free(i->worker);
        i->reservation = reservation_unref(i->reservation);
        charge_release(&i->charge);
        if (i->refused)
                operation_drop(&i->op, &i->error);
        else if (error || i->step != IMPORT_COMMIT)
                operation_fail(&i->op, error);
        else
                operation_complete(&i->op, NULL);
}

static void on_clean(void *userdata, int r, const Error *error) {
        Import *i = userdata;

        end(i, i->error);
}

static void clean(void *userdata) {
        Import *i = userdata;

        i->step = IMPORT_CLEAN;
        if (!i->draft || record_remove(&i->draft, on_clean, i, NULL) < 0)
                end(i, i->error);
}

/* `error` is copied. */
static void undo(Import *i, const Error *error) {
        i->error = error_copy(error);
        clean(i);
}

static bool cancel_import(Operation *op) {
        Import *i = (Import *)op;

        switch (i->step) {
        case IMPORT_COMMIT:
                return image_commit_cancel(i->commit);
        case IMPORT_COPY:
        case IMPORT_UNPACK:
        case IMPORT_CHECK:
                i->step = IMPORT_KILL;
                i->error = error_copy(op->reason);
                if (worker_kill(i->worker, clean, i) == 0)
                        clean(i);
                return true;
        case IMPORT_KILL:
        case IMPORT_CLEAN:
                break;
        }
        return false;
}

static const OperationType import_type = { OPERATION_IMPORT, sizeof(Import), cancel_import, import_done };

static void on_progress(void *userdata, const JobProgress *p) {
        const Import *i = userdata;

        operation_set_progress(&i->op, p);
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
        json_put_unsigned(w, "max-size", s->core->config.image_size_max);
        json_put_boolean(w, "in-place", digest != NULL);
        if (digest)
                json_put_string(w, "content-digest", digest);
        if (name)
                json_put_string(w, "name", name);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static void on_ended(void *userdata, const Json *result, const Error *error);

static const WorkerHandlers handlers = { .progress = on_progress, .done = on_ended };

static int open_file(const Import *i, const char *name, int flags) {
        int fd = openat(record_fd(i->draft), name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | flags, 0600);

        return fd < 0 ? -errno : fd;
}

/* The one that has ended lends what it said until the next one runs. */
static int run_worker(Import *i, ImportStep step, WorkerSpec *spec, const char *request, size_t len,
                Error **reterr) {
        Worker *worker;
        int r;

        spec->requester = i->op.requester;
        spec->timeout_usec = IMPORT_TIMEOUT;
        r = worker_run(i->store->core, spec, request, len, &handlers, i, &worker, reterr);
        if (r < 0)
                return r;
        worker_free(i->worker);
        i->worker = worker;
        i->step = step;
        return 0;
}

static int first_error(int a, int b) {
        return a < 0 ? a : b < 0 ? b : 0;
}

static int fail(int r, Error **reterr) {
        return error_set_errno(reterr, r, "The image cannot be put into the store");
}

/* vmctl-image, over a file of the client's. */
static int copy(Import *i, int input, Error **reterr) {
        _cleanup_close_ int output = open_file(i, FILE_COPY, O_CREAT | O_EXCL),
                            scratch = open_file(i, FILE_CONVERTED, O_CREAT | O_EXCL);
        const WorkerFile files[] = { { "--input", input }, { "--output", output, true },
                { "--scratch", scratch, true } };
        WorkerSpec spec = {
                .program = LAUNCH_IMAGE, .verb = "import", .files = files, .n_files = ELEMENTSOF(files)
        };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r = first_error(output, scratch);

        if (r >= 0)
                r = image_import_request(i->store, i->format, NULL, NULL, &request, &len);
        return r < 0 ? fail(r, reterr) : run_worker(i, IMPORT_COPY, &spec, request, len, reterr);
}

static int format_unpacking(const ImageStore *s, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "url", "file:///import");
        json_put_unsigned(w, "max-size", s->core->config.image_size_max);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

/* What the client gave turned out to be compressed: vmctl-pull takes the copy for a download. */
static int unpack(Import *i, Error **reterr) {
        _cleanup_close_ int source = open_file(i, FILE_COPY, 0),
                            output = open_file(i, FILE_UNPACKED, O_CREAT | O_EXCL);
        const WorkerFile files[] = { { "--source", source }, { "--output", output } };
        WorkerSpec spec = { .program = LAUNCH_PULL, .files = files, .n_files = ELEMENTSOF(files) };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r = first_error(source, output);

        if (r >= 0)
                r = format_unpacking(i->store, &request, &len);
        return r < 0 ? fail(r, reterr) : run_worker(i, IMPORT_UNPACK, &spec, request, len, reterr);
}

/* vmctl-image, over ours. */
static int check(Import *i, const char *digest, Error **reterr) {
        _cleanup_close_ int input = open_file(i, FILE_UNPACKED, 0),
                            output = open_file(i, FILE_CONVERTED, O_CREAT | O_TRUNC);
        const WorkerFile files[] = { { "--input", input, true }, { "--output", output, true } };
        WorkerSpec spec = {
                .program = LAUNCH_IMAGE, .verb = "import", .files = files, .n_files = ELEMENTSOF(files)
        };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r = digest ? first_error(input, output) : -EBADMSG;

        if (r >= 0)
                r = image_import_request(i->store, i->format, digest, i->op.target_name, &request, &len);
        return r < 0 ? fail(r, reterr) : run_worker(i, IMPORT_CHECK, &spec, request, len, reterr);
}

static void on_committed(void *userdata, Image *image, const Error *error) {
        Import *i = userdata;
        _cleanup_error_ Error *e = error_copy(error);

        i->commit = NULL;
        if (!image)
                i->step = IMPORT_CLEAN;
        end(i, e);
}

/* Where the image is now: import says which of its files became it. */
static const char *file_of(const Import *i, const Json *result) {
        const char *file = json_get_string(result, "file");

        if (i->step == IMPORT_CHECK)
                return streq_ptr(file, "output") ? FILE_CONVERTED : FILE_UNPACKED;
        return streq_ptr(file, "scratch") ? FILE_CONVERTED : FILE_COPY;
}

static int commit(Import *i, const Json *result, Error **reterr) {
        static const char *const scrap[] = { FILE_COPY, FILE_UNPACKED, FILE_CONVERTED, NULL };
        int r;

        r = image_take_facts(result, &i->record);
        if (r < 0)
                return fail(r, reterr);
        r = image_commit_new(i->store,
                        &(ImageCommitSpec){ .op = &i->op,
                                        .charge = &i->charge,
                                        .record = &i->record,
                                        .draft = &i->draft,
                                        .scrap = scrap,
                                        .file = file_of(i, result),
                                        .reservation = i->reservation,
                                        .done = on_committed,
                                        .userdata = i },
                        &i->commit, reterr);
        if (r >= 0)
                i->step = IMPORT_COMMIT;
        return r;
}

static void on_ended(void *userdata, const Json *result, const Error *error) {
        bool unpacks = error_code(error) == ERROR_COMPRESSED;
        _cleanup_error_ Error *e = NULL;
        Import *i = userdata;
        int r;

        if (i->step == IMPORT_COPY && error && unpacks)
                r = unpack(i, &e);
        else if (error) {
                undo(i, error);
                return;
        } else if (i->step == IMPORT_UNPACK)
                r = check(i, json_get_string(result, "content-digest"), &e);
        else
                r = commit(i, result, &e);
        if (r < 0)
                undo(i, e);
}

static int fill(Import *i, const ImageOptions *o, Error **reterr) {
        char uuid[SD_ID128_UUID_STRING_MAX];
        RecordName *name;
        sd_id128_t id;
        int r;

        r = record_name_reserve(i->store->records, o->name, NULL, &name, reterr);
        if (r < 0)
                return r;
        r = reservation_new(name, &i->reservation);
        if (r < 0)
                return fail(r, reterr);
        r = charge(i->store->core->accounts, o->owner, RESOURCE_IMAGES, 1, &i->charge, reterr);
        if (r < 0)
                return r;
        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = free_and_strdup(&i->record.uuid, sd_id128_to_uuid_string(id, uuid));
        if (r >= 0)
                r = free_and_strdup(&i->record.name, o->name);
        if (r >= 0)
                r = free_and_strdup(&i->format, o->format);
        i->record.owner = o->owner;
        i->record.shared = o->shared;
        return r < 0 ? fail(r, reterr)
                     : record_new(i->store->records, i->record.uuid, NULL, &i->draft, reterr);
}

int image_import(ImageStore *s, int fd, const ImageOptions *o, uid_t requester, Job **ret, Error **reterr) {
        Operation *op;
        Import *i;
        int r;

        r = operation_new(&s->core->operations, &import_type,
                        &(OperationSpec){ .requester = requester,
                                        .target = JOB_TARGET_IMAGE,
                                        .target_name = o->name,
                                        .target_owner = o->owner },
                        &op, reterr);
        if (r < 0)
                return r;
        i = (Import *)op;
        i->store = s;
        r = fill(i, o, reterr);
        if (r >= 0)
                r = copy(i, fd, reterr);
        if (r >= 0)
                r = operation_announce(op, reterr);
        if (r < 0) {
                if (i->worker)
                        (void)operation_cancel_for(op, ERROR_NO_MEMORY, "There is no place for another job");
                else {
                        i->refused = true;
                        i->reservation = reservation_unref(i->reservation);
                        undo(i, reterr ? *reterr : NULL);
                }
                return r;
        }
        *ret = op->job;
        return 0;
}
