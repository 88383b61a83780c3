/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring-log.h"

#define PIECE \
        (32 * KIB) /* for moving and searching: on the stack, and well beyond the cost of a system call */

/* The most that the newer file ever holds. */
static uint64_t limit(const RingLog *log) {
        return log->old_fd >= 0 ? log->max / 2 : log->max;
}

static int file_size(int fd, uint64_t *ret) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return -errno;
        *ret = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0;
        return 0;
}

static int check_writable(int fd) {
        int flags = fcntl(fd, F_GETFL);
        struct stat st;

        if (flags < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode) || (flags & O_ACCMODE) != O_RDWR)
                return -EINVAL;
        return flags & O_APPEND ? -EINVAL : 0; /* pwrite() would ignore the offset */
}

static int pwrite_all(int fd, const char *p, size_t len, uint64_t offset) {
        while (len > 0) {
                ssize_t n = pwrite(fd, p, len, (off_t)offset);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                p += n;
                len -= (size_t)n;
                offset += (uint64_t)n;
        }
        return 0;
}

/* From and to may be one file, if the data moves towards its beginning. */
static int copy_range(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t len) {
        char buf[PIECE];

        while (len > 0) {
                ssize_t n = pread(from, buf, MIN(len, sizeof(buf)), (off_t)from_offset);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                r = pwrite_all(to, buf, (size_t)n, to_offset);
                if (r < 0)
                        return r;
                from_offset += (uint64_t)n;
                to_offset += (uint64_t)n;
                len -= (uint64_t)n;
        }
        return 0;
}

static int keep_newest(int fd, uint64_t size, uint64_t keep) {
        int r;

        r = copy_range(fd, size - keep, fd, 0, keep);
        if (r < 0)
                return r;
        return ftruncate(fd, (off_t)keep) < 0 ? -errno : 0;
}

static int rotate(RingLog *log) {
        uint64_t used = log->end - log->base, keep = MIN(used, limit(log));
        int r;

        log->start = log->base;
        if (ftruncate(log->old_fd, 0) < 0)
                return -errno;
        r = copy_range(log->fd, used - keep, log->old_fd, 0, keep);
        if (r >= 0 && ftruncate(log->fd, 0) < 0)
                r = -errno;
        if (r < 0)
                return ftruncate(log->old_fd, 0) < 0 ? -errno : r;
        log->start = log->end - keep;
        log->base = log->end;
        return 0;
}

/* The newer file is full. When there is no space for a copy of it, half of it is kept in place; when not
 * even that works, nothing is. */
static int make_room(RingLog *log) {
        uint64_t keep = limit(log) / 2;
        int r = -EOPNOTSUPP;

        if (log->old_fd >= 0)
                r = rotate(log);
        if (r >= 0)
                return 0;
        if (keep_newest(log->fd, log->end - log->base, keep) < 0) {
                keep = 0;
                if (ftruncate(log->fd, 0) < 0)
                        return -errno;
        }
        log->start = log->base = log->end - keep;
        return 0;
}

int ring_log_open(RingLog *log, int fd, int old_fd, uint64_t max) {
        uint64_t size, old_size = 0;
        int r;

        r = file_size(fd, &size);
        if (r < 0)
                return r;
        if (old_fd >= 0) {
                r = file_size(old_fd, &old_size);
                if (r < 0)
                        return r;
        }
        *log = (RingLog){ .fd = fd, .old_fd = old_fd, .max = max, .base = old_size, .end = old_size + size };
        /* A full newer file is only ever seen when its move into the older one was interrupted: what the
         * older one holds is the beginning of a copy. */
        if (size >= limit(log))
                log->start = log->base;
        return 0;
}

int ring_log_fit(RingLog *log) {
        uint64_t old_size = log->base - log->start;
        int r;

        r = check_writable(log->fd);
        if (r >= 0 && log->old_fd >= 0)
                r = check_writable(log->old_fd);
        if (r < 0)
                return r;
        if (log->end - log->base >= limit(log))
                return make_room(log);
        if (log->old_fd < 0 || old_size <= limit(log))
                return 0;
        r = keep_newest(log->old_fd, old_size, limit(log)); /* the bound was larger when it was written */
        if (r < 0)
                return r;
        log->start = log->base - limit(log);
        return 0;
}

static int store(RingLog *log, const char *p, size_t len) {
        for (;;) {
                uint64_t used = log->end - log->base;
                ssize_t n;

                if (used >= limit(log)) {
                        int r = make_room(log);

                        if (r < 0)
                                return r;
                        used = log->end - log->base;
                }
                if (len == 0)
                        return 0;
                n = pwrite(log->fd, p, MIN(len, limit(log) - used), (off_t)used);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                log->end += (uint64_t)n;
                p += n;
                len -= (size_t)n;
        }
}

static int note_loss(RingLog *log) {
        uint64_t before = log->end;
        char note[160];
        int n, r;

        n = snprintf(note, sizeof(note), "\n[vmctl: %" PRIu64 " bytes were lost here: %s]\n", log->lost,
                        strerror(-log->lost_errno));
        r = store(log, note, MIN((size_t)n, sizeof(note) - 1));
        if (r >= 0)
                log->lost = 0;
        else if (before >= log->base && ftruncate(log->fd, (off_t)(before - log->base)) >= 0)
                log->end = before; /* else every new attempt would leave another piece of a note */
        return r;
}

int ring_log_append(RingLog *log, const void *data, size_t len, uint64_t *ret_start) {
        uint64_t done;
        int r = 0;

        if (log->lost > 0)
                r = note_loss(log);
        *ret_start = log->end;
        if (r >= 0)
                r = store(log, data, len);
        if (r < 0) {
                done = log->end - *ret_start;
                log->lost += len - done;
                log->lost_errno = r;
        }
        return r;
}

ssize_t ring_log_read(const RingLog *log, uint64_t offset, void *buf, size_t size) {
        bool old = offset < log->base;
        uint64_t there = (old ? log->base : log->end) - offset;
        ssize_t n;

        do
                n = pread(old ? log->old_fd : log->fd, buf, MIN(size, there),
                                (off_t)(offset - (old ? log->start : log->base)));
        while (n < 0 && errno == EINTR);
        if (n == 0 && there > 0 && size > 0)
                return -EIO; /* somebody truncated the file */
        return n < 0 ? -errno : n;
}

uint64_t ring_log_tail(const RingLog *log, uint32_t lines) {
        uint64_t pos = log->end;
        char buf[PIECE];

        if (lines == 0)
                return log->end;
        while (pos > log->start && lines != RING_LOG_ALL) {
                uint64_t from = pos > log->base ? log->base : log->start, piece = MIN(pos - from, PIECE);
                const char *newline;
                size_t n = piece;

                if (ring_log_read(log, pos - piece, buf, piece) != (ssize_t)piece)
                        return pos;
                while ((newline = memrchr(buf, '\n', n))) {
                        n = (size_t)(newline - buf);
                        if (pos - piece + n + 1 < log->end &&
                                        --lines == 0) /* not the one that ends the log */
                                return pos - piece + n + 1;
                }
                pos -= piece;
        }
        return log->start;
}
