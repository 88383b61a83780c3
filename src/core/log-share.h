/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How much of the journal each user's operations may take. journald drops what a service says beyond 10,000
 * entries of a kind in 30 s, whoever they are about, and its files have room for some 100,000: so whoever
 * has more to tell than they can need is left out, and is told of once, before that reaches others. */

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#define LOG_SHARE_MAX 500         /* entries, as no person and no script needs; 20 users may have as many */
#define LOG_SHARE_INTERVAL_SEC 30 /* journald's */

typedef struct LogShare LogShare;

LogShare *log_share_free(LogShare *s);

/* Whether an entry may be made for this user now (CLOCK_MONOTONIC). *ret_last: it is the last one for a
 * while. *s is made with the first one. Where memory is short, it may. */
bool log_share_take(LogShare **s, uid_t uid, uint64_t now, bool *ret_last);
