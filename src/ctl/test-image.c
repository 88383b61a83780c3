/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image-name.h"
#include "job-line.h"
#include "spec-args.h"
#include "text.h"
#include "util/test.h"

static void test_name(void) {
        static const struct {
                const char *path, *name;
        } names[] = {
                { "/srv/a/noble.img", "noble" },
                { "./x.raw.zst", "x" },
                { "rootfs/", "rootfs" },
                { "rootfs.tar.gz", "rootfs" },
                { "a//", "a" },
                { "/", NULL },
                { "..", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(names); i++) {
                _cleanup_free_ char *name = image_name_of(names[i].path);

                CHECK_STREQ(name, names[i].name);
        }
}

static void test_url(void) {
        static const struct {
                const char *url, *path;
        } urls[] = {
                { "file:///srv/a.img", "/srv/a.img" },
                { "file://localhost/srv/a.img", "/srv/a.img" },
                { "file:///a%20b%2Fc", "/a b/c" },
                { "file:///%e2%82%ac", "/€" },
                { "file://elsewhere/a", NULL },
                { "file://localhostess/a", NULL },
                { "file:/a", NULL },
                { "file:///a%2", NULL },
                { "file:///a%", NULL },
                { "file:///a%zz", NULL },
                { "file:///a%00b", NULL },
                { "https://example.com/a", NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(urls); i++) {
                _cleanup_free_ char *path = image_url_path(urls[i].url);

                CHECK_STREQ(path, urls[i].path);
        }
}

static void test_kind(void) {
        CHECK_EQ(spec_image_kind("https://example.com/a.img"), IMAGE_URL);
        CHECK_EQ(spec_image_kind("http://example.com/a.img"), IMAGE_URL);
        CHECK_EQ(spec_image_kind("file:///a.img"), IMAGE_URL);
        CHECK_EQ(spec_image_kind("./nosuch"), IMAGE_FILE);
        CHECK_EQ(spec_image_kind("nosuch"), IMAGE_STORED);
        CHECK_EQ(spec_image_kind("."), IMAGE_STORED);
        CHECK_EQ(spec_image_kind("./"), IMAGE_FILE);
        CHECK_EQ(spec_image_kind(""), IMAGE_STORED);
}

static void check_line(const JobLine *l, size_t columns, const char *expected) {
        _cleanup_free_ char *text = job_line_text(l, columns);

        CHECK_STREQ(text, expected);
        CHECK(text_width(text) <= columns);
}

static void test_line(void) {
        const JobLine half = {
                .phase = (char *)"downloading", .done = 50 * MIB, .total = 100 * MIB, .speed = 10 * MIB
        };
        const JobLine unknown = { .phase = (char *)"downloading", .done = 50 * MIB, .speed = 10 * MIB };
        const JobLine still = { .phase = (char *)"verifying" };
        const JobLine more = { .phase = (char *)"x\033[2J", .done = 200, .total = 100, .speed = UINT64_MAX };
        const JobLine slow = { .phase = (char *)"x", .done = 1, .total = UINT64_MAX, .speed = 1 };

        check_line(&half, 100,
                        "Downloading  [===============>              ]   50%  50M of 100M  10M/s  5s left");
        check_line(&half, 79, "Downloading  [==========>         ]   50%  50M of 100M  10M/s  5s left");
        check_line(&half, 78, "Downloading   50%  50M of 100M  10M/s  5s left");
        check_line(&half, 50, "Downloading   50%  50M of 100M  10M/s  5s left");
        check_line(&half, 40, "Downloading   50%  50M of 100M  10M/s");
        check_line(&half, 30, "Downloading   50%  50M of 100M");
        check_line(&half, 17, "Downloading   50%");
        check_line(&half, 5, "Downl");
        check_line(&half, 0, "");
        check_line(&unknown, 80, "Downloading  50M  10M/s");
        check_line(&still, 80, "Verifying…");
        check_line(&(JobLine){}, 80, "Waiting…");
        check_line(&more, 40, "X\\x1b[2J  100%  200B of 100B  15.9E/s");
        check_line(&slow, 60, "X    0%  1B of 15.9E  1B/s");
}

int main(void) {
        test_name();
        test_url();
        test_kind();
        test_line();
        return 0;
}
