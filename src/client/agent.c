/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "agent.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/log.h"

#define AGENT_PATH "/usr/bin/pkttyagent"
#define NOTIFY_FD 3

/* Registration is a call to polkitd; beyond this the question will not come anyway. */
#define READY_TIMEOUT_MSEC 5000

static bool makes_sense(void) {
        return geteuid() != 0 && isatty(STDIN_FILENO) && isatty(STDERR_FILENO) &&
                        access(AGENT_PATH, X_OK) >= 0;
}

static int spawn(int notify_fd, pid_t *ret) {
        char pid[16], fd[16];
        /* The session's own agent, with a window, comes first; where there is no session, polkit passes over
         * agents that stand back like this. */
        char *fallback = sd_pid_get_session(0, NULL) >= 0 ? (char *)"--fallback" : NULL;
        char *argv[] = { (char *)AGENT_PATH, (char *)"--notify-fd", fd, (char *)"--process", pid, fallback,
                NULL };
        /* Standard output stays ours: who reads it from a pipe waits for its end. */
        const ChildFd fds[] = {
                { STDIN_FILENO, STDIN_FILENO },
                { STDERR_FILENO, STDOUT_FILENO },
                { STDERR_FILENO, STDERR_FILENO },
                { notify_fd, NOTIFY_FD },
        };
        const ChildSpec spec = {
                .argv = argv,
                .envp = environ,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT,
        };

        (void)snprintf(pid, sizeof(pid), "%i", getpid());
        (void)snprintf(fd, sizeof(fd), "%i", NOTIFY_FD);
        return child_spawn(&spec, ret);
}

void agent_start(Agent *a) {
        _cleanup_close_pair_ int notify[2] = { -EBADF, -EBADF };
        struct pollfd p;
        int r;

        if (a->tried || !makes_sense())
                return;
        a->tried = true;
        if (pipe2(notify, O_CLOEXEC) < 0)
                return;
        r = spawn(notify[1], &a->pid);
        if (r < 0) {
                log_debug_errno(r, "Failed to start " AGENT_PATH ", ignoring: %m");
                return;
        }
        notify[1] = safe_close(notify[1]);
        p = (struct pollfd){ .fd = notify[0] };
        while (poll(&p, 1, READY_TIMEOUT_MSEC) < 0 && errno == EINTR)
                ;
}

void agent_stop(Agent *a) {
        if (a->pid <= 0)
                return;
        /* It is our child and not yet waited for, so the number cannot mean another process. */
        (void)kill(a->pid, SIGTERM);
        (void)kill(a->pid, SIGCONT);
        (void)waitpid(a->pid, NULL, 0);
        a->pid = 0;
}
