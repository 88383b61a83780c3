/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Image files from one descriptor to another, holes staying holes. Descriptors of clients are among them: no
 * offset is relied on, and O_NONBLOCK or a file that shrinks do no harm. */

#include "util/error.h"

#define FILE_COPY_PIECE MIB /* at most so much comes at once */

typedef struct FileCopy {
        int input;
        int output;
        const char *input_label; /* both begin messages, as "The image '/srv/a.raw'" */
        const char *output_label;
        uint64_t size_max; /* bytes in `output`: ERROR_IMAGE_TOO_LARGE beyond */
        void (*on_progress)(uint64_t done, uint64_t total, void *userdata); /* total 0: not known */
        void *userdata;
} FileCopy;

/* All of the regular file `input`, piece by piece in order: data, or NULL for a hole. */
typedef int (*FilePiece)(const void *data, uint64_t offset, uint64_t len, void *userdata, Error **reterr);
int file_read_pieces(const FileCopy *c, FilePiece each, void *userdata, Error **reterr);

/* Into an empty regular file: from a regular file by sharing its blocks where the file system can, in the
 * kernel else, at last by reading and writing; from a pipe or socket up to its end, zeros as holes. The size
 * is what was there to copy, and is found by looking at `output`. */
int file_copy(const FileCopy *c, Error **reterr);

/* All of a regular file into a pipe or socket, zeros for holes. */
int file_send(const FileCopy *c, Error **reterr);

/* The same as one zstd frame, to a pipe, a socket, or an empty regular file. */
int file_compress(const FileCopy *c, Error **reterr);

/* Writes all: at *offset, which is moved, or where offset is NULL into a stream. */
int file_write(const FileCopy *c, const void *data, size_t len, uint64_t *offset, Error **reterr);
