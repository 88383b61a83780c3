/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is found are digests that stand in the text. */
#include <strings.h>

#include "fuzz.h"
#include "util/test.h"
#include "worker/checksums.h"

static void check(const char *hex, size_t digits, const char *text) {
        if (isempty(hex))
                return;
        CHECK_EQ(strlen(hex), digits);
        CHECK_EQ(strspn(hex, "0123456789abcdef"), digits);
        CHECK(strcasestr(text, hex));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *copy = malloc(size + 1), *text = malloc(size + 1);
        _cleanup_error_ Error *e = NULL;
        Checksums found;

        CHECK(copy && text);
        for (size_t i = 0; i < size; i++) {
                copy[i] = (char)data[i];
                text[i] = data[i] ? (char)data[i] : '\n';
        }
        text[size] = '\0';
        if (checksums_find(copy, size, "disk.img", &found, &e) < 0) {
                CHECK_EQ(error_code(e), ERROR_DIGEST_MISMATCH);
                return 0;
        }
        CHECK(!isempty(found.sha256) || !isempty(found.sha512));
        check(found.sha256, SHA256_HEX_SIZE, text);
        check(found.sha512, SHA512_HEX_SIZE, text);
        return 0;
}
