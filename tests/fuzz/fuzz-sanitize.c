/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever a guest prints, a terminal gets nothing but UTF-8 text, line ends, tabs and colours; and gets the
 * same in whatever pieces it came. */
#include "ctl/sanitize.h"
#include "fuzz.h"
#include "util/test.h"

static char *sanitize(const char *data, size_t size, size_t split, bool plain, size_t *ret_len) {
        Sanitizer s = { .plain = plain };
        char *text = NULL;
        FILE *f = open_memstream(&text, ret_len);

        CHECK(f);
        sanitize_write(&s, f, data, split);
        sanitize_write(&s, f, data + split, size - split);
        sanitize_end(&s, f);
        CHECK(fclose(f) == 0);
        return text;
}

/* The length of ESC [ digits and semicolons m. */
static size_t color_length(const char *s) {
        size_t n = s[1] == '[' ? 2 + strspn(s + 2, "0123456789;") : 0;

        return n > 0 && s[n] == 'm' ? n + 1 : 0;
}

static void check_harmless(const char *text, size_t len, bool plain) {
        CHECK(utf8_is_valid(text, len));
        for (size_t i = 0; i < len; i++) {
                unsigned char c = (unsigned char)text[i];

                if (c == 0x1b) {
                        CHECK(!plain && color_length(text + i) > 0);
                        i += color_length(text + i) - 1;
                } else
                        CHECK(c == '\n' || c == '\r' || c == '\t' || (c >= ' ' && c != 0x7f));
                CHECK(c != 0xc2 || (unsigned char)text[i + 1] >= 0xa0);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        for (int plain = 0; plain <= 1; plain++) {
                size_t len, split_len;
                _cleanup_free_ char *text = sanitize((const char *)data, size, 0, plain, &len);
                _cleanup_free_ char *split = sanitize((const char *)data, size, size / 2, plain, &split_len);

                check_harmless(text, len, plain);
                CHECK_EQ(split_len, len);
                CHECK(memcmp(split, text, len) == 0);
        }
        return 0;
}
