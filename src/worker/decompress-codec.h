/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What decompress.c knows of a library: one frame (member, stream) at a time. */

#include "util/error.h"

#define CODEC_MAGIC_MAX 6

/* A stream may ask for gigabytes to be kept while it is unpacked: 1 GiB is what 'zstd --long=30' asks for,
 * and far beyond any preset of xz. */
#define CODEC_MEMORY_MAX_LOG 30

typedef struct CodecBuffers {
        const uint8_t *in;
        size_t in_len;
        uint8_t *out;
        size_t out_len;
} CodecBuffers; /* each call moves on what it has used */

typedef struct Codec {
        const char *name; /* as in messages */
        size_t magic_size;
        size_t padding; /* that many zeros may stand between frames, any number of times; 0: none */
        bool (*is_magic)(const uint8_t *p);
        int (*new)(void **ret);
        void (*free)(void *state);
        int (*start)(void *state); /* before each frame */
        int (*step)(void *state, CodecBuffers *b, bool *ret_ended, Error **reterr);
} Codec;

extern const Codec codec_zstd, codec_gzip, codec_xz, codec_bzip2;
