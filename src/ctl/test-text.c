/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "sanitize.h"
#include "table.h"
#include "text.h"
#include "util/nearest.h"
#include "util/test.h"

#define CHECK_TEXT(call, expected)                   \
        do {                                         \
                _cleanup_free_ char *_text = (call); \
                CHECK_STREQ(_text, expected);        \
        } while (false)

static void test_duration(void) {
        CHECK_TEXT(text_duration(0), "0s");
        CHECK_TEXT(text_duration(999), "0s");
        CHECK_TEXT(text_duration(350 * USEC_PER_MSEC), "350ms");
        CHECK_TEXT(text_duration(1999 * USEC_PER_MSEC), "1s");
        CHECK_TEXT(text_duration(60 * USEC_PER_SEC), "1min");
        CHECK_TEXT(text_duration(123 * USEC_PER_SEC), "2min 3s");
        CHECK_TEXT(text_duration(3600 * USEC_PER_SEC + 59 * USEC_PER_SEC), "1h");
        CHECK_TEXT(text_duration((24 * 3600 + 4 * 3600) * USEC_PER_SEC), "1day 4h");
}

static void test_size(void) {
        CHECK_TEXT(text_size(0), "0B");
        CHECK_TEXT(text_size(1023), "1023B");
        CHECK_TEXT(text_size(1024), "1K");
        CHECK_TEXT(text_size(1536), "1.5K");
        CHECK_TEXT(text_size(MIB - 1), "1023.9K");
        CHECK_TEXT(text_size(2 * GIB), "2G");
        CHECK_TEXT(text_size(UINT64_MAX), "15.9E");
}

static void test_timestamp(void) {
        CHECK(setenv("TZ", "UTC", 1) == 0);
        CHECK_TEXT(text_timestamp(0), "-");
        CHECK_TEXT(text_timestamp(UINT64_C(1714990272) * USEC_PER_SEC), "Mon 2024-05-06 10:11:12 UTC");
}

static void test_timespan(void) {
        static const struct {
                const char *text;
                int r;
                uint64_t usec;
        } spans[] = {
                { "30", 0, 30 * USEC_PER_SEC },
                { "0", 0, 0 },
                { "500ms", 0, 500 * USEC_PER_MSEC },
                { "2min", 0, 120 * USEC_PER_SEC },
                { "2m", 0, 120 * USEC_PER_SEC },
                { "1h", 0, 3600 * USEC_PER_SEC },
                { "30d", 0, UINT64_C(30) * 24 * 3600 * USEC_PER_SEC },
                { "1day", 0, UINT64_C(24) * 3600 * USEC_PER_SEC },
                { "2w", 0, UINT64_C(14) * 24 * 3600 * USEC_PER_SEC },
                { "", -EINVAL, 0 },
                { "s", -EINVAL, 0 },
                { "-1", -EINVAL, 0 },
                { "1.5", -EINVAL, 0 },
                { "1x", -EINVAL, 0 },
                { "1 s", -EINVAL, 0 },
                { "99999999999999999999", -ERANGE, 0 },
                { "9999999999999h", -ERANGE, 0 },
        };

        for (size_t i = 0; i < ELEMENTSOF(spans); i++) {
                uint64_t usec = 0;

                CHECK_EQ(parse_timespan(spans[i].text, &usec), spans[i].r);
                CHECK_EQ(usec, spans[i].usec);
        }
}

static void test_percent(void) {
        uint32_t v;

        CHECK(parse_percent("20%", &v) == 0 && v == 20);
        CHECK(parse_percent("250", &v) == 0 && v == 250);
        CHECK_EQ(parse_percent("", &v), -EINVAL);
        CHECK_EQ(parse_percent("%", &v), -EINVAL);
        CHECK_EQ(parse_percent("2%%", &v), -EINVAL);
        CHECK_EQ(parse_percent("4294967296%", &v), -ERANGE);
}

static void test_quote(void) {
        CHECK_TEXT(shell_quote("plain-1.2_3/x:y=z"), "plain-1.2_3/x:y=z");
        CHECK_TEXT(shell_quote(""), "''");
        CHECK_TEXT(shell_quote("two words"), "'two words'");
        CHECK_TEXT(shell_quote("it's"), "'it'\\''s'");
        CHECK_TEXT(shell_quote("$(reboot)"), "'$(reboot)'");
        CHECK_TEXT(shell_quote("~"), "'~'");
        CHECK_TEXT(shell_quote("a\nb"), "'a\nb'");
}

static void test_distance(void) {
        CHECK_EQ(word_distance("start", "start"), 0);
        CHECK_EQ(word_distance("strat", "start"), 1);
        CHECK_EQ(word_distance("", "ls"), 2);
        CHECK_EQ(word_distance("stop", "start"), 3);
        CHECK_EQ(word_distance("suspend", "suspnedx"), 2);
        CHECK_EQ(word_distance("a word that is far longer than any verb", "ls"), SIZE_MAX);
}

/* What `body` prints into a stream. */
#define PRINTED(stream, body)                                \
        ({                                                   \
                char *_buf = NULL;                           \
                size_t _len;                                 \
                FILE *stream = open_memstream(&_buf, &_len); \
                                                             \
                CHECK(stream);                               \
                body;                                        \
                CHECK(fclose(stream) == 0);                  \
                _buf;                                        \
        })

static void test_table(void) {
        static const Column columns[] = { { "NAME", .shrink = true }, { "N", .right = true }, { "STATE" } };
        _cleanup_(table_freep) Table *t = table_new(columns, ELEMENTSOF(columns), 2);

        CHECK(t);
        CHECK(table_add(t, "a-name-that-is-longer-than-a-cell", STYLE_NONE) == 0);
        CHECK(table_addf(t, "%i", 1000) == 0);
        CHECK(table_add(t, "running", STYLE_GREEN) == 0);
        CHECK(table_add(t, "größe", STYLE_NONE) == 0);
        CHECK(table_addf(t, "%i", 5) == 0);
        CHECK(table_add(t, "", STYLE_NONE) == 0);
        CHECK_EQ(table_add(t, "too much", STYLE_NONE), -ENOBUFS);

        CHECK_TEXT(PRINTED(f, table_print(t, f, SIZE_MAX)),
                        "NAME                                  N  STATE\n"
                        "a-name-that-is-longer-than-a-cell  1000  running\n"
                        "größe                                 5  -\n");
        CHECK_TEXT(PRINTED(f, table_print(t, f, 30)),
                        "NAME                N  STATE\n"
                        "a-name-that-is…  1000  running\n"
                        "größe               5  -\n");
        /* Narrower than the columns can become. */
        CHECK_TEXT(PRINTED(f, table_print(t, f, 10)),
                        "NAME         N  STATE\n"
                        "a-name-…  1000  running\n"
                        "größe        5  -\n");
}

/* Names of snapshots come from images of anybody. */
static void test_table_of_controls(void) {
        static const Column columns[] = { { "NAME" }, { "STATE" } };
        _cleanup_(table_freep) Table *t = table_new(columns, ELEMENTSOF(columns), 1);

        CHECK(t);
        CHECK(table_add(t, "a\033]0;b\007\n", STYLE_NONE) == 0);
        CHECK(table_add(t, "\302\2331m\377", STYLE_NONE) == 0);
        CHECK_TEXT(PRINTED(f, table_print(t, f, SIZE_MAX)),
                        "NAME               STATE\n"
                        "a\\x1b]0;b\\x07\\x0a  \\xc2\\x9b1m\\xff\n");
}

static void check_sanitized(const char *in, const char *expected) {
        size_t len = strlen(in);

        /* Whole, and split at every place. */
        for (size_t i = 0; i <= len; i++) {
                Sanitizer s = {};

                CHECK_TEXT(PRINTED(f,
                                           {
                                                   sanitize_write(&s, f, in, i);
                                                   sanitize_write(&s, f, in + i, len - i);
                                                   sanitize_end(&s, f);
                                           }),
                                expected);
        }
}

static void test_sanitize(void) {
        check_sanitized("plain\r\n\ttext\n", "plain\r\n\ttext\n");
        check_sanitized("\033[1;31mred\033[0m", "\033[1;31mred\033[0m");
        check_sanitized("\033[31mred", "\033[31mred\033[0m");
        check_sanitized("a\033[2J\033[10;10Hb\033[?25lc\033[6nd", "abcd");
        check_sanitized("a\033]0;title\007b\033]52;c;x\033\\c\033Pq#\033\\d", "abcd");
        check_sanitized("a\033]0;never ended\nnext line", "anext line");
        check_sanitized("a\033(Bb\033cc\033=d", "abcd");
        check_sanitized("a\007\010\013\177b", "ab");
        check_sanitized("\033[>4;1m\033[4:3mx", "x");
        check_sanitized("\033[1111111111111111111111111111111111111111mx", "x");
        check_sanitized("gr\303\266\303\237e \342\202\254", "gr\303\266\303\237e \342\202\254");
        check_sanitized("a\302\2332Jb", "a2Jb"); /* CSI as U+009B */
        check_sanitized("a\233b\377", "a\357\277\275b\357\277\275");
        check_sanitized("\342\202x", "\357\277\275x");
        check_sanitized("\355\240\200", "\357\277\275"); /* a surrogate */
        check_sanitized("a\033[\033[31mb", "a\033[31mb\033[0m");
}

static void test_plain(void) {
        Sanitizer s = { .plain = true };

        CHECK_TEXT(PRINTED(f,
                                   {
                                           sanitize_write(&s, f, "\033[31mred\033[0m", 12);
                                           sanitize_end(&s, f);
                                   }),
                        "red");
}

int main(void) {
        test_duration();
        test_size();
        test_timestamp();
        test_timespan();
        test_percent();
        test_quote();
        test_distance();
        test_table();
        test_table_of_controls();
        test_sanitize();
        test_plain();
        return 0;
}
