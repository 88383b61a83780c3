/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "privileges.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define WORDS_CHUNK (4 * KIB)
#define WORDS_DRAIN_MAX (256 * KIB) /* more than a pipe holds when it ends */

/* QEMU's groups are for its devices. */
static int become(void *userdata) {
        Options o = *(const Options *)userdata;

        o.n_groups = 0;
        return privileges_drop(&o, NULL);
}

static int spawn(Helper *h, const Options *o, const OptionHelper *def, int ready, int output) {
        ChildFd fds[OPTION_FDS_MAX + 2] = { { ready, STDOUT_FILENO }, { output, STDERR_FILENO } };
        const ChildSpec spec = {
                .argv = def->argv,
                .fds = fds,
                .n_fds = def->fds.n + 2,
                .flags = CHILD_NEW_SESSION,
                .become = become,
                .userdata = (void *)o,
        };

        for (size_t i = 0; i < def->fds.n; i++)
                fds[i + 2] = (ChildFd){ def->fds.fd[i], def->fds.fd[i] };
        return child_spawn(&spec, &h->pid);
}

int helper_start(Helper *h, const Options *o, OptionHelper *def, Error **reterr_error) {
        _cleanup_close_pair_ int ready[2] = { -EBADF, -EBADF }, output[2] = { -EBADF, -EBADF };
        int r = 0;

        h->path = def->argv[0];
        if (pipe2(ready, O_CLOEXEC) < 0 || pipe2(output, O_CLOEXEC) < 0)
                r = -errno;
        if (r >= 0)
                r = fd_set_nonblock(output[0], true);
        /* passt opens it anew, by its name in /proc */
        if (r >= 0 && o->has_identity && fchown(ready[1], o->uid, o->gid) < 0)
                r = -errno;
        if (r >= 0)
                r = spawn(h, o, def, ready[1], output[1]);
        for (size_t i = 0; i < def->fds.n; i++) /* the other ends are to see when it closes them */
                safe_close(def->fds.fd[i]);
        def->fds.n = 0;
        if (r < 0)
                return error_set(reterr_error, ERROR_TOOL_MISSING, "%s: %s", h->path, strerror(-r));
        h->ready = TAKE_FD(ready[0]);
        h->output = TAKE_FD(output[0]);
        h->pidfd = pidfd_open(h->pid, 0);
        return h->pidfd < 0 ? error_set_errno(reterr_error, -errno, "Failed to watch '%s'", h->path) : 0;
}

bool helper_listen(Helper *h) {
        char buf[WORDS_CHUNK], *line;
        ssize_t n;

        if (h->output < 0)
                return false;
        n = read(h->output, buf, sizeof(buf) - 1);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) {
                h->output = safe_close(h->output);
                return false;
        }
        while (n > 0 && buf[n - 1] == '\n')
                n--;
        buf[n] = '\0';
        line = strrchr(buf, '\n');
        if (n > 0)
                (void)snprintf(h->words, sizeof(h->words), "%.*s", HELPER_WORDS_MAX - 1,
                                line ? line + 1 : buf);
        return true;
}

static void hear_out(Helper *h) {
        for (size_t i = 0; i < WORDS_DRAIN_MAX / WORDS_CHUNK && helper_listen(h); i++)
                ;
}

static void done(Helper *h) {
        h->pid = 0;
        h->pidfd = safe_close(h->pidfd);
        h->ready = safe_close(h->ready);
        h->output = safe_close(h->output);
}

int helper_reap(Helper *h, char **ret_text) {
        siginfo_t si = {};
        char *text;
        int r;

        r = waitid(P_PID, (id_t)h->pid, &si, WEXITED) < 0 ? -errno : 0;
        hear_out(h);
        text = strf("%s ended (%s %i)%s%s", h->path, si.si_code == CLD_EXITED ? "status" : "signal",
                        si.si_status, h->words[0] ? ": " : "", h->words);
        done(h);
        if (r < 0 || !text) {
                free(text);
                return r < 0 ? r : -ENOMEM;
        }
        *ret_text = text;
        return 0;
}

int helper_await(Helper *h, Error **reterr_error) {
        struct pollfd fds[] = { { .fd = h->ready, .events = POLLIN }, { .fd = h->pidfd, .events = POLLIN } };
        _cleanup_free_ char *text = NULL;
        char buf[64];
        ssize_t n;

        while (poll(fds, ELEMENTSOF(fds), -1) < 0)
                if (errno != EINTR)
                        return error_set_errno(reterr_error, -errno, "Failed to wait for '%s'", h->path);
        n = fds[0].revents & POLLIN ? read(h->ready, buf, sizeof(buf)) : 0;
        h->ready = safe_close(h->ready);
        if (n > 0) {
                hear_out(h); /* how it got ready is not what it may end of */
                h->words[0] = '\0';
                return 0;
        }
        if (helper_reap(h, &text) < 0)
                return error_set_errno(reterr_error, -ECHILD, "Failed to wait for '%s'", h->path);
        return error_set(reterr_error, ERROR_TOOL_MISSING, "%s", text);
}

void helper_end(Helper *h) {
        if (h->pid > 0) {
                (void)kill(h->pid, SIGKILL); /* ours until we reap it */
                (void)waitid(P_PID, (id_t)h->pid, &(siginfo_t){}, WEXITED);
        }
        done(h);
}
