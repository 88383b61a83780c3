/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "helper.h"
#include "util/fd-util.h"

static volatile sig_atomic_t running;  /* its PID; 0: none */
static volatile sig_atomic_t canceled; /* by this signal */

/* Once: a second signal ends us. */
static void on_cancel(int sig) {
        canceled = sig;
        if (running > 0)
                (void)kill((pid_t)running, SIGTERM);
}

static void catch_cancel(struct sigaction before[2]) {
        struct sigaction action = { .sa_handler = on_cancel, .sa_flags = SA_RESTART | SA_RESETHAND };

        (void)sigaction(SIGINT, &action, before);
        (void)sigaction(SIGTERM, &action, before + 1);
}

static void release_cancel(const struct sigaction before[2]) {
        running = 0;
        (void)sigaction(SIGINT, before, NULL);
        (void)sigaction(SIGTERM, before + 1, NULL);
}

static void show(Helper *h, const Json *v) {
        const char *phase = json_get_string(v, "phase");

        if (!phase || free_and_strdup(&h->line.phase, phase) < 0)
                return;
        h->line.done = h->line.total = h->line.speed = 0;
        (void)json_get_unsigned(v, "done", &h->line.done);
        (void)json_get_unsigned(v, "total", &h->line.total);
        (void)json_get_unsigned(v, "speed", &h->line.speed);
        job_line_show(&h->line);
}

/* One of our own names. */
static void take_error(Helper *h, const char *name, const char *message) {
        ErrorCode code = error_code_from_name(name);

        (void)error_set(&h->error, (int)code < 0 ? ERROR_FAILED : code, "%s", message);
}

static void take_line(Helper *h, const char *text) {
        _cleanup_json_ Json *v = NULL;
        const char *error;

        if (json_parse(text, strlen(text), NULL, &v, NULL) < 0)
                return;
        error = json_get_string(v, "error");
        if (error)
                take_error(h, error, json_get_string(v, "message") ?: error);
        if (h->line_read)
                h->line_read(v, h->userdata);
        show(h, v);
        if (json_type(json_get(v, "result")) == JSON_OBJECT) {
                json_free(h->result);
                h->result = TAKE_PTR(v);
        }
}

static int read_lines(Helper *h, int fd) {
        FILE *f = fdopen(fd, "re");
        _cleanup_free_ char *line = NULL;
        size_t size = 0;

        if (!f) {
                safe_close(fd);
                return -errno;
        }
        while (getline(&line, &size, f) >= 0)
                take_line(h, line);
        (void)fclose(f);
        job_line_clear(&h->line);
        return 0;
}

/* 0 when it has done its work; else it is reported. */
static int judge(Helper *h, int status, const char *what) {
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0 && h->result)
                return 0;
        h->canceled = canceled != 0;
        if (h->canceled) {
                ctl_complain(NULL, "Canceled");
                return 128 + canceled;
        }
        if (h->error)
                return ctl_report(h->ctl, h->error, -EIO, "Failed to %s", what);
        if (WIFSIGNALED(status))
                return ctl_complain(NULL, "Failed to %s: %s was ended by signal %i (%s)", what, h->name,
                                WTERMSIG(status), strsignal(WTERMSIG(status)));
        return ctl_complain(
                        NULL, "Failed to %s: %s ended with status %i", what, h->name, WEXITSTATUS(status));
}

static int follow(Helper *h, pid_t pid, int fd, const char *what) {
        int r, status;

        r = read_lines(h, fd);
        if (r < 0)
                (void)kill(pid, SIGKILL);
        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return ctl_report(h->ctl, NULL, -errno, "Failed to wait for %s", h->name);
        return r < 0 ? ctl_report(h->ctl, NULL, r, "Failed to read from %s", h->name)
                     : judge(h, status, what);
}

static int spawn(char *const *argv, const ChildFd *given, size_t n_given, int out, pid_t *ret) {
        ChildFd fds[2 + HELPER_FDS_MAX] = { { out, STDOUT_FILENO }, { STDERR_FILENO, STDERR_FILENO } };
        ChildSpec spec = {
                .argv = argv,
                .envp = environ, /* programs that it runs may have settings of the user's */
                .fds = fds,
                .n_fds = 2 + n_given,
                .flags = CHILD_DIE_WITH_PARENT,
        };

        assert(n_given <= HELPER_FDS_MAX);
        memcpy(fds + 2, given, n_given * sizeof(ChildFd));
        return child_spawn(&spec, ret);
}

int helper_run(Helper *h, char *const *argv, const ChildFd *fds, size_t n_fds, const char *what) {
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        struct sigaction before[2];
        pid_t pid;
        int r;

        if (pipe2(out, O_CLOEXEC) < 0)
                return ctl_report(h->ctl, NULL, -errno, "Failed to run %s", h->name);
        r = spawn(argv, fds, n_fds, out[1], &pid);
        if (r < 0)
                return ctl_report(h->ctl, NULL, r, "Failed to run %s", argv[0]);
        out[1] = safe_close(out[1]);
        if (!h->can_cancel)
                return follow(h, pid, TAKE_FD(out[0]), what);
        running = pid;
        canceled = 0;
        catch_cancel(before);
        r = follow(h, pid, TAKE_FD(out[0]), what);
        release_cancel(before);
        return r;
}

void helper_done(Helper *h) {
        job_line_done(&h->line);
        json_free(h->result);
        error_free(h->error);
}
