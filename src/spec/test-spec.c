/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/test.h"
#include "vm-lists.h"
#include "vm-record.h"

static void test_names(void) {
        static const char *const good[] = { "a", "web-1", "A.b_c", "0", "_x" };
        static const char *const bad[] = { "", ".a", "-a", "a b", "a/b", "a\n", "\xc3\xa4", "a:b", "a,b" };
        char longest[VM_NAME_MAX + 2];

        for (size_t i = 0; i < ELEMENTSOF(good); i++)
                CHECK(vm_name_is_valid(good[i]));
        for (size_t i = 0; i < ELEMENTSOF(bad); i++)
                CHECK(!vm_name_is_valid(bad[i]));
        memset(longest, 'x', sizeof(longest));
        longest[VM_NAME_MAX] = '\0';
        CHECK(vm_name_is_valid(longest));
        longest[VM_NAME_MAX] = 'x';
        longest[VM_NAME_MAX + 1] = '\0';
        CHECK(!vm_name_is_valid(longest));
}

#define CHECK_TABLE(name, max)                                                  \
        do {                                                                    \
                for (int _i = 0; _i < (max); _i++)                              \
                        CHECK_EQ(name##_from_string(name##_to_string(_i)), _i); \
                CHECK_EQ(name##_from_string("nothing like that"), -EINVAL);     \
                CHECK(!name##_to_string(max));                                  \
        } while (false)

static void test_tables(void) {
        CHECK_TABLE(vm_network, _VM_NETWORK_MAX);
        CHECK_TABLE(vm_firmware, _VM_FIRMWARE_MAX);
        CHECK_TABLE(vm_accelerator, _VM_ACCELERATOR_MAX);
        CHECK_TABLE(vm_display, _VM_DISPLAY_MAX);
        CHECK_TABLE(vm_file, _VM_FILE_MAX);
}

static int set(VmSpec *s, const char *key, uint64_t value) {
        return vm_spec_set_number(s, spec_key_find(key), value, NULL);
}

static int set_string(VmSpec *s, const char *key, const char *value) {
        return vm_spec_set_string(s, spec_key_find(key), value, NULL);
}

static void test_bounds(void) {
        _cleanup_error_ Error *e = NULL;
        VmSpec s;

        vm_spec_init(&s);
        CHECK_EQ(s.vcpus, 1);
        CHECK_EQ(s.memory, GIB);
        CHECK_EQ(set(&s, "vcpus", 0), -EINVAL);
        CHECK_EQ(set(&s, "vcpus", 255), 0);
        CHECK_EQ(set(&s, "vcpus", 256), -EINVAL);
        CHECK_EQ(set(&s, "memory", 0), -EINVAL);
        CHECK_EQ(set(&s, "memory", UINT64_MAX), -EINVAL);
        CHECK_EQ(set(&s, "disk", 0), 0);
        CHECK_EQ(set(&s, "disk", UINT64_MAX), -EINVAL);
        CHECK_EQ(set(&s, "cpu-quota", 20), 0);
        CHECK_EQ(set(&s, "cpu-quota", 0), 0);
        CHECK_EQ(set(&s, "cpu-weight", 10001), -EINVAL);
        CHECK_EQ(vm_spec_set_number(&s, spec_key_find("vcpus"), 0, &e), -EINVAL);
        CHECK_STREQ(error_message(e), "vcpus 0 is out of range: 1 to 255");
        CHECK_EQ(vm_spec_set_number(&s, spec_key_find("memory"), MIB, &e), -EINVAL);
        CHECK_STREQ(error_message(e), "memory 1 MiB is out of range: 8 MiB to 8 TiB");
        CHECK_EQ(vm_spec_set_number(&s, spec_key_find("io-weight"), 10240, &e), -EINVAL);
        CHECK_STREQ(error_message(e), "io-weight 10240 is out of range: 1 to 10000, or 0 for none");
        CHECK_EQ(s.vcpus, 255); /* untouched by what failed */

        CHECK_EQ(set_string(&s, "network", "bogus"), -EINVAL);
        CHECK_EQ(set_string(&s, "network", "none"), 0);
        CHECK_EQ(s.network, VM_NETWORK_NONE);
        CHECK_EQ(set_string(&s, "hostname", "a..b"), -EINVAL);
        CHECK_EQ(set_string(&s, "hostname", "a.b-c"), 0);
        CHECK_EQ(set_string(&s, "user", "root; rm"), -EINVAL);
        CHECK_EQ(set_string(&s, "machine", "isapc"), -EINVAL);
        CHECK_EQ(set_string(&s, "machine", "pc-q35-7.2,x=y"), -EINVAL);
        CHECK_EQ(set_string(&s, "cpu", "host;reboot"), -EINVAL);
        CHECK_EQ(set_string(&s, "append", "quiet\n"), -EINVAL);
        CHECK_EQ(set_string(&s, "image-format", "vmdk"), -EINVAL);
        CHECK_EQ(set_string(&s, "vcpus", "2"), -EINVAL);
        CHECK(!spec_key_find("no-such-key"));
        vm_spec_done(&s);
}

static void test_combinations(void) {
        const unsigned image = 1U << VM_FILE_IMAGE, kernel = 1U << VM_FILE_KERNEL,
                       initrd = 1U << VM_FILE_INITRD;
        VmSpec s;

        vm_spec_init(&s);
        CHECK_EQ(vm_spec_check(&s, 0, NULL), -EINVAL);
        CHECK_EQ(vm_spec_check(&s, image, NULL), 0);
        CHECK_EQ(vm_spec_check(&s, image | initrd, NULL), -EINVAL);
        CHECK_EQ(vm_spec_check(&s, kernel | initrd, NULL), 0);
        CHECK_EQ(set_string(&s, "machine", "microvm"), 0);
        CHECK_EQ(vm_spec_check(&s, image, NULL), -EINVAL);
        CHECK_EQ(vm_spec_check(&s, kernel, NULL), 0);
        CHECK_EQ(set_string(&s, "firmware", "uefi"), 0);
        CHECK_EQ(vm_spec_check(&s, kernel, NULL), -EINVAL);
        CHECK_EQ(set(&s, "memory-max", 512 * MIB), 0);
        CHECK_EQ(set(&s, "memory-high", GIB), 0);
        CHECK_EQ(set_string(&s, "firmware", "bios"), 0);
        CHECK_EQ(vm_spec_check(&s, kernel, NULL), -EINVAL);
        vm_spec_done(&s);
}

static void test_limits(void) {
        VmSpec s;
        VmLimits l;

        vm_spec_init(&s);
        l = vm_limits_resolve(&s, true);
        CHECK(l.memory_max >= s.memory + VM_TCG_CACHE);
        CHECK(l.memory_max > vm_limits_resolve(&s, false).memory_max);
        CHECK(l.tasks_max > 0 && l.cpu_quota == 0);
        s.limits.memory_max = 700 * MIB;
        CHECK_EQ(vm_limits_resolve(&s, true).memory_max, 700 * MIB);
}

static void fill(VmRecord *rec) {
        *rec = (VmRecord){
                .name = strdup("web"),
                .uuid = strdup("6f0c38a4-7f1c-4a3e-8f12-6e2f0d1d8b1a"),
                .mac = strdup("52:54:00:12:34:56"),
                .machine = strdup("pc-q35-7.2"),
                .owner = 1000,
                .uid = 1879048192,
                .ssh_port = 10042,
                .created = 1,
                .disk_size = 4 * GIB,
                .seed = true,
        };
        vm_spec_init(&rec->spec);
        CHECK_EQ(set_string(&rec->spec, "append", "a=\"b\" \\ \xc3\xa4"), 0);
        CHECK_EQ(set(&rec->spec, "memory-max", GIB), 0);
        rec->files[VM_FILE_IMAGE] = (FileRef){
                .path = strdup("/a b,c\"d"), .inode = 1, .btime = 2, .size = 3
        };
}

static void test_record(void) {
        _cleanup_free_ char *text = NULL, *again = NULL;
        VmRecord rec, copy;
        size_t len, n;

        fill(&rec);
        CHECK_EQ(vm_record_format(&rec, &text, &len), 0);
        CHECK_EQ(vm_record_parse(text, len, &copy, NULL), 0);
        CHECK_STREQ(copy.spec.append, rec.spec.append);
        CHECK_STREQ(copy.files[VM_FILE_IMAGE].path, "/a b,c\"d");
        CHECK(!copy.files[VM_FILE_KERNEL].path);
        CHECK_EQ(vm_record_format(&copy, &again, &n), 0);
        CHECK_STREQ(again, text);
        for (size_t i = 0; i + 2 < len; i += 7) { /* cut anywhere, it is an error and nothing leaks */
                VmRecord cut;

                CHECK(vm_record_parse(text, i, &cut, NULL) < 0);
        }
        vm_record_done(&rec);
        vm_record_done(&copy);
}

static void check_broken(const char *from, const char *to) {
        _cleanup_free_ char *text = NULL, *broken = NULL;
        _cleanup_error_ Error *e = NULL;
        VmRecord rec;
        const char *at;
        size_t len;

        fill(&rec);
        CHECK_EQ(vm_record_format(&rec, &text, &len), 0);
        vm_record_done(&rec);
        at = strstr(text, from);
        CHECK(at);
        broken = strf("%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
        CHECK(vm_record_parse(broken, strlen(broken), &rec, &e) < 0);
        CHECK(strlen(error_message(e)) > 10);
}

static void test_broken_records(void) {
        check_broken("\"version\": 2", "\"version\": 3");
        check_broken("\"version\": 2", "\"version\": \"1\"");
        check_broken("\"name\": \"web\"", "\"name\": \"../web\"");
        check_broken("\"name\"", "\"nombre\"");
        check_broken("\"owner\": 1000", "\"owner\": -1");
        check_broken("\"ssh-port\": 10042", "\"ssh-port\": 70000");
        check_broken("\"path\": \"/a", "\"path\": \"a");
        check_broken("\"vcpus\": 1", "\"vcpus\": 0");
        check_broken("\"vcpus\"", "\"vcpuz\"");
        check_broken("\"network\": \"user\"", "\"network\": 5");
}

static void test_lists(void) {
        static const char *const good_forwards[] = { "", "8080:80", "8080:80,8443:443", "65535:65535" };
        static const char *const bad_forwards[] = { ",", "8080", "8080:80,", "8080:80,8080:81", "80:80",
                "0:1", "8080:0", "65536:1", "8080:80 8081:81", ":", "8080:80:1" };
        static const char *const good_disks[] = { "", "data:1M", "a:10737418240,b:1G" };
        static const char *const bad_disks[] = { "data", "data:", ":1G", "data:0", "a:1G,a:1G", "../x:1G",
                "a:1G,", "a:99999999T", "name-of-more-than-20-x:1G" };
        const char *list = "8080:80,8443:443";
        VmForward f;

        for (size_t i = 0; i < ELEMENTSOF(good_forwards); i++)
                CHECK_EQ(vm_forwards_check(good_forwards[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad_forwards); i++)
                if (vm_forwards_check(bad_forwards[i], NULL) >= 0)
                        TEST_FAIL("forward '%s' is taken", bad_forwards[i]);
        for (size_t i = 0; i < ELEMENTSOF(good_disks); i++)
                CHECK_EQ(vm_disks_check(good_disks[i], NULL), 0);
        for (size_t i = 0; i < ELEMENTSOF(bad_disks); i++)
                if (vm_disks_check(bad_disks[i], NULL) >= 0)
                        TEST_FAIL("disks '%s' is taken", bad_disks[i]);
        CHECK_EQ(vm_forward_next(&list, &f), 1);
        CHECK_EQ(vm_forward_next(&list, &f), 1);
        CHECK_EQ(f.host, 8443);
        CHECK_EQ(f.guest, 443);
        CHECK_EQ(vm_forward_next(&list, &f), 0);
}

int main(void) {
        test_names();
        test_tables();
        test_bounds();
        test_combinations();
        test_limits();
        test_lists();
        test_record();
        test_broken_records();
        return 0;
}
