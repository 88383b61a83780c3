/* SPDX-License-Identifier: GPL-2.0-or-later */
/* With pieces of all sizes on both sides; whole files are in test-pull.py. */
#include "decompress.h"
#include "util/test.h"

/* "Hello, hello, hello, world\n", made by zstd, gzip -n, xz and bzip2 */
static const uint8_t hello_zstd[] = { 0x28, 0xb5, 0x2f, 0xfd, 0x04, 0x58, 0xa5, 0x00, 0x00, 0x70, 0x48, 0x65,
        0x6c, 0x6c, 0x6f, 0x2c, 0x20, 0x68, 0x77, 0x6f, 0x72, 0x6c, 0x64, 0x0a, 0x01, 0x00, 0x3a, 0x0a, 0x17,
        0xe4, 0x83, 0x09, 0x70 };
static const uint8_t hello_gzip[] = { 0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0xf3, 0x48,
        0xcd, 0xc9, 0xc9, 0xd7, 0x51, 0xc8, 0x40, 0xa1, 0xca, 0xf3, 0x8b, 0x72, 0x52, 0xb8, 0x00, 0x69, 0x26,
        0x4a, 0x7e, 0x1b, 0x00, 0x00, 0x00 };
static const uint8_t hello_xz[] = { 0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00, 0x00, 0x04, 0xe6, 0xd6, 0xb4, 0x46,
        0x02, 0x00, 0x21, 0x01, 0x16, 0x00, 0x00, 0x00, 0x74, 0x2f, 0xe5, 0xa3, 0xe0, 0x00, 0x1a, 0x00, 0x14,
        0x5d, 0x00, 0x24, 0x19, 0x49, 0x98, 0x6f, 0x16, 0x02, 0x8b, 0x25, 0xbc, 0x00, 0x73, 0xc0, 0xa7, 0x86,
        0x51, 0x43, 0xd0, 0x00, 0x00, 0x00, 0x6c, 0x97, 0xd8, 0x02, 0x81, 0x88, 0x39, 0x9d, 0x00, 0x01, 0x30,
        0x1b, 0x34, 0x4a, 0xa5, 0x75, 0x1f, 0xb6, 0xf3, 0x7d, 0x01, 0x00, 0x00, 0x00, 0x00, 0x04, 0x59,
        0x5a };
static const uint8_t hello_bzip2[] = { 0x42, 0x5a, 0x68, 0x39, 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, 0x54,
        0x17, 0x59, 0x82, 0x00, 0x00, 0x03, 0xd5, 0x80, 0x00, 0x10, 0x40, 0x04, 0x00, 0x40, 0x06, 0x44, 0x90,
        0x80, 0x20, 0x00, 0x31, 0x00, 0xd3, 0x4d, 0x03, 0x20, 0x1a, 0x13, 0x05, 0x18, 0x56, 0x86, 0x0d, 0xd3,
        0x40, 0xf2, 0xaf, 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, 0x54, 0x17, 0x59, 0x82 };

#define HELLO "Hello, hello, hello, world\n"

static const struct {
        Compression kind;
        const uint8_t *data;
        size_t len;
} table[] = {
        { COMPRESSION_ZSTD, hello_zstd, sizeof(hello_zstd) },
        { COMPRESSION_GZIP, hello_gzip, sizeof(hello_gzip) },
        { COMPRESSION_XZ, hello_xz, sizeof(hello_xz) },
        { COMPRESSION_BZIP2, hello_bzip2, sizeof(hello_bzip2) },
};

typedef struct Result {
        size_t room; /* what the sink offers at a time */
        char text[256];
        size_t len;
        int fail; /* what it returns after the first piece */
} Result;

static int reserve(void *userdata, void **ret, size_t *ret_size) {
        Result *r = userdata;

        CHECK(r->len + r->room <= sizeof(r->text));
        *ret = r->text + r->len;
        *ret_size = r->room;
        return 0;
}

static int commit(void *userdata, size_t len, Error **reterr) {
        Result *r = userdata;

        CHECK(len > 0 && len <= r->room);
        r->len += len;
        return r->fail;
}

static int run(Compression kind, const uint8_t *data, size_t len, size_t piece, Result *result,
                Error **reterr) {
        const DecompressSink sink = { .reserve = reserve, .commit = commit, .userdata = result };
        _cleanup_(decompress_freep) Decompress *d = NULL;
        int r = 0;

        CHECK_EQ(decompress_new(kind, &sink, &d), 0);
        for (size_t i = 0; r >= 0 && i < len; i += piece)
                r = decompress_feed(d, data + i, MIN(piece, len - i), reterr);
        return r < 0 ? r : decompress_finish(d, reterr);
}

static void check_hellos(size_t i, const uint8_t *data, size_t len, const char *expected) {
        for (size_t piece = 1; piece <= len; piece += 5)
                for (size_t room = 1; room <= 33; room += 16) {
                        _cleanup_error_ Error *e = NULL;
                        Result result = { .room = room };

                        if (run(table[i].kind, data, len, piece, &result, &e) < 0)
                                TEST_FAIL("%s, %zu, %zu: %s", compression_to_string(table[i].kind), piece,
                                                room, error_message(e));
                        CHECK_EQ(result.len, strlen(expected));
                        CHECK(memcmp(result.text, expected, result.len) == 0);
                }
}

static void expect_refused(size_t i, const uint8_t *data, size_t len, size_t piece, const char *words) {
        _cleanup_error_ Error *e = NULL;
        Result result = { .room = 16 };

        CHECK(run(table[i].kind, data, len, piece, &result, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_INVALID_IMAGE);
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
}

static void test_whole(void) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                uint8_t two[512];
                Compression kind;

                CHECK_EQ(compression_detect(table[i].data, table[i].len, &kind, NULL), 0);
                CHECK_EQ(kind, table[i].kind);
                check_hellos(i, table[i].data, table[i].len, HELLO);
                memcpy(two, table[i].data, table[i].len);
                memcpy(two + table[i].len, table[i].data, table[i].len);
                check_hellos(i, two, 2 * table[i].len, HELLO HELLO);
        }
}

static void test_cut_off(void) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t len = 0; len < table[i].len; len++)
                        expect_refused(i, table[i].data, len, 7, "cut off");
}

static void test_garbage(void) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t n = 1; n < 20; n++)
                        for (size_t piece = 1; piece < 100; piece += 13) {
                                uint8_t data[256] = {};

                                memcpy(data, table[i].data, table[i].len);
                                if (table[i].kind == COMPRESSION_XZ && n % 4 == 0) {
                                        check_hellos(i, data, table[i].len + n, HELLO); /* padding */
                                        continue;
                                }
                                expect_refused(i, data, table[i].len + n, piece, "follows behind");
                        }
}

static void test_sink_fails(void) {
        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                Result result = { .room = 4, .fail = -ENOSPC };

                CHECK_EQ(run(table[i].kind, table[i].data, table[i].len, 1000, &result, NULL), -ENOSPC);
                CHECK_EQ(result.len, 4);
        }
}

static void test_detect(void) {
        uint8_t tar[COMPRESSION_HEADER_SIZE] = {};
        Compression kind;

        CHECK_EQ(compression_detect("", 0, &kind, NULL), 0);
        CHECK_EQ(kind, COMPRESSION_NONE);
        CHECK_EQ(compression_detect(tar, sizeof(tar), &kind, NULL), 0);
        CHECK_EQ(kind, COMPRESSION_NONE);
        memcpy(tar + 257, "ustar", 5);
        CHECK(compression_detect(tar, sizeof(tar), &kind, NULL) < 0);
        CHECK(compression_detect("PK\x03\x04", 4, &kind, NULL) < 0);
        for (int i = 0; i < _COMPRESSION_MAX; i++)
                CHECK_EQ(compression_from_string(compression_to_string((Compression)i)), i);
}

int main(void) {
        test_whole();
        test_cut_off();
        test_garbage();
        test_sink_fails();
        test_detect();
        return 0;
}
