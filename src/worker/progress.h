/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How far a worker is, in lines on standard output: one at each change of phase, and in between at most four
 * a second. That nobody reads them any more is found out by whoever writes the result. */

#include "util/macro.h"

typedef struct Progress {
        const char *phase;  /* borrowed; NULL: none yet */
        uint64_t done;      /* bytes */
        uint64_t total;     /* 0: not known */
        uint64_t speed;     /* bytes per second, smoothed */
        uint64_t told;      /* when the last line was written: CLOCK_MONOTONIC, µs; 0: none yet */
        uint64_t told_done; /* and what stood in it */
} Progress;

void progress_tell(Progress *p, const char *phase, uint64_t done, uint64_t total);

/* The same for those who count by pieces. Who sets phase and total alone instead of beginning has the first
 * line with the first piece. */
void progress_begin(Progress *p, const char *phase, uint64_t total);
void progress_add(Progress *p, uint64_t n);

/* Whether enough time has passed that a line would be written. */
bool progress_is_due(const Progress *p);

/* progress_tell() without the line: takes note, and returns whether one is to be written. */
bool progress_take(Progress *p, uint64_t now, const char *phase, uint64_t done, uint64_t total);
