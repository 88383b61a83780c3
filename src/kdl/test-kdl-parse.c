/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is KDL, what is not, and what it means. Expectations are worked out from the specifications; the
 * canonical text of a document stands for its data. */
#include <math.h>

#include "kdl.h"
#include "util/test.h"

static char *canonical_of(const char *text, size_t len, KdlVersion version) {
        _cleanup_kdl_ KdlDocument *doc = NULL;
        char *out = NULL;
        size_t out_len;
        int r = kdl_parse(text, len, version, &doc, NULL);

        if (r == -EBADMSG)
                return NULL;
        CHECK_EQ(r, 0);
        CHECK_EQ(kdl_format(doc, KDL_VERSION_2, KDL_FORMAT_CANONICAL, &out, &out_len), 0);
        return out;
}

static void check(const char *file, int line, const char *text, KdlVersion version, const char *expected) {
        _cleanup_free_ char *s = canonical_of(text, strlen(text), version);

        if (streq_ptr(s, expected))
                return;
        fprintf(stderr, "%s:%d: version %d of:\n%s\nis:\n%s\nexpected:\n%s\n", file, line, version, text,
                        s ?: "(invalid)", expected ?: "(invalid)");
        abort();
}

#define CHECK_2(text, expected) check(__FILE__, __LINE__, text, KDL_VERSION_2, expected)
#define CHECK_1(text, expected) check(__FILE__, __LINE__, text, KDL_VERSION_1, expected)
#define CHECK_ANY(text, expected) check(__FILE__, __LINE__, text, KDL_VERSION_ANY, expected)
/* The same in both. */
#define CHECK_BOTH(text, expected)         \
        do {                               \
                CHECK_1(text, expected);   \
                CHECK_2(text, expected);   \
                CHECK_ANY(text, expected); \
        } while (false)

static void test_nodes(void) {
        CHECK_BOTH("", "");
        CHECK_BOTH(" \n\t\r\n", "");
        CHECK_BOTH("a", "a\n");
        CHECK_BOTH("a\nb", "a\nb\n");
        CHECK_BOTH("a;b;\nc;", "a\nb\nc\n");
        CHECK_BOTH("\"two words\" 1", "\"two words\" 1\n");
        CHECK_BOTH("\"\" 1", "\"\" 1\n");
        CHECK_BOTH("a 1 \"x y\" k=2 3", "a 1 \"x y\" 3 k=2\n");
        CHECK_BOTH("a z=1 b=2 z=3", "a b=2 z=3\n");
        CHECK_BOTH("a \"0\"=1 \"x y\"=2", "a \"0\"=1 \"x y\"=2\n");
        CHECK_BOTH("a{\nb{\nc\n}\n}", "a {\n    b {\n        c\n    }\n}\n");
        CHECK_BOTH("a {b;c;}", "a {\n    b\n    c\n}\n");
        CHECK_BOTH("a {}", "a\n");
        CHECK_BOTH("a 1{}\nb", "a 1\nb\n");
        CHECK_BOTH("(t)a (u)1 k=(v)\"x\"", "(t)a (u)1 k=(v)x\n");
        CHECK_BOTH("(\"a b\")c (\"\")1", "(\"a b\")c (\"\")1\n");
        CHECK_2("a {b}", "a {\n    b\n}\n");
        CHECK_1("a {b}", NULL); /* the last node needs an end of its own */
        CHECK_2("a {b;c {d}}", "a {\n    b\n    c {\n        d\n    }\n}\n");
        CHECK_BOTH("a {\nb\n} c", NULL);
        CHECK_BOTH("a {b {} c {}}", NULL);
        CHECK_BOTH("a {\n", NULL);
        CHECK_BOTH("a }", NULL);
        CHECK_BOTH("}", NULL);
        CHECK_BOTH(";", NULL);
        CHECK_BOTH("a;;b", NULL);
        CHECK_BOTH("{}", NULL);
        CHECK_BOTH("a {} {}", NULL);
        CHECK_BOTH("1", NULL);
        CHECK_BOTH("1 a", NULL);
        CHECK_BOTH("= 1", NULL);
        CHECK_BOTH("a [1]", NULL);
        CHECK_BOTH("a\"b\"", NULL);
        CHECK_BOTH("a \"b\"\"c\"", NULL);
        CHECK_BOTH("a 1\"c\"", NULL);
        CHECK_BOTH("a 1(t)2", NULL);
        CHECK_BOTH("a k=", NULL);
        CHECK_BOTH("a k=\n1", NULL);
        CHECK_BOTH("a =1", NULL);
        CHECK_BOTH("a 1=2", NULL);
        CHECK_BOTH("a (t)k=1", NULL);
        CHECK_BOTH("a k=1=2", NULL);
        CHECK_BOTH("() a", NULL);
        CHECK_BOTH("(t a", NULL);
        CHECK_BOTH("(1)a", NULL);
        CHECK_BOTH("a (t)", NULL);
        CHECK_BOTH("(t)", NULL);
        CHECK_BOTH("(t)(u)a", NULL);
}

static void test_space_in_2(void) {
        CHECK_2("a k = 1", "a k=1\n");
        CHECK_2("a k =1 2 k= 3", "a 2 k=3\n");
        CHECK_2("a k /* x */ = /* y */ 1", "a k=1\n");
        CHECK_2("a k \\\n = \\ // c\n 1", "a k=1\n");
        CHECK_2("( t ) a ( u ) 1 k = ( v ) 2", "(t)a (u)1 k=(v)2\n");
        CHECK_2("(t\\\n)a", "(t)a\n");
        CHECK_2("(t\n)a", NULL);
        CHECK_2("(t)\na", NULL);
        CHECK_2("(t u)a", NULL);
        CHECK_2("( )a", NULL);
        CHECK_1("a k = 1", NULL);
        CHECK_1("a k= 1", NULL);
        CHECK_1("( t)a", NULL);
        CHECK_1("(t )a", NULL);
        CHECK_1("(t) a", NULL);
        CHECK_1("a (t) 1", NULL);
        CHECK_2("\\\na", "a\n"); /* continuations also between nodes */
        CHECK_1("\\\na", NULL);
        CHECK_2("a \\", "a\n"); /* at the end of the file */
        CHECK_1("a \\", NULL);
        CHECK_BOTH("a 1 \\\n2", "a 1 2\n");
        CHECK_BOTH("a 1\\\n2", "a 1 2\n");
        CHECK_BOTH("a \\ // c\n 1 \\\t/* d */ \r\n 2", "a 1 2\n");
        CHECK_BOTH("a \\\n\\\n1", "a 1\n");
        CHECK_BOTH("a \\\n{\nb\n}", "a {\n    b\n}\n");
        CHECK_BOTH("a \\ 1", NULL);
        CHECK_BOTH("a b\\c", NULL);
}

static void test_white_space(void) {
        static const char *const spaces[] = { " ", "\t", "\u00a0", "\u1680", "\u2000", "\u2001", "\u2002",
                "\u2003", "\u2004", "\u2005", "\u2006", "\u2007", "\u2008", "\u2009", "\u200a", "\u202f",
                "\u205f", "\u3000" };
        static const char *const newlines[] = { "\n", "\r", "\r\n", "\xc2\x85", "\f", "\u2028", "\u2029" };

        for (size_t i = 0; i < ELEMENTSOF(spaces); i++) {
                _cleanup_free_ char *text = strf(
                                "%sa%s1%s%s2%s", spaces[i], spaces[i], spaces[i], spaces[i], spaces[i]);

                CHECK_BOTH(text, "a 1 2\n");
        }
        for (size_t i = 0; i < ELEMENTSOF(newlines); i++) {
                _cleanup_free_ char *text = strf(
                                "a // c%s%sb \\%s 1%s", newlines[i], newlines[i], newlines[i], newlines[i]);

                CHECK_BOTH(text, "a\nb 1\n");
        }
        CHECK_2("a\vb", "a\nb\n");
        CHECK_1("a\vb", NULL);
        CHECK_BOTH("a\u200bb", "a\u200bb\n"); /* a zero-width space is no white space */
        CHECK_BOTH("\ufeffa", "a\n");
        CHECK_2("a\ufeff", NULL);
        CHECK_2("\ufeff\ufeffa", NULL);
        CHECK_1("a\ufeff1", "a 1\n");
}

static void test_comments(void) {
        CHECK_BOTH("// only", "");
        CHECK_BOTH("a // b\nc //\n", "a\nc\n");
        CHECK_BOTH("a//b", "a\n");
        CHECK_BOTH("a/**/1", "a 1\n");
        CHECK_BOTH("a /* x /* y */ z */ 1", "a 1\n");
        CHECK_BOTH("/* x\n */ a /***/ /* * / */ 1", "a 1\n");
        CHECK_BOTH("/*/*/**/*/*/a", "a\n");
        CHECK_BOTH("/* /* */ a", NULL);
        CHECK_BOTH("/* a", NULL);
        CHECK_BOTH("a */", NULL);
        CHECK_BOTH("a / b", NULL);
        CHECK_BOTH("a { // b\nc\n// d\n}", "a {\n    c\n}\n");
}

static void test_slashdash(void) {
        CHECK_BOTH("/-a 1 {\nb\n}\nc", "c\n");
        CHECK_BOTH("/- a\nc", "c\n");
        CHECK_BOTH("/-a", "");
        CHECK_BOTH("a /-1 2 /- k=3 /- \"x\"", "a 2\n");
        CHECK_BOTH("a k=1 /-k=2", "a k=1\n");
        CHECK_BOTH("a /-{\nb\n}", "a\n");
        CHECK_BOTH("a /- {\nb\n}", "a\n");
        CHECK_BOTH("a {\n/-b\nc\n}", "a {\n    c\n}\n");
        CHECK_BOTH("/-(t)a\nb /-(t)1 2", "b 2\n");
        CHECK_2("/-\n\n// c\na\nb", "b\n");
        CHECK_1("/-\na\nb", NULL);
        CHECK_2("a /-\n1 2", "a 2\n");
        CHECK_2("a /- // c\n 1 2", "a 2\n");
        CHECK_2("a/-1 2", "a 2\n");
        CHECK_1("a/-1 2", NULL);
        CHECK_2("a 1/-2", "a 1\n");
        CHECK_2("a /- \\\n 1 2", "a 2\n");
        CHECK_2("a /-{ b } { c } /-{ d }", "a {\n    c\n}\n");
        CHECK_2("a { b } /-{ c } /-{ d }", "a {\n    b\n}\n");
        CHECK_1("a /-{\nb\n} {\nc\n}", NULL);
        CHECK_2("a /-{ b } { c } { d }", NULL);
        CHECK_2("a /-{ b } 1", NULL);
        CHECK_2("a /-{ b } /-1", NULL);
        CHECK_2("a { b } /-1", NULL);
        CHECK_BOTH("/-/-a", NULL);
        CHECK_BOTH("/- /-a\nb", NULL);
        CHECK_BOTH("a /-/-1", NULL);
        CHECK_BOTH("/-", NULL);
        CHECK_BOTH("a /-", NULL);
        CHECK_BOTH("a {\n/-\n}", NULL);
        CHECK_BOTH("a k=/-1", NULL);
        CHECK_BOTH("a k=/-1 2", NULL);
        CHECK_BOTH("(t)/-a", NULL);
        CHECK_BOTH("a (t)/-1", NULL);
        CHECK_BOTH("/-a {", NULL); /* what is taken out must be right, too */
        CHECK_BOTH("/-1", NULL);
}

static void test_identifiers(void) {
        CHECK_BOTH("-", "-\n");
        CHECK_BOTH("+ -=1", "+ -=1\n");
        CHECK_2("--a +b -.c .d . -. a1 a-1", "--a +b -.c .d . -. a1 a-1\n");
        CHECK_2("a <b> c,d !@$%^&*_|'?`~:", "a <b> c,d !@$%^&*_|'?`~:\n");
        CHECK_2("é 日本 👍=1", "é 日本 👍=1\n");
        CHECK_2("trueish null- nan0 -infx inff", "trueish null- nan0 -infx inff\n");
        for (size_t i = 0; i < 6; i++) {
                static const char *const words[] = { "true", "false", "null", "inf", "-inf", "nan" };
                _cleanup_free_ char *name = strf("%s 1", words[i]), *argument = strf("a %s", words[i]),
                                    *key = strf("a %s=1", words[i]), *value = strf("a k=%s", words[i]),
                                    *type = strf("(%s)a", words[i]),
                                    *quoted = strf("\"%s\" \"%s\"=1", words[i], words[i]),
                                    *same = strf("%s\n", quoted);

                CHECK_2(name, NULL);
                CHECK_2(argument, NULL);
                CHECK_2(key, NULL);
                CHECK_2(value, NULL);
                CHECK_2(type, NULL);
                CHECK_BOTH(quoted, same);
                if (i < 3) {
                        CHECK_1(name, NULL);
                        CHECK_1(key, NULL);
                        CHECK_1(type, NULL);
                }
        }
        CHECK_1("inf nan=1", "\"inf\" \"nan\"=1\n");
        CHECK_1("a#b #c=1", "\"a#b\" \"#c\"=1\n");
        CHECK_1(".1 -.2=3", "\".1\" \"-.2\"=3\n");
        CHECK_1("a b", NULL);
        CHECK_1("a k=b", NULL);
        CHECK_1("a<b", NULL);
        CHECK_1("a,b", NULL);
        CHECK_2("a#b", NULL);
        CHECK_2("#a", NULL);
        CHECK_2(".1", NULL);
        CHECK_2("a .1", NULL);
        CHECK_2("a +.1", NULL);
        CHECK_2("a 1.0v2", NULL);
        CHECK_2("-1em", NULL);
        CHECK_BOTH("-1a", NULL);
        CHECK_BOTH("1a", NULL);
}

static void test_keywords(void) {
        CHECK_2("a #true #false #null k=#true", "a #true #false #null k=#true\n");
        CHECK_2("a #inf #-inf #nan", "a #inf #-inf #nan\n");
        CHECK_1("a true false null k=true", "a #true #false #null k=#true\n");
        CHECK_1("a (t)true", "a (t)#true\n");
        CHECK_2("a (t)#true", "a (t)#true\n");
        CHECK_2("a #True", NULL);
        CHECK_2("a #truex", NULL);
        CHECK_2("a #+inf", NULL);
        CHECK_2("a #", NULL);
        CHECK_2("a # true", NULL);
        CHECK_2("a #true=1", NULL);
        CHECK_2("#true", NULL);
        CHECK_1("a #true", NULL);
}

static void test_numbers(void) {
        CHECK_BOTH("a 0 00 1 -1 +1 -0", "a 0 0 1 -1 1 -0\n");
        CHECK_BOTH("a 1_000 1__0_ 12____", "a 1000 10 12\n");
        CHECK_BOTH("a 0xFf 0xab_cd -0x10 +0x1_", "a 255 43981 -16 1\n");
        CHECK_BOTH("a 0o17 0o7_7 -0o1", "a 15 63 -1\n");
        CHECK_BOTH("a 0b101 0b1_1 -0b1", "a 5 3 -1\n");
        CHECK_BOTH("a 1.5 1.0 -1.5 1_0.2_5", "a 1.5 1.0 -1.5 10.25\n");
        CHECK_BOTH("a 1e3 1E3 1e+3 1e-3 1.5e1_0", "a 1e3 1e3 1e3 1e-3 1.5e10\n");
        CHECK_BOTH("a 1_.5 1_e3_", "a 1.5 1e3\n");
        CHECK_BOTH("a 123456789012345678901234567890", "a 123456789012345678901234567890\n");
        CHECK_BOTH("a 0xFFFFFFFFFFFFFFFFFF", "a 0xffffffffffffffffff\n");
        CHECK_BOTH("a 1.", NULL);
        CHECK_BOTH("a 1._5", NULL);
        CHECK_BOTH("a 1.e5", NULL);
        CHECK_BOTH("a 1e", NULL);
        CHECK_BOTH("a 1e+", NULL);
        CHECK_BOTH("a 1e_5", NULL);
        CHECK_BOTH("a 1.5.5", NULL);
        CHECK_BOTH("a 1e5.5", NULL);
        CHECK_BOTH("a 0x", NULL);
        CHECK_BOTH("a 0x_1", NULL);
        CHECK_BOTH("a 0xg", NULL);
        CHECK_BOTH("a 0X1", NULL);
        CHECK_BOTH("a 0o8", NULL);
        CHECK_BOTH("a 0b2", NULL);
        CHECK_BOTH("a 0b", NULL);
        CHECK_BOTH("a 0x1.5", NULL);
        CHECK_BOTH("a 1-", NULL);
        CHECK_2("a --1", "a --1\n"); /* an identifier */
        CHECK_2("a _1", "a _1\n");   /* an identifier */
}

static void test_quoted(void) {
        CHECK_BOTH("a \"\\n\\r\\t\\b\\f\\\\\\\"\"", "a \"\\n\\r\\t\\b\\f\\\\\\\"\"\n");
        CHECK_BOTH("a \"\\u{41}\\u{e9}\\u{1F600}\\u{10FFFF}\\u{000041}\"",
                        "a A\u00e9\U0001f600\U0010ffffA\n");
        CHECK_BOTH("a \"\\u{0}\\u{7f}\\u{202e}\"", "a \"\\u{0}\\u{7f}\\u{202e}\"\n");
        CHECK_BOTH("a \"// no /* comment */ {};\"", "a \"// no /* comment */ {};\"\n");
        CHECK_2("a \"x\\sy\"", "a \"x y\"\n");
        CHECK_1("a \"x\\sy\"", NULL);
        CHECK_1("a \"x\\/y\"", "a \"x/y\"\n");
        CHECK_2("a \"x\\/y\"", NULL);
        CHECK_2("a \"x\\   \n\t y\"", "a xy\n");
        CHECK_2("a \"x \\\u3000\u2028y\"", "a \"x y\"\n");
        CHECK_2("a \"x\\ \\n\"", "a \"x\\n\"\n");
        CHECK_1("a \"x\\ y\"", NULL);
        CHECK_1("a \"x\ny\r\n\"", "a \"x\\ny\\r\\n\"\n");
        CHECK_2("a \"x\ny\"", NULL);
        CHECK_2("a \"x\\n\ny\"", NULL);
        CHECK_BOTH("a \"", NULL);
        CHECK_BOTH("a \"\\", NULL);
        CHECK_BOTH("a \"\\\"", NULL);
        CHECK_BOTH("a \"\\q\"", NULL);
        CHECK_BOTH("a \"\\u\"", NULL);
        CHECK_BOTH("a \"\\u{}\"", NULL);
        CHECK_BOTH("a \"\\u{1234567}\"", NULL);
        CHECK_BOTH("a \"\\u{12\"", NULL);
        CHECK_BOTH("a \"\\u{g}\"", NULL);
        CHECK_BOTH("a \"\\u{110000}\"", NULL);
        CHECK_BOTH("a \"\\u{d800}\"", NULL);
        CHECK_BOTH("a \"\\u{DFFF}\"", NULL);
}

static void test_raw(void) {
        CHECK_2("a #\"x\"#", "a x\n");
        CHECK_2("a #\"\\n\"y\"#", "a \"\\\\n\\\"y\"\n");
        CHECK_2("a ##\"x\"#y\"##", "a \"x\\\"#y\"\n");
        CHECK_2("a #\"\"#", "a \"\"\n");
        CHECK_2("a #\"\" \"\"#", "a \"\\\" \\\"\"\n");
        CHECK_2("a #\"x\"\"#", "a \"x\\\"\"\n");
        CHECK_2("#\"n m\"# (#\"t\"#)#\"v\"# #\"k k\"#=1", "\"n m\" (t)v \"k k\"=1\n");
        CHECK_2("a #\"x\ny\"#", NULL);
        CHECK_2("a #\"x\"", NULL);
        CHECK_2("a ##\"x\"#", NULL);
        CHECK_2("a #\"x\"##", NULL); /* the first closing quotes are the end */
        CHECK_2("a #\"\"\"#", NULL);
        CHECK_2("a r\"x\"", NULL);
        CHECK_1("a r\"\\n\" r#\"x\"y\"# r##\"\"#\"##", "a \"\\\\n\" \"x\\\"y\" \"\\\"#\"\n");
        CHECK_1("r\"n m\" r#\"k\"#=r\"\"", "\"n m\" k=\"\"\n");
        CHECK_1("a r\"x\ny\"", "a \"x\\ny\"\n");
        CHECK_1("a r#\"x\"", NULL);
        CHECK_1("r#x r=1", "\"r#x\" r=1\n"); /* without quotes it is an identifier */
        CHECK_1("a #\"x\"#", NULL);
}

static void test_multiline(void) {
        CHECK_2("a \"\"\"\n\"\"\"", "a \"\"\n");
        CHECK_2("a \"\"\"\n   \"\"\"", "a \"\"\n");
        CHECK_2("a \"\"\"\n\n\"\"\"", "a \"\"\n");
        CHECK_2("a \"\"\"\n  x\n  \"\"\"", "a x\n");
        CHECK_2("a \"\"\"\n    x\n  y\n    z\n  \"\"\"", "a \"  x\\ny\\n  z\"\n");
        CHECK_2("a \"\"\"\nx\n  y\n\"\"\"", "a \"x\\n  y\"\n");
        CHECK_2("a \"\"\"\n  x\n\n \t \n  y\n  \"\"\"", "a \"x\\n\\n\\ny\"\n");
        CHECK_2("a \"\"\"\r\n  x\r  y\f  z\u2028  \"\"\"", "a \"x\\ny\\nz\"\n");
        CHECK_2("a \"\"\"\n  \\r\\n\r\n  x\r\n  \"\"\"", "a \"\\r\\n\\nx\"\n");
        CHECK_2("a \"\"\"\n  x \"y\" \"\"z\n  \"\"\"", "a \"x \\\"y\\\" \\\"\\\"z\"\n");
        CHECK_2("a \"\"\"\n  x \\\"\"\" y\n  \"\"\"", "a \"x \\\"\\\"\\\" y\"\n");
        CHECK_2("a \"\"\"\n  x\\\n     y\n  \"\"\"", "a xy\n");
        CHECK_2("a \"\"\"\n  x \\\ny\n  z\n  \\   \"\"\"", "a \"x y\\nz\"\n");
        CHECK_2("a \"\"\"\n\\\n  \"\"\"", "a \"\"\n");
        CHECK_2("a \"\"\"\n  \\s\n  \\tx\n  \"\"\"", "a \" \\n\\tx\"\n"); /* \s makes no empty line */
        CHECK_2("a \"\"\"\n\t x\n\t \"\"\" 2", "a x 2\n");
        CHECK_2("a \"\"\"\n  x\\\n  \"\"\"", NULL); /* the last line is escaped away */
        CHECK_2("a \"\"\"x\"\"\"", NULL);
        CHECK_2("a \"\"\"x\n\"\"\"", NULL);
        CHECK_2("a \"\"\" \nx\n\"\"\"", NULL);
        CHECK_2("a \"\"\"\nx\"\"\"", NULL);
        CHECK_2("a \"\"\"\n x\n  \"\"\"", NULL);
        CHECK_2("a \"\"\"\n\tx\n  \"\"\"", NULL);
        CHECK_2("a \"\"\"\n\ta\n  b\n \t\n\t\"\"\"", NULL);
        CHECK_2("a \"\"\"\n  \\q\n  \"\"\"", NULL);
        CHECK_2("a \"\"\"\n  x", NULL);
        CHECK_2("a \"\"\"\n  x\n  \"\"", NULL);
        CHECK_2("a #\"\"\"\n  \\n \"\"\" \"\n  \"\"\"#", "a \"\\\\n \\\"\\\"\\\" \\\"\"\n");
        CHECK_2("a #\"\"\"\n  x\\\n  y\n  \"\"\"#", "a \"x\\\\\\ny\"\n");
        CHECK_2("a ##\"\"\"\n  \"\"\"#\n  \"\"\"##", "a \"\\\"\\\"\\\"#\"\n");
        CHECK_2("a #\"\"\"\n x\n  \"\"\"#", NULL);
        CHECK_2("a #\"\"\"\n  x\n  \"\"\"", NULL);
        CHECK_2("a #\"\"\"x\"\"\"#", NULL);
        CHECK_1("a \"\"\"\n  x\n  \"\"\"", NULL);
}

static void test_disallowed(void) {
        static const char *const points[] = { "\x01", "\x08", "\x0e", "\x1b", "\x1f", "\x7f", "\u200e",
                "\u200f", "\u202a", "\u202e", "\u2066", "\u2069", "\ufeff" };

        for (size_t i = 0; i < ELEMENTSOF(points); i++) {
                _cleanup_free_ char *string = strf("a \"x%sy\"", points[i]),
                                    *raw = strf("a #\"%s\"#", points[i]),
                                    *comment = strf("a // %s", points[i]), *name = strf("a%sb", points[i]);

                CHECK_2(string, NULL);
                CHECK_2(raw, NULL);
                CHECK_2(comment, NULL);
                CHECK_2(name, NULL);
                CHECK_1(comment, "a\n");
        }
        CHECK_1("a \"\x1b\u202e\"", "a \"\\u{1b}\\u{202e}\"\n");
        CHECK_1("a\x1b", NULL);
        CHECK(!canonical_of("a \0", 3, KDL_VERSION_ANY));
        CHECK_BOTH("a \xff", NULL);
        CHECK_BOTH("a \"\xed\xa0\x80\"", NULL); /* a surrogate */
        CHECK_BOTH("a \"\xc0\x80\"", NULL);
        CHECK_BOTH("// \xe2\x82", NULL);
}

static void test_versions(void) {
        CHECK_ANY("a #true", "a #true\n");
        CHECK_ANY("a true", "a #true\n");
        CHECK_ANY("a r\"x\"", "a x\n");
        CHECK_ANY("a true #true", NULL);
        CHECK_ANY("/- kdl-version 2\na #true", "a #true\n");
        CHECK_ANY("/-kdl-version\t1 \na true", "a #true\n");
        CHECK_ANY("\ufeff/- kdl-version 1\r\na true", "a #true\n");
        CHECK_ANY("/- kdl-version 1\na #true", NULL);
        CHECK_ANY("/- kdl-version 2\na true", NULL);
        CHECK_ANY("/- kdl-version 3\na true", "a #true\n"); /* no marker, and so a node taken out */
        CHECK_ANY("\n/- kdl-version 1\na #true", "a #true\n");
        CHECK_ANY("/- kdl-version 1 2\na #true", "a #true\n");
        CHECK_ANY("/- kdl-version 1; a #true", "a #true\n");
        CHECK_ANY("/- kdl-version1\na #true", "a #true\n");
        CHECK_ANY("/-", NULL);
}

static void test_accessors(void) {
        static const char text[] = "/-x\n(t)n /-0 a k=1 b /-k=2 k=3 /-{ y } {\n /-c\n d\n e\n}\n/-z";
        _cleanup_kdl_ KdlDocument *doc = NULL;
        const KdlNode *n, *child;
        int64_t i;

        CHECK_EQ(kdl_parse(text, strlen(text), KDL_VERSION_ANY, &doc, NULL), 0);
        CHECK_EQ(kdl_document_version(doc), KDL_VERSION_2);
        n = kdl_document_nodes(doc);
        CHECK(kdl_string_is(&n->name, "n") && kdl_string_is(&n->annotation, "t"));
        CHECK(!kdl_node_next(n));
        CHECK_STREQ(kdl_node_argument(n, 0)->string.text, "a");
        CHECK_STREQ(kdl_node_argument(n, 1)->string.text, "b");
        CHECK(!kdl_node_argument(n, 2));
        CHECK_EQ(kdl_value_int64(kdl_node_property(n, "k"), &i), 0);
        CHECK_EQ(i, 3);
        CHECK(!kdl_node_property(n, "l"));
        CHECK_EQ(n->span.start, strstr(text, "(t)n") - text);
        CHECK_EQ(n->span.end, strstr(text, "\n/-z") - text);
        child = kdl_node_children(n);
        CHECK_STREQ(child->name.text, "d");
        child = kdl_node_next(child);
        CHECK_STREQ(child->name.text, "e");
        CHECK(!kdl_node_next(child) && !kdl_node_block(child));
}

static const KdlValue *number(KdlDocument **doc, const char *s) {
        _cleanup_free_ char *text = strf("a %s", s);

        *doc = kdl_document_free(*doc);
        CHECK_EQ(kdl_parse(text, strlen(text), KDL_VERSION_2, doc, NULL), 0);
        return kdl_node_argument(kdl_document_nodes(*doc), 0);
}

static void test_conversions(void) {
        _cleanup_kdl_ KdlDocument *doc = NULL;
        uint64_t u = 7;
        int64_t i = 7;
        double d;

        CHECK_EQ(kdl_value_uint64(number(&doc, "18446744073709551615"), &u), 0);
        CHECK(u == UINT64_MAX);
        CHECK_EQ(kdl_value_uint64(number(&doc, "18446744073709551616"), &u), -ERANGE);
        CHECK_EQ(kdl_value_uint64(number(&doc, "0xffff_ffff_ffff_ffff"), &u), 0);
        CHECK_EQ(kdl_value_uint64(number(&doc, "0x1_0000_0000_0000_0000"), &u), -ERANGE);
        CHECK_EQ(kdl_value_uint64(number(&doc, "-1"), &u), -ERANGE);
        CHECK_EQ(kdl_value_uint64(number(&doc, "-0"), &u), 0);
        CHECK_EQ(u, 0);
        CHECK_EQ(kdl_value_uint64(number(&doc, "1.0"), &u), -EINVAL);
        CHECK_EQ(kdl_value_uint64(number(&doc, "1e3"), &u), -EINVAL);
        CHECK_EQ(kdl_value_uint64(number(&doc, "#inf"), &u), -EINVAL);
        CHECK_EQ(kdl_value_uint64(number(&doc, "x"), &u), -EINVAL);
        CHECK_EQ(kdl_value_uint64(NULL, &u), -EINVAL);
        CHECK_EQ(kdl_value_int64(number(&doc, "-9223372036854775808"), &i), 0);
        CHECK(i == INT64_MIN);
        CHECK_EQ(kdl_value_int64(number(&doc, "-9223372036854775809"), &i), -ERANGE);
        CHECK_EQ(kdl_value_int64(number(&doc, "9223372036854775808"), &i), -ERANGE);
        CHECK_EQ(kdl_value_int64(number(&doc, "-0b101"), &i), 0);
        CHECK_EQ(i, -5);
        CHECK_EQ(kdl_value_double(number(&doc, "-1_0.2_5e-1"), &d), 0);
        CHECK(d == -1.025);
        CHECK_EQ(kdl_value_double(number(&doc, "0o17"), &d), 0);
        CHECK(d == 15);
        CHECK_EQ(kdl_value_double(number(&doc, "-0b10_0000_0001"), &d), 0);
        CHECK(d == -513);
        CHECK_EQ(kdl_value_double(number(&doc, "0xFF"), &d), 0);
        CHECK(d == 255);
        CHECK_EQ(kdl_value_double(number(&doc, "1e999"), &d), -ERANGE);
        CHECK_EQ(kdl_value_double(number(&doc, "#-inf"), &d), 0);
        CHECK(isinf(d) && d < 0);
        CHECK_EQ(kdl_value_double(number(&doc, "#nan"), &d), 0);
        CHECK(isnan(d));
        CHECK_EQ(kdl_value_double(number(&doc, "#true"), &d), -EINVAL);
}

int main(void) {
        test_nodes();
        test_space_in_2();
        test_white_space();
        test_comments();
        test_slashdash();
        test_identifiers();
        test_keywords();
        test_numbers();
        test_quoted();
        test_raw();
        test_multiline();
        test_disallowed();
        test_versions();
        test_accessors();
        test_conversions();
        return 0;
}
