/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Files and folders, with all that is in them, to and from the guest. */

#include "provision-request.h"
#include "ssh-sftp.h"

typedef struct SshTree {
        SshSftp *sftp;             /* borrowed */
        const ProvisionCopy *copy; /* borrowed */
        int fd;                    /* borrowed: what is copied, or where to */
        Progress progress;
        uint64_t files;   /* and folders and links */
        uint64_t skipped; /* sockets, devices, links that lead out of the folder, ... */
} SshTree;

/* Stops at the first failure; what has been copied by then stays. */
int ssh_tree_send(SshTree *t, Error **reterr);
int ssh_tree_fetch(SshTree *t, Error **reterr);
