/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sshd kills nothing when a connection ends, so what we run carries its own end with it: a watcher in the
 * background reads the standard input that sshd gave us, and when that ends before the command has, it kills
 * the process group, which sshd made for us. The command itself takes the place of the shell that started
 * it, so that sshd tells its exit status or signal.
 *
 * Environment and script are not on the command line, where everybody in the guest could read them, and
 * where login shells differ in how they quote, but on standard input: as many bytes as the command line
 * says. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "ssh-command.h"

/* Longer than the watcher takes from SIGTERM to SIGKILL. */
#define CLOSE_USEC (8 * USEC_PER_SEC)

/* What "sudo" started belongs to root. Where it is not allowed, we may signal what is there to be signalled.
 */
#define WATCHER                                                                       \
        "{\n"                                                                         \
        "trap '' HUP INT TERM\n"                                                      \
        "cat <&3 >/dev/null\n"                                                        \
        "for vmctl_signal in TERM KILL; do\n"                                         \
        "kill -0 $$ || break\n"                                                       \
        "sudo -n /bin/sh -c \"kill -$vmctl_signal -$$\" || kill -$vmctl_signal -$$\n" \
        "for vmctl_second in 1 2 3 4 5; do\n"                                         \
        "kill -0 $$ || break\n"                                                       \
        "sleep 1\n"                                                                   \
        "done\n"                                                                      \
        "done\n"                                                                      \
        "} >/dev/null 2>&1 &\n"

#define BUFFER_SIZE (32 * KIB)

typedef struct Run {
        SshSession *session;
        const SshCommand *command;
        SshOutput *output;
        LIBSSH2_CHANNEL *channel;
        int end; /* negative: why the command is being ended */
        size_t input_left;
        char feed[BUFFER_SIZE];
        size_t feed_at, feed_len;
        bool feed_done;
        bool eof_due; /* standard input's */
} Run;

char *ssh_quote(const char *s) {
        size_t quotes = 0;
        char *out, *o;

        for (const char *p = s; *p; p++)
                quotes += *p == '\'';
        o = out = malloc(strlen(s) + quotes * 3 + 3);
        if (!out)
                return NULL;
        *o++ = '\'';
        for (const char *p = s; *p; p++)
                if (*p == '\'')
                        o = stpcpy(o, "'\\''");
                else
                        *o++ = *p;
        (void)stpcpy(o, "'");
        return out;
}

/* "export A='…'", a line for each. */
static char *format_env(const Json *env) {
        char *text = strdup("");

        for (size_t i = 0; text && i < json_length(env); i++) {
                _cleanup_free_ char *value = ssh_quote(json_string(json_member(env, i)));
                char *longer = value ? strf("%sexport %s=%s\n", text, json_key(env, i), value) : NULL;

                free(text);
                text = longer;
        }
        return text;
}

int ssh_command_wrap(const char *script, const Json *env, char **ret_line, char **ret_input) {
        _cleanup_free_ char *exports = format_env(env), *quoted = ssh_quote(script), *input = NULL,
                            *line = NULL;

        if (!exports || !quoted)
                return -ENOMEM;
        input = strf("exec 3<&0 </dev/null\n" WATCHER "exec 3<&-\n%sexec \"${SHELL:-/bin/sh}\" -c %s",
                        exports, quoted);
        if (!input)
                return -ENOMEM;
        line = strf("exec /bin/sh -c 'eval \"$(dd bs=1 count=%zu 2>/dev/null)\"'", strlen(input));
        if (!line)
                return -ENOMEM;
        *ret_line = TAKE_PTR(line);
        *ret_input = TAKE_PTR(input);
        return 0;
}

/* From the first reason on, the command has a few seconds to go. */
static void begin_end(Run *run, int reason) {
        SshSession *s = run->session;

        if (run->end < 0)
                return;
        run->end = reason;
        s->closing = true;
        s->deadline = ssh_later(now_usec(), CLOSE_USEC);
        ssh_session_was_busy(s);
        run->output->fd = -EBADF;
        run->input_left = 0;
        run->feed_done = true;
        s->extra_fd = -EBADF;
        run->eof_due = true;
}

/* Returns how much was read, or a negative error of libssh2's. */
static ssize_t take_output(Run *run, int stream) {
        char buffer[BUFFER_SIZE];
        ssize_t n = libssh2_channel_read_ex(
                        run->channel, stream == 1 ? 0 : SSH_EXTENDED_DATA_STDERR, buffer, sizeof(buffer));
        int r;

        if (n <= 0)
                return n;
        r = ssh_output_write(run->output, (unsigned)stream, buffer, (size_t)n);
        ssh_session_was_busy(run->session);
        if (r < 0)
                begin_end(run, r);
        return n;
}

static ssize_t give_input(Run *run) {
        const char *input = run->command->input;
        ssize_t n;

        if (run->input_left == 0)
                return 0;
        n = libssh2_channel_write_ex(
                        run->channel, 0, input + strlen(input) - run->input_left, run->input_left);
        if (n > 0)
                run->input_left -= (size_t)n;
        return n;
}

static int fill_feed(Run *run) {
        struct pollfd p = { .fd = run->command->input_fd, .events = POLLIN };
        ssize_t n;

        if (poll(&p, 1, 0) <= 0) {
                run->session->extra_fd = p.fd;
                return 0;
        }
        run->session->extra_fd = -EBADF;
        n = read(p.fd, run->feed, sizeof(run->feed));
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        run->feed_at = 0;
        run->feed_len = (size_t)n;
        run->feed_done = n == 0;
        return 0;
}

static ssize_t give_feed(Run *run) {
        ssize_t n;
        int r;

        if (run->input_left > 0 || run->feed_done)
                return 0;
        if (run->feed_at == run->feed_len) {
                r = fill_feed(run);
                if (r < 0)
                        begin_end(run, r);
                run->eof_due = run->eof_due || run->feed_done;
        }
        if (run->feed_at == run->feed_len || run->end < 0)
                return 0;
        n = libssh2_channel_write_ex(
                        run->channel, 0, run->feed + run->feed_at, run->feed_len - run->feed_at);
        if (n > 0) {
                run->feed_at += (size_t)n;
                if (run->command->progress)
                        progress_add(run->command->progress, (uint64_t)n);
        }
        return n;
}

static bool is_fatal(ssize_t n) {
        return n < 0 && n != LIBSSH2_ERROR_EAGAIN;
}

static ssize_t give_eof(Run *run) {
        int r;

        if (!run->eof_due)
                return 0;
        r = libssh2_channel_send_eof(run->channel);
        run->eof_due = r == LIBSSH2_ERROR_EAGAIN;
        return run->end < 0 && !run->eof_due ? 0 : r; /* of the rest the end of the connection takes care */
}

/* The guest may close its end of standard input, and often does: what we have left to say is then lost. */
static bool is_refusal(ssize_t n) {
        return n == LIBSSH2_ERROR_CHANNEL_EOF_SENT || n == LIBSSH2_ERROR_CHANNEL_CLOSED;
}

/* Returns 1 at the end of all output, 0 to go on, or negative with the error set. */
static int turn(Run *run, Error **reterr) {
        ssize_t n[] = { give_input(run), give_feed(run), give_eof(run), take_output(run, 1),
                take_output(run, 2) };
        bool moved = false;
        int wait;

        for (size_t i = 0; i < ELEMENTSOF(n); i++) {
                if (is_fatal(n[i]) && !is_refusal(n[i]))
                        return ssh_session_fail(run->session, 0, reterr, "The command was cut off");
                moved = moved || n[i] > 0;
        }
        if (libssh2_channel_eof(run->channel))
                return 1;
        if (moved)
                return 0;
        wait = ssh_session_wait(run->session);
        if (wait >= 0)
                return 0;
        if (run->end < 0 || wait == -EHOSTUNREACH)
                return ssh_session_fail(run->session, wait, reterr, "The command was cut off");
        begin_end(run, wait);
        return 0;
}

static int start(Run *run, Error **reterr) {
        SshSession *s = run->session;
        int r, wait;

        run->channel = ssh_call_object(s, &wait, libssh2_channel_open_session(s->session));
        if (!run->channel)
                return ssh_session_fail(s, wait, reterr, "Failed to open a channel to the guest");
        r = ssh_call(s, &wait,
                        libssh2_channel_process_startup(run->channel, "exec", 4, run->command->line,
                                        (unsigned)strlen(run->command->line)));
        return r < 0 ? ssh_session_fail(s, wait, reterr, "The guest does not run commands") : 0;
}

static int finish(Run *run, SshExit *ret, Error **reterr) {
        SshSession *s = run->session;
        char *signal = NULL;
        size_t len = 0;
        int r, wait;

        /* the exit status comes last before the guest closes its side */
        r = ssh_call(s, &wait, libssh2_channel_wait_closed(run->channel));
        if (r < 0)
                return ssh_session_fail(s, wait, reterr, "The command was cut off");
        *ret = (SshExit){ .status = libssh2_channel_get_exit_status(run->channel) };
        (void)libssh2_channel_get_exit_signal(run->channel, &signal, &len, NULL, NULL, NULL, NULL);
        if (signal)
                (void)snprintf(ret->signal, sizeof(ret->signal), "%.*s", (int)len, signal);
        libssh2_free(s->session, signal);
        return 0;
}

static void run_done(Run *run) {
        SshSession *s = run->session;
        int wait;

        s->extra_fd = -EBADF;
        if (run->channel)
                (void)ssh_call(s, &wait, libssh2_channel_free(run->channel));
}

static int report_end(int reason, Error **reterr) {
        if (reason == -ECANCELED)
                (void)error_set(reterr, ERROR_CANCELED, "The command was canceled");
        else if (reason == -ETIMEDOUT)
                (void)error_set(reterr, ERROR_TIMEOUT, "The command did not end in time");
        else
                (void)error_set_errno(reterr, reason, "Failed to pass on the command's data");
        return reason;
}

int ssh_command_run(
                SshSession *s, const SshCommand *command, SshOutput *output, SshExit *ret, Error **reterr) {
        _cleanup_(run_done) Run run = {
                .session = s,
                .command = command,
                .output = output,
                .input_left = command->input ? strlen(command->input) : 0,
                .feed_done = command->input_fd < 0,
        };
        LIBSSH2_CHANNEL *watched = TAKE_PTR(s->watched); /* the command is not SFTP's */
        _cleanup_error_ Error *lost = NULL;
        int r;

        s->deadline = output->deadline = command->deadline;
        r = start(&run, &lost);
        while (r == 0)
                r = turn(&run, &lost);
        if (r > 0)
                r = finish(&run, ret, &lost);
        s->watched = watched;
        if (run.end < 0)
                return report_end(run.end, reterr);
        if (r < 0)
                (void)error_set(reterr, error_code(lost), "%s", error_message(lost));
        return r;
}

int ssh_command_ask(SshSession *s, const char *script, uint64_t deadline, SshOutput *output, SshExit *ret,
                Error **reterr) {
        _cleanup_free_ char *quoted = ssh_quote(script),
                            *whole = quoted ? strf("exec /bin/sh -c %s", quoted) : NULL, *line = NULL,
                            *input = NULL;
        SshCommand command = { .input_fd = -EBADF, .deadline = deadline };

        if (!whole || ssh_command_wrap(whole, NULL, &line, &input) < 0)
                return error_set_errno(reterr, -ENOMEM, "Failed to ask the guest");
        command.line = line;
        command.input = input;
        *output = (SshOutput){ .fd = -EBADF, .cancel_fd = s->cancel_fd };
        return ssh_command_run(s, &command, output, ret, reterr);
}
