/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Running a command in the guest. */

#include "progress.h"
#include "ssh-output.h"
#include "ssh-session.h"

typedef struct SshCommand {
        const char *line;   /* for the user's login shell, whichever that is */
        const char *input;  /* sent first; may be NULL */
        int input_fd;       /* sent then, to its end; -EBADF: nothing, and standard input stays open */
        uint64_t deadline;  /* USEC_INFINITY: none */
        Progress *progress; /* for input_fd; or NULL */
} SshCommand;

typedef struct SshExit {
        int status;
        char signal[32]; /* without "SIG"; "" if it was none */
} SshExit;

/* Runs it to its end, its output goes to *output. -EAGAIN (with an error set): the connection was lost;
 * -ETIMEDOUT, -ECANCELED: it was made to end. */
int ssh_command_run(
                SshSession *s, const SshCommand *command, SshOutput *output, SshExit *ret, Error **reterr);

/* 's' as one word of any shell. */
char *ssh_quote(const char *s);

/* A command line that runs `script` in a process group of its own, without standard input, and the text to
 * send it. The group ends with SIGTERM when standard input does before it, as happens when we cancel or the
 * connection ends. `env` is an object of strings or NULL. */
int ssh_command_wrap(const char *script, const Json *env, char **ret_line, char **ret_input);

/* Runs a script of /bin/sh and collects its output, as far as the tail goes. */
int ssh_command_ask(SshSession *s, const char *script, uint64_t deadline, SshOutput *output, SshExit *ret,
                Error **reterr);
