/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-image: all that the service has done to image files.
 *
 *     vmctl-image import  [--uid N --gid N] --input FD --output FD [--scratch FD]
 *     vmctl-image inspect [--uid N --gid N] --input FD
 *     vmctl-image export  [--uid N --gid N] --input FD --output FD [--scratch FD]
 *
 * Requests and results stand in image-import.c, image-describe.c and image-export.c. Files that qemu-img
 * reads or writes are those of the service alone, never a client's: qemu-img knows files by path, and opens
 * /proc/self/fd/N with the rights of its user. So an import's output and scratch (and its input, if that is
 * the service's own) belong to that user while we run, as does an export's scratch; and an export's input
 * can be read by everybody who got hold of a descriptor, in a folder where nobody else can look. */
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-task.h"
#include "no-network.h"
#include "reply.h"
#include "request-keys.h"
#include "worker-options.h"

#define NAME_SHOWN_MAX 256
#define REQUEST_MAX (64 * KIB)

/* Beyond what any image takes that can be; the file's size is bounded by the request. */
static const ConfineLimits limits = {
        .cpu_seconds = 24 * 3600,
        .address_space = 2 * GIB, /* qemu-img has some 300 MiB */
        .file_size = INT64_MAX,
};

static const char *const image_file_table[] = {
        [IMAGE_FILE_INPUT] = "input",
        [IMAGE_FILE_OUTPUT] = "output",
        [IMAGE_FILE_SCRATCH] = "scratch",
};
DEFINE_STRING_TABLE(image_file, ImageFile, _IMAGE_FILE_MAX);

typedef struct Verb {
        const char *name;
        int (*run)(ImageTask *t, JsonWriter *w, Error **reterr);
        bool output; /* needs one */
} Verb;

static const Verb verb_table[] = {
        { "import", image_import, true },
        { "inspect", image_describe, false },
        { "export", image_export, true },
};

static void image_task_done(ImageTask *t) {
        free(t->label);
        json_free(t->request);
}

static int parse_options(ImageTask *t, const Verb **ret, Error **reterr) {
        const WorkerOption table[] = {
                { "--input", t->fds + IMAGE_FILE_INPUT, 1 },
                { "--output", t->fds + IMAGE_FILE_OUTPUT, 1 },
                { "--scratch", t->fds + IMAGE_FILE_SCRATCH, 1 },
        };
        int r;

        *ret = NULL;
        for (size_t i = 0; t->argc > 1 && i < ELEMENTSOF(verb_table); i++)
                if (streq(verb_table[i].name, t->argv[1]))
                        *ret = verb_table + i;
        if (!*ret)
                return error_set(reterr, ERROR_FAILED, "vmctl-image was called without a verb");
        r = worker_parse_options(t->argc, t->argv, 2, table, ELEMENTSOF(table), &t->identity, reterr);
        if (r < 0)
                return r;
        if (t->fds[IMAGE_FILE_INPUT] < 0 || ((*ret)->output && t->fds[IMAGE_FILE_OUTPUT] < 0))
                return error_set(reterr, ERROR_FAILED, "vmctl-image needs files");
        return 0;
}

/* With the rights of the service nothing is done but asking the kernel for the path. */
static int drop_privileges(ImageTask *t, Error **reterr) {
        int r;

        r = file_label(t->fds[IMAGE_FILE_INPUT], "The image", &t->label);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to look at the image");
        r = confine(&t->identity, &limits, reterr);
        return r < 0 ? r : no_network(reterr);
}

static int set_format(const Json *v, void *field, Error **reterr) {
        ImageFormat f = image_format_from_string(json_string(v));

        *(ImageFormat *)field = f;
        return (int)f >= 0 || json_is_null(v) ? 0 : -EINVAL;
}

static const RequestKey keys[] = {
        { "format", set_format, offsetof(ImageTask, format) },
        { "source-format", set_format, offsetof(ImageTask, source_format) },
        { "max-size", request_set_unsigned, offsetof(ImageTask, max_size) },
        { "compression", request_set_string, offsetof(ImageTask, compression) },
        { "content-digest", request_set_string, offsetof(ImageTask, content_digest) },
        { "any-content", request_set_boolean, offsetof(ImageTask, any_content) },
        { "in-place", request_set_boolean, offsetof(ImageTask, in_place) },
        { "name", request_set_string, offsetof(ImageTask, name) },
        {},
};

static int read_request(ImageTask *t, Error **reterr) {
        const JsonLimits json_limits = { .max_size = REQUEST_MAX, .max_depth = 2, .max_values = 64 };
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = worker_read_request(REQUEST_MAX, &text, &len, reterr);
        if (r >= 0)
                r = request_read(text, len, &json_limits, keys, t, &t->request, reterr);
        if (r < 0)
                return r;
        if (t->name) {
                _cleanup_free_ char *shown = string_escape(t->name, strlen(t->name), NAME_SHOWN_MAX);

                free(t->label);
                t->label = shown ? strf("The image '%s'", shown) : NULL;
                if (!t->label)
                        return error_set_errno(reterr, -ENOMEM, "Failed to read the request");
        }
        if (t->max_size == 0 || t->max_size > INT64_MAX)
                t->max_size = INT64_MAX;
        return confine_file_size(t->max_size, reterr);
}

int image_task_file(const ImageTask *t, ImageFile file, FileIdentity *ret, Error **reterr) {
        struct stat st;

        if (fstat(t->fds[file], &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", t->label);
        *ret = FILE_IDENTITY_NULL;
        ret->fd = t->fds[file];
        ret->label = t->label;
        ret->size = (uint64_t)st.st_size;
        return 0;
}

static void on_progress(uint64_t done, uint64_t total, void *userdata) {
        ImageTask *t = userdata;

        progress_tell(&t->progress, t->phase, done, total);
}

FileCopy image_task_copy(ImageTask *t, ImageFile from, ImageFile to, const char *phase) {
        t->phase = phase;
        return (FileCopy){
                .input = t->fds[from],
                .output = t->fds[to],
                .input_label = t->label,
                .output_label = "The output",
                .size_max = t->max_size,
                .on_progress = on_progress,
                .userdata = t,
        };
}

int image_task_check_empty(const ImageTask *t, ImageFile file, Error **reterr) {
        struct stat st;

        if (t->fds[file] < 0)
                return error_set(reterr, ERROR_FAILED, "vmctl-image needs a file as %s",
                                image_file_to_string(file));
        if (fstat(t->fds[file], &st) < 0)
                return error_set_errno(
                                reterr, -errno, "The %s cannot be looked at", image_file_to_string(file));
        if (!S_ISREG(st.st_mode) || st.st_size != 0)
                return error_set(reterr, ERROR_FAILED, "vmctl-image needs an empty file as %s",
                                image_file_to_string(file));
        return 0;
}

int image_task_sync(const ImageTask *t, ImageFile file, Error **reterr) {
        if (fsync(t->fds[file]) < 0)
                return error_set_errno(reterr, -errno, "Failed to write the image to disk");
        return 0;
}

static int run(void *userdata, JsonWriter *w, Error **reterr) {
        ImageTask *t = userdata;
        const Verb *verb;
        int r;

        r = parse_options(t, &verb, reterr);
        if (r >= 0)
                r = drop_privileges(t, reterr);
        if (r >= 0)
                r = read_request(t, reterr);
        return r < 0 ? r : verb->run(t, w, reterr);
}

int main(int argc, char *argv[]) {
        _cleanup_(image_task_done) ImageTask t = {
                .argc = argc,
                .argv = argv,
                .fds = { -EBADF, -EBADF, -EBADF },
                .format = _IMAGE_FORMAT_INVALID,
                .source_format = _IMAGE_FORMAT_INVALID,
        };

        /* A reader that went away, or the bound of a file's size, is an error like others. */
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        return reply_run(run, NULL, &t);
}
