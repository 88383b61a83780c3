/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The digests are what "fsverity digest" of fsverity-utils printed for the same content. */
#include "content-digest.h"
#include "util/test.h"

#define BLOCK CONTENT_DIGEST_BLOCK
#define PATTERN_MAX ((128 * 128 + 1) * BLOCK)

static uint8_t *pattern;

static void make_pattern(void) {
        pattern = malloc(PATTERN_MAX);
        CHECK(pattern);
        for (size_t i = 0; i < PATTERN_MAX; i++)
                pattern[i] = (uint8_t)(i * 7 + (i >> 12) * 13 + (i >> 8));
}

static void check_finish(ContentDigest *d, const char *hex) {
        char text[CONTENT_DIGEST_TEXT_MAX];

        CHECK_EQ(content_digest_finish(d, text), 0);
        CHECK(startswith(text, "sha256:"));
        CHECK_STREQ(text + strlen("sha256:"), hex);
}

static void update_in_pieces(ContentDigest *d, const uint8_t *data, size_t len, size_t piece) {
        for (size_t i = 0; i < len; i += piece)
                CHECK_EQ(content_digest_update(d, data + i, MIN(piece, len - i)), 0);
}

static void test_data(void) {
        static const struct {
                size_t len;
                const char *hex;
        } table[] = {
                { 0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95" },
                { 4095, "036811a3f3360df7c779a29d40d2561d03d020f5219b2c42aa93d9d545e05e26" },
                { 4096, "dba6800c0bddc2369f4f0ab54798f65f5a8c1f49adc4a4792a831ff4b093e2d7" },
                { 4097, "c84404e1f0265016b5e01b17574799c06385c0d3d61dec702842043212835d52" },
                { 8192, "5143fcbc57ac12e33c4759672e6f93ab5d7a82b84889f3544458c5be54cb8171" },
                { 128 * BLOCK - 1, "a358a5b7946868c108412810c5d05382d20417b60c1bd640ced995004ea7d8a2" },
                { 128 * BLOCK, "c86782a8673bb45fb0002b535c47902c5d42ad5a4b2b93094f1a30c06497b9d2" },
                { 128 * BLOCK + 1, "ad4541e2268eec5373777e8142e3647e1e73ba784abf04c6332195fd333b033f" },
                { 129 * BLOCK, "11fc72794a7748700e8c409d96195d484a135b5ba7261a0e74cbb7c0646fece1" },
                { 128 * 128 * BLOCK, "ccb61064493eab9daac992ce9b5f9281a2bb10891e77ea129dfffd3082b46b2b" },
                { PATTERN_MAX, "fb2b9647e68540be841701d0658a9b7c22a2ec5c4f5bbde50d02ff04966d28c0" },
        };
        static const size_t pieces[] = { 1000, BLOCK, BLOCK + 1, 65536, PATTERN_MAX };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                for (size_t j = 0; j < ELEMENTSOF(pieces); j++) {
                        _cleanup_content_digest_ ContentDigest *d = NULL;

                        CHECK_EQ(content_digest_new(&d), 0);
                        update_in_pieces(d, pattern, table[i].len, pieces[j]);
                        check_finish(d, table[i].hex);
                }
}

static void test_one_byte(void) {
        _cleanup_content_digest_ ContentDigest *d = NULL;

        CHECK_EQ(content_digest_new(&d), 0);
        CHECK_EQ(content_digest_update(d, "x", 1), 0);
        check_finish(d, "dbbdfa9d606f7adeaa7f16dcfb0d49161c4cfb82d9d51cfb5cb43fa3dacb9e5b");
}

static void test_zeros(void) {
        static const struct {
                uint64_t len;
                const char *hex;
        } table[] = {
                { 0, "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95" },
                { 1, "b803429503d95915829b29fdbc8bbad142f3abfd11b1cadf5526582e685c0551" },
                { BLOCK, "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e" },
                { 128 * BLOCK, "2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1" },
                { 128 * 128 * BLOCK, "382b8844ad09fb5f7b53e0fc27413cd4e72f47d69604dac5d4865e609ba33c53" },
                { 128 * 128 * BLOCK + BLOCK + 5,
                                "4887c2ab5d5b06f23be1d11178aaf6b4304cbc70f9902ad97f5cfed1fa5760fa" },
                { GIB, "ec1faaf35eccc9b3486408c064d1a357e41825379fedfebe4c697df89f05d8db" },
                { 8 * GIB + 1, "c9edc0b71ef6a67bebfcb5cbceb13f04da52ea3308cf272cff705cd05161020a" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                _cleanup_content_digest_ ContentDigest *d = NULL;

                CHECK_EQ(content_digest_new(&d), 0);
                CHECK_EQ(content_digest_update_zeros(d, table[i].len), 0);
                check_finish(d, table[i].hex);
        }
}

/* Zeros that end inside blocks and inside subtrees. */
static void test_mixed(void) {
        _cleanup_content_digest_ ContentDigest *a = NULL, *b = NULL;

        CHECK_EQ(content_digest_new(&a), 0);
        CHECK_EQ(content_digest_update(a, "abc", 3), 0);
        CHECK_EQ(content_digest_update_zeros(a, 3 * MIB), 0);
        CHECK_EQ(content_digest_update(a, pattern, 10000), 0);
        CHECK_EQ(content_digest_update_zeros(a, GIB), 0);
        CHECK_EQ(content_digest_update(a, "end", 3), 0);
        CHECK_EQ(content_digest_update_zeros(a, 5000), 0);
        check_finish(a, "ec6cb9201225e138749aa3917b1d66b2d88376d50f3f236d9fcbd05a1b971ff3");

        CHECK_EQ(content_digest_new(&b), 0);
        CHECK_EQ(content_digest_update(b, pattern, 128 * BLOCK), 0);
        CHECK_EQ(content_digest_update_zeros(b, 200 * MIB), 0);
        CHECK_EQ(content_digest_update(b, pattern, BLOCK), 0);
        CHECK_EQ(content_digest_update_zeros(b, 64 * MIB), 0);
        check_finish(b, "e1019530e0e8f6f8a19560c15d17f511711da7168b8aa3ea50465a80a221d991");
}

/* A thin disk of the largest size costs next to nothing, and nothing lies beyond it. */
static void test_huge(void) {
        _cleanup_content_digest_ ContentDigest *d = NULL;
        char text[CONTENT_DIGEST_TEXT_MAX];

        CHECK_EQ(content_digest_new(&d), 0);
        CHECK_EQ(content_digest_update(d, "x", 1), 0);
        CHECK_EQ(content_digest_update_zeros(d, INT64_MAX - 1), 0);
        CHECK_EQ(content_digest_update_zeros(d, 1), -EFBIG);
        CHECK_EQ(content_digest_update(d, "x", 1), -EFBIG);
        CHECK_EQ(content_digest_finish(d, text), 0);
}

int main(void) {
        make_pattern();
        test_data();
        test_one_byte();
        test_zeros();
        test_mixed();
        test_huge();
        free(pattern);
        return 0;
}
