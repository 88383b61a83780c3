/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "test-bed.h"
#include "util/fd-util.h"

#define CASE_SECONDS 60 /* under sanitizers and load; few take more than one */
#define FILE_MAX (64 * MIB)

static char shim_dir[] = "/tmp/test-shim-XXXXXX", shim_path[64];

const char *bed_shim(void) {
        return shim_path;
}

static void copy_shim(const char *from) {
        _cleanup_close_ int in = open(from, O_RDONLY | O_CLOEXEC), out = -EBADF;
        _cleanup_free_ char *content = NULL;
        size_t len;

        CHECK(in >= 0);
        CHECK(mkdtemp(shim_dir));
        CHECK_EQ(chmod(shim_dir, 0755), 0);
        (void)snprintf(shim_path, sizeof(shim_path), "%s/vmctl-shim", shim_dir);
        out = open(shim_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
        CHECK(out >= 0);
        CHECK_EQ(fchmod(out, 0755), 0);
        CHECK_EQ(read_all(in, FILE_MAX, &content, &len), 0);
        CHECK_EQ(write_all(out, content, len), 0);
}

/* We are the reaper of what a case leaves behind: each round finds the children of those killed before. */
static int kill_leftovers(void) {
        int n = 0;

        for (;;) {
                _cleanup_free_ char *children = NULL;
                char *rest, *pid;

                CHECK_EQ(read_file_at(AT_FDCWD, "/proc/thread-self/children", 64 * KIB, &children, NULL), 0);
                if (isempty(children))
                        return n;
                rest = children;
                while ((pid = strsep(&rest, " "))) {
                        uint32_t p;

                        if (parse_u32(pid, &p) < 0)
                                continue;
                        (void)kill((pid_t)p, SIGKILL);
                        CHECK_EQ(waitpid((pid_t)p, NULL, 0), (pid_t)p);
                        n++;
                }
        }
}

void bed_become_user(void) {
        CHECK_EQ(setgroups(0, NULL), 0);
        CHECK_EQ(setresgid(BED_UID, BED_UID, BED_UID), 0);
        CHECK_EQ(setresuid(BED_UID, BED_UID, BED_UID), 0);
        CHECK_EQ(prctl(PR_SET_DUMPABLE, 1), 0); /* /proc/self is to be ours again */
}

static bool run_case(const BedCase *c) {
        int status, left;
        pid_t pid;

        pid = fork();
        CHECK(pid >= 0);
        if (pid == 0) {
                (void)alarm(CASE_SECONDS);
                if (c->user)
                        bed_become_user();
                c->run();
                _exit(EXIT_SUCCESS);
        }
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        left = kill_leftovers();
        if (status == 0 && left == 0)
                return true;
        fprintf(stderr, "%s: failed (status %#x, %i processes left behind)\n", c->name, status, left);
        return false;
}

int bed_main(int argc, char **argv, const BedCase *cases, size_t n) {
        size_t failed = 0, run = 0;

        CHECK(argc >= 2);
        if (geteuid() != 0) {
                fprintf(stderr, "Not root, skipping\n");
                return 77;
        }
        CHECK_EQ(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
        copy_shim(argv[1]);
        for (size_t i = 0; i < n; i++) {
                if (argc > 2 && !streq(argv[2], cases[i].name))
                        continue;
                run++;
                if (!run_case(&cases[i]))
                        failed++;
        }
        CHECK_EQ(remove_tree_at(AT_FDCWD, shim_dir), 0);
        printf("%zu of %zu cases failed\n", failed, run);
        return failed == 0 && run > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

static void add_listener(Bed *b, const char *name, int target) {
        _cleanup_free_ char *path = bed_path(b, name);
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
        CHECK_EQ(bind(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        CHECK_EQ(listen(fd, 128), 0);
        bed_add_fd(b, fd, target);
        bed_option(b, "--listen-%s", name);
        bed_option(b, "%i", target);
}

static void add_file(Bed *b, const char *name, const char *option, int target) {
        bed_add_fd(b, bed_open(b, name), target);
        bed_option(b, "--%s", option);
        bed_option(b, "%i", target);
}

Bed *bed_new(void) {
        Bed *b = calloc(1, sizeof(Bed));
        int pair[2];

        CHECK(b);
        strcpy(b->dir, "/tmp/test-bed-XXXXXX");
        CHECK(mkdtemp(b->dir));
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        b->control = pair[0];
        bed_add_fd(b, pair[1], BED_CONTROL);
        bed_option(b, "--control=%i", BED_CONTROL);
        add_file(b, "console.log", "console-log", BED_CONSOLE_LOG);
        add_file(b, "console.log.1", "console-log-old", BED_CONSOLE_LOG_OLD);
        add_file(b, "qemu.log", "qemu-log", BED_QEMU_LOG);
        add_file(b, "exit.json", "exit-record", BED_EXIT_RECORD);
        bed_option(b, "--serial=%i", BED_SERIAL);
        add_listener(b, "console", BED_LISTEN_CONSOLE);
        add_listener(b, "log", BED_LISTEN_LOG);
        return b;
}

Bed *bed_free(Bed *b) {
        if (!b)
                return NULL;
        b->control = safe_close(b->control);
        if (b->pid > 0)
                (void)bed_wait(b);
        for (size_t i = 0; i < b->n_fds; i++)
                safe_close(b->fds[i].fd);
        CHECK_EQ(remove_tree_at(AT_FDCWD, b->dir), 0);
        strv_free(b->options);
        free(b);
        return NULL;
}

void bed_option(Bed *b, const char *format, ...) {
        char *s = NULL;
        va_list ap;

        va_start(ap, format);
        CHECK(vasprintf(&s, format, ap) >= 0);
        va_end(ap);
        CHECK_EQ(strv_push(&b->options, s), 0);
}

void bed_add_fd(Bed *b, int fd, int target) {
        CHECK(fd >= 0);
        CHECK(b->n_fds < ELEMENTSOF(b->fds));
        b->fds[b->n_fds++] = (ChildFd){ fd, target };
}

char *bed_path(const Bed *b, const char *name) {
        char *path = strf("%s/%s", b->dir, name);

        CHECK(path);
        return path;
}

int bed_open(const Bed *b, const char *name) {
        _cleanup_free_ char *path = bed_path(b, name);
        int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

        CHECK(fd >= 0);
        return fd;
}

char *bed_content(const Bed *b, const char *name) {
        _cleanup_free_ char *path = bed_path(b, name);
        char *content;

        CHECK_EQ(read_file_at(AT_FDCWD, path, FILE_MAX, &content, NULL), 0);
        return content;
}

static bool has_option(const Bed *b, const char *prefix) {
        STRV_FOREACH(o, b->options)
                if (startswith(*o, prefix))
                        return true;
        return false;
}

void bed_start(Bed *b, const char *const *command) {
        _cleanup_strv_ char **argv = NULL;
        ChildSpec spec = { .fds = b->fds, .n_fds = b->n_fds };

        CHECK_EQ(strv_extend(&argv, shim_path), 0);
        STRV_FOREACH(o, b->options)
                CHECK_EQ(strv_extend(&argv, *o), 0);
        if (!has_option(b, "--console-log-max"))
                CHECK_EQ(strv_extend(&argv, "--console-log-max=1048576"), 0);
        if (!has_option(b, "--qemu-log-max"))
                CHECK_EQ(strv_extend(&argv, "--qemu-log-max=65536"), 0);
        if (geteuid() == 0 && !has_option(b, "--uid")) {
                CHECK_EQ(strv_extendf(&argv, "--uid=%i", BED_UID), 0);
                CHECK_EQ(strv_extendf(&argv, "--gid=%i", BED_UID), 0);
        }
        CHECK_EQ(strv_extend(&argv, "--"), 0);
        for (; *command; command++)
                CHECK_EQ(strv_extend(&argv, *command), 0);
        spec.argv = argv;
        CHECK_EQ(child_spawn(&spec, &b->pid), 0);
        for (size_t i = 0; i < b->n_fds; i++)
                safe_close(b->fds[i].fd);
        b->n_fds = 0;
}

void bed_go(Bed *b) {
        CHECK_EQ(send(b->control, "g", 1, MSG_NOSIGNAL), 1);
}

char *bed_line(Bed *b) {
        char line[4096];
        size_t n = 0;

        for (;; n++) {
                ssize_t r;

                CHECK(n < sizeof(line));
                r = recv(b->control, line + n, 1, 0);
                CHECK(r >= 0 || errno == ECONNRESET);
                if (r <= 0) {
                        CHECK_EQ(n, 0);
                        return NULL;
                }
                if (line[n] == '\n')
                        return strndup(line, n);
        }
}

int bed_wait(Bed *b) {
        int status;

        CHECK_EQ(waitpid(b->pid, &status, 0), b->pid);
        b->pid = 0;
        CHECK(WIFEXITED(status));
        return WEXITSTATUS(status);
}

void bed_run(Bed *b, const char *script) {
        _cleanup_free_ char *line = NULL;
        uint32_t pid;

        bed_start(b, (const char *const[]){ "/bin/sh", "-c", script, NULL });
        bed_go(b);
        line = bed_line(b);
        if (!line || !startswith(line, "pid ") || parse_u32(line + strlen("pid "), &pid) < 0)
                TEST_FAIL("shim said '%s'", line ?: "(nothing)");
        b->qemu_pid = (pid_t)pid;
}

void bed_expect_exit(Bed *b, const char *record_start) {
        _cleanup_free_ char *line = bed_line(b), *record = NULL;
        const char *said = line ? startswith(line, "exited ") : NULL;

        if (!said || !startswith(said, record_start))
                TEST_FAIL("shim said '%s', expected '%s...'", line ?: "(nothing)", record_start);
        CHECK_EQ(bed_wait(b), 0);
        record = bed_content(b, "exit.json");
        CHECK(strlen(record) == strlen(said) + 1 && startswith(record, said) &&
                        record[strlen(said)] == '\n');
}

char *bed_output(Bed *b, const char *script) {
        bed_run(b, script);
        bed_expect_exit(b, "{\"exited\":0,");
        return bed_content(b, "qemu.log");
}

static int bed_connect(const Bed *b, const char *name) {
        _cleanup_free_ char *path = bed_path(b, name);
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
        CHECK_EQ(connect(fd, (struct sockaddr *)&sa, sizeof(sa)), 0);
        return fd;
}

int bed_console(const Bed *b) {
        return bed_connect(b, "console");
}

int bed_log_silent(const Bed *b) {
        return bed_connect(b, "log");
}

int bed_log(const Bed *b, uint32_t tail, uint32_t flags) {
        LogRequest request = { tail, flags };
        int fd = bed_log_silent(b);

        CHECK_EQ(write_all(fd, &request, sizeof(request)), 0);
        return fd;
}

void read_until(int fd, const char *text) {
        size_t len = strlen(text), matched = 0;

        while (matched < len) {
                char c;

                CHECK_EQ(read(fd, &c, 1), 1);
                matched = c == text[matched] ? matched + 1 : c == text[0];
        }
}

char *read_to_end(int fd, size_t *ret_len) {
        char *text;

        CHECK_EQ(read_all(fd, 256 * MIB, &text, ret_len), 0);
        return text;
}

void write_text(int fd, const char *text) {
        CHECK_EQ(write_all(fd, text, strlen(text)), 0);
}
