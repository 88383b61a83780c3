/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-shim: the parent of one QEMU, in the same scope. It outlives the service that starts it.
 *
 *     vmctl-shim OPTION... -- /usr/bin/qemu-system-x86_64 ARGUMENT...
 *     vmctl-shim --cat --console-log FD --console-log-old FD --tail N [--console-log-max N] [--uid N --gid
 * N]
 *
 * The descriptors named in options are in place when the shim is executed. It prepares everything, and then
 * waits on the control socket for "g". End of file instead: nothing was started, and the shim exits. Behind
 * "g" it starts QEMU and says "pid N", before it possibly "modified PATH", or "error KIND TEXT" where KIND
 * is missing, changed, access (a
 * --file), exec (QEMU could not be executed) or system. When QEMU ends it says "exited RECORD" (see
 * exit-record.h). These are lines. Once QEMU runs, the other end of the control socket may go away at any
 * time.
 *
 * The shim goes when QEMU goes: other signals than SIGKILL do not reach it while QEMU runs.
 *
 *   --control FD           a socket (stream or seqpacket), see above; goes first, so that it can be told
 * what is wrong with the others
 *   --uid N, --gid N       who QEMU is to be, and the shim itself once it is prepared; never root. Without:
 *   --group N              stay who we are. --group adds a supplementary group; repeatable
 *   --pass FD              QEMU inherits this descriptor under the same number; repeatable
 *   --file FD:r:INO:BTIME:CTIME:MTIME:SIZE:PATH
 *                          QEMU finds the regular file PATH open for reading at FD, if it has this inode
 * number and time of birth (or of change, where BTIME is 0), in nanoseconds; repeatable. If it was written
 * to since it had this time and size, that is said
 *   --file FD:p:...        the same for a file that QEMU reads anew at each start, as /proc/self/fd/FD: what
 * was written to it counts, and where its identity may not read the file, there is a copy of it in memory at
 * FD
 *   --owner N              the files that follow are opened with the rights that this user has now; without,
 * with ours
 *   --serial FD            where QEMU finds the socket of its serial console
 *   --console-log FD, --console-log-old FD, --console-log-max BYTES
 *                          two regular files for what the guest prints, and their bound (see ring-log.h)
 *   --qemu-log FD, --qemu-log-max BYTES
 *                          the same for QEMU's standard output and error, in one file
 *   --exit-record FD       a regular file for how QEMU ended
 *   --listen-console FD, --listen-log FD
 *                          listening sockets for clients (see console.h)
 *   --device PATH          a device node that QEMU can see beside /dev/null and its like; repeatable
 *   --bind-ro PATH         a file or folder that QEMU can see, but not change; repeatable
 *   --private-network      QEMU has no network at all
 *   --helper PATH          a program that runs beside QEMU, see helper.h. It is started behind "g", and is
 * ready before "pid N" is said; where that fails, KIND is helper. QEMU does not end with it; repeatable
 *   --helper-arg ARGUMENT  ... of the helper before it; repeatable
 *   --helper-fd FD         it inherits this descriptor under the same number; repeatable
 *   --cat                  write the log of a VM that does not run to standard output,
 *   --tail N               its last N lines, or with -1 all
 *   --debug                say on standard error what was done without
 */
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "console.h"
#include "exit-record.h"
#include "given-file.h"
#include "helper.h"
#include "options.h"
#include "privileges.h"
#include "sandbox.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define OUTPUT_CHUNK (4 * KIB) /* QEMU says little on standard error */
#define INHERITED_MAX (OPTION_FDS_MAX + OPTION_FILES_MAX + 1)
#define OUTPUT_DRAIN_MAX (256 * KIB) /* more than a pipe holds when QEMU ends */

typedef struct Shim {
        Options options;
        int output[2]; /* QEMU's standard output and error */
        RingLog console_log, qemu_log;
        Console *console;
        OomWatch oom;
        Helper helpers[OPTION_HELPERS_MAX];
        pid_t pid;
        int pidfd;
} Shim;

static void report(const Shim *s, const char *line) {
        if (s->options.control >= 0) /* nobody there, or nobody who listens: no effect on the VM */
                (void)send(s->options.control, line, strlen(line), MSG_NOSIGNAL | MSG_DONTWAIT);
}

static const char *error_kind(ErrorCode code) {
        switch (code) {
        case ERROR_IMAGE_MISSING:
                return "missing";
        case ERROR_IMAGE_CHANGED:
                return "changed";
        case ERROR_ACCESS_DENIED:
                return "access";
        case ERROR_QEMU_FAILED:
                return "exec";
        case ERROR_TOOL_MISSING:
                return "helper";
        default:
                return "system";
        }
}

static void report_error(const Shim *s, const Error *e) {
        _cleanup_free_ char *text = string_escape(error_message(e), strlen(error_message(e)), SIZE_MAX),
                            *line = text ? strf("error %s %s\n", error_kind(error_code(e)), text) : NULL;

        if (line)
                report(s, line);
        (void)fprintf(stderr, "vmctl-shim: %s\n", error_message(e));
}

static void report_modified(const Shim *s, const GivenFile *f) {
        _cleanup_free_ char *path = string_escape(f->path, strlen(f->path), SIZE_MAX),
                            *line = path ? strf("modified %s\n", path) : NULL;

        if (line)
                report(s, line);
}

static int place(int fd, int target) {
        return dup3(fd, target, O_CLOEXEC) < 0 ? -errno : 0;
}

/* A number that is promised to QEMU must not be taken by something else meanwhile. */
static int reserve_targets(const Options *o) {
        int r;

        r = place(STDIN_FILENO, o->serial);
        for (size_t i = 0; r >= 0 && i < o->n_files; i++)
                r = place(STDIN_FILENO, o->files[i].target);
        return r;
}

/* QEMU inherits our standard input, which is made /dev/null. */
static int prepare_descriptors(Shim *s, Error **reterr_error) {
        _cleanup_close_ int null = open("/dev/null", O_RDWR | O_CLOEXEC);
        int r = 0;

        if (null < 0 || dup2(null, STDIN_FILENO) < 0)
                r = -errno;
        null = safe_close(null); /* its number may be a promised one */
        if (r >= 0)
                r = reserve_targets(&s->options);
        if (r >= 0 && (close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) < 0 || pipe2(s->output, O_CLOEXEC) < 0))
                r = -errno;
        if (r >= 0) /* the writing end is QEMU's, and blocks: its last words must not be cut short */
                r = fd_set_nonblock(s->output[0], true);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to prepare descriptors") : 0;
}

static int prepare_console(Shim *s, Error **reterr_error) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        Options *o = &s->options;
        int r = 0;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                r = -errno;
        if (r >= 0)
                r = place(pair[1], o->serial);
        if (r >= 0)
                r = ring_log_open(&s->console_log, o->console_log, o->console_log_old, o->console_log_max);
        if (r >= 0)
                r = ring_log_fit(&s->console_log);
        if (r >= 0)
                r = console_new(&s->console_log, TAKE_FD(pair[0]), TAKE_FD(o->listen_console),
                                TAKE_FD(o->listen_log), &s->console);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to prepare the console") : 0;
}

static int prepare_qemu_log(Shim *s, Error **reterr_error) {
        int r;

        r = ring_log_open(&s->qemu_log, s->options.qemu_log, -EBADF, s->options.qemu_log_max);
        if (r >= 0)
                r = ring_log_fit(&s->qemu_log);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to prepare QEMU's log") : 0;
}

static int prepare_files(const Shim *s, Error **reterr_error) {
        const Options *o = &s->options;

        for (size_t i = 0; i < o->n_files; i++) {
                bool modified = false;
                _cleanup_close_ int fd = o->files[i].owner != 0
                                ? given_file_open_as_owner(&o->files[i], &modified, reterr_error)
                                : given_file_open(&o->files[i], &modified, reterr_error);
                int r;

                if (fd < 0)
                        return fd;
                r = place(fd, o->files[i].target);
                if (r < 0)
                        return error_set_errno(reterr_error, r, "Failed to place '%s'", o->files[i].path);
                if (modified && !o->files[i].by_path)
                        report_modified(s, &o->files[i]);
        }
        return 0;
}

/* Behind "g", so that the memory is charged to the scope. */
static int share_files(const Options *o, Error **reterr_error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < o->n_files; i++)
                if (o->files[i].by_path)
                        r = given_file_share(&o->files[i], reterr_error);
        return r;
}

/* A user's kernel or administrator may forbid user namespaces. Then QEMU sees what the user sees, from
 * wherever building the sandbox has left us. */
static int prepare_sandbox(const Options *o, Error **reterr_error) {
        _cleanup_error_ Error *error = NULL;
        int r;

        r = sandbox_build(o, &error);
        if (r < 0 && (o->has_identity || geteuid() == 0)) {
                *reterr_error = TAKE_PTR(error);
                return r;
        }
        if (r < 0) {
                if (o->debug)
                        (void)fprintf(stderr, "vmctl-shim: %s, ignoring\n", error_message(error));
                return chdir("/") < 0 ? error_set_errno(reterr_error, -errno, "Failed to leave the sandbox")
                                      : 0;
        }
        return sandbox_enter(reterr_error);
}

static int prepare(Shim *s, Error **reterr_error) {
        int r;

        r = prepare_descriptors(s, reterr_error);
        if (r >= 0)
                r = prepare_files(s, reterr_error);
        if (r >= 0)
                r = prepare_console(s, reterr_error);
        if (r >= 0)
                r = prepare_qemu_log(s, reterr_error);
        if (r < 0)
                return r;
        oom_watch_prepare(&s->oom);
        return privileges_prepare(&s->options, reterr_error);
}

/* From here on the shim is where QEMU will be, with its rights. */
static int confine(const Shim *s, Error **reterr_error) {
        int r;

        r = prepare_sandbox(&s->options, reterr_error);
        return r < 0 ? r : privileges_drop(&s->options, reterr_error);
}

/* Returns 1 for "g", 0 if nobody wants us any more. */
static int await_go(const Shim *s, Error **reterr_error) {
        ssize_t n;
        char c;
        int r;

        r = fd_set_nonblock(s->options.control, false);
        if (r < 0)
                return error_set_errno(reterr_error, r, "Failed to use the control socket");
        do
                n = recv(s->options.control, &c, 1, 0);
        while (n < 0 && errno == EINTR);
        if (n < 0 && errno != ECONNRESET)
                return error_set_errno(reterr_error, -errno, "Failed to read from the control socket");
        if (n == 1 && c != 'g')
                return error_set(reterr_error, ERROR_INVALID_SPEC, "Unknown request");
        return n == 1;
}

/* What QEMU inherits beside its standard streams; everything else closes on exec. */
static size_t list_inherited(const Options *o, int fds[static INHERITED_MAX]) {
        size_t n = 0;

        for (size_t i = 0; i < o->pass.n; i++)
                fds[n++] = o->pass.fd[i];
        for (size_t i = 0; i < o->n_files; i++)
                fds[n++] = o->files[i].target;
        fds[n++] = o->serial;
        return n;
}

static int spawn_actions(const Shim *s, posix_spawn_file_actions_t *actions, posix_spawnattr_t *attr) {
        sigset_t none, all;
        int r;

        sigemptyset(&none);
        sigfillset(&all);
        r = posix_spawn_file_actions_adddup2(actions, s->output[1], STDOUT_FILENO);
        if (r == 0)
                r = posix_spawn_file_actions_adddup2(actions, s->output[1], STDERR_FILENO);
        if (r == 0)
                r = posix_spawnattr_setsigmask(attr, &none);
        if (r == 0)
                r = posix_spawnattr_setsigdefault(attr, &all);
        if (r == 0)
                r = posix_spawnattr_setflags(
                                attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        return -r;
}

static int spawn(Shim *s) {
        static char *const env[] = {
                (char *)"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
                (char *)"LANG=C.UTF-8", NULL
        };
        posix_spawn_file_actions_t actions;
        posix_spawnattr_t attr;
        int r;

        r = posix_spawn_file_actions_init(&actions);
        if (r != 0)
                return -r;
        r = posix_spawnattr_init(&attr);
        if (r == 0) {
                r = -spawn_actions(s, &actions, &attr);
                if (r == 0) /* returns when it is executed, or with the reason why not */
                        r = posix_spawn(&s->pid, s->options.command[0], &actions, &attr, s->options.command,
                                        env);
                (void)posix_spawnattr_destroy(&attr);
        }
        (void)posix_spawn_file_actions_destroy(&actions);
        return -r;
}

static int spawn_with_inherited(Shim *s) {
        int fds[INHERITED_MAX], r = 0;
        size_t n = list_inherited(&s->options, fds);

        for (size_t i = 0; r >= 0 && i < n; i++)
                r = fd_set_cloexec(fds[i], false);
        if (r >= 0)
                r = spawn(s);
        for (size_t i = 0; i < n; i++) /* the other ends are to see when QEMU closes it */
                safe_close(fds[i]);
        s->output[1] = safe_close(s->output[1]);
        return r;
}

static int start_qemu(Shim *s, Error **reterr_error) {
        sigset_t all;
        int r;

        sigfillset(&all);
        if (sigprocmask(SIG_BLOCK, &all, NULL) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to block signals");
        oom_watch_begin(&s->oom);
        r = spawn_with_inherited(s);
        if (r < 0)
                return error_set(reterr_error, ERROR_QEMU_FAILED, "%s: %s", s->options.command[0],
                                strerror(-r));
        s->pidfd = pidfd_open(s->pid, 0);
        if (s->pidfd < 0) {
                r = error_set_errno(reterr_error, -errno, "Failed to watch QEMU");
                (void)kill(s->pid, SIGKILL);
        }
        return r;
}

/* Returns false when there is nothing to read, or nothing more to come. */
static bool take_output(Shim *s) {
        char buf[OUTPUT_CHUNK];
        uint64_t start;
        ssize_t n;

        if (s->output[0] < 0)
                return false;
        n = read(s->output[0], buf, sizeof(buf));
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) {
                s->output[0] = safe_close(s->output[0]);
                return false;
        }
        (void)ring_log_append(&s->qemu_log, buf, (size_t)n, &start);
        return true;
}

static void note(Shim *s, const char *text) {
        _cleanup_free_ char *line = strf("vmctl-shim: %s\n", text);
        uint64_t start;

        if (line)
                (void)ring_log_append(&s->qemu_log, line, strlen(line), &start);
}

/* QEMU goes on without it, and tells what it lacks. */
static void helper_ended(Shim *s, Helper *h) {
        _cleanup_free_ char *text = NULL;

        if (helper_reap(h, &text) >= 0)
                note(s, text);
}

static void end_helpers(Shim *s) {
        for (size_t i = 0; i < ELEMENTSOF(s->helpers); i++) {
                Helper *h = &s->helpers[i];
                struct pollfd p = { .fd = h->pidfd, .events = POLLIN };

                if (poll(&p, 1, 0) > 0)
                        helper_ended(s, h);
                helper_end(h);
        }
}

enum {
        ATTEND_QEMU,
        ATTEND_OUTPUT,
        ATTEND_HELPERS,
        ATTEND_HELPER_OUTPUTS = ATTEND_HELPERS + OPTION_HELPERS_MAX,
        ATTEND_CONSOLE = ATTEND_HELPER_OUTPUTS + OPTION_HELPERS_MAX,
};

static int attend(Shim *s, Error **reterr_error) {
        struct pollfd fds[ATTEND_CONSOLE + CONSOLE_POLL_MAX];

        for (;;) {
                fds[ATTEND_QEMU] = (struct pollfd){ .fd = s->pidfd, .events = POLLIN };
                fds[ATTEND_OUTPUT] = (struct pollfd){ .fd = s->output[0], .events = POLLIN };
                for (size_t i = 0; i < ELEMENTSOF(s->helpers); i++) {
                        fds[ATTEND_HELPERS + i] = (struct pollfd){ .fd = s->helpers[i].pidfd,
                                .events = POLLIN };
                        fds[ATTEND_HELPER_OUTPUTS + i] = (struct pollfd){ .fd = s->helpers[i].output,
                                .events = POLLIN };
                }
                console_prepare(s->console, fds + ATTEND_CONSOLE);
                if (poll(fds, ELEMENTSOF(fds), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return error_set_errno(reterr_error, -errno, "Failed to wait");
                }
                if (fds[ATTEND_QEMU].revents != 0)
                        return 0;
                if (fds[ATTEND_OUTPUT].revents != 0)
                        (void)take_output(s);
                for (size_t i = 0; i < ELEMENTSOF(s->helpers); i++) {
                        if (fds[ATTEND_HELPER_OUTPUTS + i].revents != 0)
                                (void)helper_listen(&s->helpers[i]);
                        if (fds[ATTEND_HELPERS + i].revents != 0)
                                helper_ended(s, &s->helpers[i]);
                }
                console_dispatch(s->console, fds + ATTEND_CONSOLE);
        }
}

static int conclude(Shim *s, Error **reterr_error) {
        char record[EXIT_RECORD_MAX];
        _cleanup_free_ char *line = NULL;
        siginfo_t si = {};
        size_t len;
        int r;

        if (waitid(P_PID, (id_t)s->pid, &si, WEXITED) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to learn how QEMU ended");
        end_helpers(s);
        for (size_t i = 0; i < OUTPUT_DRAIN_MAX / OUTPUT_CHUNK && take_output(s); i++)
                ;
        console_drain(s->console);
        len = exit_record_format(&si, oom_watch_has_killed(&s->oom), record);
        r = exit_record_write(s->options.exit_record, record, len);
        line = strf("exited %s", record);
        if (line)
                report(s, line);
        console_linger(s->console);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to write the exit record") : 0;
}

static int start_helpers(Shim *s, Error **reterr_error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < s->options.n_helpers; i++)
                r = helper_start(&s->helpers[i], &s->options, &s->options.helpers[i], reterr_error);
        return r;
}

static int await_helpers(Shim *s, Error **reterr_error) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < s->options.n_helpers; i++)
                r = helper_await(&s->helpers[i], reterr_error);
        return r;
}

/* Nobody has heard of it yet. */
static void end_qemu(const Shim *s) {
        (void)kill(s->pid, SIGKILL);
        (void)waitid(P_PID, (id_t)s->pid, &(siginfo_t){}, WEXITED);
}

/* Helpers, which are in the scope, too, are forked behind "g", from where QEMU's namespaces do not hold yet:
 * a user cannot come back out of theirs. They get ready while QEMU builds its machine. */
static int start_all(Shim *s, Error **reterr_error) {
        int r;

        r = start_helpers(s, reterr_error);
        if (r >= 0 && s->options.n_helpers > 0)
                r = confine(s, reterr_error);
        if (r >= 0)
                r = share_files(&s->options, reterr_error);
        if (r >= 0)
                r = start_qemu(s, reterr_error);
        if (r < 0)
                return r;
        r = await_helpers(s, reterr_error);
        if (r < 0)
                end_qemu(s);
        return r;
}

static int run(Shim *s, Error **reterr_error) {
        char line[32];
        int r;

        r = prepare(s, reterr_error);
        if (r >= 0 && s->options.n_helpers == 0)
                r = confine(s, reterr_error);
        if (r < 0)
                return r;
        r = await_go(s, reterr_error);
        if (r <= 0)
                return r;
        r = start_all(s, reterr_error);
        if (r < 0)
                return r;
        (void)snprintf(line, sizeof(line), "pid %i\n", s->pid);
        report(s, line);
        r = attend(s, reterr_error);
        if (r < 0)
                return r;
        return conclude(s, reterr_error);
}

static int cat(const Options *o, Error **reterr_error) {
        char buf[32 * KIB];
        RingLog log;
        uint64_t at;
        int r;

        (void)signal(SIGPIPE, SIG_IGN); /* a reader that has seen enough is no failure */
        r = ring_log_open(&log, o->console_log, o->console_log_old, o->console_log_max);
        if (r < 0)
                return error_set_errno(reterr_error, r, "Failed to read the log");
        r = privileges_drop(o, reterr_error);
        if (r < 0)
                return r;
        at = ring_log_tail(&log, o->tail);
        while (at < log.end) {
                ssize_t n = ring_log_read(&log, at, buf, sizeof(buf));

                if (n < 0)
                        return error_set_errno(reterr_error, (int)n, "Failed to read the log");
                r = write_all(STDOUT_FILENO, buf, (size_t)n);
                if (r < 0)
                        return r == -EPIPE ? 0 : error_set_errno(reterr_error, r, "Failed to write");
                at += (uint64_t)n;
        }
        return 0;
}

/* A descriptor below 3 that is closed would be taken by the next file that is opened. */
static int open_standard_streams(void) {
        int fd;

        do
                fd = open("/dev/null", O_RDWR);
        while (fd >= 0 && fd <= STDERR_FILENO);
        if (fd < 0)
                return -errno;
        safe_close(fd);
        return 0;
}

int main(int argc, char **argv) {
        static Shim s = { .output = { -EBADF, -EBADF },
                .oom = OOM_WATCH_INIT,
                .helpers = { HELPER_INIT, HELPER_INIT, HELPER_INIT, HELPER_INIT },
                .pidfd = -EBADF };
        _cleanup_error_ Error *error = NULL;
        int r;

        r = open_standard_streams();
        if (r >= 0)
                r = options_parse(argc, argv, &s.options, &error);
        if (r >= 0)
                r = s.options.cat ? cat(&s.options, &error) : run(&s, &error);
        if (r < 0)
                report_error(&s, error);
        end_helpers(&s);
        s.console = console_free(s.console);
        oom_watch_done(&s.oom);
        return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
