/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The content must not depend on the pieces that a stream comes in. */
#include "fuzz.h"
#include "util/test.h"
#include "worker/decompress.h"

#define OUTPUT_MAX MIB

typedef struct Output {
        uint8_t *data;
        size_t len, room;
} Output;

static int reserve(void *userdata, void **ret, size_t *ret_size) {
        Output *o = userdata;

        *ret = o->data + o->len;
        *ret_size = o->room;
        return 0;
}

static int commit(void *userdata, size_t len, Error **reterr) {
        Output *o = userdata;

        CHECK(len > 0 && len <= o->room);
        o->len += len;
        return o->len > OUTPUT_MAX ? -EFBIG : 0;
}

static int run(Compression kind, const uint8_t *data, size_t size, size_t piece, Output *o) {
        const DecompressSink sink = { .reserve = reserve, .commit = commit, .userdata = o };
        _cleanup_(decompress_freep) Decompress *d = NULL;
        int r = 0;

        o->data = malloc(OUTPUT_MAX + 2 * o->room);
        CHECK(o->data);
        CHECK_EQ(decompress_new(kind, &sink, &d), 0);
        for (size_t i = 0; r >= 0 && i < size; i += piece)
                r = decompress_feed(d, data + i, MIN(piece, size - i), NULL);
        return r < 0 ? r : decompress_finish(d, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        Output a = { .room = 4096 }, b = { .room = 61440 };
        Compression kind;
        int r;

        if (compression_detect(data, size, &kind, NULL) < 0 || kind == COMPRESSION_NONE)
                return 0;
        r = run(kind, data, size, 13, &a);
        if (run(kind, data, size, size, &b) >= 0 && r >= 0) {
                CHECK_EQ(a.len, b.len);
                CHECK(memcmp(a.data, b.data, a.len) == 0);
        }
        free(a.data);
        free(b.data);
        return 0;
}
