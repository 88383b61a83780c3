/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdnoreturn.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bare.h"
#include "service.h"
#include "stats.h"
#include "util/fd-util.h"
#include "util/test.h"
#include "vm/qemu-command.h"

#define CMDLINE_MAX (64 * KIB)
#define TEXT_MAX (64 * KIB)
#define SOURCES_MIN 64 /* above every number that QEMU is promised */
#define FDS_MAX 32
#define DEADLINE_MS 120000 /* of silence; a boot takes seconds even on a busy machine */

struct Bare {
        char *folder;                  /* of the VM */
        char *image, *kernel, *initrd; /* its users' files; NULL: none */
        char *sockets;
        char **qemu; /* the command line */

        struct {
                int source, target;
        } fds[FDS_MAX];
        size_t n_fds;
        unsigned set_members[SET_DISKS]; /* so many descriptors were put in it */

        pid_t pid;
        int pidfd, monitor, serial;
        char text[TEXT_MAX]; /* of the console */
        size_t text_len;
};

static char **read_command_line(uint32_t pid) {
        _cleanup_free_ char *path = strf("/proc/%u/cmdline", pid), *text = NULL;
        char **argv = NULL;
        size_t len;

        CHECK(path && read_file_at(AT_FDCWD, path, CMDLINE_MAX, &text, &len) >= 0);
        for (size_t at = 0; at < len; at += strlen(text + at) + 1)
                CHECK(strv_extend(&argv, text + at) >= 0);
        return argv;
}

Bare *bare_new(const char *vm) {
        Bare *b = calloc(1, sizeof(Bare));

        CHECK(b);
        b->monitor = b->serial = b->pidfd = -EBADF;
        b->folder = service_vm_string(vm, "Folder");
        b->sockets = strdup("/tmp/bench-XXXXXX");
        CHECK(b->sockets && mkdtemp(b->sockets));
        b->image = service_vm_spec_string(vm, "image");
        b->kernel = service_vm_spec_string(vm, "kernel");
        b->initrd = service_vm_spec_string(vm, "initrd");
        b->qemu = read_command_line(service_vm_pid(vm));
        return b;
}

Bare *bare_free(Bare *b) {
        if (!b)
                return NULL;
        (void)rmdir(b->sockets);
        free(b->sockets);
        free(b->folder);
        free(b->image);
        free(b->kernel);
        free(b->initrd);
        strv_free(b->qemu);
        free(b);
        return NULL;
}

static void give(Bare *b, int fd, int target) {
        CHECK(fd >= 0 && target < SOURCES_MIN && b->n_fds < FDS_MAX);
        b->fds[b->n_fds].source = fcntl(fd, F_DUPFD_CLOEXEC, SOURCES_MIN);
        CHECK(b->fds[b->n_fds].source >= 0);
        b->fds[b->n_fds++].target = target;
        safe_close(fd);
}

static int open_file(const char *path, int flags) {
        int fd = path ? open(path, flags | O_CLOEXEC) : -EBADF;

        if (fd < 0)
                TEST_FAIL("%s: %s", path ?: "A file that the VM does not have", strerror(errno));
        return fd;
}

/* A file is known by its set. A set of a file that is written has two descriptors, the writable one first.
 */
static int open_set_member(Bare *b, unsigned set) {
        static const struct {
                const char *name;
                int flags;
        } own[SET_DISKS] = {
                [SET_OVERLAY] = { "overlay.qcow2", O_RDWR },
                [SET_SEED] = { "seed.iso", O_RDONLY },
                [SET_VARS] = { "vars.fd", O_RDWR },
        };
        _cleanup_free_ char *path = NULL;

        if (set == SET_BASE)
                return open_file(b->image, O_RDONLY);
        CHECK(set < SET_DISKS && own[set].name);
        path = strf("%s/%s", b->folder, own[set].name);
        CHECK(path);
        return open_file(path, b->set_members[set]++ == 0 ? own[set].flags : O_RDONLY);
}

static int listen_at(const Bare *b, const char *name) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        CHECK(fd >= 0);
        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/%s", b->sockets, name);
        (void)unlink(sa.sun_path);
        CHECK_EQ(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)), 0);
        CHECK_EQ(listen(fd, 1), 0);
        CHECK_EQ(unlink(sa.sun_path), 0);
        return fd;
}

static int connect_pair(int *ret_ours) {
        int pair[2];

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        *ret_ours = pair[0];
        return pair[1];
}

/* Makes what an argument of QEMU's refers to by number. `option` is the one before it. */
static void provide(Bare *b, const char *option, const char *argument) {
        char name[16];
        unsigned set;
        int target;

        if (sscanf(argument, "fd=%i,set=%u", &target, &set) == 2)
                give(b, open_set_member(b, set), target);
        else if (sscanf(argument, "/proc/self/fd/%i", &target) == 1)
                give(b, open_file(streq(option, "-kernel") ? b->kernel : b->initrd, O_RDONLY), target);
        else if (sscanf(argument, "socket,id=%15[a-z],fd=%i", name, &target) == 2)
                give(b,
                                streq(name, "monitor")                  ? connect_pair(&b->monitor)
                                                : streq(name, "serial") ? connect_pair(&b->serial)
                                                                        : listen_at(b, name),
                                target);
}

static noreturn void execute(const Bare *b, int go) {
        static char *const env[] = { (char *)"PATH=/usr/bin:/bin", (char *)"LANG=C.UTF-8", NULL };
        int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        char word;

        if (go >= 0 && read(go, &word, 1) != 1)
                _exit(1);
        for (int fd = STDIN_FILENO; fd <= STDOUT_FILENO; fd++)
                (void)dup2(null, fd);
        for (size_t i = 0; i < b->n_fds; i++)
                (void)dup2(b->fds[i].source, b->fds[i].target);
        (void)execve(b->qemu[0], b->qemu, env);
        _exit(1);
}

/* In a scope it is executed when that is there, as its memory would be charged elsewhere before. */
static void spawn(Bare *b, bool in_scope) {
        _cleanup_close_ int go = -EBADF, theirs = in_scope ? connect_pair(&go) : -EBADF;

        b->pid = fork();
        CHECK(b->pid >= 0);
        if (b->pid == 0)
                execute(b, theirs);
        if (!in_scope)
                return;
        systemd_make_scope(b->pid);
        CHECK_EQ(write(go, "", 1), 1);
}

/* Greeting, the reply to qmp_capabilities, the reply to query-status. */
static void handshake(int fd) {
        static const char commands[] =
                        "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\"}\n";
        char buf[4 * KIB];
        size_t len = 0;

        CHECK_EQ(write_all(fd, commands, strlen(commands)), 0);
        do {
                ssize_t n = read(fd, buf + len, sizeof(buf) - 1 - len);

                CHECK(n > 0);
                buf[len += (size_t)n] = '\0';
        } while (!strstr(buf, "\"status\":"));
}

double bare_start(Bare *b, bool in_scope) {
        double start;

        b->n_fds = b->text_len = 0;
        b->text[0] = '\0';
        memset(b->set_members, 0, sizeof(b->set_members));
        for (char **a = b->qemu; a[0] && a[1]; a++)
                provide(b, a[0], a[1]);
        start = now_ms();
        spawn(b, in_scope);
        for (size_t i = 0; i < b->n_fds; i++) /* or its end would not be seen */
                safe_close(b->fds[i].source);
        handshake(b->monitor);
        start = now_ms() - start;

        b->pidfd = pidfd_open(b->pid, 0);
        CHECK(b->pidfd >= 0);
        return start;
}

/* The other end must never have to wait for us. The text is kept as far as there is room. */
static bool drain(Bare *b, int fd) {
        char buf[4 * KIB];
        ssize_t n = read(fd, buf, sizeof(buf));

        if (n > 0 && fd == b->serial) {
                size_t kept = MIN((size_t)n, sizeof(b->text) - 1 - b->text_len);

                memcpy(b->text + b->text_len, buf, kept);
                b->text_len += kept;
                b->text[b->text_len] = '\0';
        }
        return n > 0;
}

static void await(Bare *b, const char *text) {
        struct pollfd fds[] = {
                { .fd = b->pidfd, .events = POLLIN },
                { .fd = b->monitor, .events = POLLIN },
                { .fd = b->serial, .events = POLLIN },
        };

        while (!text || !strstr(b->text, text)) {
                CHECK(poll(fds, ELEMENTSOF(fds), DEADLINE_MS) > 0);
                if (fds[0].revents != 0)
                        break;
                for (size_t i = 1; i < ELEMENTSOF(fds); i++)
                        if (fds[i].revents != 0 && !drain(b, fds[i].fd))
                                fds[i].fd = -EBADF;
        }
        CHECK_EQ(!text, fds[0].revents != 0);
}

void bare_await_text(Bare *b, const char *text) {
        await(b, text);
}

static double await_exit(Bare *b, double start) {
        double ms;

        await(b, NULL);
        CHECK_EQ(waitpid(b->pid, NULL, 0), b->pid);
        ms = now_ms() - start;
        b->pidfd = safe_close(b->pidfd);
        b->monitor = safe_close(b->monitor);
        b->serial = safe_close(b->serial);
        return ms;
}

double bare_kill(Bare *b) {
        double start = now_ms();

        CHECK_EQ(kill(b->pid, SIGKILL), 0);
        return await_exit(b, start);
}

double bare_powerdown(Bare *b) {
        static const char command[] = "{\"execute\":\"system_powerdown\"}\n";
        double start = now_ms();

        CHECK_EQ(write_all(b->monitor, command, strlen(command)), 0);
        return await_exit(b, start);
}
