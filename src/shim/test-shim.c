/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The shim's life, and what QEMU finds when it starts. test-console.c is about the console. */
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test-bed.h"
#include "util/fd-util.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

static void expect_error(Bed *b, const char *start) {
        _cleanup_free_ char *line = bed_line(b), *record = bed_content(b, "exit.json");

        if (!line || !startswith(line, "error ") || !startswith(line + 6, start))
                TEST_FAIL("shim said '%s', expected 'error %s...'", line ?: "(nothing)", start);
        CHECK(!bed_line(b));
        CHECK_EQ(bed_wait(b), 1);
        CHECK_STREQ(record, "");
}

static void test_end_before_go(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *record = NULL, *log = NULL;

        bed_start(b, (const char *const[]){ "/bin/sh", "-c", "echo started", NULL });
        b->control = safe_close(b->control);
        CHECK_EQ(bed_wait(b), 0);
        record = bed_content(b, "exit.json");
        log = bed_content(b, "qemu.log");
        CHECK_STREQ(record, "");
        CHECK_STREQ(log, "");
}

static void test_other_than_go(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();

        bed_start(b, (const char *const[]){ "/bin/true", NULL });
        CHECK_EQ(send(b->control, "x", 1, 0), 1);
        expect_error(b, "system ");
}

static void test_exit_code(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int record = bed_open(b, "exit.json");

        write_text(record, "{\"a longer record of the time before, which has to go altogether\":0}\n");
        bed_run(b, "echo said >&2; exit 7");
        bed_expect_exit(b, "{\"exited\":7,\"time\":");
}

static void test_signal(void) {
        _cleanup_(bed_freep) Bed *b = bed_new(), *c = bed_new();

        bed_run(b, "kill -KILL $$");
        bed_expect_exit(b, "{\"signal\":9,\"time\":");
        bed_run(c, "kill -TERM $$"); /* which the shim has blocked for itself */
        bed_expect_exit(c, "{\"signal\":15,\"time\":");
}

static void test_exec_fails(void) {
        _cleanup_(bed_freep) Bed *b = bed_new(), *c = bed_new();

        bed_start(b, (const char *const[]){ "/usr/bin/no-such-qemu", NULL });
        bed_go(b);
        expect_error(b, "exec /usr/bin/no-such-qemu: No such file or directory");
        bed_start(c, (const char *const[]){ "/usr/lib", NULL });
        bed_go(c);
        expect_error(c, "exec /usr/lib: Permission denied");
}

static void test_control_closes_early(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b);
        _cleanup_free_ char *record = NULL;

        bed_run(b, "read x <&8; exit 4");
        b->control = safe_close(b->control);
        write_text(console, "now\n");
        CHECK_EQ(bed_wait(b), 0);
        record = bed_content(b, "exit.json");
        CHECK(startswith(record, "{\"exited\":4,"));
}

/* `systemctl stop` of the scope signals both: QEMU is to decide. */
static void test_signals_to_shim(void) {
        static const int signals[] = { SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGPIPE, SIGCHLD };
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b);

        bed_run(b, "echo ready >&8; read x <&8; exit 5");
        read_until(console, "ready");
        for (size_t i = 0; i < ELEMENTSOF(signals); i++)
                CHECK_EQ(kill(b->pid, signals[i]), 0);
        write_text(console, "go on\n");
        bed_expect_exit(b, "{\"exited\":5,");
}

static void test_last_words(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *log = NULL;

        bed_option(b, "--qemu-log-max=16384");
        bed_run(b, "seq -f %09.0f 100000; echo the last words >&2; exit 1");
        bed_expect_exit(b, "{\"exited\":1,");
        log = bed_content(b, "qemu.log");
        CHECK(strlen(log) < 16384 && strlen(log) > 16384 / 2);
        CHECK(strstr(log, "000099999\n000100000\nthe last words\n"));
}

static void test_bad_options(void) {
        static const char *const bad[] = {
                "--no-such-option",
                "--serial=8", /* given twice */
                "--pass=8",   /* named twice */
                "--pass=99",  /* not open */
                "--pass=2",
                "--pass=-1",
                "--pass=x",
                "--pass=4294967299",
                "--uid=0",
                "--uid=4294967295",
                "--group=65536x",
                "--gid=", /* and no uid */
                "--console-log-max=100",
                "--console-log-max=1M",
                "--console-log-max=18446744073709551615",
                "--file=20:w:1:1:1:1:1:/etc/passwd",
                "--file=20:r:1:1:1:1:/etc/passwd",
                "--file=20:r:1:1:1:1:1:etc/passwd",
                "--file=20:r:1:1:1:1:1:/etc/../etc/passwd",
                "--file=20:r:-1:1:1:1:1:/etc/passwd",
                "--file=3:r:1:1:1:1:1:/etc/passwd", /* in use */
                "--file=1024:r:1:1:1:1:1:/etc/passwd",
                "--device=dev/kvm",
                "--device=/dev/no-such-device",
                "--device=/usr", /* no device */
                "--bind-ro=/",
                "--bind-ro=/usr/./lib",
                "--bind-ro=/no/such/folder",
                "--tail=x",
                "--helper=bin/true",
                "--helper-arg=x", /* and no helper */
                "--helper-fd=3",
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *line = NULL;

                bed_option(b, "%s", bad[i]);
                bed_start(b, (const char *const[]){ "/bin/true", NULL });
                line = bed_line(b);
                if (!line || !startswith(line, "error system "))
                        TEST_FAIL("%s: shim said '%s'", bad[i], line ?: "(nothing)");
                CHECK_EQ(bed_wait(b), 1);
        }
}

/* A --file option for what is at the path now, some of it changed. */
static void add_given_as(Bed *b, char access, const char *path, int64_t ino_off, int64_t btime_off,
                int64_t ctime_off, bool with_btime) {
        struct statx stx;
        uint64_t btime, ctime, mtime;

        CHECK_EQ(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &stx), 0);
        btime = (uint64_t)stx.stx_btime.tv_sec * 1000000000 + stx.stx_btime.tv_nsec;
        ctime = (uint64_t)stx.stx_ctime.tv_sec * 1000000000 + stx.stx_ctime.tv_nsec;
        mtime = (uint64_t)stx.stx_mtime.tv_sec * 1000000000 + stx.stx_mtime.tv_nsec;
        if (with_btime && !(stx.stx_mask & STATX_BTIME))
                with_btime = false;
        bed_option(b, "--file=9:%c:%llu:%llu:%llu:%llu:%llu:%s", access,
                        (unsigned long long)((int64_t)stx.stx_ino + ino_off),
                        (unsigned long long)(with_btime ? (int64_t)btime + btime_off : 0),
                        (unsigned long long)((int64_t)ctime + ctime_off), (unsigned long long)mtime,
                        (unsigned long long)stx.stx_size, path);
}

static void add_given(Bed *b, const char *path, int64_t ino_off, int64_t btime_off, int64_t ctime_off,
                bool with_btime) {
        add_given_as(b, 'r', path, ino_off, btime_off, ctime_off, with_btime);
}

static char *make_image(const Bed *b, const char *name) {
        _cleanup_close_ int fd = bed_open(b, name);

        write_text(fd, "content of the image\n");
        return bed_path(b, name);
}

static void test_file(void) {
        for (int with_btime = 0; with_btime < 2; with_btime++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "a:file"), *out = NULL;

                /* The time that is not looked at may be another one. */
                add_given(b, path, 0, 0, with_btime ? 1 : 0, with_btime);
                out = bed_output(b, "cat <&9; echo x >&9; exit 0");
                CHECK(startswith(out, "content of the image\n"));
        }
}

/* Opening it anew takes the right to read the file, which the descriptor does not give. */
static void test_file_by_path(void) {
        for (int readable = 0; readable < 2; readable++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image"), *out = NULL;

                CHECK_EQ(chmod(path, readable ? 0644 : 0600), 0);
                CHECK_EQ(chmod(b->dir, 0700), 0);
                add_given_as(b, 'r', path, 0, 0, 0, true);
                out = bed_output(b, "cat /proc/self/fd/9; exit 0");
                CHECK((startswith(out, "content of the image\n") != NULL) == readable);
        }
        for (int readable = 0; readable < 2; readable++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image"), *out = NULL;

                CHECK_EQ(chmod(path, readable ? 0644 : 0600), 0);
                add_given_as(b, 'p', path, 0, 0, 0, true);
                out = bed_output(b,
                                "cat /proc/self/fd/9; readlink /proc/self/fd/9; "
                                "echo changed > /proc/self/fd/9; cat /proc/self/fd/9; exit 0");
                CHECK(startswith(out, "content of the image\n"));
                CHECK((strstr(out, "/memfd:") != NULL) == !readable);
                CHECK(!strstr(out, "changed\n"));
        }
}

static void expect_refused(Bed *b, const char *start) {
        bed_start(b, (const char *const[]){ "/bin/true", NULL });
        expect_error(b, start);
}

static void test_file_missing(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();

        bed_option(b, "--file=20:r:1:1:1:1:1:/no/such/image");
        expect_refused(b, "missing /no/such/image: No such file or directory");
}

static void test_file_changed(void) {
        for (int i = 0; i < 3; i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image");

                add_given(b, path, i == 0, i == 1, i == 2, i < 2);
                expect_refused(b, "changed ");
        }
}

/* What was written to it since is no reason to refuse it, but is said of a file whose content must stay. */
static void test_file_modified(void) {
        for (int i = 0; i < 4; i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image"), *line = NULL, *expected = NULL;
                const struct timespec times[] = { { .tv_nsec = UTIME_OMIT }, { .tv_sec = 1000000000 } };

                add_given_as(b, i < 2 ? 'r' : 'p', path, 0, 0, 0, true);
                if (i % 2 == 0)
                        CHECK_EQ(utimensat(AT_FDCWD, path, times, 0), 0);
                else
                        CHECK_EQ(truncate(path, 3), 0);
                bed_start(b, (const char *const[]){ "/bin/true", NULL });
                CHECK_EQ(write(b->control, "g", 1), 1);
                line = bed_line(b);
                expected = strf("modified %s", path);
                if (i < 2)
                        CHECK_STREQ(line, expected);
                else
                        CHECK(startswith(line, "pid "));
                CHECK_EQ(bed_wait(b), 0);
        }
}

static void test_file_link(void) {
        for (int i = 0; i < 2; i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image"), *link = bed_path(b, "link"),
                                    *through = bed_path(b, "link/image");

                CHECK_EQ(symlink(i == 0 ? path : b->dir, link), 0);
                add_given(b, i == 0 ? link : through, 0, 0, 0, true);
                expect_refused(b, "changed ");
        }
}

/* Neither may be opened for reading: that could wait for ever, or have an effect. */
static void test_file_other_type(void) {
        for (int i = 0; i < 3; i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = i == 2 ? strdup("/dev/null") : bed_path(b, "image");

                if (i == 0)
                        CHECK_EQ(mkfifo(path, 0644), 0);
                if (i == 1)
                        CHECK_EQ(mkdir(path, 0755), 0);
                add_given(b, path, 0, 0, 0, true);
                expect_refused(b, "changed ");
        }
}

static void test_file_access(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();

        add_given(b, "/etc/shadow", 0, 0, 0, true);
        expect_refused(b, "access /etc/shadow: Permission denied");
}

/* The rights of the file's owner count, not those that the shim has while it prepares. */
static void test_file_of_owner(void) {
        static const struct {
                mode_t file, folder;
                uid_t uid; /* of the file */
                bool ok;
        } cases[] = {
                { 0600, 0755, BED_UID, true },
                { 0644, 0755, 0, true },
                { 0600, 0755, 0, false },
                { 0644, 0700, 0, false },
                { 0200, 0755, BED_UID, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_(bed_freep) Bed *b = bed_new();
                _cleanup_free_ char *path = make_image(b, "image"), *out = NULL;

                CHECK_EQ(chown(path, cases[i].uid, 0), 0);
                CHECK_EQ(chmod(path, cases[i].file), 0);
                CHECK_EQ(chmod(b->dir, cases[i].folder), 0);
                bed_option(b, "--owner=%i", BED_UID);
                add_given(b, path, 0, 0, 0, true);
                if (cases[i].ok) {
                        out = bed_output(b, "cat <&9; echo x >&9; exit 0");
                        CHECK(startswith(out, "content of the image\n"));
                } else {
                        _cleanup_free_ char *error = strf("access %s: Permission denied", path);

                        expect_refused(b, error);
                }
        }
}

/* Other errors come through, and files before the option are not the owner's. */
static void test_file_before_owner(void) {
        _cleanup_(bed_freep) Bed *b = bed_new(), *missing = bed_new();
        _cleanup_free_ char *path = make_image(b, "image"), *out = NULL;

        CHECK_EQ(chmod(path, 0600), 0);
        add_given(b, path, 0, 0, 0, true);
        bed_option(b, "--owner=%i", BED_UID);
        out = bed_output(b, "cat <&9; exit 0");
        CHECK(startswith(out, "content of the image\n"));

        bed_option(missing, "--owner=%i", BED_UID);
        bed_option(missing, "--file=20:r:1:1:1:1:1:/no/such/image");
        expect_refused(missing, "missing /no/such/image: No such file or directory");
}

static void test_identity(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL;

        bed_option(b, "--uid=%i", BED_UID + 1);
        bed_option(b, "--gid=%i", BED_UID + 2);
        bed_option(b, "--group=%i", BED_UID + 3);
        bed_option(b, "--group=%i", BED_UID + 4);
        out = bed_output(b,
                        "grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|SigBlk|SigIgn)' /proc/self/status;"
                        "cat /proc/self/oom_score_adj; umask; pwd; ulimit -c; ulimit -n; env | sort");
        CHECK(strstr(out, "Uid:\t61185\t61185\t61185\t61185\n"));
        CHECK(strstr(out, "Gid:\t61186\t61186\t61186\t61186\n"));
        CHECK(strstr(out, "Groups:\t61187 61188 \n"));
        CHECK(strstr(out,
                        "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\n"
                        "CapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n"));
        CHECK(strstr(out, "NoNewPrivs:\t1\n"));
        CHECK(strstr(out, "SigBlk:\t0000000000000000\n"));
        CHECK(strstr(out, "\n0\n0077\n/\n0\n16384\nLANG=C.UTF-8\nPATH="));
}

/* The same holds for the shim: it has no more rights than QEMU, and QEMU cannot get at it. */
static void test_shim_identity(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b);
        _cleanup_free_ char *path = NULL, *status = NULL, *out = NULL;

        bed_run(b, "echo ready >&8; ls /proc/$PPID; read x <&8; exit 0");
        read_until(console, "ready");
        path = strf("/proc/%i/status", b->pid);
        CHECK_EQ(read_file_at(AT_FDCWD, path, 64 * KIB, &status, NULL), 0);
        CHECK(strstr(status, "Uid:\t61184\t61184\t61184\t61184\n"));
        CHECK(strstr(status, "CapPrm:\t0000000000000000\n"));
        CHECK(strstr(status, "CapBnd:\t0000000000000000\n"));
        CHECK(strstr(status, "NoNewPrivs:\t1\n"));
        write_text(console, "\n");
        bed_expect_exit(b, "{\"exited\":0,");
        out = bed_content(b, "qemu.log");
        CHECK(strstr(out, "No such file or directory"));
}

static void test_descriptors(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *image = make_image(b, "image"), *line = NULL, *out = NULL;

        bed_add_fd(b, bed_open(b, "passed"), 30);
        bed_add_fd(b, bed_open(b, "kept"), 31);
        bed_option(b, "--pass=30");
        add_given(b, image, 0, 0, 0, true);
        bed_start(b, (const char *const[]){ "/bin/ls", "-m", "/proc/self/fd", NULL });
        bed_go(b);
        line = bed_line(b);
        bed_expect_exit(b, "{\"exited\":0,");
        out = bed_content(b, "qemu.log");
        CHECK_STREQ(out, "0, 1, 2, 3, 30, 8, 9\n"); /* 3 is the folder that ls reads: it was free */
}

static void test_passed_descriptor(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL, *passed = NULL;

        bed_add_fd(b, bed_open(b, "passed"), BED_FREE);
        bed_option(b, "--pass=%i", BED_FREE);
        out = bed_output(b, "readlink /proc/self/fd/0; echo written >&9");
        CHECK_STREQ(out, "/dev/null\n");
        passed = bed_content(b, "passed");
        CHECK_STREQ(passed, "written\n");
}

/* QEMU's end of everything must not be kept open by the shim. */
static void test_hand_over(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = bed_console(b);
        struct pollfd p = { .events = POLLIN };
        int pair[2];
        char c;

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        bed_add_fd(b, pair[1], BED_FREE);
        bed_option(b, "--pass=%i", BED_FREE);
        bed_run(b, "exec 9>&-; read x <&8; exit 0");
        p.fd = pair[0];
        CHECK_EQ(poll(&p, 1, -1), 1);
        CHECK_EQ(read(pair[0], &c, 1), 0);
        write_text(console, "\n");
        bed_expect_exit(b, "{\"exited\":0,");
        safe_close(pair[0]);
}

static void test_sandbox(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL;

        /* A VM has its own uid; other tests may be running as BED_UID. */
        bed_option(b, "--uid=%i", BED_UID + 5 + getpid() % 4000);
        bed_option(b, "--gid=%i", BED_UID);
        out = bed_output(b,
                        "for i in /proc/[0-9]*; do [ ${i#/proc/} = $$ ] || echo other $i; done;"
                        "echo $(ls /); echo $(ls /dev); echo $(ls /etc | grep -v resolv.conf); ls -A /tmp;"
                        "echo $(ls /proc | grep -v '^[0-9]');"
                        "for i in / /usr /dev /etc /dev/null/..; do touch $i/x 2>/dev/null && echo $i; done;"
                        "echo x >/tmp/x && cat /tmp/x; : >/dev/null && echo null;"
                        "head -c 2 /dev/urandom | wc -c");
        CHECK_STREQ(out,
                        "bin dev etc lib lib64 proc sbin tmp usr\n"
                        "full null random urandom zero\n"
                        "alternatives ld.so.cache\n"
                        "self thread-self\n"
                        "x\nnull\n2\n");
}

static void test_mount_flags(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL;
        char *rest, *line;
        size_t n = 0;

        out = bed_output(b,
                        "while read a b c d path flags rest; do echo $path $flags; done "
                        "</proc/self/mountinfo");
        for (rest = out; (line = strsep(&rest, "\n")) && *line; n++) {
                CHECK(strstr(line, "nosuid"));
                CHECK(strstr(line, "nodev") || startswith(line, "/dev/"));
                CHECK(strstr(line, " ro,") || startswith(line, "/tmp ") || startswith(line, "/proc "));
        }
        CHECK(n >= 10);
}

/* A full /tmp is QEMU's own problem, and small. */
static void test_tmp_bound(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL;

        out = bed_output(b, "head -c 100000000 /dev/zero >/tmp/x 2>/dev/null; stat -c %s /tmp/x");
        CHECK(strlen(out) == 8 && out[0] <= '4'); /* below 5 MB */
}

static void test_shown_paths(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *path = make_image(b, "shown"), *folder = bed_path(b, "folder"), *script = NULL,
                            *out = NULL;

        CHECK_EQ(chmod(b->dir, 0755), 0);
        CHECK_EQ(chmod(path, 0666), 0);
        CHECK_EQ(mkdir(folder, 0755), 0);
        CHECK_EQ(chmod(folder, 0777), 0);
        bed_option(b, "--bind-ro=%s", path);
        bed_option(b, "--bind-ro=%s", folder);
        bed_option(b, "--device=/dev/tty");
        script = strf("cat %s; ls %s; touch %s %s/x; ls -l /dev/tty", path, b->dir, path, folder);
        out = bed_output(b, script);
        CHECK(startswith(out, "content of the image\nfolder\nshown\n"));
        CHECK(strstr(out, "shown': Read-only file system\n"));
        CHECK(strstr(out, "folder/x': Read-only file system\ncrw"));
}

static void test_private_network(void) {
        _cleanup_(bed_freep) Bed *b = bed_new(), *c = bed_new();
        _cleanup_free_ char *ours = NULL, *shared = NULL, *private = NULL;

        CHECK_EQ(read_file_at(AT_FDCWD, "/proc/self/net/dev", 64 * KIB, &ours, NULL), 0);
        shared = bed_output(b, "grep -c : /proc/self/net/dev; ls /etc/resolv.conf");
        bed_option(c, "--private-network");
        private = bed_output(c, "grep : /proc/self/net/dev | cut -d: -f1; ls /etc; ip -o addr");
        CHECK(strstr(private, " lo\n"));
        CHECK(!strstr(private, "resolv.conf"));
        CHECK(!strstr(private, "inet"));
        CHECK(strstr(shared, "/etc/resolv.conf\n"));
}

/* As systemd-resolved and others do it: /etc/resolv.conf is a link to a file that they replace now and then.
 */
static void test_resolv_conf(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int console = -EBADF, old = -EBADF, new = -EBADF;
        _cleanup_free_ char *out = NULL;

        CHECK_EQ(unshare(CLONE_NEWNS), 0);
        CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_EQ(mount("tmpfs", "/etc", "tmpfs", 0, NULL), 0);
        CHECK_EQ(mount("tmpfs", "/run", "tmpfs", 0, NULL), 0);
        CHECK_EQ(mkdir("/run/resolver", 0755), 0);
        CHECK_EQ(symlink("../run/resolver/resolv.conf", "/etc/resolv.conf"), 0);
        old = open("/run/resolver/resolv.conf", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        write_text(old, "old\n");

        console = bed_console(b);
        bed_run(b,
                        "cat /etc/resolv.conf; ls /run/resolver; echo ready >&8; read x <&8; cat "
                        "/etc/resolv.conf;"
                        "echo x >/run/resolver/x");
        read_until(console, "ready");
        new = open("/run/resolver/new", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
        write_text(new, "new\n");
        CHECK_EQ(rename("/run/resolver/new", "/run/resolver/resolv.conf"), 0);
        write_text(console, "\n");
        bed_expect_exit(b, "{\"exited\":2,");
        out = bed_content(b, "qemu.log");
        CHECK(startswith(out, "old\nresolv.conf\nnew\n"));
        CHECK(strstr(out, "Read-only file system"));
}

/* Nothing of the sandbox is seen outside. */
static void test_no_trace(void) {
        _cleanup_free_ char *before = NULL, *after = NULL, *out = NULL;
        _cleanup_(bed_freep) Bed *b = bed_new();

        CHECK_EQ(unshare(CLONE_NEWNS), 0);
        CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL), 0); /* as systemd has it */
        CHECK_EQ(read_file_at(AT_FDCWD, "/proc/self/mountinfo", MIB, &before, NULL), 0);
        out = bed_output(b, "ls /");
        CHECK(!strstr(out, "root"));
        CHECK_EQ(read_file_at(AT_FDCWD, "/proc/self/mountinfo", MIB, &after, NULL), 0);
        CHECK_STREQ(after, before);
}

static void test_user_sandbox(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *out = NULL;

        bed_option(b, "--private-network");
        out = bed_output(b,
                        "grep -E '^(Uid|Gid|CapPrm|CapBnd|NoNewPrivs)' /proc/self/status; echo $(ls /);"
                        "touch /usr/x 2>/dev/null && echo writable; echo x >/tmp/x && cat /tmp/x;"
                        "ls /proc/self/fd >/dev/null && echo proc");
        CHECK_STREQ(out,
                        "Uid:\t61184\t61184\t61184\t61184\nGid:\t61184\t61184\t61184\t61184\n"
                        "CapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\n"
                        "bin dev etc lib lib64 proc sbin tmp usr\nx\nproc\n");
}

/* Where user namespaces are forbidden: in a chroot() the kernel refuses them. */
static void test_user_without_namespaces(void) {
        _cleanup_(bed_freep) Bed *b = NULL;
        _cleanup_free_ char *out = NULL;

        CHECK_EQ(unshare(CLONE_NEWNS), 0);
        CHECK_EQ(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL), 0);
        CHECK_EQ(mount("/", "/mnt", NULL, MS_BIND | MS_REC, NULL), 0);
        CHECK_EQ(chroot("/mnt"), 0);
        CHECK_EQ(chdir("/"), 0);
        bed_become_user();
        b = bed_new();
        /* QEMU sees the shim, but cannot get at it. */
        out = bed_output(b,
                        "grep -E '^(Uid|CapPrm|NoNewPrivs)' /proc/self/status;"
                        "ls /proc/$PPID/fd 2>/dev/null; exit 0");
        CHECK_STREQ(out, "Uid:\t61184\t61184\t61184\t61184\nCapPrm:\t0000000000000000\nNoNewPrivs:\t1\n");
}

/* A shell as helper, with a socket to us, which is returned, as its descriptor 31. */
static int add_helper(Bed *b, const char *script) {
        int pair[2];

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        bed_add_fd(b, pair[1], 31);
        bed_option(b, "--helper=/bin/bash");
        bed_option(b, "--helper-arg=-c");
        bed_option(b, "--helper-arg=%s", script);
        bed_option(b, "--helper-fd=31");
        return pair[0];
}

static char *namespace_of(const char *pid) {
        _cleanup_free_ char *path = strf("/proc/%s/ns/net", pid);
        char target[64] = "";

        CHECK(readlink(path, target, sizeof(target) - 1) > 0);
        return strdup(target);
}

/* It is who QEMU is, but not where QEMU is. */
static void test_helper(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *line = NULL, *said = NULL, *log = NULL, *net = namespace_of("self"),
                            *expected = NULL;
        _cleanup_close_ int fd = -EBADF;
        struct pollfd p = { .events = POLLIN };

        bed_option(b, "--uid=%i", BED_UID + 1);
        bed_option(b, "--gid=%i", BED_UID + 2);
        bed_option(b, "--group=%i", BED_UID + 3);
        bed_option(b, "--private-network");
        fd = add_helper(b,
                        "grep -E '^(Uid|Gid|Groups|CapPrm|CapBnd|NoNewPrivs|SigBlk)' /proc/self/status >&31;"
                        "echo $(ls /proc/$$/fd) $(readlink /proc/self/ns/net) >&31; ls -d /root >&31;"
                        "echo said >&2; echo started >&31; read -r x <&31; echo > /proc/self/fd/1; read -r "
                        "x <&31");
        bed_start(b,
                        (const char *const[]){ "/bin/sh", "-c",
                                        "readlink /proc/self/ns/net; ls /proc/self/fd; grep Groups "
                                        "/proc/self/status",
                                        NULL });
        bed_go(b);
        for (char c, text[4096], *end = text; !said;) {
                CHECK_EQ(read(fd, &c, 1), 1);
                *end++ = c;
                *end = '\0';
                if (strstr(text, "started\n"))
                        said = strdup(text);
        }
        expected = strf("Uid:\t61185\t61185\t61185\t61185\nGid:\t61186\t61186\t61186\t61186\nGroups:\t \n"
                        "SigBlk:\t0000000000000000\nCapPrm:\t0000000000000000\nCapBnd:\t0000000000000000\n"
                        "NoNewPrivs:\t1\n0 1 2 3 31 %s\n/root\nstarted\n", /* 3 is the shell's own pipe */
                        net);
        CHECK_STREQ(said, expected);
        p.fd = b->control;
        CHECK_EQ(poll(&p, 1, 0), 0); /* the shim waits for it, before it tells of QEMU */
        write_text(fd, "go on\n");
        line = bed_line(b);
        CHECK(line && startswith(line, "pid "));
        bed_expect_exit(b, "{\"exited\":0,");
        log = bed_content(b, "qemu.log");
        CHECK(startswith(log, "net:["));
        CHECK(!strstr(log, net) && !strstr(log, "31\n"));
        CHECK(strstr(log, "Groups:\t61187 \n"));
        CHECK_EQ(read(fd, &(char){ 0 }, 1), 0); /* it is gone with QEMU */
}

static void test_helper_of_user(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *net = namespace_of("self"), *out = NULL;
        _cleanup_close_ int fd = add_helper(b, "readlink /proc/self/ns/net >&31; echo; read -r x <&31");

        bed_option(b, "--private-network");
        out = bed_output(b, "readlink /proc/self/ns/net");
        CHECK(startswith(out, "net:[") && !strstr(out, net));
        read_until(fd, net);
}

static void test_helper_fails(void) {
        _cleanup_(bed_freep) Bed *b = bed_new(), *c = bed_new(), *d = bed_new();
        _cleanup_close_ int fd = add_helper(b, "echo words >&2; echo the last words >&2; exit 3"),
                            other = -EBADF;

        CHECK(fd >= 0);
        /* QEMU, which nobody was told of, does not stay behind. */
        bed_start(b, (const char *const[]){ "/bin/sleep", "1000", NULL });
        bed_go(b);
        expect_error(b, "helper /bin/bash ended (status 3): the last words");

        bed_option(c, "--helper=/usr/bin/no-such-helper");
        bed_start(c, (const char *const[]){ "/bin/true", NULL });
        bed_go(c);
        expect_error(c, "helper /usr/bin/no-such-helper: No such file or directory");

        /* The first one does not stay behind. */
        other = add_helper(d, "echo; read -r x <&31");
        bed_option(d, "--helper=/bin/false");
        bed_start(d, (const char *const[]){ "/bin/true", NULL });
        bed_go(d);
        expect_error(d, "helper /bin/false ended (status 1)");
        CHECK_EQ(read(other, &(char){ 0 }, 1), 0);
}

static void test_helper_ends(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_close_ int
                        console = bed_console(b),
                        pidfd = -EBADF,
                        fd = add_helper(b,
                                        "echo $$ >&31; echo; read -r x <&31; echo goodbye >&2; kill -KILL "
                                        "$$");
        struct pollfd p = { .events = POLLIN };
        _cleanup_free_ char *log = NULL;
        char pid[16] = "";

        bed_run(b, "echo ready >&8; read x <&8; exit 6");
        read_until(console, "ready");
        CHECK(read(fd, pid, sizeof(pid) - 1) > 1);
        p.fd = pidfd = pidfd_open(atoi(pid), 0);
        CHECK(pidfd >= 0);
        write_text(fd, "\n");
        CHECK_EQ(poll(&p, 1, -1), 1);
        write_text(console, "\n");
        bed_expect_exit(b, "{\"exited\":6,");
        log = bed_content(b, "qemu.log");
        CHECK_STREQ(log, "vmctl-shim: /bin/bash ended (signal 9): goodbye\n");
}

static void test_qemu(void) {
        _cleanup_(bed_freep) Bed *b = bed_new();
        _cleanup_free_ char *line = NULL, *out = NULL;
        int qmp[2];

        if (access(QEMU, X_OK) < 0) {
                printf("No QEMU here, not tried with it\n");
                return;
        }
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, qmp), 0);
        bed_add_fd(b, qmp[1], 30);
        bed_option(b, "--pass=30");
        bed_start(b,
                        (const char *const[]){ QEMU, "-nodefaults", "-no-user-config", "-display", "none",
                                        "-M", "q35,accel=tcg", "-m", "64", "-S", "-chardev",
                                        "socket,id=serial,fd=8", "-serial", "chardev:serial", "-chardev",
                                        "socket,id=qmp,fd=30", "-mon", "chardev=qmp,mode=control", "-device",
                                        "virtio-rng-pci", "-netdev", "user,id=net", "-device",
                                        "virtio-net-pci,netdev=net", "-sandbox",
                                        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol="
                                        "deny",
                                        NULL });
        bed_go(b);
        line = bed_line(b);
        CHECK(line && startswith(line, "pid "));
        write_text(qmp[0], "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"quit\"}");
        read_until(qmp[0], "SHUTDOWN");
        bed_expect_exit(b, "{\"exited\":0,");
        out = bed_content(b, "qemu.log");
        CHECK_STREQ(out, ""); /* nothing that it missed */
        safe_close(qmp[0]);
}

int main(int argc, char **argv) {
        static const BedCase cases[] = {
                { "end-before-go", test_end_before_go },
                { "other-than-go", test_other_than_go },
                { "exit-code", test_exit_code },
                { "signal", test_signal },
                { "exec-fails", test_exec_fails },
                { "control-closes-early", test_control_closes_early },
                { "signals-to-shim", test_signals_to_shim },
                { "last-words", test_last_words },
                { "bad-options", test_bad_options },
                { "file", test_file },
                { "file-by-path", test_file_by_path },
                { "file-missing", test_file_missing },
                { "file-changed", test_file_changed },
                { "file-modified", test_file_modified },
                { "file-link", test_file_link },
                { "file-other-type", test_file_other_type },
                { "file-access", test_file_access, .user = true },
                { "file-of-owner", test_file_of_owner },
                { "file-before-owner", test_file_before_owner },
                { "identity", test_identity },
                { "shim-identity", test_shim_identity },
                { "descriptors", test_descriptors },
                { "passed-descriptor", test_passed_descriptor },
                { "hand-over", test_hand_over },
                { "sandbox", test_sandbox },
                { "mount-flags", test_mount_flags },
                { "tmp-bound", test_tmp_bound },
                { "shown-paths", test_shown_paths },
                { "private-network", test_private_network },
                { "resolv-conf", test_resolv_conf },
                { "no-trace", test_no_trace },
                { "user-sandbox", test_user_sandbox, .user = true },
                { "user-without-namespaces", test_user_without_namespaces },
                { "helper", test_helper },
                { "helper-of-user", test_helper_of_user, .user = true },
                { "helper-fails", test_helper_fails },
                { "helper-ends", test_helper_ends },
                { "qemu", test_qemu },
        };

        return bed_main(argc, argv, cases, ELEMENTSOF(cases));
}
