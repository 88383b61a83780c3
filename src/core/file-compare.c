/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/stat.h>
#include <unistd.h>

#include "file-compare.h"
#include "util/string-util.h"

#define PIECE (256 * KIB)

/* Where no file system tells of holes all is data. */
static off_t next_data(int fd, off_t offset, off_t size) {
        off_t data = lseek(fd, offset, SEEK_DATA);

        return data >= 0 ? data : errno == ENXIO ? size : offset;
}

static int read_at(int fd, uint8_t *buf, size_t len, off_t offset) {
        while (len > 0) {
                ssize_t n = pread(fd, buf, len, offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO; /* it became shorter */
                buf += n;
                len -= (size_t)n;
                offset += n;
        }
        return 0;
}

int file_compare(int a, int b) {
        _cleanup_free_ uint8_t *buf_a = malloc(PIECE), *buf_b = malloc(PIECE);
        struct stat st_a, st_b;
        off_t offset = 0, size;

        if (!buf_a || !buf_b)
                return -ENOMEM;
        if (fstat(a, &st_a) < 0 || fstat(b, &st_b) < 0)
                return -errno;
        size = st_a.st_size;
        if (size != st_b.st_size)
                return 0;
        while ((offset = MIN(next_data(a, offset, size), next_data(b, offset, size))) < size) {
                size_t n = (size_t)MIN((off_t)PIECE, size - offset);
                int r;

                r = read_at(a, buf_a, n, offset);
                if (r >= 0)
                        r = read_at(b, buf_b, n, offset);
                if (r < 0)
                        return r;
                if (memcmp(buf_a, buf_b, n) != 0)
                        return 0;
                offset += (off_t)n;
        }
        return 1;
}
