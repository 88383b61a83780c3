/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Three things tell of a process's end, in any order: the shim's pidfd, QEMU's pidfd, and the monitor's end
 * of file. Only when all three are in is it over; step_end() alone decides. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "process.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define CONTROL_LINE_MAX (4 * KIB) /* the shim's reports are one short line each */
#define EXIT_RECORD_MAX (4 * KIB)
#define STAT_MAX (4 * KIB)
/* From QEMU's end to the record of it. It takes milliseconds, but a host may be busy. */
#define SHIM_PATIENCE (5 * USEC_PER_SEC)
#define GREETING_PATIENCE (1 * USEC_PER_SEC) /* QEMU greets within milliseconds */

struct Process {
        sd_event *event;    /* borrowed */
        Launcher *launcher; /* borrowed */
        const ProcessHandlers *handlers;
        void *userdata;
        char *unit;
        uint64_t timeout; /* usec, for the greeting */

        pid_t shim_pid, qemu_pid;
        uint64_t shim_started;
        int shim_fd, qemu_fd; /* pidfds */
        int control_fd, monitor_fd, runtime_fd;
        Launched *launched; /* NULL: it was taken over */
        sd_event_source *shim_source, *qemu_source, *control_source, *silence, *end_source;

        Qmp *qmp;
        uint64_t greeting_due; /* CLOCK_MONOTONIC usec, for qmp.sock; 0: that is not what we are connected to
                                */
        char line[CONTROL_LINE_MAX];
        size_t line_len;
        bool shim_gone, qemu_gone;
        bool gone_ahead;
        int pending_signal; /* for a QEMU that the shim is about to name */
};

Process *process_free(Process *p) {
        if (!p)
                return NULL;
        launched_free(p->launched);
        sd_event_source_disable_unref(p->shim_source);
        sd_event_source_disable_unref(p->qemu_source);
        sd_event_source_disable_unref(p->control_source);
        sd_event_source_disable_unref(p->silence);
        sd_event_source_disable_unref(p->end_source);
        qmp_free(p->qmp);
        safe_close(p->shim_fd);
        safe_close(p->qemu_fd);
        safe_close(p->control_fd);
        safe_close(p->monitor_fd);
        safe_close(p->runtime_fd);
        free(p->unit);
        free(p);
        return NULL;
}

static int process_new(sd_event *event, Launcher *launcher, const char *unit,
                const ProcessHandlers *handlers, void *userdata, Process **ret) {
        Process *p = malloc(sizeof(Process));

        if (!p)
                return -ENOMEM;
        *p = (Process){
                .event = event,
                .launcher = launcher,
                .handlers = handlers,
                .userdata = userdata,
                .unit = strdup(unit),
                .shim_fd = -EBADF,
                .qemu_fd = -EBADF,
                .control_fd = -EBADF,
                .monitor_fd = -EBADF,
                .runtime_fd = -EBADF,
        };
        if (!p->unit)
                return process_free(p), -ENOMEM;
        *ret = p;
        return 0;
}

/* Fields 3 and 22, counted behind the command name, which may hold anything but ends with the last
 * parenthesis. */
static int read_stat(pid_t pid, char *ret_state, uint64_t *ret_started) {
        _cleanup_free_ char *name = strf("/proc/%i/stat", (int)pid), *text = NULL;
        unsigned long long v;
        const char *rest;
        char state;
        int r;

        if (!name)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, name, STAT_MAX, &text, NULL);
        if (r < 0)
                return r == -ENOENT ? -ESRCH : r;
        rest = strrchr(text, ')');
        if (!rest ||
                        sscanf(rest + 1,
                                        " %c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d "
                                        "%*d %*d %*d %llu",
                                        &state, &v) != 2)
                return -EBADMSG;
        *ret_state = state;
        *ret_started = v;
        return 0;
}

int process_start_time(pid_t pid, uint64_t *ret) {
        char state;

        return read_stat(pid, &state, ret);
}

/* What is stopped says so. It may be stopped later all the same, or wait for a disk: whoever reads what it
 * sends has a deadline of their own. */
ShimState process_shim_state(const Process *p) {
        uint64_t started;
        char state;

        if (p->shim_gone || p->qemu_pid == 0 || read_stat(p->shim_pid, &state, &started) < 0)
                return SHIM_GONE;
        return state == 'T' || state == 't' ? SHIM_STOPPED : SHIM_RUNNING;
}

static void read_end(Process *p, ProcessEnd *ret) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ Json *doc = NULL;
        int64_t code;
        size_t len;

        *ret = (ProcessEnd){};
        if (read_file_at(p->runtime_fd, "exit.json", EXIT_RECORD_MAX, &text, &len) < 0 || len == 0 ||
                        json_parse(text, len, NULL, &doc, NULL) < 0)
                return;
        ret->oom = json_get_boolean(doc, "oom") == 1;
        ret->signaled = json_integer(json_get(doc, "signal"), &code) >= 0;
        if (!ret->signaled && json_integer(json_get(doc, "exited"), &code) < 0)
                return;
        ret->code = (int)code;
        ret->known = true;
}

static int on_end(sd_event_source *s, void *userdata) {
        Process *p = userdata;
        ProcessEnd end;

        p->end_source = sd_event_source_disable_unref(p->end_source);
        read_end(p, &end);
        p->handlers->ended(p, &end, p->userdata);
        return 0;
}

/* Reported from a source of its own, so that what called us has returned when the process is freed. */
static void step_end(Process *p) {
        if (!p->shim_gone || p->qemu_fd >= 0 || p->qmp || p->end_source)
                return;
        if (sd_event_add_defer(p->event, &p->end_source, on_end, p) < 0)
                log_error("Out of memory: the end of '%s' goes unnoticed", p->unit);
}

static bool has_exited(int pidfd) {
        struct pollfd p = { .fd = pidfd, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

/* Told once, whoever says it first: a shim that QEMU has made its own may say so as often as it likes. */
static void shim_ended(Process *p) {
        if (p->shim_gone)
                return;
        p->shim_gone = true;
        if (p->qemu_fd >= 0 && !has_exited(p->qemu_fd))
                p->handlers->shim_lost(p, p->userdata);
        p->silence = sd_event_source_disable_unref(p->silence);
        p->shim_source = sd_event_source_disable_unref(p->shim_source);
        p->shim_fd = safe_close(p->shim_fd);
        step_end(p);
}

static int on_shim_pidfd(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        shim_ended(userdata);
        return 0;
}

static void kill_shim(const Process *p) {
        int r = launcher_signal(p->launcher, p->shim_fd, p->unit, SIGKILL);

        if (r < 0)
                log_warning_errno(r, "Cannot kill the shim of '%s': %m", p->unit);
}

/* Killed, it may still hang in the kernel, on the disk of its logs. */
static int on_silence(sd_event_source *s, uint64_t usec, void *userdata) {
        Process *p = userdata;

        kill_shim(p);
        p->handlers->shim_silent(p, p->userdata);
        shim_ended(p);
        return 0;
}

/* The shim is to tell how it ended. It has QEMU's user ID, and so may have been stopped by it. */
static void qemu_ended(Process *p) {
        p->qemu_gone = true;
        p->qemu_source = sd_event_source_disable_unref(p->qemu_source);
        p->qemu_fd = safe_close(p->qemu_fd);
        if (!p->shim_gone && !p->silence &&
                        sd_event_add_time_relative(p->event, &p->silence, CLOCK_MONOTONIC, SHIM_PATIENCE, 0,
                                        on_silence, p) < 0)
                kill_shim(p);
        step_end(p);
}

static int on_qemu_pidfd(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        qemu_ended(userdata);
        return 0;
}

static void on_monitor_ready(Qmp *q, void *userdata) {
        Process *p = userdata;

        p->handlers->monitor_ready(p, p->userdata);
}

static void on_monitor_event(Qmp *q, const char *name, const Json *data, uint64_t usec, void *userdata) {
        Process *p = userdata;

        p->handlers->monitor_event(p, name, data, p->userdata);
}

static void on_monitor_closed(Qmp *q, const Error *error, void *userdata) {
        Process *p = userdata;

        p->qmp = qmp_free(p->qmp);
        if (!p->shim_gone)
                p->handlers->monitor_lost(p, error, p->userdata);
        step_end(p);
}

static const QmpHandlers monitor_handlers = {
        .ready = on_monitor_ready,
        .event = on_monitor_event,
        .closed = on_monitor_closed,
};

/* The number comes from the shim, which has no more rights than its guest's QEMU: it is believed only for a
 * process in the same scope. */
static int watch_qemu(Process *p, pid_t pid) {
        _cleanup_free_ char *unit = NULL;
        _cleanup_close_ int fd = pidfd_open(pid, 0);
        int r;

        if (fd < 0)
                return -errno;
        r = cgroup_unit_of_pid(pid, &unit);
        if (r < 0)
                return has_exited(fd) ? -ESRCH : r;
        if (!streq(unit, p->unit)) /* what waits to be reaped may be in no group any more */
                return has_exited(fd) ? -ESRCH : -EPERM;
        r = sd_event_add_io(p->event, &p->qemu_source, fd, EPOLLIN, on_qemu_pidfd, p);
        if (r < 0)
                return r;
        p->qemu_fd = TAKE_FD(fd);
        p->qemu_pid = pid;
        if (p->pending_signal != 0)
                (void)process_signal(p, p->pending_signal);
        return 0;
}

static void on_pid(Process *p, const char *text) {
        bool is_gone;
        uint32_t pid;
        int r;

        if (p->qemu_pid > 0 || parse_u32(text, &pid) < 0 || pid < 2 || pid > INT32_MAX)
                return;
        r = watch_qemu(p, (pid_t)pid);
        if (r < 0 && r != -ESRCH) {
                log_error_errno(r, "The shim of '%s' names PID %s, which is not its QEMU: %m", p->unit,
                                text);
                return;
        }
        is_gone = r < 0;
        r = qmp_new(p->event, TAKE_FD(p->monitor_fd), 0, p->timeout, &monitor_handlers, p, &p->qmp);
        if (r < 0)
                log_error_errno(r, "Cannot talk to QEMU of '%s': %m", p->unit);
        if (is_gone)
                qemu_ended(p);
        p->handlers->executed(p, p->userdata);
}

static void on_launch_error(Process *p, const char *text) {
        static const struct {
                const char *kind;
                ErrorCode code;
                const char *message;
        } table[] = {
                { "missing ", ERROR_IMAGE_MISSING, "Cannot open the file %s" },
                { "changed ", ERROR_IMAGE_CHANGED,
                                "The file is not the one that the VM was created from: %s" },
                { "access ", ERROR_IMAGE_UNREADABLE, "The VM's owner may not read the file %s" },
                { "exec ", ERROR_QEMU_MISSING, "QEMU cannot be executed: %s" },
                { "helper ", ERROR_QEMU_FAILED, "What QEMU needs beside it does not run: %s" },
                { "system ", ERROR_QEMU_FAILED, "QEMU cannot be set up: %s" },
        };
        _cleanup_free_ char *shown = string_escape(text, strlen(text), CONTROL_LINE_MAX);
        _cleanup_error_ Error *e = NULL;

        for (size_t i = 0; shown && i < ELEMENTSOF(table); i++) {
                const char *rest = startswith(shown, table[i].kind), *hole = strstr(table[i].message, "%s");

                if (!rest)
                        continue;
                (void)error_set(&e, table[i].code, "%.*s%s%s", (int)(hole - table[i].message),
                                table[i].message, rest, hole + 2);
                break;
        }
        if (!e)
                (void)error_set(&e, ERROR_QEMU_FAILED, "%s", shown ?: "out of memory");
        p->handlers->launch_failed(p, e, p->userdata);
}

static void on_modified(Process *p, const char *path) {
        _cleanup_free_ char *shown = string_escape(path, strlen(path), CONTROL_LINE_MAX);

        if (shown)
                p->handlers->image_modified(p, shown, p->userdata);
}

static void on_line(Process *p, char *line) {
        const char *rest;

        if ((rest = startswith(line, "pid ")))
                on_pid(p, rest);
        else if ((rest = startswith(line, "error ")))
                on_launch_error(p, rest);
        else if ((rest = startswith(line, "modified ")))
                on_modified(p, rest);
        else if (startswith(line, "exited "))
                shim_ended(p); /* what it still does is to hand the rest of the log to slow readers */
}

static int on_control(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Process *p = userdata;
        ssize_t n = read(fd, p->line + p->line_len, sizeof(p->line) - 1 - p->line_len);
        char *end;

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                p->control_source = sd_event_source_disable_unref(p->control_source);
                p->control_fd = safe_close(p->control_fd);
                return 0;
        }
        p->line_len += (size_t)n;
        p->line[p->line_len] = '\0';
        while ((end = memchr(p->line, '\n', p->line_len))) {
                *end = '\0';
                on_line(p, p->line);
                p->line_len -= (size_t)(end + 1 - p->line);
                memmove(p->line, end + 1, p->line_len + 1);
        }
        if (p->line_len == sizeof(p->line) - 1)
                p->line_len = 0; /* no report is that long: a broken shim, whose end is noticed all the same
                                  */
        return 0;
}

static int watch_shim(Process *p, int fd) {
        int r;

        r = sd_event_add_io(p->event, &p->shim_source, fd, EPOLLIN, on_shim_pidfd, p);
        if (r >= 0)
                p->shim_fd = fd;
        return r;
}

/* Without the go-ahead the shim ends by itself when the control socket closes. One that has ended already,
 * so that nobody can name it, is not there for another instance either. */
static void on_launched(pid_t pid, int pidfd, void *userdata) {
        _cleanup_close_ int fd = pidfd;
        Process *p = userdata;
        int r;

        p->shim_pid = pid;
        (void)process_start_time(pid, &p->shim_started);
        r = watch_shim(p, fd);
        if (r < 0) {
                log_error_errno(r, "Cannot watch the shim of '%s': %m", p->unit);
                launched_kill(p->launched);
                return;
        }
        TAKE_FD(fd);
        p->handlers->launched(p, p->userdata);
}

/* What is watched tells of its end by itself. */
static void on_launched_end(const LaunchEnd *end, void *userdata) {
        _cleanup_error_ Error *e = NULL;
        Process *p = userdata;

        if (p->shim_fd >= 0 || p->shim_gone)
                return;
        if (end->error == -ECONNRESET)
                (void)error_set(&e, ERROR_LAUNCHER_LOST,
                                "vmctl-launch, which executes vmctl-shim, was lost");
        else
                (void)error_set_errno(
                                &e, end->error < 0 ? end->error : -ECHILD, "Cannot execute vmctl-shim");
        p->handlers->launch_failed(p, e, p->userdata);
        shim_ended(p);
}

int process_launch(sd_event *event, Launcher *launcher, Launch *launch, const char *unit,
                uint64_t timeout_usec, const ProcessHandlers *handlers, void *userdata, Process **ret,
                Error **reterr) {
        static const LaunchHandlers launch_handlers = { .started = on_launched, .ended = on_launched_end };
        _cleanup_(launch_freep) Launch *l = launch;
        _cleanup_(process_freep) Process *p = NULL;
        const LaunchSpec spec = {
                .program = LAUNCH_SHIM,
                .options = l->options,
                .files = l->files,
                .n_files = l->n_files,
                .uid = l->uid,
                .kvm = l->kvm,
        };
        int r;

        r = process_new(event, launcher, unit, handlers, userdata, &p);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot start QEMU");
        p->timeout = timeout_usec;
        p->control_fd = TAKE_FD(l->control_fd);
        p->monitor_fd = TAKE_FD(l->monitor_fd);
        p->runtime_fd = TAKE_FD(l->runtime_fd);
        r = fd_set_nonblock(p->control_fd, true);
        if (r >= 0)
                r = sd_event_add_io(event, &p->control_source, p->control_fd, EPOLLIN, on_control, p);
        if (r >= 0)
                r = launcher_run(launcher, &spec, &launch_handlers, p, &p->launched);
        if (r < 0)
                return launcher_set_error(reterr, r, "execute vmctl-shim");
        *ret = TAKE_PTR(p);
        return 0;
}

uint64_t process_shim_id(const Process *p) {
        return launched_id(p->launched);
}

int process_go(Process *p) {
        int r;

        if (p->control_fd < 0)
                return -ESRCH;
        r = write_all(p->control_fd, "g", 1);
        p->gone_ahead = r >= 0;
        return r;
}

void process_identity(const Process *p, ProcessIdentity *ret) {
        *ret = (ProcessIdentity){
                .shim_pid = p->shim_pid, .qemu_pid = p->qemu_pid, .shim_started = p->shim_started
        };
}

static int attach_shim(Process *p, const ProcessIdentity *id) {
        _cleanup_close_ int fd = pidfd_open(id->shim_pid, 0);
        uint64_t started;
        int r;

        if (fd < 0)
                return -errno;
        r = process_start_time(id->shim_pid, &started);
        if (r < 0)
                return r;
        if (started != id->shim_started)
                return -ESRCH;
        r = watch_shim(p, fd);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
}

/* One person at a time can have this monitor: while somebody else has it, the connection waits in its queue,
 * and QEMU is simply not attached. So no deadline. */
static int connect_monitor(Process *p) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%i/qmp.sock", p->runtime_fd);
        if (connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0)
                return -errno;
        (void)sd_event_now(p->event, CLOCK_MONOTONIC, &p->greeting_due);
        p->greeting_due += GREETING_PATIENCE;
        return qmp_new(p->event, TAKE_FD(fd), 0, USEC_INFINITY, &monitor_handlers, p, &p->qmp);
}

int process_attach(sd_event *event, Launcher *launcher, const ProcessIdentity *id, const char *unit,
                int monitor_fd, int runtime_fd, const ProcessHandlers *handlers, void *userdata,
                Process **ret) {
        _cleanup_(process_freep) Process *p = NULL;
        _cleanup_close_ int monitor = monitor_fd;
        bool is_gone;
        int r;

        r = process_new(event, launcher, unit, handlers, userdata, &p);
        if (r < 0)
                return r;
        p->shim_pid = id->shim_pid;
        p->shim_started = id->shim_started;
        p->runtime_fd = fcntl(runtime_fd, F_DUPFD_CLOEXEC, 3);
        if (p->runtime_fd < 0)
                return -errno;
        r = attach_shim(p, id);
        if (r < 0)
                p->shim_gone = true;
        p->qemu_pid = id->qemu_pid;
        is_gone = id->qemu_pid > 0 && watch_qemu(p, id->qemu_pid) == -ESRCH;
        if (monitor >= 0)
                r = qmp_new(event, TAKE_FD(monitor), QMP_REATTACH, USEC_INFINITY, &monitor_handlers, p,
                                &p->qmp);
        else if (p->qemu_fd >= 0)
                r = connect_monitor(p);
        if (r < 0)
                log_debug_errno(r, "Cannot attach to QEMU of '%s': %m", unit);
        if (is_gone) /* what its monitor has still to tell is why */
                qemu_ended(p);
        step_end(p);
        *ret = TAKE_PTR(p);
        return 0;
}

bool process_qemu_is_gone(const Process *p) {
        return p->qemu_gone;
}

/* One that is held ends when its control socket is closed, also where the launcher that knew it was lost. */
static void end_held_shim(Process *p) {
        launched_kill(p->launched);
        p->control_source = sd_event_source_disable_unref(p->control_source);
        p->control_fd = safe_close(p->control_fd);
}

int process_signal(Process *p, int sig) {
        int fd = p->qemu_fd >= 0 ? p->qemu_fd : p->shim_fd;

        if (p->shim_gone && p->qemu_fd < 0)
                return -ESRCH;
        if (p->launched && !p->gone_ahead)
                end_held_shim(p);
        else if (p->launched && p->qemu_pid == 0)
                p->pending_signal = sig; /* the shim may have QEMU already, which would live on without it */
        else
                return launcher_signal(p->launcher, fd, p->unit, sig);
        return 0;
}

Qmp *process_monitor(const Process *p) {
        return p->qmp;
}

bool process_monitor_is_taken(const Process *p) {
        return p->qmp && p->greeting_due > 0 && !qmp_is_ready(p->qmp);
}

uint64_t process_patience(const Process *p, uint64_t usec) {
        uint64_t now;

        if (!process_monitor_is_taken(p))
                return usec;
        (void)sd_event_now(p->event, CLOCK_MONOTONIC, &now);
        return now < p->greeting_due ? p->greeting_due - now : 0;
}

int process_monitor_fd(const Process *p) {
        return p->qmp ? qmp_fd(p->qmp) : p->monitor_fd;
}

pid_t process_qemu_pid(const Process *p) {
        return p->qemu_pid;
}

pid_t process_shim_pid(const Process *p) {
        return p->shim_pid;
}
