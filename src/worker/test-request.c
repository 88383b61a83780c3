/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "request.h"
#include "util/test.h"

static int parse(const char *text, Request *ret, Error **reterr) {
        return request_parse(text, strlen(text), ret, reterr);
}

static void test_all_keys(void) {
        _cleanup_request_ Request r = {};

        CHECK_EQ(parse("{\"name\":\"web\",\"instance-id\":\"i\",\"hostname\":\"www.example.org\",\"user\":"
                       "\"joe\","
                       "\"ssh-key\":\"k\",\"generate-key\":false,\"cloud-init\":true,\"image-format\":"
                       "\"qcow2\","
                       "\"disk-size\":1073741824}",
                                 &r, NULL),
                        0);
        CHECK_STREQ(r.name, "web");
        CHECK_STREQ(r.instance_id, "i");
        CHECK_STREQ(r.hostname, "www.example.org");
        CHECK_STREQ(r.user, "joe");
        CHECK_STREQ(r.ssh_key, "k");
        CHECK(!r.generate_key);
        CHECK(r.cloud_init);
        CHECK_EQ(r.image_format, IMAGE_FORMAT_QCOW2);
        CHECK_EQ(r.disk_size, GIB);
}

static void test_defaults(void) {
        _cleanup_request_ Request r = {}, nulls = {};

        CHECK_EQ(parse("{\"name\":\"web\"}", &r, NULL), 0);
        CHECK_STREQ(r.hostname, "web");
        CHECK_STREQ(r.user, "vm");
        CHECK(!r.ssh_key && !r.generate_key && !r.cloud_init);
        CHECK_EQ(r.image_format, _IMAGE_FORMAT_INVALID);
        CHECK_EQ(r.disk_size, 0);
        CHECK_EQ(parse("{\"name\":\"web\",\"instance-id\":null,\"hostname\":null,\"user\":null,\"ssh-key\":"
                       "null,"
                       "\"image-format\":null}",
                                 &nulls, NULL),
                        0);
        CHECK_STREQ(nulls.user, "vm");
        CHECK_STREQ(nulls.hostname, "web");
}

static void test_hostname_from_name(void) {
        static const char *const cases[][2] = {
                { "web-1", "web-1" },
                { "web.example", "web.example" },
                { "my_vm", "my-vm" },
                { "_x_", "x" },
                { "a..b", "a.b" },
                { "a.-b", "a.b" },
                { "web-", "web" },
                { "___", "vm" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = strf("{\"name\":\"%s\"}", cases[i][0]);
                _cleanup_request_ Request r = {};

                CHECK_EQ(parse(text, &r, NULL), 0);
                CHECK_STREQ(r.hostname, cases[i][1]);
        }
}

static void test_refused(void) {
        static const struct {
                const char *members;
                ErrorCode code;
                const char *words;
        } cases[] = {
                { "\"memory\":1", ERROR_UNKNOWN_OPTION, "'memory'" },
                { "\"user\":1", ERROR_INVALID_SPEC, "'user'" },
                { "\"ssh-key\":true", ERROR_INVALID_SPEC, "'ssh-key'" },
                { "\"generate-key\":null", ERROR_INVALID_SPEC, "'generate-key'" },
                { "\"cloud-init\":1", ERROR_INVALID_SPEC, "'cloud-init'" },
                { "\"cloud-init\":true", ERROR_INVALID_SPEC, "'instance-id'" },
                { "\"image-format\":\"vmdk\"", ERROR_INVALID_SPEC, "'image-format'" },
                { "\"disk-size\":-1", ERROR_INVALID_SPEC, "'disk-size'" },
                { "\"disk-size\":1.5", ERROR_INVALID_SPEC, "'disk-size'" },
                { "\"disk-size\":\"1\"", ERROR_INVALID_SPEC, "'disk-size'" },
                { "\"ssh-key\":\"k\",\"generate-key\":true", ERROR_INVALID_SPEC, "exclude" },
                { "\"user\":\"\"", ERROR_INVALID_SPEC, "User name" },
                { "\"user\":\"a:b\"", ERROR_INVALID_SPEC, "'a:b'" },
                { "\"user\":\"-a\"", ERROR_INVALID_SPEC, "User name" },
                { "\"user\":\"a\\n\"", ERROR_INVALID_SPEC, "'a\\x0a'" },
                { "\"user\":\"a23456789012345678901234567890123\"", ERROR_INVALID_SPEC, "User name" },
                { "\"hostname\":\"\"", ERROR_INVALID_SPEC, "Host name" },
                { "\"hostname\":\"a_b\"", ERROR_INVALID_SPEC, "Host name" },
                { "\"hostname\":\"-a\"", ERROR_INVALID_SPEC, "Host name" },
                { "\"hostname\":\"a-.b\"", ERROR_INVALID_SPEC, "Host name" },
                { "\"hostname\":\"a..b\"", ERROR_INVALID_SPEC, "Host name" },
                { "\"hostname\":\"a.\"", ERROR_INVALID_SPEC, "Host name" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *text = strf("{\"name\":\"web\",%s}", cases[i].members);
                _cleanup_request_ Request r = {};
                _cleanup_error_ Error *e = NULL;

                CHECK_EQ(parse(text, &r, &e), -error_code_errno(cases[i].code));
                CHECK_EQ(error_code(e), cases[i].code);
                if (!strstr(error_message(e), cases[i].words))
                        TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), cases[i].words);
        }
}

static void test_no_request(void) {
        static const char *const cases[] = { "", "[]", "{}", "null", "{\"name\":\"a\"} x", "{\"name\":\"\"}",
                "{\"name\":\"a\",\"name\":\"b\"}", "{\"name\":[[[]]]}" };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_request_ Request r = {};
                _cleanup_error_ Error *e = NULL;

                CHECK(parse(cases[i], &r, &e) < 0);
                CHECK(e);
        }
}

int main(void) {
        test_all_keys();
        test_defaults();
        test_hostname_from_name();
        test_refused();
        test_no_request();
        return 0;
}
