/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Time that only goes forward. */

#include <time.h>

#include "macro.h"

/* Microseconds of CLOCK_MONOTONIC, now: not an event loop's time, which is that of its last wake-up. */
static inline uint64_t now_usec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}
