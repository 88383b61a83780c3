/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <locale.h>
#include <math.h>
#include <time.h>

#include "json.h"
#include "util/test.h"

static Json *parse(const char *text) {
        _cleanup_error_ Error *error = NULL;
        Json *v = NULL;

        if (json_parse(text, strlen(text), NULL, &v, &error) < 0)
                TEST_FAIL("'%s': %s", text, error_message(error));
        return v;
}

static void check_refused_n(const char *text, size_t len, const JsonLimits *limits, int expected,
                const char *part_of_message) {
        _cleanup_error_ Error *error = NULL;
        Json *v = (Json *)0x1;
        int r = json_parse(text, len, limits, &v, &error);

        if (r != expected)
                TEST_FAIL("'%.60s': %d, expected %d", text, r, expected);
        CHECK(v == (Json *)0x1);
        if (!strstr(error_message(error), part_of_message))
                TEST_FAIL("'%.60s': \"%s\", expected \"%s\"", text, error_message(error), part_of_message);
}

static void check_refused(const char *text, const char *part_of_message) {
        check_refused_n(text, strlen(text), NULL, -EBADMSG, part_of_message);
}

static char *write_tree(const Json *v, JsonWriterFlags flags) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        char *text = NULL;
        size_t len;

        CHECK_EQ(json_writer_new(flags, &w), 0);
        json_write_value(w, v);
        CHECK_EQ(json_writer_finish(w, &text, &len), 0);
        CHECK_EQ(strlen(text), len);
        return text;
}

static void check_round_trip(const char *text, const char *expected) {
        _cleanup_json_ Json *v = parse(text);
        _cleanup_free_ char *out = write_tree(v, 0);

        CHECK_STREQ(out, expected);
}

static void test_round_trips(void) {
        static const char *const texts[] = { "null", "true", "false", "0", "-1", "\"\"", "[]", "{}",
                "[[],{},[[]]]", "{\"a\":{\"b\":[1,2,{\"c\":null}]},\"\":\"empty key\"}",
                "\"\\\"\\\\/\\b\\f\\n\\r\\t\\u0001\\u001F\"", "\"grüße, 世界 \xf0\x9f\x98\x80 \x7f\"",
                "9223372036854775807", "-9223372036854775808", "9223372036854775808", "18446744073709551615",
                "1.5", "0.1", "-0.0", "1e+300", "4.94065645841247e-324", "1.7976931348623157e+308",
                "0.30000000000000004", "1.0", "[1,\"b\",{\"c\":[true,false,null]},2.5]" };

        for (size_t i = 0; i < ELEMENTSOF(texts); i++)
                check_round_trip(texts[i], texts[i]);
        check_round_trip(" \t\r\n[ 1 , 2 ]\n ", "[1,2]");
        check_round_trip("\"\\u0041\\u00e9\\u20ac\\ud83d\\ude00\\/\\uD83D\\uDE00x\"", "\"Aé€😀/😀x\"");
        check_round_trip("-0", "0");
        check_round_trip("1E2", "100.0");
}

static void test_accessors(void) {
        _cleanup_json_ Json *v = parse("{\"s\":\"text\",\"t\":true,\"i\":-7,\"u\":18446744073709551615,"
                                       "\"r\":2.5,\"n\":null,\"a\":[10,11],\"o\":{\"k\":1}}");
        int64_t i = 0;
        uint64_t u = 0;
        double d = 0;

        CHECK_EQ(json_type(v), JSON_OBJECT);
        CHECK_EQ(json_length(v), 8);
        CHECK_STREQ(json_get_string(v, "s"), "text");
        CHECK_EQ(json_get_boolean(v, "t"), 1);
        CHECK_EQ(json_integer(json_get(v, "i"), &i), 0);
        CHECK_EQ(i, -7);
        CHECK_EQ(json_get_unsigned(v, "i", &u), -EINVAL);
        CHECK_EQ(json_get_unsigned(v, "u", &u), 0);
        CHECK(u == UINT64_MAX);
        CHECK_EQ(json_integer(json_get(v, "u"), &i), -EINVAL);
        CHECK_EQ(json_type(json_get(v, "u")), JSON_INTEGER);
        CHECK(json_real(json_get(v, "u"), &d) == 0 && d == 0x1p64);
        CHECK(json_real(json_get(v, "i"), &d) == 0 && d == -7);
        CHECK(json_real(json_get(v, "r"), &d) == 0 && d == 2.5);
        CHECK_EQ(json_integer(json_get(v, "r"), &i), -EINVAL);
        CHECK(json_is_null(json_get(v, "n")) && json_type(json_get(v, "n")) == JSON_NULL);
        CHECK(json_is_null(json_get(v, "absent")) && !json_get(v, "absent"));
        CHECK(json_integer(json_element(json_get(v, "a"), 1), &i) == 0 && i == 11);
        CHECK(!json_element(json_get(v, "a"), 2) && !json_element(v, 0));
        CHECK_STREQ(json_key(v, 0), "s");
        CHECK_STREQ(json_key(v, 7), "o");
        CHECK(!json_key(v, 8) && !json_member(v, 8));
        CHECK(json_member(v, 7) == json_get(v, "o"));

        /* The wrong type, and nothing at all. */
        CHECK(!json_string(v) && !json_string(NULL) && !json_get(json_get(v, "a"), "k"));
        CHECK_EQ(json_boolean(json_get(v, "i")), -EINVAL);
        CHECK_EQ(json_type(NULL), _JSON_TYPE_INVALID);
        CHECK_EQ(json_length(NULL) + json_length(json_get(v, "s")), 0);
        CHECK(!json_get(NULL, "x") && !json_element(NULL, 0) && !json_key(NULL, 0) && !json_member(NULL, 0));
        CHECK_EQ(json_boolean(NULL), -EINVAL);
        CHECK_EQ(json_unsigned(NULL, &u), -EINVAL);
        CHECK_EQ(json_real(NULL, &d), -EINVAL);
        CHECK(!json_free(NULL));
}

static void test_refused(void) {
        static const char *const truncated = "{\"a\":[1,true,null,\"x\\u00e9\",{\"b\":-1.5e3}]}";

        check_refused("", "premature EOF");
        check_refused("  \n", "line 2, column 1");
        check_refused("{\"a\":1} x", "line 1, column 9");
        check_refused("1 2", "trailing");
        check_refused("{}{}", "trailing");
        check_refused("{}\n[]", "line 2");
        check_refused("{\"a\":1,\n \"b\" 2}", "line 2, column 6");
        check_refused("[1,]", "Not valid JSON");
        check_refused("{\"a\":1,}", "");
        check_refused("{'a':1}", "");
        check_refused("{a:1}", "");
        check_refused("[1 2]", "");
        check_refused("01", "");
        check_refused("+1", "");
        check_refused("1.", "");
        check_refused(".5", "");
        check_refused("NaN", "");
        check_refused("nul", "");
        check_refused("/* c */ 1", "");
        check_refused("\xef\xbb\xbf{}", "");
        check_refused("\"a\nb\"", "");
        check_refused("\"\\x41\"", "");
        check_refused("\"\\u00g0\"", "");
        for (size_t n = 0; n < strlen(truncated); n++)
                check_refused_n(truncated, n, NULL, -EBADMSG, "line 1");
}

static void test_strings(void) {
        check_refused("\"a\\u0000b\"", "NUL");
        check_refused("{\"a\\u0000b\":1}", "NUL");
        check_refused_n("\"a\0b\"", 5, NULL, -EBADMSG, "line 1, column");
        check_refused("\"\xff\"", "UTF");
        check_refused("\"\xc3\"", "UTF");
        check_refused("\"\xc0\xaf\"", "UTF");         /* overlong */
        check_refused("\"\xed\xa0\x80\"", "UTF");     /* a surrogate */
        check_refused("\"\xf4\x90\x80\x80\"", "UTF"); /* beyond U+10FFFF */
        check_refused("{\"\xed\xa0\x80\":1}", "UTF");
        check_refused("\"\\ud83d\"", "surrogate");
        check_refused("\"\\ud83dx\"", "surrogate");
        check_refused("\"\\ud83d\\n\"", "surrogate");
        check_refused("\"\\ud83d\\u0041\"", "surrogate");
        check_refused("\"\\ude00\"", "surrogate");
        check_refused("\"\\ud83d\\ud83d\\ude00\"", "surrogate");
        check_refused("[\n\"ab\\uDE00\"]", "line 2, column 4");
        check_round_trip("\"\\\\ud83d\"", "\"\\\\ud83d\"");
        check_refused("\"\\", "");
}

static double real_of(const char *text) {
        _cleanup_json_ Json *v = parse(text);
        double d = 0;

        CHECK_EQ(json_type(v), JSON_REAL);
        CHECK_EQ(json_real(v, &d), 0);
        return d;
}

static char *repeat(const char *prefix, const char *unit, size_t n, const char *suffix) {
        size_t a = strlen(prefix), u = strlen(unit), s = strlen(suffix);
        char *text = malloc(a + n * u + s + 1), *p = text;

        CHECK(text);
        p = mempcpy(p, prefix, a);
        for (size_t i = 0; i < n; i++)
                p = mempcpy(p, unit, u);
        memcpy(p, suffix, s + 1);
        return text;
}

static void test_numbers(void) {
        _cleanup_free_ char *digits = repeat("1", "0", 300, ""), *many = repeat("0.", "3", 1022, ""),
                            *too_many = repeat("0.", "3", 1023, "");

        CHECK(real_of("18446744073709551616") == 0x1p64);
        CHECK(real_of("-9223372036854775809") == -0x1p63);
        CHECK(real_of(digits) == 1e300);
        CHECK(real_of("1e-400") == 0);
        CHECK(real_of(many) == 1.0 / 3);
        check_refused_n("1e400", 5, NULL, -EFBIG, "out of range");
        check_refused_n("[-1e400]", 8, NULL, -EFBIG, "out of range");
        check_refused_n(too_many, strlen(too_many), NULL, -EFBIG, "too long");
}

/* Whatever the program's locale says, JSON has a point. */
static void test_locale(void) {
        if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
                return;
        check_round_trip("[2.5,1e-07]", "[2.5,1e-07]");
        setlocale(LC_ALL, "C");
}

static void test_limits(void) {
        static const JsonLimits small = { .max_size = 20, .max_depth = 3, .max_values = 5 };
        _cleanup_free_ char *deep = repeat("", "[", 64, ""), *deeper = repeat("", "[", 100000, ""),
                            *wide = repeat("[", "1,", 65535, "1]"), *long_text = NULL;
        _cleanup_json_ Json *nested = NULL, *v = NULL;
        _cleanup_free_ char *closed = repeat(deep, "]", 64, ""),
                            *siblings = repeat("[", "[{}],", 100, "{}]");

        check_refused_n("\"123456789012345678\" ", 21, &small, -EFBIG, "21 bytes");
        check_refused_n("[[[[]]]]", 8, &small, -EFBIG, "column 4: nested");
        check_refused_n("[{\"a\":{\"b\":[]}}]", 17, &small, -EFBIG, "nested");
        check_refused_n("[1,2,3,4,5]", 11, &small, -EFBIG, "too many values");
        check_refused_n("[1,[],3,4,{}]", 13, &small, -EFBIG, "too many values");
        CHECK_EQ(json_parse("[[[]],1,2]", 10, &small, &v, NULL), 0);
        v = json_free(v);
        CHECK_EQ(json_parse("\"123456789012345678\"", 20, &small, &v, NULL), 0);

        json_free(parse(siblings));
        nested = parse(closed);
        nested = json_free(nested);
        check_refused_n(deeper, strlen(deeper), NULL, -EFBIG, "nested too deeply");
        check_refused_n(wide, strlen(wide), NULL, -EFBIG, "too many values");
        wide[strlen(wide) - 3] = ']';
        wide[strlen(wide) - 2] = '\0';
        nested = parse(wide);
        CHECK_EQ(json_length(nested), 65535);

        long_text = repeat("\"", "x", MIB - 2, "\"");
        json_free(parse(long_text));
        check_refused_n(long_text, MIB + 1, NULL, -EFBIG, "1048577 bytes");
}

/* {"k0":0,"k1":1,…}, with "k<again>" once more at the end unless that is negative. */
static char *many_keys(unsigned n, int again) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        FILE *f = open_memstream(&text, &len);

        CHECK(f);
        fputc('{', f);
        for (unsigned i = 0; i < n; i++)
                fprintf(f, "%s\"k%u\":%u", i > 0 ? "," : "", i, i);
        if (again >= 0)
                fprintf(f, ",\"k%d\":null", again);
        fputc('}', f);
        fclose(f);
        return TAKE_PTR(text);
}

static void check_keys(unsigned n) {
        _cleanup_free_ char *text = many_keys(n, -1), *twice = many_keys(n, 0),
                            *last = many_keys(n, (int)n - 1);
        _cleanup_json_ Json *v = parse(text);

        CHECK_EQ(json_length(v), n);
        for (unsigned i = 0; i < n; i++) {
                char key[16];
                uint64_t u = 0;

                snprintf(key, sizeof(key), "k%u", i);
                CHECK_EQ(json_get_unsigned(v, key, &u), 0);
                CHECK_EQ(u, i);
                CHECK_STREQ(json_key(v, i), key);
        }
        CHECK(!json_get(v, "") && !json_get(v, "k") && !json_get(v, "z"));
        if (n > 0) {
                check_refused(twice, "twice");
                check_refused(last, "twice");
        }
}

static void test_keys(void) {
        for (unsigned n = 0; n <= 20; n++)
                check_keys(n);
        check_refused("{\"a\":1,\"\\u0061\":2}", "twice");
        check_refused("[{\"x\":{\"a\":1,\"a\":1}}]", "twice");
        json_free(parse("{\"a\":{\"a\":{\"a\":1}},\"b\":{\"a\":1}}"));
}

/* 50,000 keys take milliseconds; comparing each with each would take some 10 seconds. */
static void test_many_keys(void) {
        struct timespec start, end;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &start);
        check_keys(50000);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
        CHECK(end.tv_sec - start.tv_sec < 5);
}

static void test_pretty(void) {
        static const char expected[] = "{\n"
                                       "  \"a\": {},\n"
                                       "  \"b\": [],\n"
                                       "  \"c\": [\n"
                                       "    1,\n"
                                       "    [],\n"
                                       "    {\n"
                                       "      \"d\": null\n"
                                       "    }\n"
                                       "  ]\n"
                                       "}\n";
        _cleanup_json_ Json *v = parse("{\"a\":{},\"b\":[],\"c\":[1,[],{\"d\":null}]}"),
                            *empty = parse("[]");
        _cleanup_free_ char *text = write_tree(v, JSON_WRITER_PRETTY), *none = NULL;

        CHECK_STREQ(text, expected);
        none = write_tree(empty, JSON_WRITER_PRETTY);
        CHECK_STREQ(none, "[]\n");
}

static void test_writer(void) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL;
        size_t len = 0;

        CHECK_EQ(json_writer_new(0, &w), 0);
        json_write_object(w);
        json_put_string(w, "quote\"d", "line\nfeed");
        json_put_string(w, "none", NULL);
        json_put_unsigned(w, "u", UINT64_MAX);
        json_put_boolean(w, "b", true);
        json_write_key(w, "i");
        json_write_integer(w, INT64_MIN);
        json_write_key(w, "r");
        json_write_real(w, 1e100);
        json_write_key(w, "part");
        json_write_string_n(w, "abcdef", 3);
        json_write_key(w, "absent");
        json_write_value(w, NULL);
        json_write_end(w);
        CHECK_EQ(json_writer_finish(w, &text, &len), 0);
        CHECK_STREQ(text,
                        "{\"quote\\\"d\":\"line\\nfeed\",\"none\":null,\"u\":18446744073709551615,"
                        "\"b\":true,\"i\":-9223372036854775808,\"r\":1e+100,\"part\":\"abc\","
                        "\"absent\":null}");
        CHECK_EQ(len, strlen(text));
        CHECK_EQ(json_writer_finish(w, &text, &len), -EINVAL);
}

/* Each of these leaves the writer with a wrong document. */
static void write_nothing(JsonWriter *w) {
}
static void write_open(JsonWriter *w) {
        json_write_object(w);
}
static void write_end_only(JsonWriter *w) {
        json_write_end(w);
}
static void write_two(JsonWriter *w) {
        json_write_null(w);
        json_write_null(w);
}
static void write_two_arrays(JsonWriter *w) {
        json_write_array(w);
        json_write_end(w);
        json_write_array(w);
        json_write_end(w);
}
static void write_without_key(JsonWriter *w) {
        json_write_object(w);
        json_write_string(w, "a");
        json_write_end(w);
}
static void write_without_value(JsonWriter *w) {
        json_write_object(w);
        json_write_key(w, "a");
        json_write_end(w);
}
static void write_two_keys(JsonWriter *w) {
        json_write_object(w);
        json_write_key(w, "a");
        json_write_key(w, "b");
        json_write_end(w);
}
static void write_key_in_array(JsonWriter *w) {
        json_write_array(w);
        json_write_key(w, "a");
        json_write_end(w);
}
static void write_invalid_utf8(JsonWriter *w) {
        json_write_string(w, "\xed\xa0\x80");
}
static void write_invalid_key(JsonWriter *w) {
        json_write_object(w);
        json_write_key(w, "\xff");
        json_write_null(w);
        json_write_end(w);
}
static void write_nul(JsonWriter *w) {
        json_write_string_n(w, "a\0b", 3);
}
static void write_nan(JsonWriter *w) {
        json_write_real(w, NAN);
}
static void write_infinity(JsonWriter *w) {
        json_write_real(w, -INFINITY);
}

static void test_writer_refuses(void) {
        static void (*const writes[])(JsonWriter * w) = { write_nothing, write_open, write_end_only,
                write_two, write_two_arrays, write_without_key, write_without_value, write_two_keys,
                write_key_in_array, write_invalid_utf8, write_invalid_key, write_nul, write_nan,
                write_infinity };

        for (size_t i = 0; i < ELEMENTSOF(writes); i++) {
                _cleanup_(json_writer_freep) JsonWriter *w = NULL;
                char *text = NULL;

                CHECK_EQ(json_writer_new(i % 2 ? JSON_WRITER_PRETTY : 0, &w), 0);
                writes[i](w);
                if (json_writer_finish(w, &text, NULL) != -EINVAL)
                        TEST_FAIL("writing case %zu was not refused", i);
                CHECK(!text);
        }
}

static void test_writer_depth(void) {
        for (unsigned depth = 127; depth <= 128; depth++) {
                _cleanup_(json_writer_freep) JsonWriter *w = NULL;
                _cleanup_free_ char *text = NULL;

                CHECK_EQ(json_writer_new(0, &w), 0);
                for (unsigned i = 0; i < depth; i++)
                        json_write_array(w);
                for (unsigned i = 0; i < depth; i++)
                        json_write_end(w);
                CHECK_EQ(json_writer_finish(w, &text, NULL), depth == 127 ? 0 : -EFBIG);
        }
}

static void build(JsonBuilder *b, const char *calls) {
        for (; *calls; calls++)
                switch (*calls) {
                case '{':
                        json_build_object(b);
                        break;
                case '[':
                        json_build_array(b);
                        break;
                case '.':
                        json_build_end(b);
                        break;
                case 's':
                        json_build_string(b, "text");
                        break;
                case '!':
                        json_build_string(b, "\xff");
                        break;
                case '-':
                        json_build_integer(b, INT64_MIN);
                        break;
                case '+':
                        json_build_unsigned(b, UINT64_MAX);
                        break;
                case '1':
                        json_build_unsigned(b, 1);
                        break;
                case 'r':
                        json_build_real(b, 0.5);
                        break;
                case 'i':
                        json_build_real(b, INFINITY);
                        break;
                case 't':
                        json_build_boolean(b, true);
                        break;
                case '0':
                        json_build_null(b);
                        break;
                default:
                        json_build_key(b, (const char[]){ *calls, '\0' });
                }
}

/* Calls, as above, and the text of what is built, or why it isn't. */
static const struct {
        const char *calls, *text;
        int r;
} builds[] = {
        { "0", "null", 0 },
        { "{.", "{}", 0 },
        { "{As.", "{\"A\":\"text\"}", 0 },
        { "{A1B[-+rt0.C{As.DtE0F1G[.H1It.",
                        "{\"A\":1,\"B\":[-9223372036854775808,18446744073709551615,0.5,true,null],"
                        "\"C\":{\"A\":\"text\"},\"D\":true,\"E\":null,\"F\":1,\"G\":[],\"H\":1,\"I\":true}",
                        0 },
        { "", NULL, -EINVAL },
        { "00", NULL, -EINVAL },
        { "[", NULL, -EINVAL },
        { ".", NULL, -EINVAL },
        { "{A.", NULL, -EINVAL },
        { "{AB0.", NULL, -EINVAL },
        { "{0.", NULL, -EINVAL },
        { "[A0.", NULL, -EINVAL },
        { "i", NULL, -EINVAL },
        { "!", NULL, -EBADMSG },
        { "{A0A0.", NULL, -EBADMSG },
        { "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", NULL, -EFBIG },
};

static void test_builder(void) {
        for (size_t i = 0; i < ELEMENTSOF(builds); i++) {
                _cleanup_(json_builder_freep) JsonBuilder *b = NULL;
                _cleanup_(json_writer_freep) JsonWriter *w = NULL;
                _cleanup_free_ char *text = NULL;
                _cleanup_json_ Json *v = NULL;

                CHECK_EQ(json_builder_new(&b), 0);
                build(b, builds[i].calls);
                CHECK_EQ(json_builder_finish(b, &v), builds[i].r);
                if (builds[i].r < 0)
                        continue;
                CHECK_EQ(json_writer_new(0, &w), 0);
                json_write_value(w, v);
                CHECK_EQ(json_writer_finish(w, &text, NULL), 0);
                CHECK_STREQ(text, builds[i].text);
        }
}

int main(void) {
        test_round_trips();
        test_accessors();
        test_refused();
        test_strings();
        test_numbers();
        test_locale();
        test_limits();
        test_keys();
        test_many_keys();
        test_pretty();
        test_writer();
        test_writer_refuses();
        test_writer_depth();
        test_builder();
        return 0;
}
