/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/fs.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-copy.h"
#include "util/string-util.h"

#define HOLE_BLOCK 4096         /* zeros of this size and place become a hole */
#define KERNEL_PIECE (16 * MIB) /* some progress is to be seen on a slow disk */
#define ALIGNMENT 4096          /* of memory, for a client's O_DIRECT */

static int set_too_large(const FileCopy *c, Error **reterr) {
        return error_set(reterr, ERROR_IMAGE_TOO_LARGE,
                        "%s is larger than an image may be (%" PRIu64 " bytes)", c->input_label,
                        c->size_max);
}

static int set_write_failed(const FileCopy *c, int r, Error **reterr) {
        if (r == -EFBIG)
                return set_too_large(c, reterr);
        if (r == -EPIPE)
                return error_set(reterr, ERROR_CANCELED, "%s is read by nobody any more", c->output_label);
        return error_set_errno(reterr, r, "%s cannot be written", c->output_label);
}

static int set_shrunk(const FileCopy *c, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "%s shrinks while it is read", c->input_label);
}

static int wait_ready(int fd, short events) {
        struct pollfd p = { .fd = fd, .events = events };

        return poll(&p, 1, -1) < 0 && errno != EINTR ? -errno : 0;
}

/* Bytes read, 0 at the end. offset is NULL for a stream. */
static ssize_t read_some(int fd, void *buf, size_t len, const uint64_t *offset) {
        for (;;) {
                ssize_t n = offset ? pread(fd, buf, len, (off_t)*offset) : read(fd, buf, len);

                if (n >= 0)
                        return n;
                if (errno == EAGAIN) {
                        int r = wait_ready(fd, POLLIN);

                        if (r < 0)
                                return r;
                } else if (errno != EINTR) {
                        return -errno;
                }
        }
}

int file_write(const FileCopy *c, const void *data, size_t len, uint64_t *offset, Error **reterr) {
        while (len > 0) {
                ssize_t n = offset ? pwrite(c->output, data, len, (off_t)*offset)
                                   : write(c->output, data, len);

                if (n < 0 && errno == EAGAIN) {
                        int r = wait_ready(c->output, POLLOUT);

                        if (r < 0)
                                return set_write_failed(c, r, reterr);
                        continue;
                }
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return set_write_failed(c, -errno, reterr);
                data = (const char *)data + n;
                len -= (size_t)n;
                if (offset)
                        *offset += (size_t)n;
        }
        return 0;
}

static void tell(const FileCopy *c, uint64_t done, uint64_t total) {
        if (c->on_progress)
                c->on_progress(done, total, c->userdata);
}

/* The next data from `offset` on: both are `size` where there is none. Where the file system knows no holes
 * all is data. */
static void find_data(int fd, uint64_t offset, uint64_t size, uint64_t *ret_begin, uint64_t *ret_end) {
        off_t begin = lseek(fd, (off_t)offset, SEEK_DATA), end;

        if (begin < 0) {
                *ret_begin = errno == ENXIO ? size : offset;
                *ret_end = size;
                return;
        }
        end = lseek(fd, begin, SEEK_HOLE);
        *ret_begin = MIN((uint64_t)begin, size);
        *ret_end = end <= begin ? size : MIN((uint64_t)end, size);
}

static int file_size(const FileCopy *c, int fd, const char *label, uint64_t *ret, Error **reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", label);
        if ((uint64_t)st.st_size > c->size_max)
                return set_too_large(c, reterr);
        *ret = (uint64_t)st.st_size;
        return 0;
}

static int read_data(const FileCopy *c, char *buf, uint64_t begin, uint64_t end, uint64_t size,
                FilePiece each, void *userdata, Error **reterr) {
        for (uint64_t offset = begin; offset < end;) {
                ssize_t n = read_some(c->input, buf, MIN(FILE_COPY_PIECE, end - offset), &offset);
                int r;

                if (n < 0)
                        return error_set_errno(reterr, (int)n, "%s cannot be read", c->input_label);
                if (n == 0)
                        return set_shrunk(c, reterr);
                r = each(buf, offset, (uint64_t)n, userdata, reterr);
                if (r < 0)
                        return r;
                offset += (uint64_t)n;
                tell(c, offset, size);
        }
        return 0;
}

int file_read_pieces(const FileCopy *c, FilePiece each, void *userdata, Error **reterr) {
        _cleanup_free_ char *buf = aligned_alloc(ALIGNMENT, FILE_COPY_PIECE);
        uint64_t size, begin, end;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", c->input_label);
        r = file_size(c, c->input, c->input_label, &size, reterr);
        if (r < 0)
                return r;
        for (uint64_t offset = 0; offset < size; offset = end) {
                find_data(c->input, offset, size, &begin, &end);
                if (begin > offset) {
                        r = each(NULL, offset, begin - offset, userdata, reterr);
                        if (r < 0)
                                return r;
                        tell(c, begin, size);
                }
                r = read_data(c, buf, begin, end, size, each, userdata, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The file is empty before, so what is not written is a hole. */
static int write_sparse(const void *data, uint64_t offset, uint64_t len, void *userdata, Error **reterr) {
        const FileCopy *c = userdata;
        const char *p = data;

        while (p && len > 0) {
                size_t run = 0, n;
                bool zero = is_zero(p, MIN(len, (uint64_t)HOLE_BLOCK));
                int r;

                /* as many blocks of one kind as there are, in one write */
                do {
                        n = MIN(len - run, HOLE_BLOCK - (offset + run) % HOLE_BLOCK);
                        run += n;
                } while (run < len && is_zero(p + run, MIN(len - run, (uint64_t)HOLE_BLOCK)) == zero);
                if (!zero) {
                        uint64_t at = offset;

                        r = file_write(c, p, run, &at, reterr);
                        if (r < 0)
                                return r;
                }
                p += run;
                offset += run;
                len -= run;
        }
        return 0;
}

static int set_size(const FileCopy *c, uint64_t size, Error **reterr) {
        return ftruncate(c->output, (off_t)size) < 0 ? set_write_failed(c, -errno, reterr) : 0;
}

/* 1: copied; 0: the kernel cannot do it for these two files. */
static int copy_in_kernel(const FileCopy *c, uint64_t size, Error **reterr) {
        uint64_t begin, end;

        for (uint64_t offset = 0; offset < size; offset = end) {
                find_data(c->input, offset, size, &begin, &end);
                for (off_t in = (off_t)begin, out = in; (uint64_t)in < end;) {
                        ssize_t n = copy_file_range(c->input, &in, c->output, &out,
                                        MIN(KERNEL_PIECE, end - (uint64_t)in), 0);

                        if (n < 0 && errno == EINTR)
                                continue;
                        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EFBIG || errno == EIO))
                                return set_write_failed(c, -errno, reterr);
                        if (n <= 0) /* 0 is also what some file systems say that have no idea */
                                return 0;
                        tell(c, (uint64_t)in, size);
                }
        }
        return 1;
}

static int copy_file(const FileCopy *c, Error **reterr) {
        uint64_t size, now;
        int r;

        r = file_size(c, c->input, c->input_label, &size, reterr);
        if (r < 0)
                return r;
        if (ioctl(c->output, FICLONE, c->input) >= 0)
                return file_size(c, c->output, c->input_label, &size, reterr);
        r = copy_in_kernel(c, size, reterr);
        if (r < 0)
                return r;
        if (r == 0) {
                r = set_size(c, 0, reterr);
                if (r >= 0)
                        r = file_read_pieces(c, write_sparse, (void *)c, reterr);
                if (r < 0)
                        return r;
        }
        r = file_size(c, c->input, c->input_label, &now, reterr);
        if (r < 0)
                return r;
        return now < size ? set_shrunk(c, reterr) : set_size(c, size, reterr);
}

static int fill(const FileCopy *c, char *buf, size_t *ret_len, Error **reterr) {
        size_t len = 0;

        while (len < FILE_COPY_PIECE) {
                ssize_t n = read_some(c->input, buf + len, FILE_COPY_PIECE - len, NULL);

                if (n < 0)
                        return error_set_errno(reterr, (int)n, "%s cannot be read", c->input_label);
                if (n == 0)
                        break;
                len += (size_t)n;
        }
        *ret_len = len;
        return 0;
}

static int copy_stream(const FileCopy *c, Error **reterr) {
        _cleanup_free_ char *buf = malloc(FILE_COPY_PIECE);
        uint64_t size = 0;
        size_t len;
        int r;

        if (!buf)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", c->input_label);
        do {
                r = fill(c, buf, &len, reterr);
                if (r >= 0 && len > c->size_max - size)
                        r = set_too_large(c, reterr);
                if (r >= 0)
                        r = write_sparse(buf, size, len, (void *)c, reterr);
                if (r < 0)
                        return r;
                size += len;
                tell(c, size, 0);
        } while (len == FILE_COPY_PIECE);
        return set_size(c, size, reterr);
}

int file_copy(const FileCopy *c, Error **reterr) {
        struct stat st;

        if (fstat(c->input, &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", c->input_label);
        return S_ISREG(st.st_mode) ? copy_file(c, reterr) : copy_stream(c, reterr);
}

static int send_piece(const void *data, uint64_t offset, uint64_t len, void *userdata, Error **reterr) {
        static const char zeros[64 * KIB];
        int r;

        if (data)
                return file_write(userdata, data, len, NULL, reterr);
        for (; len > 0; len -= MIN(len, (uint64_t)sizeof(zeros))) {
                r = file_write(userdata, zeros, MIN(len, (uint64_t)sizeof(zeros)), NULL, reterr);
                if (r < 0)
                        return r;
        }
        return 0;
}

int file_send(const FileCopy *c, Error **reterr) {
        return file_read_pieces(c, send_piece, (void *)c, reterr);
}
