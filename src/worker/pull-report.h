/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctl-pull tells the service while it works: lines of JSON on standard output. */

#include "util/macro.h"

typedef struct PullReport {
        const char *phase;  /* the one told last; a literal */
        uint64_t last;      /* µs of the monotonic clock, when the last line was written */
        uint64_t last_done; /* and what stood in it */
        uint64_t speed;     /* bytes per second, smoothed */
} PullReport;

/* Tells of a change of phase at once, of bytes at most four times a second. A reader that is gone is no
 * failure: then the service is, and the worker is about to be killed. `total` is 0 where it is not known. */
void pull_report(PullReport *r, const char *phase, uint64_t done, uint64_t total);

/* Whether enough time has passed that a line would be written. */
bool pull_report_is_due(const PullReport *r);
