/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Giving up, for good, everything that reading untrusted files has no need of. */

#include "util/error.h"

typedef struct Identity {
        bool set; /* false: stay who we are, as in a user's own service */
        uid_t uid;
        gid_t gid;
} Identity;

/* What a worker's own work can take at most. */
typedef struct ConfineLimits {
        uint64_t cpu_seconds;
        uint64_t address_space; /* bytes; not under the address sanitizer, whose shadow memory counts */
        uint64_t file_size;     /* bytes, of each file that it writes */
} ConfineLimits;

/* Becomes that identity without groups and capabilities, and bounds time, memory and file sizes. */
int confine(const Identity *identity, const ConfineLimits *limits, Error **reterr);

/* The same for the size of files alone, for those who learn only later how much they may write. */
int confine_file_size(uint64_t max, Error **reterr);
