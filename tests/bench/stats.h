/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Times in milliseconds, and the table of what they come to. */

#include "util/macro.h"

#define SERIES_MAX 1000

typedef struct Series {
        double ms[SERIES_MAX];
        size_t n;
} Series;

double now_ms(void); /* of CLOCK_MONOTONIC */
void series_add(Series *s, double ms);

/* One line of the table. With `bare`, whose times were taken in turns with ours, also how many times longer
 * ours takes: of the medians, and the median of the pairs. */
void table_heading(void);
void table_row(const char *what, const Series *ours, const Series *bare);
