/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "child-watch.h"
#include "task.h"
#include "util/fd-util.h"

#define TASK_FDS_MAX 272 /* vmctl-ssh gets a file for each step */

struct Task {
        task_done_t done;
        task_line_t line;
        void *userdata;
        task_gone_t gone;
        void *gone_userdata;
        ChildWatch *child; /* one of the two */
        Launched *launched;
        sd_event_source *output, *deadline;
        int output_fd;
        char *buf;
        size_t len;
        int status; /* as task_done_t has it */
        bool exited, eof;
        bool killed; /* only its end counts now */
};

static void kill_child(Task *t) {
        if (t->launched)
                launched_kill(t->launched);
        child_watch_kill(t->child);
}

Task *task_free(Task *t) {
        if (!t)
                return NULL;
        kill_child(t);
        child_watch_free(t->child);
        launched_free(t->launched);
        sd_event_source_disable_unref(t->output);
        sd_event_source_disable_unref(t->deadline);
        safe_close(t->output_fd);
        free(t->buf);
        free(t);
        return NULL;
}

/* Both ends must be in: the process may exit before its last output was read, and vice versa. */
static void step(Task *t) {
        _cleanup_free_ char *buf = NULL;

        if (!t->exited || !t->eof)
                return;
        t->deadline = sd_event_source_disable_unref(t->deadline);
        buf = TAKE_PTR(t->buf); /* the task may be freed in the callback */
        t->done(t->userdata, t->status, buf ?: "", t->len);
}

/* `code` and `status` as siginfo_t has them */
static void child_ended(Task *t, int error, int code, int status) {
        if (t->killed) {
                if (t->gone)
                        t->gone(t->gone_userdata); /* may free it */
                return;
        }
        t->exited = true;
        t->status = error < 0 ? error : code == CLD_EXITED ? status : -EINTR;
        step(t);
}

static void on_child_end(const siginfo_t *si, void *userdata) {
        child_ended(userdata, 0, si->si_code, si->si_status);
}

static void on_launched_end(const LaunchEnd *end, void *userdata) {
        child_ended(userdata, end->error, end->code, end->status);
}

/* The child may hang in the kernel, so nobody waits for its end but who asks for it with task_kill(). */
static void stop(Task *t) {
        t->output = sd_event_source_disable_unref(t->output);
        t->deadline = sd_event_source_disable_unref(t->deadline);
        t->killed = true;
        kill_child(t);
}

static void give_up(Task *t, int reason) {
        stop(t);
        t->status = reason;
        t->exited = t->eof = true;
        step(t);
}

int task_kill(Task *t, task_gone_t gone, void *userdata) {
        stop(t);
        if (t->launched ? launched_has_ended(t->launched) : child_watch_has_ended(t->child))
                return 0;
        t->gone = gone;
        t->gone_userdata = userdata;
        return 1;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        give_up(userdata, -ETIMEDOUT);
        return 0;
}

static void split_lines(Task *t) {
        char *start = t->buf, *end;

        while ((end = memchr(start, '\n', t->len - (size_t)(start - t->buf)))) {
                *end = '\0';
                t->line(t->userdata, start, (size_t)(end - start));
                start = end + 1;
        }
        t->len -= (size_t)(start - t->buf);
        memmove(t->buf, start, t->len + 1);
}

void task_set_line_handler(Task *t, task_line_t line) {
        t->line = line;
}

static int on_output(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char chunk[4096];
        Task *t = userdata;
        char *grown;
        ssize_t n = read(fd, chunk, sizeof(chunk));

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : (give_up(t, -errno), 0);
        if (n == 0) {
                t->output = sd_event_source_disable_unref(t->output);
                t->eof = true;
                step(t);
                return 0;
        }
        grown = t->len + (size_t)n <= TASK_OUTPUT_MAX ? realloc(t->buf, t->len + (size_t)n + 1) : NULL;
        if (!grown) {
                give_up(t, -EFBIG);
                return 0;
        }
        t->buf = grown;
        memcpy(t->buf + t->len, chunk, (size_t)n);
        t->len += (size_t)n;
        t->buf[t->len] = '\0';
        if (t->line)
                split_lines(t);
        return 0;
}

/* The output, and the time. */
static int attend(Task *t, sd_event *event, uint64_t timeout_usec) {
        int r;

        if (t->output_fd >= 0) {
                r = sd_event_add_io(event, &t->output, t->output_fd, EPOLLIN, on_output, t);
                if (r < 0)
                        return r;
        } else
                t->eof = true;
        if (timeout_usec == TASK_NO_DEADLINE)
                return 0;
        return sd_event_add_time_relative(event, &t->deadline, CLOCK_MONOTONIC, timeout_usec,
                        100 * USEC_PER_MSEC, on_deadline, t);
}

static int watch(Task *t, sd_event *event, pid_t pid, bool leads_group, uint64_t timeout_usec) {
        int r;

        r = child_watch_new(event, pid, leads_group, on_child_end, t, &t->child);
        return r < 0 ? r : attend(t, event, timeout_usec);
}

static int task_new(task_done_t done, void *userdata, Task **ret) {
        Task *t = malloc(sizeof(Task));

        if (!t)
                return -ENOMEM;
        *t = (Task){ .done = done, .userdata = userdata, .output_fd = -EBADF };
        *ret = t;
        return 0;
}

/* What it reads from, and the end of a pipe that it writes to. */
static int make_streams(Task *t, const void *input, size_t len, int *ret_in, int *ret_out) {
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        _cleanup_close_ int in = memfd_with("task-input", input, len);
        int r;

        if (in < 0)
                return in;
        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        r = fd_set_nonblock(out[0], true);
        if (r < 0)
                return r;
        t->output_fd = TAKE_FD(out[0]);
        *ret_in = TAKE_FD(in);
        *ret_out = TAKE_FD(out[1]);
        return 0;
}

int task_run(sd_event *event, const ChildSpec *spec, const void *input, size_t len, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret) {
        _cleanup_(task_freep) Task *t = NULL;
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        ChildFd fds[TASK_FDS_MAX + 3];
        ChildSpec with_io = *spec;
        pid_t pid;
        int r;

        if (spec->n_fds > TASK_FDS_MAX)
                return -E2BIG;
        r = task_new(done, userdata, &t);
        if (r >= 0)
                r = make_streams(t, input, len, &in, &out);
        if (r < 0)
                return r;
        for (size_t i = 0; i < spec->n_fds; i++)
                fds[i] = spec->fds[i];
        fds[spec->n_fds] = (ChildFd){ in, 0 };
        fds[spec->n_fds + 1] = (ChildFd){ out, 1 };
        fds[spec->n_fds + 2] = (ChildFd){ STDERR_FILENO, STDERR_FILENO }; /* complaints go where ours go */
        with_io.fds = fds;
        with_io.n_fds += 3;
        with_io.flags |= CHILD_DIE_WITH_PARENT;
        r = child_spawn(&with_io, &pid);
        if (r < 0)
                return r;
        r = watch(t, event, pid, spec->flags & CHILD_NEW_SESSION, timeout_usec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int task_launch(sd_event *event, Launcher *launcher, const LaunchSpec *spec, const void *input, size_t len,
                uint64_t timeout_usec, task_done_t done, void *userdata, Task **ret) {
        static const LaunchHandlers handlers = { .ended = on_launched_end };
        _cleanup_(task_freep) Task *t = NULL;
        _cleanup_close_ int in = -EBADF, out = -EBADF;
        LaunchFile files[PACKET_FDS_MAX];
        LaunchSpec with_io = *spec;
        int r;

        if (spec->n_files > PACKET_FDS_MAX - 2)
                return -E2BIG;
        r = task_new(done, userdata, &t);
        if (r >= 0)
                r = make_streams(t, input, len, &in, &out);
        if (r < 0)
                return r;
        for (size_t i = 0; i < spec->n_files; i++)
                files[i] = spec->files[i];
        files[with_io.n_files++] = (LaunchFile){ .fd = in, .target = STDIN_FILENO };
        files[with_io.n_files++] = (LaunchFile){ .fd = out, .target = STDOUT_FILENO };
        with_io.files = files;
        r = launcher_run(launcher, &with_io, &handlers, t, &t->launched);
        if (r >= 0)
                r = attend(t, event, timeout_usec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

int task_call(sd_event *event, int (*function)(void *argument), void *argument, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret) {
        _cleanup_(task_freep) Task *t = NULL;
        pid_t parent = getpid(), pid;
        int r;

        r = task_new(done, userdata, &t);
        if (r < 0)
                return r;
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent)
                        _exit(255);
                _exit(function(argument));
        }
        r = watch(t, event, pid, false, timeout_usec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}
