/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "image.h"
#include "kernel-header.h"

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

int image_inspect(const FileIdentity *file, ImageFormat stated, ImageHeaderFlags flags, ImageHeader *ret,
                Error **reterr) {
        _cleanup_free_ void *buf = malloc(IMAGE_HEADER_SIZE);
        ImageHeader h;
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", file->label);
        r = read_at(file, 0, buf, IMAGE_HEADER_SIZE, &len, reterr);
        if (r < 0)
                return r;
        r = image_header_parse(buf, len, file->size, stated, flags, file->label, &h, reterr);
        if (r < 0)
                return r;
        if (h.format == IMAGE_FORMAT_QCOW2) {
                r = check_tables(file, &h, reterr);
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
