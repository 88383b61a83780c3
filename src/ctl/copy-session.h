/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* vmctl-ssh, run with the caller's rights to copy one file or folder. */

#include "helper.h"
#include "ssh-target.h"

typedef struct CopyRequest {
        bool from;         /* the guest */
        const char *path;  /* there */
        const char *name;  /* of what is made in a folder, there or here */
        const char *place; /* "as-found", "inside" or "itself"; not `from` */
        bool recursive;
        bool preserve;
        int fd;          /* borrowed: the file, folder or stream here */
        const char *key; /* the private key that was named, or NULL */
        uint64_t wait_usec;
} CopyRequest;

/* A guest that has not been met before has its host key pinned, as by ssh. Reports failure as "Failed to
 * <what>: ..."; h->result tells how much there was. */
int copy_session_run(Helper *h, const SshTarget *t, const CopyRequest *q, const char *what);
