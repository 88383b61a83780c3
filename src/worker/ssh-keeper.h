/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What we put into a guest for a moment, and what takes it away again however we end: a shell of its own,
 * which waits for the end of its standard input. That ends with us, with the connection, and with
 * ssh_keeper_done(). No signal for a step's process group reaches it. */

#include "ssh-session.h"

typedef struct SshKeeper {
        SshSession *session; /* borrowed */
        LIBSSH2_CHANNEL *channel;
} SshKeeper;

/* To be called before `path` is there. With `folder` the guest makes it, for its user alone: then nothing
 * that is still on its way can make anything anew below a path that is gone. -EAGAIN, -ECANCELED and
 * -ETIMEDOUT as of the session. */
int ssh_keeper_begin(SshKeeper *k, SshSession *s, const char *path, bool folder, Error **reterr);

/* Returns when the path is gone, unless the guest takes seconds for it. */
void ssh_keeper_done(SshKeeper *k);
#define _cleanup_ssh_keeper_ _cleanup_(ssh_keeper_done)
