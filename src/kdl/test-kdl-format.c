/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the formatter keeps and what it makes even. That it loses nothing, whatever the input, is what
 * tests/fuzz/fuzz-kdl.c checks. */
#include "kdl.h"
#include "util/test.h"

static char *format(const char *text, KdlVersion version, int *ret_r) {
        _cleanup_kdl_ KdlDocument *doc = NULL;
        char *out = NULL;
        size_t len;

        CHECK_EQ(kdl_parse(text, strlen(text), KDL_VERSION_ANY, &doc, NULL), 0);
        *ret_r = kdl_format(doc, version, 0, &out, &len);
        return out;
}

static void check(const char *text, KdlVersion version, const char *expected) {
        _cleanup_free_ char *out = NULL, *again = NULL;
        int r;

        out = format(text, version, &r);
        CHECK_EQ(r, 0);
        CHECK_STREQ(out, expected);
        again = format(out, version, &r);
        CHECK_STREQ(again, expected);
}

static void test_layout(void) {
        check("", KDL_VERSION_2, "");
        check("\n\n  a   1\tk = 2;b{c;d {}}", KDL_VERSION_2, "a 1 k=2\nb {\n    c\n    d {}\n}\n");
        check("a\n\n\n\nb\n\n", KDL_VERSION_2, "a\n\nb\n");
        check("a {\n\n\n  b\n\n\n  c\n\n}", KDL_VERSION_2, "a {\n    b\n\n    c\n}\n");
        check("a 1 \\\n  2", KDL_VERSION_2, "a 1 \\\n    2\n");
        check("a {\nb \\\n1 {\n}\n}", KDL_VERSION_2, "a {\n    b \\\n        1 {}\n}\n");
        check("\ufeffa", KDL_VERSION_2, "a\n");
        check("/-kdl-version 2 \na", KDL_VERSION_2, "/- kdl-version 2\na\n");
        check("/-kdl-version 2\na", KDL_VERSION_1, "/- kdl-version 1\na\n");
        check("\n/-kdl-version 1\na", KDL_VERSION_2, "/-\"kdl-version\" 1\na\n");
}

static void test_choices(void) {
        check("a b \"c\" #\"d\"# k=\"v\"", KDL_VERSION_2, "a b \"c\" #\"d\"# k=\"v\"\n");
        check("a 0xFF 1_000 +1 1E5", KDL_VERSION_2, "a 0xFF 1_000 +1 1E5\n");
        check("a z=1 b=2 z=3 4", KDL_VERSION_2, "a z=1 b=2 z=3 4\n");
        check("a \"\\u{41}\\s\"", KDL_VERSION_2, "a \"\\u{41}\\s\"\n");
        check("( t )a ( u ) 1", KDL_VERSION_2, "(t)a (u)1\n");
}

static void test_comments(void) {
        check("// one\n\n\n// two\na", KDL_VERSION_2, "// one\n\n// two\na\n");
        check("a // b\n// c\n\n// d", KDL_VERSION_2, "a // b\n// c\n\n// d\n");
        check("a; // b", KDL_VERSION_2, "a // b\n");
        check("a { // b\n c // d\n  // e\n}// f", KDL_VERSION_2, "a { // b\n    c // d\n    // e\n} // f\n");
        check("a {\n// b\n}", KDL_VERSION_2, "a {\n    // b\n}\n");
        check("a /*b*/ 1 /*c*/ {\n d\n}", KDL_VERSION_2, "a /*b*/ 1 /*c*/ {\n    d\n}\n");
        check("a k /*b*/ = /*c*/ 1", KDL_VERSION_2, "a /*b*/ /*c*/ k=1\n");
        check("(/*b*/ t) /*c*/ a", KDL_VERSION_2, "/*b*/\n/*c*/\n(t)a\n");
        check("a \\ // b\n 1", KDL_VERSION_2, "a \\ // b\n    1\n");
        check("/* b\n  c */ a", KDL_VERSION_2, "/* b\n  c */\na\n");
        check("a \"// no\" // yes", KDL_VERSION_2, "a \"// no\" // yes\n");
}

static void test_slashdash(void) {
        check("/- a 1 {\n b\n}", KDL_VERSION_2, "/-a 1 {\n    b\n}\n");
        check("a /- 1 /- k = 2 /- { b } { c }", KDL_VERSION_2, "a /-1 /-k=2 /-{\n    b\n} {\n    c\n}\n");
        check("/- // c\n a", KDL_VERSION_2, "// c\n/-a\n");
        check("a /- // c\n 1", KDL_VERSION_2, "a \\ // c\n    /-1\n");
}

static void test_strings(void) {
        check("a {\nrun \"\"\"\n  x\n    y \\\\ \"z\" \\t\n\n  \"\"\"\n}", KDL_VERSION_2,
                        "a {\n    run \"\"\"\n        x\n          y \\\\ \"z\" \t\n\n        \"\"\"\n}\n");
        check("a #\"\"\"\n\tx\\\n\t  \"\"\"\n\t\"\"\"#", KDL_VERSION_2,
                        "a #\"\"\"\n    x\\\n      \"\"\"\n    \"\"\"#\n");
        check("a \"\"\"\n  \\s\\s\n  \"\"\\\"\"\n  \\r\n  \"\"\"", KDL_VERSION_2,
                        "a \"\"\"\n    \\s \n    \"\"\\\"\"\n    \\r\n    \"\"\"\n");
        check("a \"\"\"\n\"\"\"", KDL_VERSION_2, "a \"\"\"\n    \"\"\"\n");
}

static void test_conversion(void) {
        _cleanup_free_ char *out = NULL;
        int r;

        check("a true null r\"x\\y\" r#\"\"q\"# k=false", KDL_VERSION_2,
                        "a #true #null #\"x\\y\"# #\"\"q\"# k=#false\n");
        check("a \"x\n y\"\nb false", KDL_VERSION_2, "a \"\"\"\n    x\n     y\n    \"\"\"\nb #false\n");
        check("a#b \"\\/\" true", KDL_VERSION_2, "\"a#b\" \"/\" #true\n");
        check("a \"\x1b\" // \x1b\v\n", KDL_VERSION_2, "a \"\\u{1b}\" // \ufffd\ufffd\n");
        check("a b #true #\"x\"y\"# k=c", KDL_VERSION_1, "a \"b\" true r#\"x\"y\"# k=\"c\"\n");
        check("a,b #null {c}", KDL_VERSION_1, "\"a,b\" null {\n    c\n}\n");
        check("a \"\"\"\n  x\n  y\n  \"\"\"", KDL_VERSION_1, "a \"x\\ny\"\n");
        out = format("a #inf", KDL_VERSION_1, &r);
        CHECK_EQ(r, -EOPNOTSUPP);
        out = format("a /-{} {}", KDL_VERSION_1, &r);
        CHECK_EQ(r, -EOPNOTSUPP);
}

int main(void) {
        test_layout();
        test_choices();
        test_comments();
        test_slashdash();
        test_strings();
        test_conversion();
        return 0;
}
