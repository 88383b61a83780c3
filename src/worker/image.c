/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "foreign-header.h"
#include "image.h"
#include "kernel-header.h"
#include "qcow2-header.h"

#define TABLE_PIECE (64 * KIB)

/* As much as there is of len bytes at offset. pread() and not a mapping: the client can shorten the file at
 * any moment, and a mapping would answer that with SIGBUS. */
static int read_at(const FileIdentity *file, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                Error **reterr) {
        size_t done = 0;

        while (done < len) {
                ssize_t n = pread(file->fd, (char *)buf + done, len - done, (off_t)(offset + done));

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "%s cannot be read", file->label);
                if (n == 0)
                        break;
                done += (size_t)n;
        }
        *ret_len = done;
        return 0;
}

/* All of the first table, but of the second ones only that which lies last: images are written from front to
 * back, so whatever part is missing at the end, that one tells, and reading all of them can take seconds. */
static int check_tables(const FileIdentity *file, const ImageHeader *h, Error **reterr) {
        uint64_t highest = 0, end = h->l1_offset + h->l1_entries * UINT64_C(8);
        _cleanup_free_ char *buf = malloc(MAX(TABLE_PIECE, UINT64_C(1) << h->cluster_bits));
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
        for (uint64_t offset = h->l1_offset; offset < end; offset += len) {
                r = read_at(file, offset, buf, MIN(TABLE_PIECE, end - offset), &len, reterr);
                if (r < 0)
                        return r;
                if (len == 0)
                        return error_set(reterr, ERROR_INVALID_IMAGE, "%s shrinks while it is read",
                                        file->label);
                r = image_header_check_l1(h, buf, len, file->label, &highest, reterr);
                if (r < 0)
                        return r;
        }
        if (highest == 0)
                return 0;
        r = read_at(file, highest, buf, (size_t)1 << h->cluster_bits, &len, reterr);
        if (r < 0)
                return r;
        return image_header_check_l2(h, buf, len, file->label, reterr);
}

static int reader_read(const void *userdata, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                Error **reterr) {
        return read_at(userdata, offset, buf, len, ret_len, reterr);
}

ImageReader image_reader(const FileIdentity *file) {
        return (ImageReader){
                .read = reader_read, .userdata = file, .size = file->size, .label = file->label
        };
}

static int inspect_qcow2(const FileIdentity *file, const ImageHeader *h, const void *buf, size_t len,
                Error **reterr) {
        const ImageReader reader = image_reader(file);
        Qcow2Header header;
        int r;

        r = check_tables(file, h, reterr);
        if (r < 0)
                return r;
        r = qcow2_header_read(buf, len, file->label, &header, reterr);
        return r < 0 ? r : qcow2_read_snapshots(&header, &reader, NULL, NULL, reterr);
}

/* *ret_format is _IMAGE_FORMAT_INVALID where it is raw or qcow2, if anything. */
static int detect_foreign(const FileIdentity *file, const void *buf, size_t len, ImageFormat stated,
                ImageFormat *ret_format, Error **reterr) {
        const ImageReader reader = image_reader(file);
        ImageFormat f;
        int r;

        r = foreign_header_detect(&reader, buf, len, &f, reterr);
        if (r < 0)
                return r;
        /* A guest can make the end of its raw disk look like that of a VHD of fixed size. */
        if (f == IMAGE_FORMAT_VPC && stated == IMAGE_FORMAT_RAW &&
                        (len < 8 || memcmp(buf, "conectix", 8) != 0))
                f = _IMAGE_FORMAT_INVALID;
        if (image_format_is_foreign(f) && stated != f && stated != _IMAGE_FORMAT_INVALID)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s was given as %s, but is %s: give its format so", file->label,
                                image_format_to_string(stated), image_format_to_string(f));
        if (image_format_is_foreign(stated) && stated != f)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s was given as %s, but is none", file->label,
                                image_format_to_string(stated));
        *ret_format = f;
        return 0;
}

int image_inspect(const FileIdentity *file, ImageFormat stated, ImageHeaderFlags flags, ImageHeader *ret,
                Error **reterr) {
        _cleanup_free_ void *buf = malloc(IMAGE_HEADER_SIZE);
        ImageFormat foreign = _IMAGE_FORMAT_INVALID;
        ImageHeader h;
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
        r = read_at(file, 0, buf, IMAGE_HEADER_SIZE, &len, reterr);
        if (r < 0)
                return r;
        if (flags & IMAGE_HEADER_CONVERTIBLE) {
                r = detect_foreign(file, buf, len, stated, &foreign, reterr);
                if (r < 0)
                        return r;
        }
        if (image_format_is_foreign(foreign)) {
                const ImageReader reader = image_reader(file);

                return foreign_header_parse(&reader, foreign, ret, reterr);
        }
        r = image_header_parse(buf, len, file->size, stated, flags, file->label, &h, reterr);
        if (r < 0)
                return r;
        if (h.format == IMAGE_FORMAT_QCOW2) {
                r = inspect_qcow2(file, &h, buf, len, reterr);
                if (r < 0)
                        return r;
        }
        *ret = h;
        return 0;
}

int image_inspect_kernel(const FileIdentity *file, Error **reterr) {
        _cleanup_free_ void *buf = malloc(KERNEL_HEADER_SIZE);
        uint64_t offset, size;
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
        r = read_at(file, 0, buf, KERNEL_HEADER_SIZE, &len, reterr);
        if (r < 0)
                return r;
        if (kernel_header_is_bzimage(buf, len))
                return 0;
        for (unsigned i = 0; kernel_header_find_notes(buf, len, i, &offset, &size); i++) {
                _cleanup_free_ void *notes = malloc(size);

                if (!notes)
                        return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
                r = read_at(file, offset, notes, size, &len, reterr);
                if (r < 0)
                        return r;
                if (kernel_notes_have_pvh(notes, len))
                        return 0;
        }
        return error_set(reterr, ERROR_INVALID_IMAGE,
                        "%s is no x86 Linux kernel: neither a bzImage nor an ELF file with a PVH entry",
                        file->label);
}

int image_inspect_initrd(const FileIdentity *file, Error **reterr) {
        if (file->size == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s is empty", file->label);
        return 0;
}
