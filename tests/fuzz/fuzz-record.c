/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is sealed must be found whole, and the same; and not with any one bit of it flipped. */
#include "core/record-seal.h"
#include "fuzz.h"
#include "util/test.h"

#define SIZE_MAX_OF_RECORD (64 * KIB)

static char *write_tree(const Json *v) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        char *text = NULL;
        size_t len;

        CHECK_EQ(json_writer_new(JSON_WRITER_PRETTY, &w), 0);
        json_write_value(w, v);
        CHECK_EQ(json_writer_finish(w, &text, &len), 0);
        return text;
}

static void check_whole(const Json *v) {
        _cleanup_free_ char *plain = write_tree(v), *sealed = NULL, *again = NULL;
        _cleanup_json_ Json *read = NULL, *flipped = NULL;
        size_t len, bit;

        if (record_seal(plain, strlen(plain), &sealed, &len) < 0 || len > SIZE_MAX_OF_RECORD)
                return;
        CHECK_EQ(record_unseal(sealed, len, SIZE_MAX_OF_RECORD, 1, &read, NULL), 0);
        CHECK_EQ(json_length(read), json_length(v) + 1);
        again = write_tree(read);
        CHECK_STREQ(again, sealed);
        bit = strlen(plain) * 7919 % (8 * len);
        sealed[bit / 8] ^= (char)(1 << bit % 8);
        CHECK(record_unseal(sealed, len, SIZE_MAX_OF_RECORD, 1, &flipped, NULL) < 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        const JsonLimits limits = { .max_size = SIZE_MAX_OF_RECORD };
        _cleanup_json_ Json *v = NULL, *record = NULL;
        _cleanup_error_ Error *e = NULL;

        if (record_unseal((const char *)data, size, SIZE_MAX_OF_RECORD, 2, &record, &e) < 0)
                CHECK(e);
        if (json_parse((const char *)data, size, &limits, &v, NULL) >= 0 && json_type(v) == JSON_OBJECT &&
                        !json_get(v, "checksum"))
                check_whole(v);
        return 0;
}
