/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest's console as its clients see it: /bin/sh on the serial line is the guest. */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "test-bed.h"
#include "util/fd-util.h"

/* A guest that answers each line, and ends at "end". */
#define ECHO "while read l; do echo got $l; [ \"$l\" = end ] && exit 0; done <&8 >&8"

static void expect_end(int fd, const char *rest) {
        _cleanup_free_ char *text = read_to_end(fd, NULL);

        CHECK_STREQ(text, rest);
}

static void test_two_clients(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int one = bed_console(b), two = bed_console(b), late = -EBADF;

        bed_run(b, "echo hello >&8; " ECHO);
        read_until(one, "hello\n");
        read_until(two, "hello\n");
        write_text(one, "one\n");
        read_until(one, "got one\n");
        read_until(two, "got one\n");
        late = bed_console(b); /* sees nothing of what was before */
        write_text(late, "end\n");
        bed_expect_exit(b, "{\"exited\":0,");
        expect_end(one, "got end\n");
        expect_end(two, "got end\n");
        expect_end(late, "got end\n");
}

/* echo command | vmctl console */
static void test_half_close(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int client = bed_console(b), other = bed_console(b);

        bed_run(b, ECHO);
        write_text(client, "first\n");
        CHECK_EQ(shutdown(client, SHUT_WR), 0);
        read_until(client, "got first\n");
        write_text(other, "end\n");
        bed_expect_exit(b, "{\"exited\":0,");
        expect_end(client, "got end\n");
}

static void test_close_after_input(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        int client = bed_console(b);

        write_text(client, "some\nend\n");
        safe_close(client);
        bed_run(b, ECHO);
        bed_expect_exit(b, "{\"exited\":0,");
}

static void fill(const Bed *b, const char *name, const char *text) {
        _cleanup_close_ int fd = bed_open(b, name);

        write_text(fd, text);
}

static void test_log(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b), all = -EBADF, tail = -EBADF, follow = -EBADF,
                            nothing = -EBADF, run = -EBADF, run_tail = -EBADF;
        _cleanup_free_ char *log = NULL;

        fill(b, "console.log.1", "1\n2\n3");
        fill(b, "console.log", "\n4\n5\n");
        bed_run(b, "echo 6 >&8; " ECHO);
        read_until(console, "6\n");
        all = bed_log(b, RING_LOG_ALL, 0);
        expect_end(all, "1\n2\n3\n4\n5\n6\n");
        tail = bed_log(b, 4, 0);
        expect_end(tail, "3\n4\n5\n6\n");
        nothing = bed_log(b, 0, 0);
        expect_end(nothing, "");
        run = bed_log(b, RING_LOG_ALL, LOG_REQUEST_THIS_RUN);
        expect_end(run, "6\n");
        run_tail = bed_log(b, 0, LOG_REQUEST_THIS_RUN);
        expect_end(run_tail, "");
        follow = bed_log(b, 1, LOG_REQUEST_FOLLOW);
        read_until(follow, "6\n");
        write_text(console, "more\n");
        read_until(follow, "got more\n");
        write_text(console, "end\n");
        bed_expect_exit(b, "{\"exited\":0,");
        expect_end(follow, "got end\n");
        log = bed_content(b, "console.log");
        CHECK_STREQ(log, "\n4\n5\n6\ngot more\ngot end\n");
}

static void test_log_requests(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        LogRequest request = { RING_LOG_ALL, 0 };
        _cleanup_close_ int console = bed_console(b), slow = -EBADF, unknown = -EBADF, extra = -EBADF;

        bed_run(b, "echo 1 >&8; " ECHO);
        read_until(console, "1\n");
        unknown = bed_log(b, 1, 1 << 5);
        expect_end(unknown, "");

        extra = bed_log(b, 1, LOG_REQUEST_FOLLOW);
        read_until(extra, "1\n");
        write_text(extra, "what a log client says next is not typed into the guest\n");
        CHECK_EQ(shutdown(extra, SHUT_WR), 0);

        slow = bed_log_silent(b);
        CHECK_EQ(write_all(slow, &request, 3), 0);
        write_text(console, "a\n");
        read_until(console, "got a\n");
        CHECK_EQ(write_all(slow, (uint8_t *)&request + 3, sizeof(request) - 3), 0);
        expect_end(slow, "1\ngot a\n");
        write_text(console, "end\n");
        read_until(extra, "got a\ngot end\n");
        bed_expect_exit(b, "{\"exited\":0,");
}

static void test_readers_bound(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        int readers[CONSOLE_READERS_MAX];
        _cleanup_close_ int more = -EBADF;

        bed_run(b, ECHO);
        for (size_t i = 0; i < 3 * CONSOLE_READERS_MAX; i++) /* whoever has gone leaves its place */
                safe_close(bed_log(b, 0, i % 2 ? LOG_REQUEST_FOLLOW : 0));
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++)
                readers[i] = i % 2 ? bed_log(b, RING_LOG_ALL, LOG_REQUEST_FOLLOW) : bed_console(b);
        write_text(readers[0], "all\n");
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++)
                read_until(readers[i], "got all\n");
        more = bed_console(b);
        expect_end(more, "");
        safe_close(readers[2]);
        readers[2] = bed_console(b);
        write_text(readers[2], "end\n");
        bed_expect_exit(b, "{\"exited\":0,");
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++) {
                expect_end(readers[i], "got end\n");
                safe_close(readers[i]);
        }
}

/* What can be written without waiting. */
static size_t write_what_fits(int fd) {
        char data[1000];
        size_t len = 0;
        ssize_t n;

        memset(data, 'x', sizeof(data));
        while ((n = send(fd, data, sizeof(data), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
                len += (size_t)n;
        CHECK_EQ(errno, EAGAIN);
        return len;
}

/* A guest that does not read holds up who types, but nobody else. */
static void test_guest_not_reading(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int client = bed_console(b), other = bed_console(b);
        _cleanup_free_ char *script = NULL;
        size_t sent = 0, n;
        int p[2];

        CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
        bed_add_fd(b, p[0], BED_FREE);
        bed_option(b, "--pass=%i", BED_FREE);
        bed_run(b, "echo ready >&8; read n <&9; echo reading >&8; head -c $n <&8 | wc -c >&8");
        read_until(other, "ready\n");
        do { /* each answer to a log client shows that the shim has had its turn */
                _cleanup_close_ int log = bed_log(b, RING_LOG_ALL, 0);

                n = write_what_fits(client);
                sent += n;
                CHECK(sent < 4 * MIB);
                expect_end(log, "ready\n");
        } while (n > 0);
        script = strf("%zu\n", sent);
        write_text(p[1], script);
        read_until(other, "reading\n");
        bed_expect_exit(b, "{\"exited\":0,");
        expect_end(other, script);
        safe_close(p[1]);
}

typedef struct Sink {
        int fd;
        char *text;
        size_t len, size;
} Sink;

/* Reads all of them to their ends at the same time. */
static void sinks_fill(Sink *sinks, size_t n) {
        size_t open = n;

        while (open > 0) {
                struct pollfd fds[4];

                CHECK(n <= ELEMENTSOF(fds));
                for (size_t i = 0; i < n; i++)
                        fds[i] = (struct pollfd){ .fd = sinks[i].fd, .events = POLLIN };
                CHECK(poll(fds, n, -1) > 0);
                for (size_t i = 0; i < n; i++) {
                        Sink *s = &sinks[i];
                        ssize_t r;

                        if (fds[i].revents == 0)
                                continue;
                        if (s->size - s->len < MIB)
                                CHECK((s->text = realloc(s->text, s->size = s->size * 2 + 2 * MIB)));
                        r = read(s->fd, s->text + s->len, MIB);
                        CHECK(r >= 0);
                        s->len += (size_t)r;
                        if (r == 0) {
                                s->fd = safe_close(s->fd);
                                s->text[s->len] = '\0';
                                open--;
                        }
                }
        }
}

/* Sums up what notes say was skipped, and counts the notes' own bytes. */
static uint64_t skipped(const Sink *s, uint64_t *ret_notes) {
        static const char start[] = "\n[... ", end[] = " bytes skipped ...]\n";
        uint64_t sum = 0;
        const char *p = s->text;

        *ret_notes = 0;
        while ((p = strstr(p, start))) {
                char *rest;
                uint64_t n = strtoull(p + strlen(start), &rest, 10);

                CHECK(startswith(rest, end));
                sum += n;
                *ret_notes += (uint64_t)(rest - p) + strlen(end);
                p = rest;
        }
        return sum;
}

#define FLOOD_LINES 12000000
#define FLOOD_BYTES (UINT64_C(96888897) + 4) /* seq's output, and "END\n" */

static void check_bound(const Bed *b, uint64_t max) {
        _cleanup_free_ char *new = bed_content(b, "console.log"), *old = bed_content(b, "console.log.1");

        CHECK(strlen(new) + strlen(old) <= max);
        CHECK(strlen(new) + strlen(old) >= max / 2);
}

/* The guest prints without end; one client never reads, two read as fast as they can. */
static void test_flood(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int idle _unused_ = bed_console(b);
        Sink sinks[] = { { .fd = bed_log(b, RING_LOG_ALL, LOG_REQUEST_FOLLOW) }, { .fd = bed_console(b) } };
        uint64_t notes;

        bed_run(b, "seq 12000000 >&8; echo END >&8");
        sinks_fill(sinks, ELEMENTSOF(sinks));
        bed_expect_exit(b, "{\"exited\":0,");
        for (size_t i = 0; i < ELEMENTSOF(sinks); i++)
                CHECK(sinks[i].len > 100 && streq(sinks[i].text + sinks[i].len - 13, "12000000\nEND\n"));
        CHECK_EQ(skipped(&sinks[0], &notes) + sinks[0].len - notes, FLOOD_BYTES);
        CHECK(sinks[1].len <= FLOOD_BYTES);
        check_bound(b, MIB);
        for (size_t i = 0; i < ELEMENTSOF(sinks); i++)
                free(sinks[i].text);
}

/* Whoever follows gets everything, even if it is far behind when QEMU ends. */
static void test_end_of_log(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        Sink sink = { .fd = bed_log(b, RING_LOG_ALL, LOG_REQUEST_FOLLOW) };
        _cleanup_free_ char *line = NULL;
        uint64_t notes;

        bed_option(b, "--console-log-max=16777216");
        bed_run(b, "seq 1000000 >&8; echo END >&8");
        line = bed_line(b);
        CHECK(startswith(line, "exited {\"exited\":0,"));
        sinks_fill(&sink, 1);
        CHECK_EQ(sink.len, 6888896 + 4);
        CHECK_EQ(skipped(&sink, &notes), 0);
        free(sink.text);
}

/* QEMU has said its last words and is gone before the shim looks. */
static void test_last_output(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b), qemu = -EBADF;
        _cleanup_free_ char *line = NULL, *log = NULL, *output = NULL;
        struct pollfd p = { .events = POLLIN };
        int pipe_fds[2];

        CHECK_EQ(pipe2(pipe_fds, O_CLOEXEC), 0);
        bed_add_fd(b, pipe_fds[0], BED_FREE);
        bed_option(b, "--pass=%i", BED_FREE);
        bed_run(b, "echo ready >&8; read x <&9; echo last >&8; echo words >&2; exit 3");
        read_until(console, "ready\n");
        qemu = pidfd_open(b->qemu_pid, 0);
        CHECK(qemu >= 0);
        CHECK_EQ(kill(b->pid, SIGSTOP), 0);
        write_text(pipe_fds[1], "\n");
        p.fd = qemu;
        CHECK_EQ(poll(&p, 1, -1), 1);
        CHECK_EQ(kill(b->pid, SIGCONT), 0);
        line = bed_line(b);
        CHECK(startswith(line, "exited {\"exited\":3,"));
        log = bed_content(b, "console.log"); /* all is there when the end is told */
        CHECK_STREQ(log, "ready\nlast\n");
        output = bed_content(b, "qemu.log");
        CHECK_STREQ(output, "words\n");
        expect_end(console, "last\n");
        safe_close(pipe_fds[1]);
}

/* The time that the shim has spent on a CPU. */
static char *cpu_time(const Bed *b) {
        _cleanup_free_ char *path = strf("/proc/%i/schedstat", b->pid);
        char *text;

        CHECK_EQ(read_file_at(AT_FDCWD, path, 4 * KIB, &text, NULL), 0);
        *strchrnul(text, ' ') = '\0';
        return text;
}

/* Once it has done what there is to do, the shim sleeps, whatever state its clients are in. */
static void test_idle(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int client = bed_console(b), half = bed_console(b), behind = -EBADF, silent = -EBADF,
                            shut = -EBADF;
        _cleanup_free_ char *before = NULL;
        int gone, p[2];

        CHECK_EQ(pipe2(p, O_CLOEXEC), 0);
        bed_add_fd(b, p[0], BED_FREE);
        bed_option(b, "--pass=%i", BED_FREE);
        bed_run(b, "seq 100000 >&8; echo ready >&8; read n <&9");
        read_until(client, "\nready\n");
        CHECK_EQ(shutdown(half, SHUT_WR), 0);
        behind = bed_log(b, RING_LOG_ALL, LOG_REQUEST_FOLLOW); /* more than its socket holds */
        silent = bed_log_silent(b);
        shut = bed_log(b, 0, LOG_REQUEST_FOLLOW);
        CHECK_EQ(shutdown(shut, SHUT_WR), 0);
        gone = bed_console(b); /* what it has typed waits for a guest that does not read */
        while (write_what_fits(gone) > 0)
                CHECK_EQ(poll(&(struct pollfd){ .fd = gone, .events = POLLOUT }, 1, 100) >= 0, 1);
        safe_close(gone);
        for (int i = 0;; i++) {
                _cleanup_free_ char *now = cpu_time(b);

                if (before && streq(before, now))
                        break;
                CHECK(i < 50);
                free(before);
                before = TAKE_PTR(now);
                CHECK_EQ(poll(NULL, 0, 100), 0);
        }
        write_text(p[1], "\n");
        bed_expect_exit(b, "{\"exited\":0,");
        safe_close(p[1]);
}

static void replace_fd(Bed *b, int fd, int target) {
        for (size_t i = 0; i < b->n_fds; i++)
                if (b->fds[i].target == target) {
                        safe_close(b->fds[i].fd);
                        b->fds[i].fd = fd;
                }
}

static char *read_log(int fd, size_t *ret_len) {
        CHECK_EQ(lseek(fd, 0, SEEK_SET), 0);
        return read_to_end(fd, ret_len);
}

/* The log's file system is full for a while: the console goes on, and the log says what it misses. */
static void test_no_space(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *small = bed_path(b, "small"), *log = NULL;
        _cleanup_close_ int console = bed_console(b), ballast = -EBADF, file = -EBADF;
        char block[1000];
        size_t len;

        CHECK_EQ(unshare(CLONE_NEWNS), 0);
        CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_EQ(mkdir(small, 0755), 0);
        CHECK_EQ(mount("tmpfs", small, "tmpfs", 0, "size=128k"), 0);
        file = bed_open(b, "small/console.log");
        replace_fd(b, bed_open(b, "small/console.log"), BED_CONSOLE_LOG);
        replace_fd(b, bed_open(b, "small/console.log.1"), BED_CONSOLE_LOG_OLD);
        ballast = bed_open(b, "small/ballast");
        CHECK_EQ(posix_fallocate(ballast, 0, 64 * KIB), 0);

        bed_run(b, "for i in $(seq 1000 1099); do printf '%999s\\n' $i; read x; done <&8 >&8");
        for (int i = 1000; i < 1100; i++) {
                for (size_t have = 0; have < sizeof(block);) {
                        ssize_t n = read(console, block + have, sizeof(block) - have);

                        CHECK(n > 0);
                        have += (size_t)n;
                }
                CHECK_EQ(strtol(block, NULL, 10), i);
                if (i == 1090)
                        CHECK_EQ(ftruncate(ballast, 0), 0);
                write_text(console, "\n");
        }
        bed_expect_exit(b, "{\"exited\":0,");
        log = read_log(file, &len);
        CHECK_EQ(strtol(log, NULL, 10), 1000);
        CHECK(strstr(log, " bytes were lost here: No space left on device]\n"));
        CHECK_EQ(strtol(log + len - 1000, NULL, 10), 1099);
        CHECK_EQ(strtol(log + len - 9000, NULL, 10), 1091); /* as soon as there was space */
        CHECK_EQ(umount2(small, MNT_DETACH), 0);
}

/* The log of a VM that does not run. */
static char *cat(const Bed *b, const char *tail) {
        int out = memfd_create("out", MFD_CLOEXEC), status;
        const char *const argv[] = { bed_shim(), "--cat", "--console-log=3", "--console-log-old=4", "--tail",
                tail, "--uid=61184", "--gid=61184", NULL };
        _cleanup_close_ int new = bed_open(b, "console.log"), old = bed_open(b, "console.log.1");
        const ChildFd fds[] = { { out, STDOUT_FILENO }, { new, 3 }, { old, 4 } };
        const ChildSpec spec = { .argv = (char *const *)argv, .fds = fds, .n_fds = ELEMENTSOF(fds) };
        pid_t pid;
        char *text;

        CHECK(out >= 0);
        CHECK_EQ(child_spawn(&spec, &pid), 0);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
        text = read_log(out, NULL);
        safe_close(out);
        return text;
}

static void test_cat(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        static const struct {
                const char *tail, *text;
        } table[] = { { "-1", "1\n2\n3\n4\n5" }, { "0", "" }, { "1", "5" }, { "3", "3\n4\n5" },
                { "4294967294", "1\n2\n3\n4\n5" } };

        fill(b, "console.log.1", "1\n2\n3");
        fill(b, "console.log", "\n4\n5");
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_free_ char *text = cat(b, table[i].tail);

                CHECK_STREQ(text, table[i].text);
        }
}

int main(int argc, char **argv) {
        static const BedCase cases[] = {
                { "two-clients", test_two_clients },
                { "half-close", test_half_close },
                { "close-after-input", test_close_after_input },
                { "log", test_log },
                { "log-requests", test_log_requests },
                { "readers-bound", test_readers_bound },
                { "guest-not-reading", test_guest_not_reading },
                { "flood", test_flood },
                { "end-of-log", test_end_of_log },
                { "last-output", test_last_output },
                { "idle", test_idle },
                { "no-space", test_no_space },
                { "cat", test_cat },
        };

        return bed_main(argc, argv, cases, ELEMENTSOF(cases));
}
