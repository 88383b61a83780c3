/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Where the output of a remote command goes: on as frames, with the last of it kept for the error message.
 */

#include "provision-log.h"
#include "provision-request.h"

#define SSH_TAIL_MAX (4 * KIB)

typedef struct SshOutput {
        int fd;            /* borrowed, non-blocking; -EBADF: output is only kept */
        ProvisionLog *log; /* borrowed, or NULL */
        int cancel_fd;     /* borrowed */
        uint64_t deadline;
        uint16_t step;
        char tail[SSH_TAIL_MAX]; /* a ring */
        uint64_t seen;           /* bytes in all */
} SshOutput;

/* Waits for the reader. stream is 1 or 2. -ECANCELED, -ETIMEDOUT, or what writing to the pipe came to. */
int ssh_output_write(SshOutput *o, unsigned stream, const void *data, size_t len);

/* Tells the reader that a step has ended. */
int ssh_output_end(SshOutput *o);

/* The last lines, each escaped; NULL when memory is short. */
char *ssh_output_tail(const SshOutput *o, const char *separator);
