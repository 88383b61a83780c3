/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What an image's content is known by: its fs-verity file digest (SHA-256, blocks of 4 KiB, no salt), which
 * the kernel can tell of a file with fs-verity, and "fsverity digest FILE" of any. A tree of hashes rather
 * than one over all, so that a hole of any size costs next to nothing. */

#include "util/macro.h"

#define CONTENT_DIGEST_BLOCK 4096
#define CONTENT_DIGEST_SIZE 32                                                /* bytes */
#define CONTENT_DIGEST_TEXT_MAX (sizeof("sha256:") + 2 * CONTENT_DIGEST_SIZE) /* with the NUL */

typedef struct ContentDigest ContentDigest;

int content_digest_new(ContentDigest **ret);
ContentDigest *content_digest_free(ContentDigest *d);
DEFINE_CLEANUP(ContentDigest *, content_digest_free);
#define _cleanup_content_digest_ _cleanup_(content_digest_freep)

/* The content in its order, in pieces of any size. 0 or -ENOMEM, -EFBIG (beyond INT64_MAX). */
int content_digest_update(ContentDigest *d, const void *data, size_t len);
int content_digest_update_zeros(ContentDigest *d, uint64_t len);

/* Once, at the end: "sha256:" and 64 hex digits, as "fsverity digest" prints it. */
int content_digest_finish(ContentDigest *d, char ret[static CONTENT_DIGEST_TEXT_MAX]);
