/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a worker says to the service: JSON lines on standard output. Any number of progress lines, then one
 * with the result or with the error. */

#include "json/json.h"

typedef struct Progress {
        const char *phase; /* borrowed; NULL: none yet */
        int64_t begun;     /* the phase; both in ms of the monotonic clock */
        int64_t told;
} Progress;

/* A line at each change of phase, else at most four in a second. Bytes; total is 0 where it is unknown. That
 * nobody reads it is found out by whoever writes the result. */
void progress_tell(Progress *p, const char *phase, uint64_t done, uint64_t total);

/* The last line. `w` holds the object that is the result; it is finished here. */
int reply_result(JsonWriter *w);
int reply_error(const Error *error); /* NULL: memory was short */
