/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Text for people: durations, sizes, times, quoting. All without a bus or a terminal. */

#include "util/macro.h"

/* "2min 3s", "1day 4h", "350ms": the two largest units. The caller frees; NULL when memory is short. */
char *text_duration(uint64_t usec);

/* "512B", "1.5K", "2G", as systemctl does. */
char *text_size(uint64_t bytes);

/* "Mon 2024-05-06 10:11:12 CEST" in local time; "-" for 0. */
char *text_timestamp(uint64_t usec);

/* A time span: "30", "30s", "500ms", "2min", "1h", "30d", "2w"; a bare number is seconds. 0, -EINVAL or
 * -ERANGE. */
int parse_timespan(const char *s, uint64_t *ret_usec);
#define TIME_HINT "A time is a number of seconds, or has a unit, as in '2min'."

/* "20%" or "20". 0, -EINVAL or -ERANGE. */
int parse_percent(const char *s, uint32_t *ret);

/* As one word for a POSIX shell. NULL when memory is short. */
char *shell_quote(const char *s);

/* Code points, which is columns for everything that names and numbers are made of. */
size_t text_width(const char *s);
