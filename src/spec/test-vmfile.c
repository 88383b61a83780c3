/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/test.h"
#include "vmfile-keys.h"
#include "vmfile.h"

static const VmfileOptions options = { .folder = "/project", .home = "/home/me" };

static Vmfile *parse(const char *text, const VmfileOptions *o, char **ret_errors) {
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        Vmfile *f = NULL;
        size_t len;
        FILE *stream;
        int r;

        CHECK_EQ(kdl_diagnostics_new(VMFILE_NAME, text, strlen(text), &d), 0);
        r = vmfile_parse(text, strlen(text), o, &f, d);
        CHECK(r == 0 || r == -EBADMSG);
        CHECK((r < 0) == (kdl_diagnostics_errors(d) > 0) && (r < 0) == !f);
        stream = open_memstream(ret_errors, &len);
        CHECK(stream);
        kdl_diagnostics_write(d, stream);
        fclose(stream);
        return f;
}

static Vmfile *good(const char *text) {
        _cleanup_free_ char *errors = NULL;
        Vmfile *f = parse(text, &options, &errors);

        if (!f)
                TEST_FAIL("refused:\n%s\n%s", text, errors);
        return f;
}

/* The message, and the place where the text has '@'. */
static void bad(const char *marked, const char *message) {
        _cleanup_free_ char *text = strdup(marked), *errors = NULL, *expected = NULL;
        _cleanup_vmfile_ Vmfile *f = NULL;
        char *at = strchr(text, '@');
        unsigned line = 1, column = 1;

        CHECK(at);
        for (const char *s = text; s < at; s++) {
                column = *s == '\n' ? 1 : column + 1;
                line += *s == '\n';
        }
        memmove(at, at + 1, strlen(at));
        f = parse(text, &options, &errors);
        expected = strf(VMFILE_NAME ":%u:%u: error: %s", line, column, message);
        if (f || !strstr(errors, expected))
                TEST_FAIL("%s\ngave:\n%s\nexpected: %s", text, errors, expected);
}

/* The same for settings of a VM that is right otherwise. */
static void bad_setting(const char *marked, const char *message) {
        _cleanup_free_ char *text = strf("vm \"a\" {\n image \"i\"\n %s\n}\n", marked);

        bad(text, message);
}

static void bad_hint(const char *text, const char *hint) {
        _cleanup_free_ char *errors = NULL;
        _cleanup_vmfile_ Vmfile *f = parse(text, &options, &errors);

        if (f || !strstr(errors, hint))
                TEST_FAIL("%s\ngave:\n%s\nexpected: %s", text, errors, hint);
}

#define URL "https://cloud-images.ubuntu.com/noble/current/noble-server-cloudimg-amd64.img"

static void test_web_server(void) {
        _cleanup_vmfile_ Vmfile *f = good(
                        "vm \"webserver\" {\n"
                        "    image-url \"" URL "\"\n"
                        "    vcpus 2\n    memory 2048\n    disk 20\n\n"
                        "    cloud-init {\n        hostname \"webserver\"\n    }\n\n"
                        "    ssh {\n        user \"ubuntu\"\n    }\n\n"
                        "    provision \"shell\" {\n"
                        "        inline \"sudo apt-get update && sudo apt-get install -y nginx\"\n    }\n\n"
                        "    provision \"shell\" {\n"
                        "        inline \"echo 'Hello from vmctl!' | sudo tee /var/www/html/index.html\"\n  "
                        "  }\n}\n");
        const VmfileVm *vm = vmfile_find(f, "webserver");

        CHECK(vm && f->n_vms == 1 && !vmfile_find(f, "web"));
        CHECK_STREQ(vm->image_url, URL);
        CHECK(!vm->image && !vm->sha256);
        CHECK_EQ(vm->spec.vcpus, 2);
        CHECK_EQ(vm->spec.memory, 2048 * MIB);
        CHECK_EQ(vm->spec.disk, 20 * GIB);
        CHECK(vm->spec.cloud_init && vm_spec_has(&vm->spec, "cloud-init"));
        CHECK_STREQ(vm->spec.hostname, "webserver");
        CHECK_STREQ(vm->spec.user, "ubuntu");
        CHECK(vm->has_ssh && vm->ready == VMFILE_READY_SSH);
        CHECK_EQ(vm->n_steps, 2);
        CHECK_EQ(vm->steps[1].type, VMFILE_STEP_INLINE);
        CHECK_STREQ(vm->steps[0].command, "sudo apt-get update && sudo apt-get install -y nginx");
        CHECK_EQ(vm->steps[1].line, 19);
}

static void test_builder(void) {
        _cleanup_vmfile_ Vmfile *f = good(
                        "vm \"omnios-builder\" {\n"
                        "    image-url "
                        "\"https://downloads.omnios.org/media/stable/omnios-r151056.cloud.qcow2\"\n"
                        "    vcpus 4\n    memory 4096\n    disk 20\n"
                        "    cloud-init {\n        hostname \"omnios-builder\"\n    }\n"
                        "    ssh {\n        user \"smithy\"\n    }\n"
                        "    provision \"shell\" {\n        script \"scripts/bootstrap-omnios.sh\"\n    }\n"
                        "    provision \"file\" {\n        source \"scripts/forger-src.tar.gz\"\n"
                        "        destination \"/tmp/forger-src.tar.gz\"\n    }\n"
                        "    provision \"shell\" {\n        script \"scripts/install-forger.sh\"\n    "
                        "}\n}\n");
        const VmfileStep *steps = f->vms[0].steps;

        CHECK_EQ(f->vms[0].n_steps, 3);
        CHECK_EQ(steps[0].type, VMFILE_STEP_SCRIPT);
        CHECK_STREQ(steps[0].source, "/project/scripts/bootstrap-omnios.sh");
        CHECK(!steps[0].command && !steps[0].env);
        CHECK_EQ(steps[1].type, VMFILE_STEP_FILE);
        CHECK_STREQ(steps[1].source, "/project/scripts/forger-src.tar.gz");
        CHECK_STREQ(steps[1].destination, "/tmp/forger-src.tar.gz");
        CHECK_EQ(steps[1].mode, VMFILE_MODE_UNSET);
}

static void test_full_example(void) {
        _cleanup_vmfile_ Vmfile *f = good(
                        "// Development VM with all options specified\n"
                        "vm \"full-example\" {\n    // Image source: URL (auto-cached)\n"
                        "    image-url \"" URL "\"\n\n    // Resources\n"
                        "    vcpus 4\n    memory 4096\n    disk 40\n\n"
                        "    network \"user\"\n\n"
                        "    cloud-init {\n        hostname \"full-example\"\n        // no keys\n    }\n\n"
                        "    ssh {\n        user \"ubuntu\"\n        // none\n    }\n\n"
                        "    provision \"shell\" {\n        inline \"sudo apt-get update\"\n    }\n\n"
                        "    provision \"file\" {\n        source \"config/bashrc\"\n"
                        "        destination \"/home/ubuntu/.bashrc\"\n    }\n\n"
                        "    provision \"shell\" {\n        script \"scripts/setup-dev-tools.sh\"\n    "
                        "}\n}\n\n"
                        "vm \"tap-example\" {\n    image \"~/images/debian-12-generic-amd64.qcow2\"\n\n"
                        "    vcpus 2\n    memory 2048\n\n    network \"tap\" {\n        bridge \"br0\"\n    "
                        "}\n\n"
                        "    cloud-init {\n        hostname \"tap-vm\"\n        ssh-key "
                        "\"~/.ssh/id_ed25519.pub\"\n    }\n\n"
                        "    ssh {\n        user \"debian\"\n        private-key \"~/.ssh/id_ed25519\"\n    "
                        "}\n}\n\n"
                        "vm \"minimal\" {\n    image-url \"" URL "\"\n}\n");
        const VmfileVm *vm = f->vms;

        CHECK_EQ(f->n_vms, 3);
        CHECK_EQ(vm[0].n_steps, 3);
        CHECK(!vm[0].bridge && vm[0].spec.network == VM_NETWORK_USER);
        CHECK_STREQ(vm[1].image, "/home/me/images/debian-12-generic-amd64.qcow2");
        CHECK_STREQ(vm[1].bridge, "br0");
        CHECK_STREQ(vm[1].ssh_key, "/home/me/.ssh/id_ed25519.pub");
        CHECK_STREQ(vm[1].private_key, "/home/me/.ssh/id_ed25519");
        CHECK_EQ(vm[2].spec.vcpus, 1);
        CHECK_EQ(vm[2].spec.memory, 1024 * MIB);
        CHECK(vm[2].spec.disk == 0 && !vm_spec_has(&vm[2].spec, "disk"));
        CHECK(!vm[2].spec.cloud_init && vm_spec_has(&vm[2].spec, "cloud-init") && !vm[2].has_ssh);
        CHECK_EQ(vm[2].ready, VMFILE_READY_RUNNING);
}

/* The fragments of the handbook's reference, each in a VM. */
static void test_fragments(void) {
        static const char *const fragments[] = {
                "network \"tap\"",
                "network \"none\"",
                "cloud-init {\n hostname \"myvm\"\n ssh-key \"~/.ssh/id_ed25519.pub\"\n user-data "
                "\"path/to/cloud-config.yaml\"\n}",
                "cloud-init {\n user-data \"./my-cloud-config.yaml\"\n}",
                "ssh {\n user \"ubuntu\"\n private-key \"~/.ssh/id_ed25519\"\n}",
                "ssh {\n}\nprovision \"file\" {\n source \"config/app.conf\"\n destination "
                "\"/etc/app/app.conf\"\n}",
                "cloud-init {}\nssh {}",
        };

        for (size_t i = 0; i < ELEMENTSOF(fragments); i++) {
                _cleanup_free_ char *text = strf(
                                "vm \"a\" {\nimage \"/opt/images/ubuntu.qcow2\"\n%s\n}", fragments[i]);
                _cleanup_vmfile_ Vmfile *f = good(text);

                CHECK_STREQ(f->vms[0].image, "/opt/images/ubuntu.qcow2");
                CHECK_STREQ(f->vms[0].bridge, i == 0 ? "br0" : NULL);
                CHECK(!f->vms[0].ssh_key);
        }
}

static void test_more(void) {
        static const char text[] =
                        "vm db { image db.img; disk \"20G\"; disk data 10; disk \"log\" \"512M\"; "
                        "autostart; restart on-failure }\n"
                        "vm web {\n"
                        " image-url \"https://x/y.zst\" "
                        "sha256=\"ABCDEF0123456789abcdef0123456789abcdef0123456789abcdef0123456789\"\n"
                        " memory \"4G\"; balloon; console-log-max 32\n"
                        " kernel \"./vmlinuz\"; initrd \"~/initrd\"; append \"console=ttyS0\"; machine "
                        "\"q35\"; "
                        "firmware \"bios\"\n"
                        " forward 8080 80; forward 8443 443\n"
                        " depends-on \"db\"; autostart #false; ready \"cloud-init\"\n"
                        " limits { cpu-quota \"150%\"; cpu-weight 200; io-weight 50; memory-max \"6G\"; "
                        "memory-high 5000; tasks-max 300 }\n"
                        " ssh user=\"me\"; cloud-init hostname=\"h\"\n"
                        " provision \"shell\" { inline \"\"\"\n   set -e\n   echo\n   \"\"\"; env A=\"x y\" "
                        "B=\"\" C=3; env D=\"4\" }\n"
                        " provision \"file\" source=\"d\" destination=\"/d\" mode=\"0750\"\n"
                        " provision \"file\" { source \"/s\"; destination \"/t\"; mode 0o644 }\n"
                        " /- vcpus oops\n"
                        "}\n";
        _cleanup_vmfile_ Vmfile *f = good(text);
        const VmfileVm *db = vmfile_find(f, "db"), *web = vmfile_find(f, "web");

        CHECK(db->autostart && db->restart == VMFILE_RESTART_ON_FAILURE && db->spec.disk == 20 * GIB);
        CHECK(db->n_disks == 2 && db->disks[0].size == 10 * GIB && db->disks[1].size == 512 * MIB);
        CHECK_STREQ(db->disks[1].name, "log");
        CHECK_STREQ(web->sha256, "abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789");
        CHECK(web->spec.memory == 4 * GIB && web->spec.balloon && web->spec.console_log_max == 32 * MIB);
        CHECK_STREQ(web->kernel, "/project/vmlinuz");
        CHECK_STREQ(web->initrd, "/home/me/initrd");
        CHECK_STREQ(web->spec.append, "console=ttyS0");
        CHECK(web->n_forwards == 2 && web->forwards[1].host == 8443 && web->forwards[1].guest == 443);
        CHECK(strv_length(web->depends_on) == 1 && !web->autostart && web->ready == VMFILE_READY_CLOUD_INIT);
        CHECK(web->spec.limits.cpu_quota == 150 && web->spec.limits.memory_max == 6 * GIB);
        CHECK(web->spec.limits.memory_high == 5000 * MIB && web->spec.limits.tasks_max == 300);
        CHECK_STREQ(web->spec.user, "me");
        CHECK_STREQ(web->steps[0].command, "set -e\necho");
        CHECK_EQ(strv_length(web->steps[0].env), 4);
        CHECK_STREQ(web->steps[0].env[2], "C=3");
        CHECK_EQ(web->steps[1].mode, 0750);
        CHECK_EQ(web->steps[2].mode, 0644);
        CHECK_EQ(web->spec.vcpus, 1);
}

static void test_names_and_shape(void) {
        bad("@", "there is no VM in this file");
        bad("@vmm \"a\" {}", "'vmm' cannot stand here");
        bad("@vm {\n image \"i\"\n}", "a vm needs a name");
        bad("@vm \"a\" \"b\" {\n image \"i\"\n}", "a vm has one name only");
        bad("vm @1 {\n image \"i\"\n}", "expected a string, found a number");
        bad("vm @\"a/b\" {\n image \"i\"\n}", "'a/b' is not a valid VM name");
        bad("vm \"a\" { image \"i\"; }\nvm @\"a\" { image \"i\"; }", "there are two VMs 'a'");
        bad_setting("@memroy 5", "'memroy' is not a setting of vm");
        bad_setting("@hostname \"x\"", "'hostname' is not a setting of vm");
        bad_setting("vcpus 1\n @vcpus 2", "vcpus stands here twice");
        bad_setting("@vcpus", "vcpus needs a value");
        bad_setting("@vcpus 1 2", "vcpus takes one value only");
        bad_setting("vcpus 1 @x=2", "vcpus has no property 'x'");
        bad_setting("vcpus 1 { @x; }", "vcpus has no settings of its own");
        bad_setting("ssh @\"ubuntu\"", "ssh takes no value of its own");
        bad_setting("@forward 1", "forward needs two values");
        bad("vm \"a\" {\n image \"i\"\n}\n@memory 5", "'memory' cannot stand here");
        bad_hint("vm \"a\" { memroy 5; }", "hint: did you mean 'memory'?");
        bad_hint("vm \"a\" { hostname x; }", "hint: it belongs between the braces of cloud-init");
        bad_hint("vm \"a\" {\nvm \"b\" {\n}\n}", "is a '}' missing?");
        bad_hint("vm \"a\" { vcpus 1\n vcpus 2\n}", "hint: the first one is on line 1");
}

static void test_bad_values(void) {
        bad_setting("vcpus @0", "vcpus 0 is out of range: 1 to 255");
        bad_setting("vcpus @\"2\"", "'2' is not a whole number");
        bad_setting("vcpus @1.5", "'1.5' is not a whole number");
        bad_setting("vcpus @-1", "'-1' is too large, or negative");
        bad_setting("memory @0", "memory 0 bytes is out of range");
        bad_setting("memory @\"4X\"", "'4X' is not a whole number or a size");
        bad_setting("memory @99999999999999999999", "'99999999999999999999' is too large");
        bad_setting("memory @18446744073709551615", "'18446744073709551615' is too large");
        bad_setting("disk @#true", "expected a string, found a keyword");
        bad_setting("disk 1\n @disk 2", "the size of the disk stands here twice");
        bad_setting("disk \"d\" 1\n disk @\"d\" 2", "there is a disk 'd' already");
        bad_setting("disk @\"a b\" 1", "'a b' is not a valid name for a disk");
        bad_setting("disk \"d\" @0", "a disk without an image needs a size");
        bad_setting("network @\"vnic\"", "network 'vnic' is not supported");
        bad_setting("network @\"user\" {\n bridge \"br0\"\n}", "only network \"tap\" has a bridge");
        bad_setting("network @\"tap\" {\n bridge \"a,b\"\n}",
                        "'a,b' is not the name of a network interface");
        bad_setting("balloon @1", "expected #true or #false");
        bad_setting("firmware @\"efi\"", "firmware 'efi' is not");
        bad_setting("restart @\"often\"", "restart 'often' is not supported");
        bad_setting("forward @0 80", "expected a port, 1 to 65535");
        bad_setting("forward 80 @65536", "expected a port, 1 to 65535");
        bad_setting("forward 80 1\n forward @80 2", "port 80 is forwarded already");
        bad_setting("depends-on \"b\" @\"b\"", "'b' stands here twice");
        bad_setting("kernel @\"\"", "a path cannot be empty");
        bad_setting("kernel @\"~you/k\"", "'~' stands for your own home directory only");
        bad_setting("kernel @\"a\\u{0}b\"", "a NUL character cannot stand here");
        bad_setting("cloud-init {\n hostname @\"a..b\"\n}", "hostname 'a..b' is not valid");
        bad_setting("limits {\n cpu-weight @0x10000\n}", "cpu-weight 65536 is out of range");
        bad_setting("limits {\n cpu-quota @\"x%\"\n}", "'x%' is not a whole number");
        bad("vm \"a\" {\n image-url @\"img.qcow2\"\n}", "'img.qcow2' is not an http or https URL");
        bad("vm \"a\" {\n image-url \"http://x/\" sha256=@\"12\"\n}",
                        "a SHA-256 digest has 64 hexadecimal digits");
}

static void test_bad_steps(void) {
        bad_setting("@provision { inline \"x\"; }", "provision needs a value");
        bad_setting("provision @\"ansible\" {}", "provision 'ansible' is not supported");
        bad_setting("ssh {}\n @provision \"shell\" {}", "a shell step needs inline or script");
        bad_setting("ssh {}\n @provision \"shell\" { inline \"x\"; script \"y\"; }",
                        "a shell step has either inline or script");
        bad_setting("ssh {}\n @provision \"file\" { source \"x\"; }",
                        "a file step needs a source and a destination");
        bad_setting("provision \"file\" { source \"x\"; destination @\"y\"; }",
                        "'y' is not an absolute path");
        bad_setting("provision \"file\" { @inline \"x\"; }",
                        "'inline' is not a setting of provision \"file\"");
        bad_setting("provision \"file\" { mode @644; }", "expected permissions in octal");
        bad_setting("provision \"file\" { mode @\"888\"; }", "expected permissions in octal");
        bad_setting("provision \"shell\" { env @\"A\"; }", "expected NAME=\"value\"");
        bad_setting("provision \"shell\" { env @\"A-B\"=\"x\"; }", "expected NAME=\"value\"");
        bad_setting("provision \"shell\" { env A=@#true; }", "expected a string, found a keyword");
        bad_setting("provision \"shell\" { @env; }", "env has no variables");
        bad("vm @\"a\" {\n image \"i\"\n provision \"shell\" { inline \"x\"; }\n}",
                        "vm 'a' has provision steps, but no ssh block");
        bad("vm @\"a\" {\n image \"i\"\n network \"none\"\n ready \"ssh\"\n}", "vm 'a' has no network");
        bad("vm @\"a\" {\n image \"i\"\n network \"tap\"\n forward 80 80\n}", "vm 'a' forwards ports");
}

static void test_combinations(void) {
        _cleanup_vmfile_ Vmfile *f = good("vm \"a\" {\n kernel \"k\"\n machine \"microvm\"\n}");
        _cleanup_free_ char *errors = NULL;
        _cleanup_vmfile_ Vmfile *foreign = NULL, *warned = NULL, *homeless = NULL;
        VmfileOptions others = options, nobody = options;

        CHECK_STREQ(f->vms[0].kernel, "/project/k");
        bad("vm @\"a\" {\n vcpus 1\n}", "vm 'a' has no image");
        bad("vm @\"a\" {\n image \"i\"\n image-url \"http://x/y\"\n}",
                        "vm 'a' has both an image and an image-url");
        bad("vm @\"a\" {\n image \"i\"\n append \"x\"\n}", "vm 'a': append 'x' is given, but no kernel");
        bad("vm @\"a\" {\n image \"i\"\n depends-on \"bd\"\n}\nvm \"db\" { image \"i\"; }",
                        "vm 'a' depends on 'bd', which is not in this file");
        bad_hint("vm \"a\" { depends-on \"bd\"; }\nvm \"db\" { image \"i\"; }", "hint: did you mean 'db'?");
        bad("vm @\"a\" { image \"i\"; depends-on \"b\"; }\nvm \"b\" { image \"i\"; depends-on \"c\"; }\n"
            "vm \"c\" { image \"i\"; depends-on \"a\"; }",
                        "VMs depend on each other: 'a' -> 'b' -> 'c' -> 'a'");
        bad("vm @\"a\" { image \"i\"; depends-on \"a\"; }", "VMs depend on each other: 'a' -> 'a'");
        others.foreign_dependencies = true;
        foreign = parse("vm \"a\" { image \"i\"; depends-on \"z\"; }", &others, &errors);
        CHECK(foreign);
        errors = (free(errors), NULL);
        CHECK(!parse("vm \"a\" { image \"i\"; depends-on \"../z\"; }", &others, &errors));
        CHECK(strstr(errors, ":1:4: error: vm 'a' depends on what is no VM"));
        errors = (free(errors), NULL);
        warned = parse("vm \"a\" { image \"i\"; cloud-init ssh-key=\"k\" user-data=\"u\"; }", &options,
                        &errors);
        CHECK(warned && strstr(errors, ":1:4: warning: vm 'a' has user-data"));
        errors = (free(errors), NULL);
        nobody.home = NULL;
        homeless = parse("vm \"a\" { image \"~/i\"; }", &nobody, &errors);
        CHECK(!homeless && strstr(errors, "there is no home directory"));
}

static void test_all_at_once(void) {
        _cleanup_free_ char *errors = NULL;
        _cleanup_vmfile_ Vmfile *f = parse(
                        "vm \"a\" {\n memroy 1\n vcpus 0\n}\nvm \"a\" { image \"i\"; disc 3; }", &options,
                        &errors);
        size_t n = 0;

        CHECK(!f);
        for (const char *s = errors; (s = strstr(s, ": error: ")); s++)
                n++;
        CHECK_EQ(n, 5);
        CHECK(strstr(errors, "did you mean 'disk'?"));
}

/* The tables belong together: all that CreateVM knows can be said in a file, in its own unit. */
static void test_tables(void) {
        for (size_t i = 0; i < vm_spec_n_keys; i++) {
                /* Orders of a client, and lists that nodes of their own make up. */
                static const char *const others[] = { "start", "origin", "forward", "disks", "image-name",
                        "image-url" };
                bool found = false;

                for (size_t k = 0; k < ELEMENTSOF(others); k++)
                        found = found || streq(vm_spec_keys[i].name, others[k]);

                for (size_t j = 0; j < vmfile_n_keys; j++)
                        found = found || streq_ptr(vmfile_keys[j].spec, vm_spec_keys[i].name);
                if (!found)
                        TEST_FAIL("%s cannot be said in a VMFile", vm_spec_keys[i].name);
        }
        for (size_t i = 0; i < vmfile_n_keys; i++) {
                const VmfileKey *k = &vmfile_keys[i];
                const SpecKey *spec = k->spec ? spec_key_find(k->spec) : NULL;

                CHECK(!k->spec == !spec);
                CHECK(k->kind != VMFILE_KIND_SPEC || spec);
                CHECK(vmfile_key_find(k->in, k->name) == k);
                CHECK(!isempty(k->help));
        }
        for (int i = 0; i < _VMFILE_RESTART_MAX; i++)
                CHECK_EQ(vmfile_restart_from_string(vmfile_restart_to_string(i)), i);
        for (int i = 0; i < _VMFILE_READY_MAX; i++)
                CHECK_EQ(vmfile_ready_from_string(vmfile_ready_to_string(i)), i);
        CHECK_STREQ(vmfile_key_nearest(VMFILE_BLOCK_SSH, "private_key"), "private-key");
}

int main(void) {
        test_web_server();
        test_builder();
        test_full_example();
        test_fragments();
        test_more();
        test_names_and_shape();
        test_bad_values();
        test_bad_steps();
        test_combinations();
        test_all_at_once();
        test_tables();
        return 0;
}
