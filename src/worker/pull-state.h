/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a worker leaves behind for one that goes on with its transfer: what the bytes in the other files are
 * part of. It is written before the first of them, and emptied before they are thrown away, so that at any
 * instant it tells the truth or nothing. */

#include "util/error.h"

typedef struct PullState {
        char *url;       /* what was asked for, as it was given */
        char *effective; /* where the bytes came from, without credentials */
        char *etag;      /* NULL: none */
        char *last_modified;
        bool strong_date; /* Last-Modified is old enough to tell two versions apart */
        uint64_t length;  /* bytes of the whole; 0: not known */
} PullState;

/* Learns which boot this is; once, before /proc is out of reach. */
int pull_state_init(Error **reterr);

void pull_state_done(PullState *s);

/* Whether a server can tell that what it has is still the same. */
const char *pull_state_validator(const PullState *s);

/* 1: *ret was there and belongs to this boot (what was written before may not have reached the disk); 0: it
 * was not, or makes no sense. */
int pull_state_read(int fd, PullState *ret);

/* Replaces the content; NULL empties it. */
int pull_state_write(int fd, const PullState *s, Error **reterr);
