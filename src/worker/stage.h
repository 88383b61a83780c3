/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A thread that works on pieces of a stream in their order while its feeder makes the next ones. The feeder
 * writes right into the thread's buffers and waits when all are full. One thread feeds. */

#include "util/error.h"

#define STAGE_PIECE_SIZE (512 * KIB) /* few wake-ups for much work, and a few of them fit in a cache */

typedef struct Stage Stage;

/* Called in the thread: that many zeros come before the data, which may be empty. After a failure it is
 * called no more. */
typedef int (*StageConsume)(void *userdata, uint64_t zeros, const void *data, size_t len, Error **reterr);

int stage_new(StageConsume consume, void *userdata, Stage **ret);

/* From any thread: nothing more is consumed, and whoever waits for room is told so. */
void stage_cancel(Stage *s);

/* Gives up what has not been consumed, and waits for the thread. */
Stage *stage_free(Stage *s);
DEFINE_CLEANUP(Stage *, stage_free);

/* Lends the buffer of STAGE_PIECE_SIZE bytes to fill next. -ECANCELED: the thread has failed; stage_finish()
 * tells why. */
int stage_reserve(Stage *s, void **ret);

/* Hands over that many bytes of it, at least one. */
void stage_commit(Stage *s, size_t len);

/* Hands over that many zeros instead. The buffer, still warm in the cache, is the next one that is lent. */
void stage_commit_zeros(Stage *s, size_t len);

/* No more will come: waits until all is consumed. Returns what the consumer returned last. */
int stage_finish(Stage *s, Error **reterr);
