/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "task.h"
#include "test-record-faults.h"
#include "util/fd-util.h"
#include "util/test.h"

Faults *faults;

void faults_init(void) {
        faults = mmap(NULL, sizeof(Faults), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        CHECK(faults != MAP_FAILED);
        *faults = (Faults){ .countdown = NO_FAULT, .gate = -1 };
}

static bool fails(void) {
        if (faults->countdown == NO_FAULT || --faults->countdown >= 0)
                return false;
        faults->countdown = NO_FAULT;
        faults->happened = true;
        return true;
}

#define WRAP(type, name, failure, error, parameters, ...) \
        type __real_##name parameters;                    \
        type __wrap_##name parameters;                    \
        type __wrap_##name parameters {                   \
                if (fails()) {                            \
                        errno = (error);                  \
                        return (failure);                 \
                }                                         \
                return __real_##name(__VA_ARGS__);        \
        }                                                 \
        _Static_assert(1, "")

WRAP(void *, malloc, NULL, ENOMEM, (size_t n), n);
WRAP(void *, calloc, NULL, ENOMEM, (size_t n, size_t size), n, size);
WRAP(void *, realloc, NULL, ENOMEM, (void *p, size_t n), p, n);
WRAP(void *, reallocarray, NULL, ENOMEM, (void *p, size_t n, size_t size), p, n, size);
WRAP(char *, strdup, NULL, ENOMEM, (const char *s), s);
WRAP(pid_t, fork, -1, EAGAIN, (void), );
WRAP(int, renameat, -1, EIO, (int a, const char *from, int b, const char *to), a, from, b, to);
WRAP(int, mkdirat, -1, ENOSPC, (int fd, const char *name, mode_t mode), fd, name, mode);
WRAP(int, fsync, -1, EIO, (int fd), fd);
WRAP(ssize_t, write, -1, ENOSPC, (int fd, const void *p, size_t n), fd, p, n);
WRAP(int, sd_event_add_defer, -ENOMEM, ENOMEM,
                (sd_event * e, sd_event_source **ret, sd_event_handler_t f, void *userdata), e, ret, f,
                userdata);
WRAP(int, sd_event_add_child, -ENOMEM, ENOMEM,
                (sd_event * e, sd_event_source **ret, pid_t pid, int options, sd_event_child_handler_t f,
                                void *userdata),
                e, ret, pid, options, f, userdata);

int __real_openat64(int dir, const char *name, int flags, ...);
int __wrap_openat64(int dir, const char *name, int flags, ...);
int __wrap_openat64(int dir, const char *name, int flags, ...) {
        mode_t mode = 0;
        va_list ap;

        if (flags & O_CREAT) {
                va_start(ap, flags);
                mode = va_arg(ap, mode_t);
                va_end(ap);
        }
        if (fails()) {
                errno = EMFILE;
                return -1;
        }
        return __real_openat64(dir, name, flags, mode);
}

int __real_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags);
int __wrap_unlinkat(int dir, const char *name, int flags) {
        gate_wait(faults->gate);
        return __real_unlinkat(dir, name, flags);
}

int __real_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig);
int __wrap_kill(pid_t pid, int sig) {
        return faults->hung ? 0 : __real_kill(pid, sig);
}

int __real_task_call(sd_event *event, int (*function)(void *), void *argument, uint64_t timeout,
                task_done_t done, void *userdata, Task **ret);
int __wrap_task_call(sd_event *event, int (*function)(void *), void *argument, uint64_t timeout,
                task_done_t done, void *userdata, Task **ret);
int __wrap_task_call(sd_event *event, int (*function)(void *), void *argument, uint64_t timeout,
                task_done_t done, void *userdata, Task **ret) {
        return __real_task_call(event, function, argument, faults->late ? 1 : timeout, done, userdata, ret);
}

void gate_wait(int gate) {
        char c;

        while (gate >= 0 && read(gate, &c, 1) < 0 && errno == EINTR)
                ;
}

Gate gate_new(void) {
        int fds[2];

        CHECK(pipe2(fds, O_CLOEXEC) >= 0);
        return (Gate){ fds[0], fds[1] };
}

void gate_open(Gate *g) {
        CHECK_EQ(__real_write(g->in, "0123456789", 10),
                        10); /* children hold `in`, too: an end does not come */
        g->in = safe_close(g->in);
        g->out = safe_close(g->out);
}
