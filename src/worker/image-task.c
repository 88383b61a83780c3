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
#include "util/fd-util.h"

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

static int parse_option(ImageTask *t, const char *option, const char *value, bool seen[2]) {
        const char *name = startswith(option, "--");
        ImageFile file = image_file_from_string(name);
        uint32_t v;

        if (!name || parse_u32(value, &v) < 0)
                return -EINVAL;
        if (streq(name, "uid")) {
                t->identity.uid = v;
                seen[0] = true;
        } else if (streq(name, "gid")) {
                t->identity.gid = v;
                seen[1] = true;
        } else if ((int)file < 0 || t->fds[file] >= 0 || v <= STDERR_FILENO || v > INT32_MAX) {
                return -EINVAL;
        } else {
                t->fds[file] = (int)v;
        }
        return 0;
}

static int parse_options(ImageTask *t, int argc, char *argv[], const Verb **ret, Error **reterr) {
        bool seen[2] = {};

        *ret = NULL;
        for (size_t i = 0; argc > 1 && i < ELEMENTSOF(verb_table); i++)
                if (streq(verb_table[i].name, argv[1]))
                        *ret = verb_table + i;
        if (!*ret)
                return error_set(reterr, ERROR_FAILED, "vmctl-image was called without a verb");
        for (int i = 2; i < argc; i += 2)
                if (i + 1 == argc || parse_option(t, argv[i], argv[i + 1], seen) < 0)
                        return error_set(reterr, ERROR_FAILED, "vmctl-image was called with a wrong '%s'",
                                        argv[i]);
        if (seen[0] != seen[1])
                return error_set(reterr, ERROR_FAILED, "vmctl-image needs both of --uid and --gid");
        if (t->fds[IMAGE_FILE_INPUT] < 0 || ((*ret)->output && t->fds[IMAGE_FILE_OUTPUT] < 0))
                return error_set(reterr, ERROR_FAILED, "vmctl-image needs files");
        t->identity.set = seen[0];
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

static int set_string(const Json *v, void *field) {
        *(const char **)field = json_string(v);
        return json_string(v) || json_is_null(v) ? 0 : -EINVAL;
}

static int set_boolean(const Json *v, void *field) {
        int b = json_boolean(v);

        *(bool *)field = b > 0;
        return b < 0 ? b : 0;
}

static int set_size(const Json *v, void *field) {
        return json_unsigned(v, field);
}

static int set_format(const Json *v, void *field) {
        ImageFormat f = image_format_from_string(json_string(v));

        *(ImageFormat *)field = f;
        return (int)f >= 0 || json_is_null(v) ? 0 : -EINVAL;
}

static const struct {
        const char *key;
        int (*set)(const Json *v, void *field);
        size_t offset;
} key_table[] = {
        { "format", set_format, offsetof(ImageTask, format) },
        { "source-format", set_format, offsetof(ImageTask, source_format) },
        { "max-size", set_size, offsetof(ImageTask, max_size) },
        { "compression", set_string, offsetof(ImageTask, compression) },
        { "content-digest", set_string, offsetof(ImageTask, content_digest) },
        { "any-content", set_boolean, offsetof(ImageTask, any_content) },
        { "in-place", set_boolean, offsetof(ImageTask, in_place) },
        { "name", set_string, offsetof(ImageTask, name) },
};

static int parse_member(ImageTask *t, const char *key, const Json *value, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(key_table); i++) {
                if (!streq(key_table[i].key, key))
                        continue;
                if (key_table[i].set(value, (char *)t + key_table[i].offset) < 0)
                        return error_set(reterr, ERROR_INVALID_SPEC, "'%s' has no valid value", key);
                return 0;
        }
        return error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no option '%s'", key);
}

static int read_request(ImageTask *t, Error **reterr) {
        const JsonLimits json_limits = { .max_size = REQUEST_MAX, .max_depth = 2, .max_values = 64 };
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = read_all(STDIN_FILENO, REQUEST_MAX, &text, &len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the request");
        r = json_parse(text, len, &json_limits, &t->request, reterr);
        if (r < 0)
                return r;
        if (json_type(t->request) != JSON_OBJECT)
                return error_set(reterr, ERROR_INVALID_SPEC, "The request is no JSON object");
        for (size_t i = 0; i < json_length(t->request); i++) {
                r = parse_member(t, json_key(t->request, i), json_member(t->request, i), reterr);
                if (r < 0)
                        return r;
        }
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

static int run(ImageTask *t, int argc, char *argv[], Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        const Verb *verb;
        int r;

        r = parse_options(t, argc, argv, &verb, reterr);
        if (r < 0)
                return r;
        r = drop_privileges(t, reterr);
        if (r < 0)
                return r;
        r = read_request(t, reterr);
        if (r < 0)
                return r;
        r = json_writer_new(0, &w);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to answer");
        json_write_object(w);
        json_write_key(w, "result");
        json_write_object(w);
        r = verb->run(t, w, reterr);
        if (r < 0)
                return r;
        json_write_end(w);
        json_write_end(w);
        r = reply_result(w);
        return r < 0 ? error_set_errno(reterr, r, "Failed to answer") : 0;
}

int main(int argc, char *argv[]) {
        _cleanup_(image_task_done) ImageTask t = {
                .fds = { -EBADF, -EBADF, -EBADF },
                .format = _IMAGE_FORMAT_INVALID,
                .source_format = _IMAGE_FORMAT_INVALID,
        };
        _cleanup_error_ Error *error = NULL;

        /* A reader that went away, or the bound of a file's size, is an error like others. */
        (void)signal(SIGPIPE, SIG_IGN);
        (void)signal(SIGXFSZ, SIG_IGN);
        if (run(&t, argc, argv, &error) >= 0)
                return EXIT_SUCCESS;
        (void)reply_error(error);
        return EXIT_FAILURE;
}
