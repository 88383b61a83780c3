/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a user is told, and where; and what parsing may cost. */
#include <time.h>

#include "kdl.h"
#include "util/test.h"

static char *errors_of(const char *text, size_t len) {
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        _cleanup_kdl_ KdlDocument *doc = NULL;
        char *out = NULL;
        size_t out_len;
        FILE *f;
        int r;

        CHECK_EQ(kdl_diagnostics_new("f.kdl", text, len, &d), 0);
        r = kdl_parse(text, len, KDL_VERSION_ANY, &doc, d);
        CHECK((r < 0) == (kdl_diagnostics_errors(d) > 0));
        CHECK((r < 0) == !doc);
        f = open_memstream(&out, &out_len);
        CHECK(f);
        kdl_diagnostics_write(d, f);
        fclose(f);
        return out;
}

static void check_all(const char *text, const char *expected) {
        _cleanup_free_ char *out = errors_of(text, strlen(text));

        CHECK_STREQ(out, expected);
}

/* Whether the lines "f.kdl:LINE:COLUMN: error: MESSAGE" are these, one below the other. */
static void check(const char *text, const char *expected) {
        _cleanup_free_ char *out = errors_of(text, strlen(text)), *found = strdup("");

        for (const char *line = strstr(out, "f.kdl:"); line; line = strstr(line + 1, "\nf.kdl:")) {
                const char *from = line + (*line == '\n') + strlen("f.kdl:");
                char *more = strf("%s%.*s\n", found, (int)strcspn(from, "\n"), from);

                free(found);
                found = more;
        }
        CHECK_STREQ(found, expected);
}

static void test_places(void) {
        check_all("vm \"web\" {\n\tvcpus ]\n}\n",
                        "f.kdl:2:8: error: expected a value, a property, a block or the end of the node, "
                        "found ']'\n"
                        "    2 | \tvcpus ]\n"
                        "      | \t      ^\n"
                        "      = hint: values stand side by side, with white space between them\n");
        check_all("\xc3\xa9 \"\xf0\x9f\x91\x8d\" 1x",
                        "f.kdl:1:8: error: '1x' is not a number\n"
                        "    1 | \xc3\xa9 \"\xf0\x9f\x91\x8d\" 1x\n"
                        "      |        ^\n"
                        "      = hint: a text that begins like a number needs quotes\n");
        check_all("a\r\nb\rc 4G",
                        "f.kdl:3:4: error: '4G' is not a number\n"
                        "    3 | c 4G\n"
                        "      |    ^\n"
                        "      = hint: a text that begins like a number needs quotes\n");
        check_all("a {\n  b",
                        "f.kdl:1:3: error: this block is not closed\n"
                        "    1 | a {\n"
                        "      |   ^\n"
                        "      = hint: a '}' is missing\n");
        check("a \"x\nb", "1:3: error: this string is not closed on its line\n");
        check("a k=", "1:5: error: expected a value, found the end of the file\n");
        check("a k=\nb", "1:5: error: expected a value, found the end of the line\n");
}

static void test_terminal(void) {
        _cleanup_free_ char *control = errors_of("a \x1b[2J \x9b \"", 10),
                            *lines = errors_of("a \"\xe2\x80\xa8\xe2\x80\xae \x0b", 10),
                            *word = errors_of("a #\x1b]0;x\x07", 10);

        CHECK(!strchr(control, '\x1b') && !strchr(control, '\x9b'));
        CHECK(!strstr(lines, "\xe2\x80\xae") && !strchr(lines, '\x0b'));
        CHECK(!strchr(word, '\x1b') && !strchr(word, '\x07'));
        CHECK(utf8_is_valid(control, strlen(control)));
}

static void test_long_line(void) {
        _cleanup_free_ char *text = malloc(100001), *out = NULL;

        memset(text, 'x', 100000);
        memcpy(text + 50000, " ]", 2);
        out = errors_of(text, 100000);
        CHECK(strlen(out) < 700);
        CHECK(strstr(out, "f.kdl:1:50002: error: "));
        CHECK(strstr(out, " | ...xxx") && strstr(out, "xxx...\n"));
}

static void test_recovery(void) {
        check("a ]\nb 1\nc = 2\nd {\n e 1x; f [\n}\ng \\q",
                        "1:3: error: expected a value, a property, a block or the end of the node, found "
                        "']'\n"
                        "3:3: error: expected a value, a property, a block or the end of the node, found "
                        "'='\n"
                        "5:5: error: '1x' is not a number\n"
                        "5:10: error: expected a value, a property, a block or the end of the node, found "
                        "'['\n"
                        "7:4: error: expected the end of the line behind '\\'\n");
        check("a ] {\n b [\n}\nc ,[",
                        "1:3: error: expected a value, a property, a block or the end of the node, found "
                        "']'\n"
                        "2:4: error: expected a value, a property, a block or the end of the node, found "
                        "'['\n"
                        "4:4: error: expected a value, a property, a block or the end of the node, found "
                        "'['\n");
        check("a \"\\q\\u{d800}\" \"\\w\"",
                        "1:4: error: there is no escape '\\q'\n"
                        "1:6: error: U+D800 is not a Unicode character\n"
                        "1:17: error: there is no escape '\\w'\n");
        check("a [ #\"{\"# }\nb #\"}\"# ]",
                        "1:3: error: expected a value, a property, a block or the end of the node, found "
                        "'['\n"
                        "1:11: error: there is no '{' to this '}'\n"
                        "2:9: error: expected a value, a property, a block or the end of the node, found "
                        "']'\n");
}

static void test_versions(void) {
        check_all("a #true\nb false\n",
                        "f.kdl:1:3: note: this is KDL 2, but other parts of the file are KDL 1\n"
                        "    1 | a #true\n"
                        "      |   ^^^^^\n"
                        "      = hint: a file keeps to one version; '/- kdl-version 2' as its first line "
                        "says which\n"
                        "f.kdl:2:3: error: 'false' cannot stand here without quotes\n"
                        "    2 | b false\n"
                        "      |   ^^^^^\n"
                        "      = hint: write #false, or \"false\" for the text\n");
        check("a true\nb r\"x\" [\n",
                        "2:8: error: expected a value, a property, a block or the end of the node, found "
                        "'['\n");
        check("/- kdl-version 2\na r\"x\" \"\\/\"\n",
                        "2:3: error: a raw string of KDL 1\n2:9: error: there is no escape '\\/'\n");
        check("/- kdl-version 1\na b #\"x\"# \"\\s\" k = 1\n",
                        "2:3: error: expected a value, found a bare word\n"
                        "2:5: error: a raw string of KDL 2\n"
                        "2:12: error: there is no escape '\\s'\n"
                        "2:16: error: expected a value, found a bare word\n"
                        "2:18: error: expected a value, a property, a block or the end of the node, found "
                        "'='\n");
        /* What is wrong in both is told by the rules of 2. */
        check("vm \"a {\n  b \"c\"\n}\n", "1:4: error: this string is not closed on its line\n");
}

static void test_count(void) {
        _cleanup_free_ char *text = calloc(1, 400), *out = NULL;
        size_t lines = 0;

        for (int i = 0; i < 100; i++)
                strcat(text, "]\n");
        out = errors_of(text, strlen(text));
        for (const char *s = out; (s = strstr(s, "error:")); s++)
                lines++;
        CHECK_EQ(lines, KDL_ERRORS_MAX);
}

static void check_limit(const char *text, size_t len, int expected) {
        _cleanup_kdl_ KdlDocument *doc = NULL;

        CHECK_EQ(kdl_parse(text, len, KDL_VERSION_ANY, &doc, NULL), expected);
}

static char *repeat(const char *s, size_t times, size_t *ret_len) {
        size_t n = strlen(s);
        char *text = malloc(n * times + 1);

        for (size_t i = 0; i < times; i++)
                memcpy(text + i * n, s, n);
        text[n * times] = '\0';
        *ret_len = n * times;
        return text;
}

static void test_limits(void) {
        _cleanup_free_ char *deep = NULL, *open = NULL, *many = NULL, *large = NULL;
        size_t len;

        deep = repeat("a{", KDL_DEPTH_MAX + 1, &len);
        memset(deep + len - 2, '}', 2);
        check_limit(deep, len, -EBADMSG);
        open = repeat("a{", 100000, &len);
        check_limit(open, len, -EFBIG);
        many = repeat("a;", KDL_ITEMS_MAX + 1, &len);
        check_limit(many, len, -EFBIG);
        check_limit(many, len - 2, 0);
        large = repeat(" ", KDL_SIZE_MAX + 1, &len);
        check_limit(large, len, -EFBIG);
        check_limit(large, len - 1, 0);
}

/* Twice the text may take twice the time, and some. Best of several, as others use the machine. */
static double seconds(const char *text, size_t len) {
        double best = 1e9;

        for (int i = 0; i < 5; i++) {
                _cleanup_kdl_ KdlDocument *doc = NULL;
                struct timespec a, b;
                double t;

                clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
                (void)kdl_parse(text, len, KDL_VERSION_ANY, &doc, NULL);
                clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
                t = (double)(b.tv_sec - a.tv_sec) + (double)(b.tv_nsec - a.tv_nsec) / 1e9;
                best = MIN(best, t);
        }
        return best;
}

static void test_time(void) {
        static const char *const patterns[] = {
                "vm \"web\" {\n    vcpus 2 // two\n    run \"\"\"\n      x\n      \"\"\" k=1.5\n}\n",
                "a \"\\\n",
                "#\"",
                "\"\"\"#",
                "/*",
                "a{}",
                "\\\n",
                "/-a k=",
                "0x1_",
        };

        for (size_t i = 0; i < ELEMENTSOF(patterns); i++) {
                size_t len, twice;
                _cleanup_free_ char *once = repeat(patterns[i], MIB / strlen(patterns[i]), &len),
                                    *text = repeat(patterns[i], 2 * MIB / strlen(patterns[i]), &twice);
                double t = seconds(once, len), t2 = seconds(text, twice);

                printf("%zu bytes in %.1f ms, %zu in %.1f ms\n", len, t * 1e3, twice, t2 * 1e3);
                CHECK(t2 < t * 6 + 0.05);
        }
}

int main(void) {
        test_places();
        test_terminal();
        test_long_line();
        test_recovery();
        test_versions();
        test_count();
        test_limits();
        test_time();
        return 0;
}
