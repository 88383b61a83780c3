/* SPDX-License-Identifier: GPL-2.0-or-later */
/* import: copies what a client hands over, and only then looks at the copy, which nobody else can change.
 *
 * Request: "format" (what the client calls it, or null), "max-size", "any-content" (a raw disk needs neither
 * partition table nor file system), "in-place" (the input is the service's own file already, and is not
 * copied), "content-digest" (of that file, if it is known),
 * "name" (what messages call it, in place of the file's path).
 * Result: "file" (which of the files is the image now: input, output, scratch), "format", "virtual-size",
 * "size", "allocated", "content-digest", "source-format", and of qcow2 "compat", "cluster-size",
 * "snapshots".
 */
#include <sys/stat.h>

#include "content-digest.h"
#include "image-task.h"
#include "qcow2-header.h"

typedef struct Import {
        ImageFile file;  /* where the image is */
        ImageFile spare; /* where it goes if it has to be converted */
        ImageFormat source_format;
        ImageHeader header;
        char digest[CONTENT_DIGEST_TEXT_MAX];
} Import;

static int copy(ImageTask *t, Error **reterr) {
        const FileCopy c = image_task_copy(t, IMAGE_FILE_INPUT, IMAGE_FILE_OUTPUT, "importing");
        int r;

        r = file_check_source(t->fds[IMAGE_FILE_INPUT], t->label, ERROR_INVALID_IMAGE, reterr);
        if (r < 0)
                return r;
        r = image_task_check_empty(t, IMAGE_FILE_OUTPUT, reterr);
        if (r < 0)
                return r;
        progress_tell(&t->progress, t->phase, 0, 0);
        return file_copy(&c, reterr);
}

static int check(ImageTask *t, Import *i, ImageFormat stated, Error **reterr) {
        ImageHeaderFlags flags = IMAGE_HEADER_CONVERTIBLE | (t->any_content ? IMAGE_HEADER_ANY_CONTENT : 0);
        FileIdentity file;
        int r;

        r = image_task_file(t, i->file, &file, reterr);
        if (r < 0)
                return r;
        if (file.size > t->max_size)
                return error_set(reterr, ERROR_IMAGE_TOO_LARGE,
                                "%s is larger than an image may be (%" PRIu64 " bytes)", t->label,
                                t->max_size);
        return image_inspect(&file, stated, flags, &i->header, reterr);
}

static int convert(ImageTask *t, Import *i, Error **reterr) {
        int r;

        r = image_convert(t, i->file, &i->header, i->spare, IMAGE_FORMAT_QCOW2, reterr);
        if (r < 0)
                return r;
        i->file = i->spare;
        t->content_digest = NULL;
        return check(t, i, IMAGE_FORMAT_QCOW2, reterr);
}

static int digest_piece(const void *data, uint64_t offset, uint64_t len, void *userdata, Error **reterr) {
        int r = data ? content_digest_update(userdata, data, len)
                     : content_digest_update_zeros(userdata, len);

        return r < 0 ? error_set_errno(reterr, r, "Failed to compute the image's digest") : 0;
}

static int digest(ImageTask *t, Import *i, Error **reterr) {
        _cleanup_content_digest_ ContentDigest *d = NULL;
        FileCopy c = image_task_copy(t, i->file, i->file, "verifying");
        int r;

        if (t->content_digest) {
                if (strlen(t->content_digest) >= sizeof(i->digest))
                        return error_set(reterr, ERROR_INVALID_SPEC, "'content-digest' has no valid value");
                strcpy(i->digest, t->content_digest);
                return 0;
        }
        progress_tell(&t->progress, t->phase, 0, i->header.file_size);
        r = content_digest_new(&d);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to compute the image's digest");
        r = file_read_pieces(&c, digest_piece, d, reterr);
        if (r < 0)
                return r;
        r = content_digest_finish(d, i->digest);
        return r < 0 ? error_set_errno(reterr, r, "Failed to compute the image's digest") : 0;
}

static int write_qcow2(ImageTask *t, const Import *i, JsonWriter *w, Error **reterr) {
        FileIdentity file;
        ImageReader reader;
        Qcow2Header h;
        char buf[512];
        int r;

        r = image_task_file(t, i->file, &file, reterr);
        if (r < 0)
                return r;
        reader = image_reader(&file);
        r = image_reader_read(&reader, 0, buf, MIN(sizeof(buf), file.size), "header", reterr);
        if (r >= 0)
                r = qcow2_header_read(buf, MIN(sizeof(buf), file.size), t->label, &h, reterr);
        if (r < 0)
                return r;
        json_put_string(w, "compat", h.version == 2 ? "0.10" : "1.1");
        json_put_unsigned(w, "cluster-size", UINT64_C(1) << h.cluster_bits);
        json_put_unsigned(w, "snapshots", h.nb_snapshots);
        return 0;
}

static int write_result(ImageTask *t, const Import *i, JsonWriter *w, Error **reterr) {
        struct stat st;

        if (fstat(t->fds[i->file], &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", t->label);
        json_put_string(w, "file", image_file_to_string(i->file));
        json_put_string(w, "format", image_format_to_string(i->header.format));
        json_put_unsigned(w, "virtual-size", i->header.virtual_size);
        json_put_unsigned(w, "size", (uint64_t)st.st_size);
        json_put_unsigned(w, "allocated", (uint64_t)st.st_blocks * 512);
        json_put_string(w, "content-digest", i->digest);
        json_put_string(w, "source-format", image_format_to_string(i->source_format));
        return i->header.format == IMAGE_FORMAT_QCOW2 ? write_qcow2(t, i, w, reterr) : 0;
}

int image_import(ImageTask *t, JsonWriter *w, Error **reterr) {
        Import i = { .file = IMAGE_FILE_OUTPUT, .spare = IMAGE_FILE_SCRATCH };
        int r;

        if (t->in_place) {
                i.file = IMAGE_FILE_INPUT;
                i.spare = IMAGE_FILE_OUTPUT;
                r = file_check_readable(t->fds[IMAGE_FILE_INPUT], t->label, ERROR_INVALID_IMAGE, reterr);
        } else {
                t->content_digest = NULL; /* of something that may have changed since */
                r = copy(t, reterr);
        }
        if (r < 0)
                return r;
        r = check(t, &i, t->format, reterr);
        if (r < 0)
                return r;
        i.source_format = i.header.format;
        if (image_format_is_foreign(i.header.format)) {
                r = convert(t, &i, reterr);
                if (r < 0)
                        return r;
        }
        r = digest(t, &i, reterr);
        if (r < 0)
                return r;
        r = image_task_sync(t, i.file, reterr);
        return r < 0 ? r : write_result(t, &i, w, reterr);
}
