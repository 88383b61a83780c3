/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "sparse-file.h"
#include "util/string-util.h"

#define BLOCK CONTENT_DIGEST_BLOCK /* of most file systems as well */

/* Kept free: this, or a 64th of a small file system. */
#define RESERVE_MAX (256 * MIB)
#define RESERVE_SHARE 64

struct SparseFile {
        int fd;
        uint64_t max_size;
        uint64_t present;
        uint64_t offset;
        uint64_t written; /* since the last look at the free space */
        ContentDigest *digest;
};

int sparse_file_new(int fd, uint64_t max_size, uint64_t present, SparseFile **ret) {
        _cleanup_(sparse_file_freep) SparseFile *f = calloc(1, sizeof(SparseFile));
        int r;

        if (!f)
                return -ENOMEM;
        f->fd = fd;
        f->max_size = max_size;
        f->present = present;
        r = content_digest_new(&f->digest);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

SparseFile *sparse_file_free(SparseFile *f) {
        if (f)
                content_digest_free(f->digest);
        free(f);
        return NULL;
}

int sparse_file_check_space(int fd, Error **reterr) {
        struct statvfs st;
        uint64_t total, available;

        if (fstatvfs(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to see how much space is free");
        total = (uint64_t)st.f_blocks * st.f_frsize;
        available = (uint64_t)st.f_bavail * st.f_frsize;
        if (available >= MIN(RESERVE_MAX, total / RESERVE_SHARE))
                return 0;
        return error_set(reterr, ERROR_NO_SPACE,
                        "The file system for images is full but for %" PRIu64
                        " MiB, and the image is not complete",
                        available / MIB);
}

/* The pieces up to the block's end, or one block. */
static size_t piece_at(const SparseFile *f, size_t done, size_t len) {
        return MIN(len - done, (size_t)(BLOCK - (f->offset + done) % BLOCK));
}

/* How many bytes are of one kind, zero or not. */
static size_t find_run(const SparseFile *f, const uint8_t *p, size_t len, bool *ret_zero) {
        size_t n = piece_at(f, 0, len);
        bool zero = is_zero(p, n);

        while (n < len) {
                size_t m = piece_at(f, n, len);

                if (is_zero(p + n, m) != zero)
                        break;
                n += m;
        }
        *ret_zero = zero;
        return n;
}

static int write_at(SparseFile *f, const uint8_t *p, size_t len, Error **reterr) {
        uint64_t offset = f->offset;

        if (offset + len <= f->present)
                return 0;
        f->written += len;
        while (len > 0) {
                ssize_t n = pwrite(f->fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "Failed to write the image");
                p += n;
                offset += (size_t)n;
                len -= (size_t)n;
        }
        return 0;
}

static int look_at_space(SparseFile *f, Error **reterr) {
        if (f->written < SPARSE_FILE_CHECK_INTERVAL)
                return 0;
        f->written = 0;
        return sparse_file_check_space(f->fd, reterr);
}

static int too_large(const SparseFile *f, Error **reterr) {
        return error_set(reterr, ERROR_IMAGE_TOO_LARGE,
                        "The image is larger than the %" PRIu64 " bytes that are allowed", f->max_size);
}

/* NULL: zeros */
static int account(SparseFile *f, const void *data, uint64_t len, Error **reterr) {
        int r;

        r = data ? content_digest_update(f->digest, data, (size_t)len)
                 : content_digest_update_zeros(f->digest, len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to compute the image's digest");
        f->offset += len;
        return 0;
}

int sparse_file_write_zeros(SparseFile *f, uint64_t len, Error **reterr) {
        if (len > f->max_size - f->offset)
                return too_large(f, reterr);
        return account(f, NULL, len, reterr);
}

int sparse_file_write(SparseFile *f, const void *data, size_t len, Error **reterr) {
        const uint8_t *p = data;

        if (len > f->max_size - f->offset)
                return too_large(f, reterr);
        while (len > 0) {
                bool zero;
                size_t n = find_run(f, p, len, &zero);
                int r;

                r = zero ? 0 : write_at(f, p, n, reterr);
                if (r >= 0)
                        r = account(f, zero ? NULL : p, n, reterr);
                if (r < 0)
                        return r;
                p += n;
                len -= n;
        }
        return look_at_space(f, reterr);
}

int sparse_file_finish(SparseFile *f, uint64_t *ret_size, char ret_digest[static CONTENT_DIGEST_TEXT_MAX],
                Error **reterr) {
        int r;

        if (ftruncate(f->fd, (off_t)f->offset) < 0)
                return error_set_errno(reterr, -errno, "Failed to write the image");
        r = content_digest_finish(f->digest, ret_digest);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to compute the image's digest");
        *ret_size = f->offset;
        return 0;
}
