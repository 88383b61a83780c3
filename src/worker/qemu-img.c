/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qemu-img.h"
#include "util/child.h"
#include "util/clock.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define WORDS_MAX (4 * KIB) /* of what qemu-img says */
#define WORDS_SHOWN 512
#define ARGS_MAX 24
#define FIRST_FD 3
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

struct QemuImg {
        pid_t pid; /* 0: reaped */
        int output;
        char *what;
        char words[WORDS_MAX + 1]; /* its last lines but progress */
        size_t words_len;
        char line[256]; /* the one that is being read; longer ones come in parts */
        size_t line_len;
};

QemuImg *qemu_img_free(QemuImg *q) {
        if (!q)
                return NULL;
        if (q->pid > 0) {
                (void)kill(q->pid, SIGKILL);
                (void)waitpid(q->pid, NULL, 0);
        }
        safe_close(q->output);
        free(q->what);
        free(q);
        return NULL;
}

static int find_program(char **ret, const char *what, Error **reterr) {
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
        return error_set(reterr, ERROR_QEMU_MISSING, "There is no qemu-img, which makes %s", what);
}

static int spawn(const char *program, const QemuImgSpec *spec, int output, pid_t *ret_pid) {
        const char *argv[ARGS_MAX] = { program };
        ChildFd fds[2 + QEMU_IMG_FDS_MAX] = { { output, STDOUT_FILENO }, { output, STDERR_FILENO } };
        const ChildSpec child = {
                .argv = (char *const *)argv,
                .fds = fds,
                .n_fds = 2 + spec->n_fds,
                .flags = CHILD_DIE_WITH_PARENT | CHILD_NO_NEW_PRIVS,
                .cpu_seconds = spec->cpu_seconds,
                .address_space = spec->address_space,
        };

        for (size_t i = 0; spec->args[i]; i++) {
                if (i + 2 == ELEMENTSOF(argv))
                        return -E2BIG;
                argv[i + 1] = spec->args[i];
        }
        for (size_t i = 0; i < spec->n_fds; i++)
                fds[2 + i] = (ChildFd){ spec->fds[i], FIRST_FD + (int)i };
        return child_spawn(&child, ret_pid);
}

int qemu_img_start(const QemuImgSpec *spec, QemuImg **ret, Error **reterr) {
        _cleanup_close_pair_ int pipe_fds[2] = { -EBADF, -EBADF };
        _cleanup_(qemu_img_freep) QemuImg *q = NULL;
        _cleanup_free_ char *program = NULL;
        int r;

        r = find_program(&program, spec->what, reterr);
        if (r < 0)
                return r;
        q = calloc(1, sizeof(*q));
        if (!q)
                return error_set_errno(reterr, -ENOMEM, "Failed to start qemu-img");
        q->output = -EBADF;
        q->what = strdup(spec->what);
        if (!q->what)
                return error_set_errno(reterr, -ENOMEM, "Failed to start qemu-img");
        if (pipe2(pipe_fds, O_CLOEXEC) < 0)
                return error_set_errno(reterr, -errno, "Failed to start qemu-img");
        r = spawn(program, spec, pipe_fds[1], &q->pid);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to start '%s'", program);
        q->output = TAKE_FD(pipe_fds[0]);
        *ret = TAKE_PTR(q);
        return 0;
}

static int set_failed(const QemuImg *q, int status, Error **reterr) {
        const char *words = q->words, *prefix = "qemu-img: ";
        _cleanup_free_ char *shown = NULL;
        size_t len = q->words_len;

        while (len > 0 && words[len - 1] == '\n')
                len--;
        if (len > strlen(prefix) && startswith(words, prefix)) {
                words += strlen(prefix);
                len -= strlen(prefix);
        }
        shown = string_escape(words, len, WORDS_SHOWN);
        if (memmem(words, len, "No space left on device", 23) ||
                        memmem(words, len, "Disk quota exceeded", 19))
                return error_set(
                                reterr, ERROR_NO_SPACE, "Not enough space for %s: %s", q->what, shown ?: "");
        if (memmem(words, len, "File too large", 14) || (WIFSIGNALED(status) && WTERMSIG(status) == SIGXFSZ))
                return error_set(reterr, ERROR_IMAGE_TOO_LARGE,
                                "There is a bound to a file's size that %s exceeds", q->what);
        if (WIFSIGNALED(status))
                return error_set(reterr, ERROR_FAILED, "qemu-img was ended by signal %i (%s)",
                                WTERMSIG(status), strsignal(WTERMSIG(status)));
        return error_set(reterr, ERROR_FAILED, "qemu-img failed with status %i: %s", WEXITSTATUS(status),
                        shown ?: "");
}

/* "    (12.34/100%)", which is written over by the next with a carriage return. */
static bool parse_percent(const char *line, double *ret) {
        char *end;
        double v;

        line += strspn(line, " ");
        if (*line != '(')
                return false;
        v = strtod(line + 1, &end); /* the locale is C */
        if (end == line + 1 || !streq(end, "/100%)") || !(v >= 0 && v <= 100))
                return false;
        *ret = v;
        return true;
}

static void take_line(QemuImg *q, bool ended, QemuImgPercent on_percent, void *userdata) {
        size_t room = WORDS_MAX - q->words_len, n;
        double percent;

        q->line[q->line_len] = '\0';
        n = MIN(room, q->line_len);
        q->line_len = 0;
        if (on_percent && parse_percent(q->line, &percent)) {
                on_percent(percent, userdata);
                return;
        }
        memcpy(q->words + q->words_len, q->line, n);
        q->words_len += n;
        if (ended && n > 0 && q->words_len < WORDS_MAX)
                q->words[q->words_len++] = '\n';
}

static void take_output(QemuImg *q, const char *buf, size_t len, QemuImgPercent on_percent, void *userdata) {
        for (size_t i = 0; i < len; i++) {
                bool end = buf[i] == '\n' || buf[i] == '\r';

                if (!end)
                        q->line[q->line_len++] = buf[i];
                if (end || q->line_len == sizeof(q->line) - 1)
                        take_line(q, end, on_percent, userdata);
        }
}

/* 1 when there is something to read. */
static int wait_output(QemuImg *q, uint64_t deadline) {
        struct pollfd p = { .fd = q->output, .events = POLLIN };
        uint64_t now = now_usec(), left = deadline > now ? (deadline - now) / USEC_PER_MSEC : 0;
        int r = poll(&p, 1, deadline == 0 ? -1 : (int)MIN(left, (uint64_t)INT32_MAX));

        return r < 0 ? -errno : r;
}

/* To the end whatever the length, since qemu-img would wait in a full pipe. */
static int read_output(QemuImg *q, unsigned seconds_max, QemuImgPercent on_percent, void *userdata,
                Error **reterr) {
        uint64_t deadline = seconds_max == 0 ? 0 : now_usec() + seconds_max * USEC_PER_SEC;
        char buf[4096];

        for (;;) {
                ssize_t n;
                int r = wait_output(q, deadline);

                if (r == -EINTR)
                        continue;
                if (r == 0)
                        return error_set(reterr, ERROR_TIMEOUT, "qemu-img took more than %u seconds for %s",
                                        seconds_max, q->what);
                n = r < 0 ? -1 : read(q->output, buf, sizeof(buf));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "Failed to read from qemu-img");
                if (n == 0) {
                        take_line(q, true, on_percent, userdata);
                        return 0;
                }
                take_output(q, buf, (size_t)n, on_percent, userdata);
        }
}

int qemu_img_finish(QemuImg *q, unsigned seconds_max, QemuImgPercent on_percent, void *userdata,
                Error **reterr) {
        int status, r;

        r = read_output(q, seconds_max, on_percent, userdata, reterr);
        if (r < 0)
                return r;
        q->words[q->words_len] = '\0';
        do
                r = waitpid(q->pid, &status, 0);
        while (r < 0 && errno == EINTR);
        if (r < 0)
                return error_set_errno(reterr, -errno, "Failed to wait for qemu-img");
        q->pid = 0;
        return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : set_failed(q, status, reterr);
}
