/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "checksums.h"
#include "util/test.h"

#define A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static void expect(const char *text, const char *sha256, const char *sha512) {
        _cleanup_error_ Error *e = NULL;
        Checksums found;

        if (checksums_find(text, strlen(text), "disk.img", &found, &e) < 0)
                TEST_FAIL("\"%s\": %s", text, error_message(e));
        CHECK_STREQ(found.sha256, sha256);
        CHECK_STREQ(found.sha512, sha512);
}

static void test_taken(void) {
        expect(A "  disk.img\n", A, "");
        expect(A " *disk.img", A, "");
        expect(A "\tdisk.img\r\n", A, "");
        expect("  " A "  ./disk.img\n", A, "");
        expect("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA  disk.img\n", A, "");
        expect(B "  other.img\n" A "  disk.img\n" B "  disk.img.old\n" B "  xdisk.img", A, "");
        expect(A A "  disk.img\n", "", A A);
        expect(A "  disk.img\n" B B "  disk.img\n" A "  disk.img\n", A, B B);
        expect("SHA256 (disk.img) = " A "\n", A, "");
        expect("SHA512 (disk.img)= " A B "\n", "", A B);
        expect("# comment\n\nMD5 (disk.img) = aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nSHA256 (disk.img) = " B, B,
                        "");
        expect(A, A, "");
        expect("\n" A A "\n\n", "", A A);
        expect(A "\ndd  disk.img", A, ""); /* what is no digest names nothing */
}

static void expect_refused(const char *text, size_t len, const char *words) {
        _cleanup_error_ Error *e = NULL;
        Checksums found;

        CHECK_EQ(checksums_find(text, len, "disk.img", &found, &e),
                        -error_code_errno(ERROR_DIGEST_MISMATCH));
        CHECK_EQ(error_code(e), ERROR_DIGEST_MISMATCH);
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
}

static void test_refused(void) {
        static const char *const none[] = {
                "",
                "\n",
                A "  other.img\n",
                A "  other.img\n" B "\n", /* the digest alone may be the other one's */
                A "disk.img\n",
                A "a  disk.img\n",
                "aaaa  disk.img\n",
                "ga" A "  disk.img\n",
                "SHA256 disk.img = " A,
                "SHA256 (disk.img = " A,
                "SHA256 (disk.img) " A,
                "SHA256 () = " A,
                "SHA256 (other.img) (disk.img) = " A,
                A "  dir/disk.img",
                "<html><body>disk.img</body></html>",
        };

        for (size_t i = 0; i < ELEMENTSOF(none); i++)
                expect_refused(none[i], strlen(none[i]), "has no SHA-256 or SHA-512 for 'disk.img'");
        expect_refused(A "\0  disk.img", sizeof(A "\0  disk.img") - 1, "has no");
        expect_refused(A "  disk.img\n" B "  disk.img\n", 2 * sizeof(A "  disk.img\n") - 2, "two different");
        expect_refused(A "\n" B "\n", 2 * sizeof(A "\n") - 2, "two different");
}

int main(void) {
        test_taken();
        test_refused();
        return 0;
}
