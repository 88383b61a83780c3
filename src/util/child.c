/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "fd-util.h"

#define FD_TARGET_MAX 1024 /* a child's table is small and dense: targets are chosen by us */
#define CHILD_FDS_MAX 320  /* a provisioning of 256 steps with a file each, and a few */

static int limit(int resource, uint64_t value) {
        struct rlimit rl = { value, value };

        return value > 0 && setrlimit(resource, &rl) < 0 ? -errno : 0;
}

static int reset_signals(void) {
        sigset_t none;

        for (int sig = 1; sig < NSIG; sig++)
                (void)signal(sig, SIG_DFL); /* fails for SIGKILL, SIGSTOP and glibc's own two, harmlessly */
        sigemptyset(&none);
        return sigprocmask(SIG_SETMASK, &none, NULL) < 0 ? -errno : 0;
}

/* Sources may stand where targets go, so all are first copied above every target. `report` moves along, and
 * stays open until exec. */
static int arrange_fds(const ChildSpec *spec, int *report) {
        int high[CHILD_FDS_MAX], top = 3, null;

        if (spec->n_fds > CHILD_FDS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < spec->n_fds; i++)
                top = MAX(top, spec->fds[i].target + 1);
        if (top > FD_TARGET_MAX)
                return -EINVAL;
        *report = fcntl(*report, F_DUPFD_CLOEXEC, top);
        if (*report < 0)
                return -errno;
        for (size_t i = 0; i < spec->n_fds; i++) {
                high[i] = fcntl(spec->fds[i].fd, F_DUPFD_CLOEXEC, top);
                if (high[i] < 0)
                        return -errno;
        }
        null = open("/dev/null", O_RDWR | O_CLOEXEC);
        if (null < 0)
                return -errno;
        for (int i = 0; i < 3; i++)
                if (dup2(null, i) < 0)
                        return -errno;
        if (top > 3 && close_range(3, (unsigned)top - 1, 0) < 0)
                return -errno;
        for (size_t i = 0; i < spec->n_fds; i++)
                if (dup2(high[i], spec->fds[i].target) < 0)
                        return -errno;
        return close_range((unsigned)top, ~0U, CLOSE_RANGE_CLOEXEC) < 0 ? -errno : 0;
}

static int prepare(const ChildSpec *spec, pid_t parent, int *report) {
        int r;

        r = arrange_fds(spec, report);
        if (r < 0)
                return r;
        r = reset_signals();
        if (r < 0)
                return r;
        if ((spec->flags & CHILD_NEW_SESSION) && setsid() < 0)
                return -errno;
        if (spec->flags & CHILD_DIE_WITH_PARENT) {
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                        return -errno;
                if (getppid() != parent) /* it died before the signal was armed */
                        return -ESRCH;
        }
        if ((spec->flags & CHILD_NO_NEW_PRIVS) && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -errno;
        r = limit(RLIMIT_CPU, spec->cpu_seconds);
        if (r < 0)
                return r;
        r = limit(RLIMIT_AS, spec->address_space);
        if (r < 0)
                return r;
        return spec->become ? spec->become(spec->userdata) : 0;
}

int child_spawn(const ChildSpec *spec, pid_t *ret_pid) {
        static char *const default_env[] = {
                (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                (char *)"LANG=C.UTF-8", NULL
        };
        _cleanup_close_pair_ int report[2] = { -EBADF, -EBADF };
        pid_t parent = getpid(), pid;
        ssize_t n;
        int r;

        if (pipe2(report, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                int w = report[1];

                r = prepare(spec, parent, &w);
                if (r >= 0) {
                        execve(spec->argv[0], spec->argv, spec->envp ?: default_env);
                        r = -errno;
                }
                (void)write_all(w, &r, sizeof(r));
                _exit(127);
        }
        report[1] = safe_close(report[1]);
        do
                n = read(report[0], &r, sizeof(r));
        while (n < 0 && errno == EINTR);
        if (n == sizeof(r)) {
                (void)waitpid(pid, NULL, 0);
                return r;
        }
        *ret_pid = pid;
        return 0;
}
