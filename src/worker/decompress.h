/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Streams of compressed images, told apart by their first bytes. Everything that was not meant is an error:
 * an end that is missing, bytes behind the end, archives, and compressed data in compressed data. */

#include "util/error.h"
#include "util/string-util.h"

typedef enum Compression {
        COMPRESSION_NONE,
        COMPRESSION_ZSTD,
        COMPRESSION_GZIP,
        COMPRESSION_XZ,
        COMPRESSION_BZIP2,
        _COMPRESSION_MAX,
        _COMPRESSION_INVALID = -EINVAL,
} Compression;

DECLARE_STRING_TABLE(compression, Compression);

/* What the first bytes say; fewer than this only when there are no more. ERROR_INVALID_IMAGE for archives
 * and for kinds of compression that are not known here. */
#define COMPRESSION_HEADER_SIZE 512
int compression_detect(const void *data, size_t len, Compression *ret, Error **reterr);

/* Where the content goes: the decompressor asks for room and says how much of it was used. */
typedef struct DecompressSink {
        int (*reserve)(void *userdata, void **ret, size_t *ret_size);
        int (*commit)(void *userdata, size_t len, Error **reterr);
        void *userdata;
} DecompressSink;

typedef struct Decompress Decompress;

int decompress_new(Compression kind, const DecompressSink *sink, Decompress **ret);
Decompress *decompress_free(Decompress *d);
DEFINE_CLEANUP(Decompress *, decompress_free);

/* ERROR_INVALID_IMAGE for damaged data or what needs too much memory. What the sink returns is handed on. */
int decompress_feed(Decompress *d, const void *data, size_t len, Error **reterr);
int decompress_finish(Decompress *d, Error **reterr);
