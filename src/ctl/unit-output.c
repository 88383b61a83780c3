/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the unit prints: the guest's console, and what 'vmctl up' has to say. Both become lines of the
 * journal. */

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <syslog.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

#include "unit.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/log.h"

#define LINGER_USEC (1 * USEC_PER_SEC) /* the console's last words come within milliseconds */

/* Of LogExtraFields= only root's manager tells the journal. */
static void print_line(const Unit *u, const char *line) {
        if (client_is_user(u->ctl->client) && getenv("JOURNAL_STREAM")) {
                (void)sd_journal_send("MESSAGE=%s", line, "PRIORITY=%i", LOG_INFO, "SYSLOG_IDENTIFIER=vm@%s",
                                u->name, "VM_NAME=%s", u->name, NULL);
                return;
        }
        /* What a line begins with has no say in how grave it is (SyslogLevelPrefix=): of two levels the
         * first counts, and the second is text. */
        if (line[0] == '<' && getenv("JOURNAL_STREAM"))
                (void)printf("<%i>", LOG_INFO);
        (void)puts(line);
        (void)fflush(stdout);
}

/* To the stream, not to the journal's socket: who sends there and ends at once is not known to be of the
 * unit. */
static void print_error(const char *message) {
        (void)fprintf(stderr, "%s%s\n", getenv("JOURNAL_STREAM") ? "<3>" : "vmctl-unit: ", message);
}

static void leave(Unit *u) {
        (void)sd_event_exit(u->event, u->exit_status);
}

static void on_console_line(void *userdata, const char *line) {
        Unit *u = userdata;

        if (line) {
                print_line(u, line);
                return;
        }
        u->console = lines_free(u->console);
        u->console_ended = true;
        if (u->step == UNIT_ENDED)
                leave(u);
        else /* QEMU has ended. A service that does not run won't tell, unless it is asked. */
                unit_query(u);
}

static void on_console(void *userdata, sd_bus_message *reply, const Error *error) {
        Unit *u = userdata;
        int fd = -EBADF;

        u->console_call = client_call_free(u->console_call);
        if (!reply) {
                /* One that has ended meanwhile is no trouble: its state tells. */
                log_debug("The console cannot be read: %s", error_message(error));
                return;
        }
        if (sd_bus_message_read(reply, "h", &fd) >= 0)
                fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        u->console = lines_free(u->console);
        u->console_ended = false;
        if (fd < 0 || lines_new(u->event, fd, on_console_line, u, &u->console) < 0)
                log_warning("Failed to read the console, ignoring");
}

void unit_open_console(Unit *u) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Client *client = u->ctl->client;
        int r;

        if (u->console || u->console_call)
                return;
        r = client_new_call(client, u->path, VMCTL_VM, "OpenConsoleLog", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "a{sv}", 2, "follow", "b", true, "this-run", "b", true);
        if (r >= 0)
                r = client_call_begin(client, m, 0, on_console, u, &u->console_call);
        if (r < 0)
                log_warning("Failed to open the console, ignoring: %s", strerror(-r));
}

static int on_linger(sd_event_source *s, uint64_t usec, void *userdata) {
        leave(userdata);
        return 0;
}

static bool is_up(const Unit *u) {
        return u->state && (streq(u->state, "running") || streq(u->state, "suspended"));
}

void unit_end(Unit *u, int exit_status, const char *why, ...) {
        _cleanup_free_ char *message = NULL;
        va_list ap;

        if (u->step == UNIT_ENDED)
                return;
        u->step = UNIT_ENDED;
        u->exit_status = exit_status;
        if (why) {
                va_start(ap, why);
                if (vasprintf(&message, why, ap) < 0)
                        message = NULL;
                va_end(ap);
                print_error(message ?: strerror(ENOMEM));
                unit_status(u, "%s", message ?: strerror(ENOMEM));
        }
        if (!u->console || is_up(u) ||
                        sd_event_add_time_relative(u->event, &u->linger, CLOCK_MONOTONIC, LINGER_USEC, 0,
                                        on_linger, u) < 0)
                leave(u);
}

/* It has ended and all that it printed was read: what holds the pipe open otherwise is for nobody. */
static void check_child(Unit *u) {
        if (u->child > 0 || u->child_lines)
                return;
        if (u->step == UNIT_STOPPING)
                unit_call_stop(u);
        else if (u->child_status == 0)
                unit_wait(u);
        else
                unit_end(u, EXIT_FAILURE, "%s", u->last_line ?: "'vmctl up' failed");
}

static void on_child_line(void *userdata, const char *line) {
        Unit *u = userdata;

        if (!line) {
                u->child_lines = lines_free(u->child_lines);
                check_child(u);
                return;
        }
        print_line(u, line);
        if (startswith(line, "Hint: "))
                return;
        (void)free_and_strdup(&u->last_line, startswith(line, "vmctl: ") ?: line);
        if (u->step == UNIT_CONVERGING)
                unit_status(u, "%s", u->last_line ?: "");
}

static int on_child_exit(sd_event_source *s, const siginfo_t *si, void *userdata) {
        Unit *u = userdata;

        u->child = 0;
        u->child_source = sd_event_source_unref(u->child_source);
        u->child_status = si->si_code == CLD_EXITED ? si->si_status : -1;
        check_child(u);
        return 0;
}

/* What has been done in the guest is not done again at each boot. Time is the unit's matter
 * (TimeoutStartSec=). */
int unit_converge(Unit *u) {
        const char *const argv[] = { VMCTL_PROGRAM, client_is_user(u->ctl->client) ? "--user" : "--system",
                "up", "--file", u->file, "--name", u->name, "--provision", "changed", "--timeout", "24h",
                NULL };
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        int r;

        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        const ChildFd fds[] = { { out[1], STDOUT_FILENO }, { out[1], STDERR_FILENO } };
        const ChildSpec spec = {
                .argv = (char *const *)argv,
                .envp = environ,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT,
        };

        r = child_spawn(&spec, &u->child);
        if (r >= 0)
                r = sd_event_add_child(u->event, &u->child_source, u->child, WEXITED, on_child_exit, u);
        if (r >= 0)
                r = lines_new(u->event, TAKE_FD(out[0]), on_child_line, u, &u->child_lines);
        return r;
}
