/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "record-seal.h"
#include "util/test.h"

static void test_seal(void) {
        static const char plain[] = "{\n  \"version\": 2,\n  \"name\": \"web\",\n  \"list\": [1, 2]\n}\n";
        _cleanup_free_ char *sealed = NULL;
        _cleanup_json_ Json *doc = NULL;
        size_t len;

        CHECK_EQ(record_seal("[]", 2, &sealed, &len), -EINVAL);
        CHECK_EQ(record_seal("{ }", 3, &sealed, &len), -EINVAL);
        CHECK(record_seal(plain, strlen(plain), &sealed, &len) >= 0);
        CHECK_EQ(len, strlen(sealed));
        CHECK(record_unseal(sealed, len, 4096, 2, &doc, NULL) >= 0);
        CHECK_STREQ(json_get_string(doc, "name"), "web");
        for (size_t bit = 0; bit < 8 * len; bit++) {
                Json *other = NULL;

                sealed[bit / 8] ^= (char)(1 << bit % 8);
                if (record_unseal(sealed, len, 4096, 2, &other, NULL) >= 0)
                        TEST_FAIL("bit %zu of byte %zu may flip: %s", bit % 8, bit / 8, sealed);
                sealed[bit / 8] ^= (char)(1 << bit % 8);
        }
        for (size_t n = 0; n < len; n++)
                CHECK(record_unseal(sealed, n, 4096, 2, &(Json *){ NULL }, NULL) < 0);
}

static int unseal(const char *text) {
        _cleanup_json_ Json *doc = NULL;

        return record_unseal(text, strlen(text), 4096, 2, &doc, NULL);
}

static void test_unsealed(void) {
        _cleanup_error_ Error *e = NULL;
        const char *changed = "{\"version\": 2, \"a\": 1,\n  \"checksum\": \"crc32:00000000\"\n}\n";
        static const char *const later[] = {
                "{\"version\": 99}",
                "{\"version\": 99, \"checksum\": \"sha256:0123\"}",
                "{\"version\": 99,\n  \"checksum\": \"crc32:00000000\"\n}\n",
        };
        Json *doc;

        CHECK(unseal("{\"version\": 1}") >= 0);
        CHECK(unseal("{\"version\": 2}") < 0);
        CHECK(unseal("{\"version\": 0}") < 0);
        CHECK(unseal("{}") < 0);
        CHECK(unseal("{\"checksum\":\"none\",\"version\":2}") >= 0);
        CHECK(unseal("{\"version\": 1, \"checksum\": \"crc32:00000000\"}") < 0);
        CHECK(record_unseal(changed, strlen(changed), 4096, 2, &doc, &e) < 0);
        CHECK(strstr(error_message(e), "\"checksum\": \"none\"")); /* what to do is said */
        for (size_t i = 0; i < ELEMENTSOF(later); i++) {
                _cleanup_error_ Error *why = NULL;

                CHECK(record_unseal(later[i], strlen(later[i]), 4096, 2, &doc, &why) < 0);
                CHECK(strstr(error_message(why), "version 99"));
        }
}

int main(void) {
        test_seal();
        test_unsealed();
        return 0;
}
