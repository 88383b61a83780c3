/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Giving up, for good, everything that reading untrusted files has no need of. */

#include "util/error.h"

typedef struct Identity {
        bool set; /* false: stay who we are, as in a user's own service */
        uid_t uid;
        gid_t gid;
} Identity;

/* Becomes that identity without groups and capabilities, bounds time, memory and file sizes. */
int confine(const Identity *identity, Error **reterr);
