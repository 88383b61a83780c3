/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "converge.h"
#include "util/test.h"

#define ORIGIN "/srv/p/VMFile.kdl"

/* A definition, what there is, and the plan that is made of them. */
typedef struct Case {
        Vmfile *file;
        KdlDiagnostics *d;
        ConvergeWant want;
        Json *properties;
        ConvergeHave have;
        ConvergePlan plan;
        Error *error;
} Case;

static void case_done(Case *c) {
        converge_plan_done(&c->plan);
        converge_want_done(&c->want);
        vmfile_free(c->file);
        kdl_diagnostics_free(c->d);
        json_free(c->properties);
        error_free(c->error);
}
#define _cleanup_case_ _cleanup_(case_done)

/* `settings` of a VM "web"; `spec` beside what every VM has; `state` NULL: it isn't there. */
static void case_init(
                Case *c, const char *settings, const char *state, const char *spec, const char *steps) {
        const VmfileOptions options = { .folder = "/srv/p", .home = "/root" };
        _cleanup_free_ char *text = strf("vm \"web\" {\n%s\n}\n", settings), *properties = NULL;

        *c = (Case){};
        CHECK(text);
        CHECK_EQ(kdl_diagnostics_new("VMFile.kdl", text, strlen(text), &c->d), 0);
        if (vmfile_parse(text, strlen(text), &options, &c->file, c->d) < 0) {
                kdl_diagnostics_write(c->d, stderr);
                TEST_FAIL("the definition is wrong");
        }
        CHECK_EQ(converge_want_init(&c->want, &c->file->vms[0], ORIGIN, NULL, NULL), 0);
        if (c->file->vms[0].image)
                c->want.image = strdup(c->file->vms[0].image);
        for (size_t i = 0; i < c->file->vms[0].n_steps; i++)
                CHECK_EQ(strv_extendf(&c->want.fingerprints, "step%zu", i), 0);
        if (!state)
                return;
        c->have.user = 1000;
        properties = strf("{\"Owner\": 1000, \"State\": \"%s\", \"ProvisionedSteps\": [%s], \"Spec\": "
                          "{\"vcpus\": 1, "
                          "\"memory\": 1073741824, \"network\": \"user\", \"firmware\": \"bios\", "
                          "\"accel\": \"auto\", \"display\": \"vnc\", \"console-log-max\": 99, "
                          "\"image-format\": \"qcow2\", \"image\": \"/srv/p/a.img\", "
                          "\"balloon\": false%s%s}}",
                        state, steps ?: "", isempty(spec) ? "" : ", ", spec ?: "");
        CHECK_EQ(json_parse(properties, strlen(properties), NULL, &c->properties, NULL), 0);
        c->have.properties = c->properties;
}

static void check_actions(const ConvergePlan *p, const char *expected) {
        _cleanup_free_ char *text = strdup("");

        for (size_t i = 0; i < p->n_actions; i++) {
                char *longer = strf(
                                "%s%s%s", text, i > 0 ? " " : "", converge_action_to_string(p->actions[i]));

                free(text);
                text = longer;
        }
        CHECK_STREQ(text, expected);
}

#define OURS "\"origin\": \"" ORIGIN "\""
#define STEPS "ssh { }\nprovision \"shell\" { inline \"a\"; }\nprovision \"shell\" { inline \"b\"; }\n"
#define IMAGE "image \"a.img\"\n"

/* What `up` does. */
static void check_up(const char *settings, const char *state, const char *spec, const char *steps,
                ConvergeProvision mode, bool wait, const char *expected) {
        _cleanup_case_ Case c;

        case_init(&c, settings, state, spec, steps);
        CHECK_EQ(converge_up(&c.want, &c.have, mode, wait, &c.plan, &c.error), 0);
        check_actions(&c.plan, expected);
}

static void test_states(void) {
        check_up(IMAGE, NULL, NULL, NULL, CONVERGE_AUTO, false, "create start");
        check_up(IMAGE, "prepared", OURS, NULL, CONVERGE_AUTO, false, "start");
        check_up(IMAGE, "stopped", OURS, NULL, CONVERGE_AUTO, false, "start");
        check_up(IMAGE, "failed", OURS, NULL, CONVERGE_AUTO, false, "start");
        check_up(IMAGE, "starting", OURS, NULL, CONVERGE_AUTO, false, "start");
        check_up(IMAGE, "suspended", OURS, NULL, CONVERGE_AUTO, false, "resume");
        check_up(IMAGE, "running", OURS, NULL, CONVERGE_AUTO, false, "");
}

static void test_steps(void) {
        check_up(IMAGE STEPS, NULL, NULL, NULL, CONVERGE_AUTO, false, "create start provision");
        check_up(IMAGE STEPS, NULL, NULL, NULL, CONVERGE_NEVER, false, "create start");
        /* It is provisioned again whenever it was started, */
        check_up(IMAGE STEPS, "stopped", OURS, "\"step0\", \"step1\"", CONVERGE_AUTO, false,
                        "start provision");
        check_up(IMAGE STEPS, "stopped", OURS, "\"step0\", \"step1\"", CONVERGE_CHANGED, false, "start");
        /* and not while it runs, unless that has not come to its end. */
        check_up(IMAGE STEPS, "running", OURS, "\"step0\", \"step1\"", CONVERGE_AUTO, false, "");
        check_up(IMAGE STEPS, "running", OURS, "\"step0\", \"other\"", CONVERGE_AUTO, false, "");
        check_up(IMAGE STEPS, "running", OURS, "\"step0\", \"\"", CONVERGE_AUTO, false, "provision");
        check_up(IMAGE STEPS, "running", OURS, "\"step0\"", CONVERGE_AUTO, false, "provision");
        check_up(IMAGE STEPS, "running", OURS, "", CONVERGE_NEVER, false, "");
        check_up(IMAGE STEPS, "running", OURS, "\"other\", \"step1\"", CONVERGE_CHANGED, false, "provision");
        check_up(IMAGE STEPS, "running", OURS, "\"step0\", \"step1\"", CONVERGE_CHANGED, false, "");
        check_up(IMAGE STEPS, "running", OURS, "\"step0\", \"step1\"", CONVERGE_ALWAYS, false, "provision");
}

static void test_which_steps(void) {
        static const struct {
                ConvergeProvision mode;
                const char *done;
                size_t n, left;
                bool only_changed;
        } cases[] = {
                { CONVERGE_AUTO, "\"step0\", \"step1\"", 0, 0, false },
                { CONVERGE_AUTO, "\"other\", \"step1\"", 0, 1, false },
                { CONVERGE_AUTO, "\"other\"", 2, 0, true },
                { CONVERGE_CHANGED, "\"step0\"", 1, 0, true },
                { CONVERGE_ALWAYS, "\"step0\"", 2, 0, false },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_case_ Case c;

                case_init(&c, IMAGE STEPS, "running", OURS, cases[i].done);
                CHECK_EQ(converge_up(&c.want, &c.have, cases[i].mode, false, &c.plan, NULL), 0);
                CHECK_EQ(c.plan.n_steps, cases[i].n);
                CHECK_EQ(c.plan.n_left, cases[i].left);
                CHECK_EQ(c.plan.only_changed, cases[i].only_changed);
        }
}

static void test_wait(void) {
        check_up(IMAGE, NULL, NULL, NULL, CONVERGE_AUTO, true, "create start"); /* it runs: that is all */
        check_up(IMAGE "ssh { }\n", NULL, NULL, NULL, CONVERGE_AUTO, true, "create start wait");
        check_up(IMAGE "ssh { }\n", "running", OURS, NULL, CONVERGE_AUTO, true, "wait");
        check_up(IMAGE STEPS, NULL, NULL, NULL, CONVERGE_AUTO, true, "create start provision");
        check_up(IMAGE STEPS "ready \"cloud-init\"\n", NULL, NULL, NULL, CONVERGE_AUTO, true,
                        "create start provision wait");
        check_up(IMAGE STEPS, NULL, NULL, NULL, CONVERGE_NEVER, true, "create start wait");
}

/* One setting that differs: what it was, what it is to be, and what that takes. */
static void check_change(const char *setting, const char *spec, const char *state, const char *name,
                const char *from, const char *to, ConvergeEffect effect, const char *actions) {
        _cleanup_case_ Case c;

        case_init(&c, setting, state, spec, NULL);
        CHECK_EQ(converge_up(&c.want, &c.have, CONVERGE_AUTO, false, &c.plan, NULL), 0);
        CHECK_EQ(c.plan.n_changes, 1);
        CHECK_STREQ(c.plan.changes[0].name, name);
        CHECK_STREQ(c.plan.changes[0].from, from);
        CHECK_STREQ(c.plan.changes[0].to, to);
        CHECK_EQ(c.plan.changes[0].effect, effect);
        check_actions(&c.plan, actions);
}

static void test_changes(void) {
        check_change(IMAGE "vcpus 4\n", OURS, "running", "vcpus", "1", "4", CONVERGE_STOPPED, "");
        check_change(IMAGE "vcpus 4\n", OURS, "stopped", "vcpus", "1", "4", CONVERGE_STOPPED,
                        "update start");
        check_change(IMAGE "memory \"1536M\"\n", OURS, "running", "memory", "1G", "1536M", CONVERGE_STOPPED,
                        "");
        check_change(IMAGE "limits { cpu-quota \"80%\"; }\n", OURS, "running", "cpu-quota", "", "80",
                        CONVERGE_LIVE, "set-limits");
        check_change(IMAGE "limits { cpu-quota \"80%\"; }\n", OURS, "stopped", "cpu-quota", "", "80",
                        CONVERGE_LIVE, "update start");
        /* What is not in the file any more */
        check_change(IMAGE, OURS ", \"tasks-max\": 50", "running", "tasks-max", "50", "", CONVERGE_LIVE,
                        "set-limits");
        check_change(IMAGE, OURS ", \"cpu\": \"max\"", "stopped", "cpu", "max", "", CONVERGE_REBUILD,
                        "start");
        check_change(IMAGE "firmware \"uefi\"\n", OURS, "stopped", "firmware", "bios", "uefi",
                        CONVERGE_REBUILD, "start");
        check_change(IMAGE "disk 20\n", OURS ", \"disk\": 10737418240", "stopped", "disk", "10G", "20G",
                        CONVERGE_STOPPED, "update start");
        check_change(IMAGE "disk 5\n", OURS ", \"disk\": 10737418240", "stopped", "disk", "10G", "5G",
                        CONVERGE_REBUILD, "start");
        check_change("image \"b.img\"\n", OURS, "running", "image", "/srv/p/a.img", "/srv/p/b.img",
                        CONVERGE_REBUILD, "");
        check_change(IMAGE "forward 8080 80\n", OURS, "running", "forward", "", "8080:80", CONVERGE_STOPPED,
                        "");
        check_change(IMAGE "disk \"data\" 1\n", OURS, "running", "disks", "", "data:1073741824",
                        CONVERGE_REBUILD, "");
        /* A seed is read once. */
        check_change(IMAGE "ssh { user \"joe\"; }\n", OURS, "stopped", "user", "vm", "joe", CONVERGE_STOPPED,
                        "update start");
        check_change(IMAGE "cloud-init { hostname \"a\"; }\n",
                        OURS ", \"hostname\": \"b\", \"cloud-init\": true", "stopped", "hostname", "b", "a",
                        CONVERGE_REBUILD, "start");
        check_change(IMAGE "cloud-init { }\n", OURS, "running", "cloud-init", "no", "yes", CONVERGE_REBUILD,
                        "");
}

static void test_same(void) {
        static const struct {
                const char *settings, *spec;
        } same[] = {
                { IMAGE "machine \"q35\"\n", OURS ", \"machine\": \"q35\"" },
                { IMAGE "ssh { user \"vm\"; }\n", OURS },
                { IMAGE, OURS ", \"hostname\": \"web\"" },
                { IMAGE "forward 8080 80\nforward 8443 443\n", OURS ", \"forward\": \"8080:80,8443:443\"" },
                { IMAGE "disk 5\n", OURS ", \"disk\": 5368709120" },
        };

        for (size_t i = 0; i < ELEMENTSOF(same); i++) {
                _cleanup_case_ Case c;

                case_init(&c, same[i].settings, "running", same[i].spec, NULL);
                CHECK_EQ(converge_up(&c.want, &c.have, CONVERGE_AUTO, false, &c.plan, NULL), 0);
                if (c.plan.n_changes > 0)
                        TEST_FAIL("%s has changed from '%s' to '%s'", c.plan.changes[0].name,
                                        c.plan.changes[0].from, c.plan.changes[0].to);
        }
}

static void check_url(const char *settings, const char *url, const char *sha256, const char *name) {
        _cleanup_case_ Case c;

        case_init(&c, settings, "running", OURS ", \"image-name\": \"x\"", NULL);
        c.have.image_url = url;
        c.have.image_sha256 = sha256;
        CHECK_EQ(converge_up(&c.want, &c.have, CONVERGE_AUTO, false, &c.plan, NULL), 0);
        CHECK_EQ(c.plan.n_changes, name ? 1 : 0);
        if (name)
                CHECK_STREQ(c.plan.changes[0].name, name);
}

#define DIGEST "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_image_url(void) {
        check_url("image-url \"https://h/a.img\"\n", "https://h/a.img", "", NULL);
        check_url("image-url \"https://me:pw@h/a.img\"\n", "https://h/a.img", "", NULL);
        check_url("image-url \"https://h/a@b.img\"\n", "https://h/a@b.img", "", NULL);
        check_url("image-url \"https://h/b.img\"\n", "https://h/a.img", "", "image-url");
        check_url("image-url \"https://h/a.img\" sha256=\"" DIGEST "\"\n", "https://h/a.img", DIGEST, NULL);
        check_url("image-url \"https://h/a.img\" sha256=\"" DIGEST "\"\n", "https://h/a.img", "00",
                        "sha256");
        /* It was made from a file. */
        check_url("image-url \"https://h/a.img\"\n", NULL, NULL, "image");
}

static void check_refused(const char *state, const char *spec, bool origin_gone, ErrorCode code) {
        _cleanup_case_ Case c;

        case_init(&c, IMAGE, state, spec, NULL);
        c.have.origin_gone = origin_gone;
        CHECK(converge_up(&c.want, &c.have, CONVERGE_AUTO, false, &c.plan, &c.error) < 0);
        CHECK_EQ(error_code(c.error), code);
        CHECK_EQ(c.plan.n_actions, 0);
}

static void test_others(void) {
        static const char other[] = "\"origin\": \"/srv/q/VMFile.kdl\"", none[] = "\"origin\": \"\"";
        _cleanup_case_ Case c, gone;

        check_refused("stopped", other, false, ERROR_VM_EXISTS);
        check_refused("stopped", none, false, ERROR_VM_EXISTS);
        check_refused("stopped", none, true, ERROR_VM_EXISTS);
        check_refused("stopping", OURS, false, ERROR_INVALID_STATE);
        check_refused("preparing", OURS, false, ERROR_INVALID_STATE);
        check_refused("unheard-of", OURS, false, ERROR_INVALID_STATE);
        /* Nor is what is another's stopped, destroyed or provisioned. */
        case_init(&c, IMAGE STEPS, "running", other, NULL);
        CHECK(converge_down(&c.want, &c.have, false, &c.plan, &c.error) < 0);
        CHECK(converge_down(&c.want, &c.have, true, &c.plan, &c.error) < 0);
        CHECK(converge_remove(&c.want, &c.have, &c.plan, &c.error) < 0);
        CHECK(converge_provision(&c.want, &c.have, false, &c.plan, &c.error) < 0);
        CHECK_STREQ(error_message(c.error),
                        "VM 'web' comes from '/srv/q/VMFile.kdl', not from '" ORIGIN "'");
        /* Least of all what is another user's, whatever he says that it comes from, and whether that is
         * there. */
        for (int i = 0; i < 2; i++) {
                _cleanup_case_ Case foreign;

                case_init(&foreign, IMAGE STEPS, "running", i ? other : OURS, NULL);
                foreign.have.origin_gone = i;
                foreign.have.user = 0;
                CHECK(converge_up(&foreign.want, &foreign.have, CONVERGE_AUTO, false, &foreign.plan,
                                      &foreign.error) < 0);
                CHECK_EQ(error_code(foreign.error), ERROR_VM_EXISTS);
                CHECK(converge_down(&foreign.want, &foreign.have, true, &foreign.plan, NULL) < 0);
                CHECK(converge_remove(&foreign.want, &foreign.have, &foreign.plan, NULL) < 0);
                CHECK(converge_provision(&foreign.want, &foreign.have, false, &foreign.plan, NULL) < 0);
                CHECK_EQ(foreign.plan.n_actions, 0);
        }
        /* A project that was moved takes its VMs along. */
        case_init(&gone, IMAGE, "stopped", other, NULL);
        gone.have.origin_gone = true;
        CHECK_EQ(converge_up(&gone.want, &gone.have, CONVERGE_AUTO, false, &gone.plan, NULL), 0);
        check_actions(&gone.plan, "update start");
        CHECK_STREQ(gone.plan.changes[0].name, "origin");
}

static void check_down(const char *state, bool destroy, const char *expected) {
        _cleanup_case_ Case c;

        case_init(&c, IMAGE, state, OURS, NULL);
        CHECK_EQ(converge_down(&c.want, &c.have, destroy, &c.plan, NULL), 0);
        check_actions(&c.plan, expected);
}

static void test_down(void) {
        check_down("running", false, "stop");
        check_down("suspended", false, "stop");
        check_down("starting", false, "stop");
        check_down("stopping", false, "stop");
        check_down("stopped", false, "");
        check_down("prepared", false, "");
        check_down("stopped", true, "destroy");
        check_down("running", true, "destroy");
        check_down(NULL, true, "");
}

static void test_remove(void) {
        _cleanup_case_ Case file, url, none;

        case_init(&file, IMAGE, "running", OURS, NULL);
        CHECK_EQ(converge_remove(&file.want, &file.have, &file.plan, NULL), 0);
        check_actions(&file.plan, "destroy");
        /* A download that fails is to fail while the old VM is still there. */
        case_init(&url, "image-url \"https://h/a.img\"\n", "running", OURS, NULL);
        CHECK_EQ(converge_remove(&url.want, &url.have, &url.plan, NULL), 0);
        check_actions(&url.plan, "pull destroy");
        case_init(&none, IMAGE, NULL, NULL, NULL);
        CHECK_EQ(converge_remove(&none.want, &none.have, &none.plan, NULL), 0);
        check_actions(&none.plan, "");
}

static void check_provision(const char *settings, const char *state, const char *steps, bool only_changed,
                int r, const char *expected) {
        _cleanup_case_ Case c;

        case_init(&c, settings, state, OURS, steps);
        CHECK_EQ(converge_provision(&c.want, &c.have, only_changed, &c.plan, &c.error), r);
        check_actions(&c.plan, expected);
}

static void test_provision(void) {
        check_provision(IMAGE STEPS, "running", "\"step0\", \"step1\"", false, 0, "provision");
        check_provision(IMAGE STEPS, "running", "\"step0\", \"step1\"", true, 0, "");
        check_provision(IMAGE STEPS, "running", "\"step0\"", true, 0, "provision");
        check_provision(IMAGE, "running", NULL, false, 0, "");
        check_provision(IMAGE STEPS, "stopped", NULL, false, -error_code_errno(ERROR_INVALID_STATE), "");
        check_provision(IMAGE STEPS, NULL, NULL, false, -error_code_errno(ERROR_NO_SUCH_VM), "");
}

static void test_tables(void) {
        for (int i = 0; i < _CONVERGE_ACTION_MAX; i++)
                CHECK_EQ(converge_action_from_string(converge_action_to_string(i)), i);
        for (int i = 0; i < _CONVERGE_PROVISION_MAX; i++)
                CHECK_EQ(converge_provision_from_string(converge_provision_to_string(i)), i);
        CHECK(converge_provision_from_string("sometimes") < 0);
}

int main(void) {
        test_tables();
        test_states();
        test_steps();
        test_which_steps();
        test_wait();
        test_changes();
        test_same();
        test_image_url();
        test_others();
        test_down();
        test_remove();
        test_provision();
        return 0;
}
