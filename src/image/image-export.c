/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Export and inspection: vmctl-image over one file, and nothing of ours changes. */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "core/worker.h"
#include "image-operations.h"
#include "util/fd-util.h"

/* A day, as for imports; and below D-Bus's usual 25 s. */
#define EXPORT_TIMEOUT (24 * 3600 * USEC_PER_SEC)
#define INSPECT_TIMEOUT (20 * USEC_PER_SEC)

typedef struct Reading {
        Operation op;
        Worker *worker;
        const Json *facts; /* borrowed of the worker */
} Reading;

static void reading_done(Operation *op) {
        Reading *x = (Reading *)op;

        worker_free(x->worker);
}

static void on_gone(void *userdata) {
        Reading *x = userdata;

        operation_fail(&x->op, x->op.reason);
}

static bool cancel_reading(Operation *op) {
        Reading *x = (Reading *)op;

        if (worker_kill(x->worker, on_gone, x) == 0)
                on_gone(x);
        return true;
}

static const OperationType export_type = {
        OPERATION_EXPORT,
        sizeof(Reading),
        cancel_reading,
        reading_done,
};
static const OperationType inspect_type = {
        OPERATION_INSPECT,
        sizeof(Reading),
        cancel_reading,
        reading_done,
};

static void on_progress(void *userdata, const JobProgress *p) {
        const Reading *x = userdata;

        operation_set_progress(&x->op, p);
}

static void on_ended(void *userdata, const Json *result, const Error *error) {
        Reading *x = userdata;

        x->facts = result;
        operation_complete(&x->op, error);
}

static const WorkerHandlers handlers = { .progress = on_progress, .done = on_ended };

static int format_request(const Image *image, const char *format, const char *compression, char **ret,
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

/* Where a copy is put together that cannot be written from front to back. It has no name; where the file
 * system has no such files, *ret stays and the worker does without. */
static int open_scratch(const ImageStore *s, int *ret) {
        int fd = openat(partials_fd(s->partials), ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        if (fd < 0)
                return errno == EOPNOTSUPP || errno == EISDIR ? 0 : -errno;
        *ret = fd;
        return 0;
}

static int run_export(Reading *x, const Image *image, int fd, const char *format, const char *compression,
                Error **reterr) {
        _cleanup_close_ int input = image_open(image), scratch = -EBADF;
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        r = input < 0 ? input : open_scratch(image->store, &scratch);
        if (r >= 0)
                r = format_request(image, format, compression, &request, &len);
        if (r >= 0) {
                const WorkerFile files[] = { { "--input", input }, { "--output", fd },
                        { "--scratch", scratch, true } };
                const WorkerSpec spec = { .program = LAUNCH_IMAGE,
                        .verb = "export",
                        .files = files,
                        .n_files = ELEMENTSOF(files),
                        .requester = x->op.requester,
                        .timeout_usec = EXPORT_TIMEOUT };

                return worker_run(image->store->core, &spec, request, len, &handlers, x, &x->worker, reterr);
        }
        return error_set_errno(reterr, r, "Cannot export image '%s'", image_name(image));
}

static int check_options(const char *format, const char *compression, Error **reterr) {
        if (format && !image_format_is_usable(format))
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "format '%s' is not supported: 'raw' or 'qcow2'", format);
        if (compression && !streq(compression, "none") && !streq(compression, "zstd"))
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "compression '%s' is not supported: 'none' or 'zstd'", compression);
        return 0;
}

int image_export(Image *image, int fd, const char *format, const char *compression, uid_t requester,
                Job **ret, Error **reterr) {
        Core *core = image->store->core;
        Operation *op;
        int r;

        r = check_options(format, compression, reterr);
        if (r >= 0)
                r = operation_admit(&core->operations, OPERATION_EXPORT, image->record.uuid,
                                image_name(image), &op, reterr);
        if (r >= 0)
                r = operation_new(&core->operations, &export_type,
                                &(OperationSpec){ .requester = requester,
                                                .target = JOB_TARGET_IMAGE,
                                                .target_name = image_name(image),
                                                .target_uuid = image->record.uuid,
                                                .target_owner = image->record.owner },
                                &op, reterr);
        if (r < 0)
                return r;
        r = run_export((Reading *)op, image, fd, format, compression, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        r = operation_announce(op, reterr);
        if (r < 0) {
                (void)operation_cancel_for(op, ERROR_NO_MEMORY, "There is no place for another job");
                return r;
        }
        *ret = op->job;
        return 0;
}

int image_inspect(ImageStore *s, int fd, uid_t requester, waiter_t done, void *userdata, Operation **ret,
                Error **reterr) {
        const WorkerFile file = { "--input", fd };
        const WorkerSpec spec = { .program = LAUNCH_IMAGE,
                .verb = "inspect",
                .files = &file,
                .n_files = 1,
                .requester = requester,
                .timeout_usec = INSPECT_TIMEOUT };
        Operation *op;
        Reading *x;
        int r;

        r = operation_new(&s->core->operations, &inspect_type,
                        &(OperationSpec){ .requester = requester,
                                        .target = JOB_TARGET_IMAGE,
                                        .target_owner = requester },
                        &op, reterr);
        if (r < 0)
                return r;
        x = (Reading *)op;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r >= 0)
                r = worker_run(s->core, &spec, "{}", 2, &handlers, x, &x->worker, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        *ret = op;
        return 0;
}

const Json *image_inspect_facts(const Operation *op) {
        assert(op->type == &inspect_type);
        return ((const Reading *)op)->facts;
}
