/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A log of bounded size in one file or two, addressed like an endless stream.
 *
 * Every byte that was stored has an absolute offset. [start, base) lies in the older file, [base, end) in
 * the newer one. When the newer one has reached its half of the bound, its content is moved into the older
 * one and it begins anew at size 0, so that `tail -F` follows it. With a single file the newest half of it
 * is kept. Readers keep nothing but an offset; when it has fallen behind `start`, that part is gone. */

#include "util/macro.h"

#define RING_LOG_MAX_MIN                                                                               \
        (8 * KIB)               /* below this the log would hardly hold a screen, and a note of a loss \
                                 */
#define RING_LOG_ALL UINT32_MAX /* as a number of lines: everything that is left */

typedef struct RingLog {
        int fd;     /* borrowed, as old_fd */
        int old_fd; /* -EBADF: a single file */
        uint64_t max;
        uint64_t start;
        uint64_t base;
        uint64_t end;
        uint64_t lost;  /* bytes that could not be stored since the last one that could */
        int lost_errno; /* and why, negative */
} RingLog;

/* Looks at what the files hold, and changes nothing: all that a reader needs. `max` bounds both files
 * together, in bytes. What is no regular file, say /dev/null, counts as empty. */
int ring_log_open(RingLog *log, int fd, int old_fd, uint64_t max);

/* For the writer, once, behind open: completes a move that was interrupted, and cuts what exceeds `max`.
 * -EINVAL: not a regular file, not opened for reading and writing, or opened with O_APPEND. */
int ring_log_fit(RingLog *log);

/* Stores data at the end. *ret_start is the offset of its first byte: more than the `end` there was before
 * if a note of an earlier loss had to go first. On failure `end` tells how much of it was stored; the rest
 * is dropped and noted in the log when it can be written to again. */
int ring_log_append(RingLog *log, const void *data, size_t len, uint64_t *ret_start);

/* Reads what lies at offset, which must not be below start. May return less than there is, 0 only at the
 * end.
 */
ssize_t ring_log_read(const RingLog *log, uint64_t offset, void *buf, size_t size);

/* The offset where the last `lines` lines begin. An unfinished last line counts as one. */
uint64_t ring_log_tail(const RingLog *log, uint32_t lines);
