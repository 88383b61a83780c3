/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* From bytes as they come to an image: the caller's thread hashes and keeps them, a second one unpacks, and
 * a third one looks for zeros, computes the content's digest and writes. */

#include "checksums.h"
#include "content-digest.h"
#include "decompress.h"

typedef struct PipelineConfig {
        int output_fd;     /* gets the image */
        int received_fd;   /* gets the bytes as they come when they are compressed; -EBADF: nothing does */
        uint64_t max_size; /* bytes of the image */
        bool sha512;       /* is wanted, too */
} PipelineConfig;

typedef struct PipelineResult {
        Checksums received; /* of the bytes as they came */
        char content_digest[CONTENT_DIGEST_TEXT_MAX];
        uint64_t size; /* bytes of the image */
        Compression compression;
} PipelineResult;

/* What does not shrink by being compressed grows by less than that; without a bound, an endless stream of
 * empty frames would fill the disk. */
static inline uint64_t pipeline_received_max(uint64_t max_size) {
        return max_size + MIN(MIB + max_size / 64, INT64_MAX - max_size);
}

typedef struct Pipeline Pipeline;

/* Begins anew, with empty files. */
int pipeline_new(const PipelineConfig *config, Pipeline **ret, Error **reterr);

/* Begins with what an earlier one left in the files; *ret_len is how much of the bytes that is. 0 bytes also
 * when it makes no sense. */
int pipeline_resume(const PipelineConfig *config, Pipeline **ret, uint64_t *ret_len, Error **reterr);

Pipeline *pipeline_free(Pipeline *p);
DEFINE_CLEANUP(Pipeline *, pipeline_free);

int pipeline_feed(Pipeline *p, const void *data, size_t len, Error **reterr);

/* Writes down what has been fed and is compressed, so that it outlives us. */
void pipeline_keep(Pipeline *p);

/* Once, at the end: the image is complete, though not synced. */
int pipeline_finish(Pipeline *p, PipelineResult *ret, Error **reterr);

/* Empties the files. */
int pipeline_forget(const PipelineConfig *config, Error **reterr);
