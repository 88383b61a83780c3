/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever is accepted must be lines that are accepted again, each alone, and come back unchanged. */
#include "fuzz.h"
#include "util/test.h"
#include "worker/ssh-key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = strndup((const char *)data, size);
        _cleanup_strv_ char **keys = NULL;
        _cleanup_error_ Error *e = NULL;

        CHECK(text);
        if (ssh_key_parse(text, &keys, &e) < 0) {
                CHECK_EQ(error_code(e), ERROR_INVALID_KEY);
                return 0;
        }
        CHECK(strv_length(keys) > 0);
        STRV_FOREACH(key, keys) {
                _cleanup_strv_ char **again = NULL;

                CHECK(!strpbrk(*key, "\r\n"));
                CHECK_EQ(ssh_key_parse(*key, &again, NULL), 0);
                CHECK_EQ(strv_length(again), 1);
                CHECK_STREQ(again[0], *key);
        }
        return 0;
}
