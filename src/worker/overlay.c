/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "overlay.h"
#include "util/child.h"
#include "util/fd-util.h"

#define BACKING_NAME_MAX 1023 /* qcow2's */
#define WORDS_MAX (4 * KIB)   /* of what qemu-img says */
#define WORDS_SHOWN 512
#define QEMU_IMG_FD 3
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

struct Overlay {
        pid_t pid; /* 0: reaped */
        int output;
};

Overlay *overlay_free(Overlay *o) {
        if (!o)
                return NULL;
        if (o->pid > 0) {
                (void)kill(o->pid, SIGKILL);
                (void)waitpid(o->pid, NULL, 0);
        }
        safe_close(o->output);
        free(o);
        return NULL;
}

static int find_qemu_img(char **ret, Error **reterr) {
        _cleanup_free_ char *folders = strdup(getenv("PATH") ?: DEFAULT_PATH);
        char *rest = folders, *folder;

        if (!folders)
                return error_set_errno(reterr, -ENOMEM, "Failed to look for qemu-img");
        while ((folder = strsep(&rest, ":"))) {
                _cleanup_free_ char *path = strf("%s/qemu-img", folder);

                if (!path)
                        return error_set_errno(reterr, -ENOMEM, "Failed to look for qemu-img");
                if (*folder == '/' && access(path, X_OK) >= 0) {
                        *ret = TAKE_PTR(path);
                        return 0;
                }
        }
        return error_set(reterr, ERROR_QEMU_MISSING, "There is no qemu-img, which makes the VM's disk");
}

/* -u: the base is not opened, so nothing in it is trusted, and qemu-img needs no right to it. QEMU is told
 * the base's descriptor at each start, so the name in the file is only for people who look at it: it is
 * taken literally where it begins with '/', whatever else is in it. */
static int spawn(const char *program, const OverlaySpec *spec, int output, pid_t *ret_pid) {
        char target[32], size[32];
        const char *argv[16];
        const ChildFd fds[] = { { output, STDOUT_FILENO }, { output, STDERR_FILENO },
                { spec->fd, QEMU_IMG_FD } };
        const ChildSpec child = {
                .argv = (char *const *)argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT | CHILD_NO_NEW_PRIVS,
        };
        size_t n = 0;

        (void)snprintf(target, sizeof(target), "/proc/self/fd/%i", QEMU_IMG_FD);
        (void)snprintf(size, sizeof(size), "%" PRIu64, spec->size);
        argv[n++] = program;
        argv[n++] = "create";
        argv[n++] = "-q";
        argv[n++] = "-f";
        argv[n++] = "qcow2";
        if (spec->base) {
                argv[n++] = "-u";
                argv[n++] = "-F";
                argv[n++] = image_format_to_string(spec->format);
                argv[n++] = "-b";
                argv[n++] = spec->base;
        }
        argv[n++] = target;
        argv[n++] = size;
        argv[n] = NULL;
        return child_spawn(&child, ret_pid);
}

int overlay_start(const OverlaySpec *spec, Overlay **ret, Error **reterr) {
        _cleanup_close_pair_ int pipe_fds[2] = { -EBADF, -EBADF };
        _cleanup_(overlay_freep) Overlay *o = NULL;
        _cleanup_free_ char *program = NULL;
        int r;

        if (spec->base && strlen(spec->base) > BACKING_NAME_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "The disk image's path has %zu bytes, and only %u fit in a qcow2 file: move "
                                "it",
                                strlen(spec->base), BACKING_NAME_MAX);
        r = find_qemu_img(&program, reterr);
        if (r < 0)
                return r;
        o = calloc(1, sizeof(*o));
        if (!o)
                return error_set_errno(reterr, -ENOMEM, "Failed to start qemu-img");
        o->output = -EBADF;
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return error_set_errno(reterr, -errno, "Failed to start qemu-img");
        r = spawn(program, spec, pipe_fds[1], &o->pid);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to start '%s'", program);
        o->output = TAKE_FD(pipe_fds[0]);
        *ret = TAKE_PTR(o);
        return 0;
}

static int set_failed(const char *words, size_t len, int status, Error **reterr) {
        _cleanup_free_ char *shown = NULL;
        const char *prefix = "qemu-img: ";

        while (len > 0 && words[len - 1] == '\n')
                len--;
        if (len > strlen(prefix) && startswith(words, prefix)) {
                words += strlen(prefix);
                len -= strlen(prefix);
        }
        shown = string_escape(words, len, WORDS_SHOWN);
        if (memmem(words, len, "No space left on device", 23) ||
                        memmem(words, len, "Disk quota exceeded", 19))
                return error_set(reterr, ERROR_NO_SPACE, "Not enough space for the VM's disk: %s",
                                shown ?: "");
        if (WIFSIGNALED(status))
                return error_set(reterr, ERROR_FAILED, "qemu-img was ended by signal %i (%s)",
                                WTERMSIG(status), strsignal(WTERMSIG(status)));
        return error_set(reterr, ERROR_FAILED, "qemu-img failed with status %i: %s", WEXITSTATUS(status),
                        shown ?: "");
}

/* Reads to the end whatever the length, since qemu-img would wait in a full pipe. */
static int read_words(int fd, char *buf, size_t size, size_t *ret_len) {
        char rest[256];
        size_t len = 0;

        for (;;) {
                bool full = len == size;
                ssize_t n = read(fd, full ? rest : buf + len, full ? sizeof(rest) : size - len);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        break;
                len += full ? 0 : (size_t)n;
        }
        *ret_len = len;
        return 0;
}

int overlay_finish(Overlay *o, Error **reterr) {
        char words[WORDS_MAX + 1];
        size_t len;
        int status, r;

        r = read_words(o->output, words, WORDS_MAX, &len);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read from qemu-img");
        words[len] = '\0';
        do
                r = waitpid(o->pid, &status, 0);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return error_set_errno(reterr, -errno, "Failed to wait for qemu-img");
        o->pid = 0;
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
                return set_failed(words, len, status, reterr);
        return 0;
}
