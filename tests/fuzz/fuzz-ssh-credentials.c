/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Host keys that are accepted are accepted again, each alone, and come back unchanged. */
#include "fuzz.h"
#include "util/string-util.h"
#include "util/test.h"
#include "worker/ssh-credentials.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_free_ char *text = malloc(size + 1);
        _cleanup_strv_ char **keys = NULL;

        CHECK(text);
        memcpy(text, data, size);
        text[size] = '\0';
        (void)ssh_private_key_check(text, size, NULL);
        if (ssh_known_host_parse(text, &keys, NULL) < 0)
                return 0;
        STRV_FOREACH(key, keys) {
                _cleanup_strv_ char **again = NULL;

                CHECK_EQ(ssh_known_host_parse(*key, &again, NULL), 0);
                CHECK_EQ(strv_length(again), 1);
                CHECK_STREQ(again[0], *key);
        }
        return 0;
}
