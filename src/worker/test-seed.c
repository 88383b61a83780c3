/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "seed.h"
#include "util/fd-util.h"
#include "util/test.h"
#include "json/json.h"

static const SeedConfig config = {
        .instance_id = "id-1",
        .hostname = "web",
        .user = "vm",
        .keys = (char *[]){ (char *)"ssh-ed25519 AAAA \"a\": #b", (char *)"ssh-rsa BBBB", NULL },
};

static Json *user_data(const SeedConfig *c) {
        _cleanup_free_ char *text = NULL;
        const char *json;
        Json *v = NULL;
        size_t len;

        CHECK_EQ(seed_make_user_data(c, &text, &len, NULL), 0);
        CHECK_EQ(strlen(text), len);
        CHECK_EQ(seed_check_user_data(text, len, NULL), 0);
        json = startswith(text, "#cloud-config\n");
        CHECK(json);
        CHECK_EQ(json_parse(json, strlen(json), NULL, &v, NULL), 0);
        return v;
}

static void test_user_data(void) {
        _cleanup_json_ Json *v = user_data(&config);
        const Json *user = json_element(json_get(v, "users"), 0),
                   *keys = json_get(user, "ssh_authorized_keys");

        CHECK_STREQ(json_get_string(v, "hostname"), "web");
        CHECK_EQ(json_get_boolean(v, "disable_root"), true);
        CHECK_EQ(json_get_boolean(v, "ssh_pwauth"), false);
        CHECK_EQ(json_get_boolean(v, "resize_rootfs"), true);
        CHECK_STREQ(json_get_string(json_get(v, "growpart"), "mode"), "auto");
        CHECK_EQ(json_length(json_get(v, "users")), 1);
        CHECK_STREQ(json_get_string(user, "name"), "vm");
        CHECK_STREQ(json_get_string(user, "sudo"), "ALL=(ALL) NOPASSWD:ALL");
        CHECK_STREQ(json_get_string(user, "shell"), "/bin/bash");
        CHECK_EQ(json_get_boolean(user, "lock_passwd"), true);
        CHECK_EQ(json_length(keys), 2);
        CHECK_STREQ(json_string(json_element(keys, 0)), config.keys[0]);
        CHECK_STREQ(json_string(json_element(keys, 1)), config.keys[1]);
}

static void test_root(void) {
        SeedConfig c = config;
        _cleanup_json_ Json *v = NULL;
        const Json *user;

        c.user = "root";
        c.keys = NULL;
        v = user_data(&c);
        user = json_element(json_get(v, "users"), 0);
        CHECK_EQ(json_get_boolean(v, "disable_root"), false);
        CHECK_STREQ(json_get_string(user, "name"), "root");
        CHECK(!json_get(user, "sudo"));
        CHECK_EQ(json_get_boolean(user, "lock_passwd"), false);
        CHECK(!json_get(user, "ssh_authorized_keys"));
}

static void test_meta_data(void) {
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ Json *v = NULL;
        size_t len;

        CHECK_EQ(seed_make_meta_data(&config, &text, &len, NULL), 0);
        CHECK_EQ(json_parse(text, len, NULL, &v, NULL), 0);
        CHECK_EQ(json_length(v), 2);
        CHECK_STREQ(json_get_string(v, "instance-id"), "id-1");
        CHECK_STREQ(json_get_string(v, "local-hostname"), "web");
}

static void expect_user_data_refused(const char *data, size_t len, const char *words) {
        _cleanup_error_ Error *e = NULL;

        CHECK(seed_check_user_data(data, len, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_INVALID_SPEC);
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
}

static void test_own_user_data(void) {
        static const char *const taken[] = {
                "#cloud-config\nusers: []\n",
                "#!/bin/sh\n",
                "#include\nhttp://x/\n",
                "#cloud-boothook\n",
                "## template: jinja\n#cloud-config\n",
                "Content-Type: multipart/mixed; boundary=x\n",
                "content-type: text/x-shellscript\n",
                "MIME-Version: 1.0\n",
                "#part-handler\n",
                "\x1f\x8b\x08",
        };

        for (size_t i = 0; i < ELEMENTSOF(taken); i++)
                CHECK_EQ(seed_check_user_data(taken[i], strlen(taken[i]), NULL), 0);
        expect_user_data_refused("", 0, "empty");
        expect_user_data_refused("users:\n  - x\n", 12, "'users:'");
        expect_user_data_refused("# cloud-config", 14, "'# cloud-config'");
        expect_user_data_refused(" #cloud-config", 14, "' #cloud-config'");
        expect_user_data_refused("\x1b[2J\xff\0x", 7, "'\\x1b[2J\\xff\\x00x'");
        expect_user_data_refused("#clou", 5, "'#clou'");
}

static void write_seed(int fd, size_t user_data_len) {
        _cleanup_free_ char *data = malloc(user_data_len);
        _cleanup_error_ Error *e = NULL;

        CHECK(data);
        memset(data, 'u', user_data_len);
        if (seed_write(fd,
                            (const SeedFile[]){
                                            { "user-data", data, user_data_len }, { "meta-data", "{}", 2 } },
                            2, &e) < 0)
                TEST_FAIL("%s", error_message(e));
}

/* What is in it, isoinfo is asked in test-prepare.py. Here: a label in small letters at its place, whole
 * blocks, sizes at the edges of a block. */
static void test_write(void) {
        static const size_t sizes[] = { 0, 1, 2047, 2048, 2049, SEED_USER_DATA_MAX };

        for (size_t i = 0; i < ELEMENTSOF(sizes); i++) {
                _cleanup_close_ int fd = memfd_create("seed", MFD_CLOEXEC);
                char label[7] = {};
                struct stat st;

                CHECK(fd >= 0);
                write_seed(fd, sizes[i]);
                CHECK_EQ(fstat(fd, &st), 0);
                CHECK_EQ(st.st_size % 2048, 0);
                CHECK(st.st_size > (off_t)sizes[i] && st.st_size < (off_t)(sizes[i] + 512 * KIB));
                CHECK_EQ(pread(fd, label, 6, 16 * 2048 + 40), 6);
                CHECK_STREQ(label, "cidata");
        }
}

static void test_write_fails(void) {
        _cleanup_close_ int fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        const SeedFile files[] = { { "user-data", "", 0 }, { "user-data", "", 0 } };
        _cleanup_error_ Error *e = NULL;

        CHECK(fd >= 0);
        CHECK_EQ(seed_write(fd, files, 1, &e), -ENOSPC);
        CHECK_EQ(error_code(e), ERROR_NO_SPACE);
        CHECK(seed_write(fd, files, 2, &e) < 0); /* one name twice */
        CHECK_EQ(error_code(e), ERROR_FAILED);
}

int main(void) {
        test_user_data();
        test_root();
        test_meta_data();
        test_own_user_data();
        test_write();
        test_write_fails();
        return 0;
}
