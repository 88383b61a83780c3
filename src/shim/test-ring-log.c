/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ring-log.h"
#include "util/fd-util.h"
#include "util/test.h"

#define BOUND (64 * KIB)

typedef struct Files {
        int fd, old_fd;
} Files;

static void files_close(Files *f) {
        safe_close(f->fd);
        safe_close(f->old_fd);
}

static Files files_open(void) {
        Files f = { memfd_create("log", MFD_CLOEXEC), memfd_create("old", MFD_CLOEXEC | MFD_ALLOW_SEALING) };

        CHECK(f.fd >= 0 && f.old_fd >= 0);
        return f;
}

static uint64_t size_of(int fd) {
        struct stat st;

        CHECK_EQ(fstat(fd, &st), 0);
        return (uint64_t)st.st_size;
}

static RingLog log_open_pair(const Files *f, uint64_t max) {
        RingLog log;

        CHECK_EQ(ring_log_open(&log, f->fd, f->old_fd, max), 0);
        CHECK_EQ(ring_log_fit(&log), 0);
        return log;
}

static void append(RingLog *log, const char *text) {
        uint64_t start, before = log->end;

        CHECK_EQ(ring_log_append(log, text, strlen(text), &start), 0);
        CHECK_EQ(start, before);
        CHECK_EQ(log->end, before + strlen(text));
}

/* Everything from an offset on. */
static char *content(const RingLog *log, uint64_t at) {
        char *text = malloc(log->end - at + 1), *p = text;

        CHECK(text);
        while (at < log->end) {
                ssize_t n = ring_log_read(log, at, p, log->end - at);

                CHECK(n > 0);
                at += (uint64_t)n;
                p += n;
        }
        *p = '\0';
        return text;
}

static void check_tail(const RingLog *log, uint32_t lines, const char *expected) {
        _cleanup_free_ char *text = content(log, ring_log_tail(log, lines));

        CHECK_STREQ(text, expected);
}

/* Lines of ten bytes, whose number follows from their offset. */
static void append_lines(RingLog *log, unsigned from, unsigned to) {
        for (unsigned i = from; i < to; i++) {
                char line[16];

                (void)snprintf(line, sizeof(line), "%09u\n", i % 1000000000);
                append(log, line);
        }
}

static void check_lines(const RingLog *log, uint64_t at, uint64_t end) {
        _cleanup_free_ char *text = content(log, at);

        CHECK_EQ(log->end, end);
        for (uint64_t i = (at + 9) / 10; i < end / 10; i++) {
                char line[16];

                (void)snprintf(line, sizeof(line), "%09u\n", (unsigned)i);
                CHECK_EQ(strncmp(text + (i * 10 - at), line, 10), 0);
        }
}

static void test_bounds(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);

        for (unsigned i = 0; i < 40000; i += 100) {
                append_lines(&log, i, i + 100);
                CHECK(size_of(f.fd) < BOUND / 2);
                CHECK(size_of(f.old_fd) == 0 || size_of(f.old_fd) == BOUND / 2);
                CHECK_EQ(log.end - log.start, size_of(f.fd) + size_of(f.old_fd));
                CHECK(log.start == 0 || log.end - log.start >= BOUND / 2);
        }
        check_lines(&log, log.start, 400000);
        check_lines(&log, log.base, 400000);
        check_lines(&log, log.base - 7, 400000);
}

static void test_large_append(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        static char data[10 * BOUND + 10];
        uint64_t start;

        for (size_t i = 0; i + 10 < sizeof(data); i += 10)
                (void)snprintf(data + i, 11, "%09zu\n", i / 10);
        CHECK_EQ(ring_log_append(&log, data, 10 * BOUND, &start), 0);
        CHECK_EQ(start, 0);
        check_lines(&log, log.start, 10 * BOUND);
        CHECK(log.end - log.start <= BOUND);
}

static void test_reopen(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        uint64_t kept;

        append_lines(&log, 0, 10000);
        kept = log.end - log.start;
        log = log_open_pair(&f, BOUND);
        CHECK_EQ(log.start, 0);
        CHECK_EQ(log.end, kept);
        append(&log, "more\n");
        check_tail(&log, 2, "000009999\nmore\n");
}

/* The shim was killed while it copied the newer file into the older one. */
static void test_interrupted_move(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        _cleanup_free_ char *half = malloc(BOUND / 2);

        CHECK(half);
        memset(half, 'x', BOUND / 2);
        half[BOUND / 2 - 2] = '\n';
        half[BOUND / 2 - 1] = 'e';
        CHECK_EQ(pwrite(f.fd, half, BOUND / 2, 0), BOUND / 2);
        CHECK_EQ(pwrite(f.old_fd, half, 1000, 0), 1000);
        CHECK_EQ(ring_log_open(&log, f.fd, f.old_fd, BOUND), 0); /* a reader: nothing twice */
        CHECK_EQ(log.end - log.start, BOUND / 2);
        CHECK_EQ(size_of(f.fd), BOUND / 2);
        CHECK_EQ(ring_log_fit(&log), 0);
        CHECK_EQ(size_of(f.fd), 0);
        CHECK_EQ(size_of(f.old_fd), BOUND / 2);
        CHECK_EQ(log.end - log.start, BOUND / 2);
        append(&log, "nd\n");
        check_tail(&log, 1, "end\n");
}

static void test_lowered_bound(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, 4 * BOUND);

        append_lines(&log, 0, 20000); /* both files hold something */
        log = log_open_pair(&f, BOUND);
        CHECK(size_of(f.fd) + size_of(f.old_fd) <= BOUND);
        check_tail(&log, 1, "000019999\n");
        append_lines(&log, 20000, 30000);
        CHECK(size_of(f.fd) + size_of(f.old_fd) <= BOUND);
        check_tail(&log, 1, "000029999\n");

        log = log_open_pair(&f, 4 * BOUND);
        CHECK_EQ(ftruncate(f.fd, 0), 0);
        CHECK_EQ(ftruncate(f.old_fd, 2 * BOUND), 0); /* an old file that is too large alone */
        log = log_open_pair(&f, BOUND);
        CHECK_EQ(size_of(f.old_fd), BOUND / 2);
        CHECK_EQ(log.end - log.start, BOUND / 2);
}

static void test_single_file(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log;

        CHECK_EQ(ring_log_open(&log, f.fd, -EBADF, BOUND), 0);
        CHECK_EQ(ring_log_fit(&log), 0);
        for (unsigned i = 0; i < 40000; i += 100) {
                append_lines(&log, i, i + 100);
                CHECK(size_of(f.fd) < BOUND);
                CHECK(log.start == 0 || size_of(f.fd) >= BOUND / 2);
        }
        check_lines(&log, log.start, 400000);
}

static void test_tail(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        _cleanup_free_ char *line = malloc(BOUND / 2 + 1);

        CHECK(line);
        check_tail(&log, 0, "");
        check_tail(&log, 5, "");
        check_tail(&log, RING_LOG_ALL, "");
        append(&log, "\n");
        check_tail(&log, 1, "\n");
        append(&log, "a\nb\n\nc");
        check_tail(&log, 0, "");
        check_tail(&log, 1, "c");
        check_tail(&log, 2, "\nc");
        check_tail(&log, 3, "b\n\nc");
        check_tail(&log, 5, "\na\nb\n\nc");
        check_tail(&log, 100, "\na\nb\n\nc");
        check_tail(&log, RING_LOG_ALL, "\na\nb\n\nc");
        append(&log, "\n");
        check_tail(&log, 1, "c\n");
        memset(line, 'x', BOUND / 2);
        line[BOUND / 2] = '\0';
        append(&log, line); /* over the border of the files */
        CHECK(log.base > 0 && log.end > log.base);
        check_tail(&log, 1, line);
        CHECK_EQ(log.end - ring_log_tail(&log, 2), BOUND / 2 + 2);
}

/* A file that may not grow stands for a full disk. */
static void limit_file_size(rlim_t size) {
        struct rlimit rl;

        CHECK_EQ(getrlimit(RLIMIT_FSIZE, &rl), 0);
        rl.rlim_cur = size;
        CHECK_EQ(setrlimit(RLIMIT_FSIZE, &rl), 0);
}

static void test_loss(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        uint64_t start;

        append(&log, "before\n");
        limit_file_size(10);
        CHECK_EQ(ring_log_append(&log, "0123456\n", 8, &start), -EFBIG);
        CHECK_EQ(start, 7);
        CHECK_EQ(log.end, 10);
        CHECK_EQ(ring_log_append(&log, "lost\n", 5, &start), -EFBIG);
        CHECK_EQ(log.end, 10);
        limit_file_size(30); /* room for a part of the note only: none of it stays */
        CHECK_EQ(ring_log_append(&log, "lost\n", 5, &start), -EFBIG);
        CHECK_EQ(log.end, 10);
        CHECK_EQ(size_of(f.fd), 10);
        limit_file_size(RLIM_INFINITY);
        CHECK_EQ(ring_log_append(&log, "after\n", 6, &start), 0);
        CHECK_EQ(start, log.end - 6);
        check_tail(&log, RING_LOG_ALL,
                        "before\n012\n[vmctl: 15 bytes were lost here: File too large]\nafter\n");
        append(&log, "and on\n");
}

/* The move into the older file fails: what is newest stays, within the bound, and nothing is mistaken. */
static void test_failed_move(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);

        CHECK_EQ(fcntl(f.old_fd, F_ADD_SEALS, F_SEAL_WRITE), 0);
        append_lines(&log, 0, 10000);
        CHECK(size_of(f.fd) < BOUND / 2);
        CHECK_EQ(size_of(f.old_fd), 0);
        CHECK_EQ(log.end - log.start, size_of(f.fd));
        check_lines(&log, log.start, 100000);
}

static void test_truncated_by_somebody(void) {
        _cleanup_(files_close) Files f = files_open();
        RingLog log = log_open_pair(&f, BOUND);
        char c;

        append(&log, "text\n");
        CHECK_EQ(ftruncate(f.fd, 0), 0);
        CHECK_EQ(ring_log_read(&log, 0, &c, 1), -EIO);
        CHECK_EQ(ring_log_read(&log, log.end, &c, 1), 0);
        CHECK_EQ(ring_log_tail(&log, 1), log.end);
}

static void test_refused(void) {
        _cleanup_(files_close) Files f = files_open();
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC), read_only = -EBADF;
        char path[64];
        RingLog log;

        CHECK(null >= 0);
        CHECK_EQ(ring_log_open(&log, null, null, BOUND), 0);
        check_tail(&log, RING_LOG_ALL, "");
        CHECK_EQ(ring_log_fit(&log), -EINVAL);
        CHECK_EQ(ring_log_open(&log, f.fd, null, BOUND), 0);
        CHECK_EQ(ring_log_fit(&log), -EINVAL);

        (void)snprintf(path, sizeof(path), "/proc/self/fd/%i", f.fd);
        read_only = open(path, O_RDONLY | O_CLOEXEC);
        CHECK(read_only >= 0);
        CHECK_EQ(ring_log_open(&log, read_only, f.old_fd, BOUND), 0);
        CHECK_EQ(ring_log_fit(&log), -EINVAL);

        CHECK_EQ(fcntl(f.fd, F_SETFL, O_APPEND), 0);
        CHECK_EQ(ring_log_open(&log, f.fd, f.old_fd, BOUND), 0);
        CHECK_EQ(ring_log_fit(&log), -EINVAL);
}

int main(void) {
        CHECK(signal(SIGXFSZ, SIG_IGN) != SIG_ERR);
        test_bounds();
        test_large_append();
        test_reopen();
        test_interrupted_move();
        test_lowered_bound();
        test_single_file();
        test_tail();
        test_loss();
        test_failed_move();
        test_truncated_by_somebody();
        test_refused();
        return EXIT_SUCCESS;
}
