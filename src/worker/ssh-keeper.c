/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "ssh-command.h"
#include "ssh-keeper.h"
#include "util/string-util.h"

#define BEGIN_USEC (30 * USEC_PER_SEC)
#define DONE_USEC (5 * USEC_PER_SEC)
#define OUTPUT_MAX (4 * KIB) /* a login shell's greetings come first, and mkdir's words are short */
#define MARK "vmctl keeps it"

/* In one line, as some login shells take no other. Twice, since what was asked for before the end may have
 * put another file into a folder that was just being emptied. */
#define SCRIPT                                                   \
        "trap \"\" HUP INT TERM; "                               \
        "[ -z \"$2\" ] || mkdir -m 700 -- \"$1\" 2>&1 || exit; " \
        "echo " MARK "; "                                        \
        "cat >/dev/null 2>&1; "                                  \
        "rm -rf -- \"$1\" 2>/dev/null || rm -rf -- \"$1\" 2>/dev/null"

static int start(SshKeeper *k, const char *line, Error **reterr) {
        SshSession *s = k->session;
        int r, wait;

        k->channel = ssh_call_object(s, &wait, libssh2_channel_open_session(s->session));
        if (!k->channel)
                return ssh_session_fail(s, wait, reterr, "Failed to open a channel to the guest");
        r = ssh_call(s, &wait,
                        libssh2_channel_process_startup(
                                        k->channel, "exec", 4, line, (unsigned)strlen(line)));
        return r < 0 ? ssh_session_fail(s, wait, reterr, "The guest does not run commands") : 0;
}

static int await_mark(SshKeeper *k, const char *path, Error **reterr) {
        char text[OUTPUT_MAX];
        _cleanup_free_ char *shown = NULL;
        size_t len = 0;
        int wait;

        while (len < sizeof(text)) {
                ssize_t n = ssh_call(k->session, &wait,
                                libssh2_channel_read(k->channel, text + len, sizeof(text) - len));

                if (n < 0)
                        return ssh_session_fail(k->session, wait, reterr, "The guest does not answer");
                if (n == 0)
                        break;
                len += (size_t)n;
                if (memmem(text, len, MARK, strlen(MARK)))
                        return 0;
        }
        shown = string_escape(text, len, 200);
        return error_set(
                        reterr, ERROR_PROVISION_FAILED, "the guest cannot make '%s': %s", path, shown ?: "");
}

int ssh_keeper_begin(SshKeeper *k, SshSession *s, const char *path, bool folder, Error **reterr) {
        _cleanup_free_ char *script = ssh_quote(SCRIPT), *quoted = ssh_quote(path), *line = NULL;
        uint64_t deadline = s->deadline;
        int r;

        *k = (SshKeeper){ .session = s };
        if (script && quoted)
                line = strf("exec /bin/sh -c %s sh %s '%s'", script, quoted, folder ? "folder" : "");
        if (!line)
                return error_set_errno(reterr, -ENOMEM, "Failed to send a file");
        s->deadline = MIN(deadline, ssh_later(now_usec(), BEGIN_USEC));
        r = start(k, line, reterr);
        if (r >= 0)
                r = await_mark(k, path, reterr);
        s->deadline = deadline;
        return r;
}

/* Spends a moment on it even when all is to end. */
void ssh_keeper_done(SshKeeper *k) {
        LIBSSH2_CHANNEL *watched;
        SshSession *s = k->session;
        uint64_t deadline;
        bool closing;
        int wait;

        if (!k->channel)
                return;
        deadline = s->deadline;
        closing = s->closing;
        watched = TAKE_PTR(s->watched);
        s->closing = true;
        s->deadline = ssh_later(now_usec(), DONE_USEC);
        if (ssh_call(s, &wait, libssh2_channel_send_eof(k->channel)) >= 0 &&
                        ssh_call(s, &wait, libssh2_channel_wait_eof(k->channel)) >= 0)
                (void)ssh_call(s, &wait, libssh2_channel_wait_closed(k->channel));
        (void)ssh_call(s, &wait, libssh2_channel_free(k->channel));
        k->channel = NULL;
        s->watched = watched;
        s->closing = closing;
        s->deadline = deadline;
}
