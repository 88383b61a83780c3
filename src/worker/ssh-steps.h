/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Provision steps, in their order, up to the first that fails. */

#include "ssh-command.h"

typedef struct SshSteps {
        SshSession *session;             /* borrowed */
        const ProvisionRequest *request; /* borrowed */
        const int *files;                /* borrowed */
        int output_fd;                   /* borrowed, non-blocking; -EBADF: nobody wants it */
        ProvisionLog *log;               /* borrowed, or NULL */
        size_t failed;                   /* step, from 1, in which it happened; 0: none */
        SshExit exit;                    /* of its command, if that was it */
        uint64_t bytes;                  /* sent */
} SshSteps;

/* ERROR_PROVISION_FAILED or ERROR_CANCELED says which step it was, and how it failed. */
int ssh_steps_run(SshSteps *steps, Error **reterr);
