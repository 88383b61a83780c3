/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The lines of JSON on standard output by which the caller can follow: one at each change of phase, and in
 * between at most four a second. A caller that does not listen any more ends us (SIGPIPE). */

#include "util/macro.h"

typedef struct Progress {
        const char *phase; /* borrowed */
        uint64_t done;     /* bytes */
        uint64_t total;    /* 0: not known */
        uint64_t started;  /* monotonic, µs */
        uint64_t told;
} Progress;

void progress_begin(Progress *p, const char *phase, uint64_t total);
void progress_add(Progress *p, uint64_t n);
