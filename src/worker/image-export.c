/* SPDX-License-Identifier: GPL-2.0-or-later */
/* export: writes an image of the store to a file that a client has opened, or to a pipe of it.
 *
 * Request: "source-format" (what it is), "format" (what it shall be: raw or qcow2), "compression" ("none" or
 * "zstd"). Result: "format", "compression", "virtual-size", "size" (before compression).
 * A conversion needs --scratch: qemu-img cannot write to a pipe, and has no right to a client's file. */
#include <sys/stat.h>
#include <unistd.h>

#include "image-task.h"

static int check_request(const ImageTask *t, Error **reterr) {
        if ((int)t->format < 0 || image_format_is_foreign(t->format))
                return error_set(reterr, ERROR_INVALID_SPEC, "An image is exported as raw or qcow2");
        if ((int)t->source_format < 0 || image_format_is_foreign(t->source_format))
                return error_set(reterr, ERROR_FAILED, "vmctl-image has to know what it exports");
        if (t->compression && !streq(t->compression, "none") && !streq(t->compression, "zstd"))
                return error_set(
                                reterr, ERROR_INVALID_SPEC, "An image is compressed by zstd, or not at all");
        return 0;
}

/* Emptied only when nothing else can be wrong: it is the client's. */
static int open_output(const ImageTask *t, bool *ret_stream, Error **reterr) {
        struct stat in, out;
        int fd = t->fds[IMAGE_FILE_OUTPUT], r;

        r = file_check_sink(fd, "The output", ERROR_INVALID_SPEC, reterr);
        if (r < 0)
                return r;
        if (fstat(t->fds[IMAGE_FILE_INPUT], &in) < 0 || fstat(fd, &out) < 0)
                return error_set_errno(reterr, -errno, "The output cannot be looked at");
        if (in.st_dev == out.st_dev && in.st_ino == out.st_ino)
                return error_set(reterr, ERROR_INVALID_SPEC, "The output is the image itself");
        *ret_stream = !S_ISREG(out.st_mode);
        return 0;
}

static int write_output(ImageTask *t, ImageFile from, bool stream, Error **reterr) {
        const FileCopy c = image_task_copy(t, from, IMAGE_FILE_OUTPUT, "exporting");
        int r;

        progress_tell(&t->progress, t->phase, 0, 0);
        if (!stream && ftruncate(c.output, 0) < 0)
                return error_set_errno(reterr, -errno, "The output cannot be written");
        r = streq(t->compression ?: "none", "zstd") ? file_compress(&c, reterr)
                        : stream ? file_send(&c, reterr)
                                 : file_copy(&c, reterr);
        if (r < 0 || stream)
                return r;
        return image_task_sync(t, IMAGE_FILE_OUTPUT, reterr);
}

static int write_result(
                const ImageTask *t, ImageFile from, const ImageHeader *h, JsonWriter *w, Error **reterr) {
        FileIdentity file;
        int r;

        r = image_task_file(t, from, &file, reterr);
        if (r < 0)
                return r;
        json_put_string(w, "format", image_format_to_string(t->format));
        json_put_string(w, "compression", t->compression ?: "none");
        json_put_unsigned(w, "virtual-size", h->virtual_size);
        json_put_unsigned(w, "size", file.size);
        return 0;
}

int image_export(ImageTask *t, JsonWriter *w, Error **reterr) {
        ImageFile from = IMAGE_FILE_INPUT;
        FileIdentity file;
        ImageHeader h;
        bool stream;
        int r;

        r = check_request(t, reterr);
        if (r < 0)
                return r;
        r = file_check_readable(t->fds[IMAGE_FILE_INPUT], t->label, ERROR_INVALID_IMAGE, reterr);
        if (r < 0)
                return r;
        r = open_output(t, &stream, reterr);
        if (r < 0)
                return r;
        r = image_task_file(t, IMAGE_FILE_INPUT, &file, reterr);
        if (r < 0)
                return r;
        r = image_inspect(&file, t->source_format, IMAGE_HEADER_ANY_CONTENT, &h, reterr);
        if (r < 0)
                return r;
        if (t->format != t->source_format) {
                from = IMAGE_FILE_SCRATCH;
                r = image_convert(t, IMAGE_FILE_INPUT, &h, from, t->format, reterr);
                if (r < 0)
                        return r;
        }
        r = write_output(t, from, stream, reterr);
        return r < 0 ? r : write_result(t, from, &h, w, reterr);
}
