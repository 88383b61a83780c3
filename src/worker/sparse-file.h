/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Writes an image from its beginning to its end, leaves out what is zero, and computes the digest of the
 * content on the way. */

#include "content-digest.h"
#include "util/error.h"

typedef struct SparseFile SparseFile;

/* fd is borrowed. `present` bytes are in the file already, and what is written to their place is the same;
 * behind them it is empty. ERROR_IMAGE_TOO_LARGE is for more than max_size bytes. */
int sparse_file_new(int fd, uint64_t max_size, uint64_t present, SparseFile **ret);
SparseFile *sparse_file_free(SparseFile *f);
DEFINE_CLEANUP(SparseFile *, sparse_file_free);

int sparse_file_write(SparseFile *f, const void *data, size_t len, Error **reterr);
int sparse_file_write_zeros(SparseFile *f, uint64_t len, Error **reterr);

/* Once, at the end. */
int sparse_file_finish(SparseFile *f, uint64_t *ret_size, char ret_digest[static CONTENT_DIGEST_TEXT_MAX],
                Error **reterr);

/* ERROR_NO_SPACE when so little is free on fd's file system that others may soon be short of it. */
int sparse_file_check_space(int fd, Error **reterr);
#define SPARSE_FILE_CHECK_INTERVAL (16 * MIB) /* written between two looks */
