/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whatever is accepted keeps the promises that those who create VMs from it rely on. */
#include "fuzz.h"
#include "spec/vmfile.h"
#include "util/test.h"

static void check_path(const char *path) {
        CHECK(!path || *path == '/');
}

static void check_step(const VmfileStep *s) {
        CHECK(!s->script);
        CHECK(!s->command == (s->type != VMFILE_STEP_INLINE));
        CHECK(!s->source == (s->type == VMFILE_STEP_INLINE));
        CHECK(!s->destination == (s->type != VMFILE_STEP_FILE));
        CHECK(s->mode <= 07777 || s->mode == VMFILE_MODE_UNSET);
        check_path(s->source);
        check_path(s->destination);
        STRV_FOREACH(variable, s->env)
                CHECK(strchr(*variable, '='));
}

static void check_vm(const Vmfile *f, const VmfileVm *vm) {
        CHECK(vm_name_is_valid(vm->name) && vmfile_find(f, vm->name) == vm);
        CHECK(!(vm->image && vm->image_url) && (vm->image || vm->image_url || vm->kernel));
        CHECK(vm->ready >= 0 && vm->ready < _VMFILE_READY_MAX);
        CHECK(vm->restart >= 0 && vm->restart < _VMFILE_RESTART_MAX);
        CHECK(vm->n_steps == 0 || vm->has_ssh);
        CHECK(!vm->sha256 || strlen(vm->sha256) == 64);
        check_path(vm->image);
        check_path(vm->kernel);
        check_path(vm->initrd);
        check_path(vm->user_data);
        check_path(vm->ssh_key);
        check_path(vm->private_key);
        for (size_t i = 0; i < vm->n_steps; i++)
                check_step(&vm->steps[i]);
        for (size_t i = 0; i < vm->n_disks; i++)
                CHECK(vm->disks[i].size > 0 && vm_name_is_valid(vm->disks[i].name));
        STRV_FOREACH(name, vm->depends_on)
                CHECK(vmfile_find(f, *name));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const VmfileOptions options = { .folder = "/folder", .home = "/home/me" };
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        _cleanup_vmfile_ Vmfile *f = NULL;
        const char *text = (const char *)data ?: "";
        int r;

        CHECK_EQ(kdl_diagnostics_new("input", text, size, &d), 0);
        r = vmfile_parse(text, size, &options, &f, d);
        CHECK(r == 0 || r == -EBADMSG || r == -EFBIG);
        CHECK((r < 0) == (kdl_diagnostics_errors(d) > 0));
        for (size_t i = 0; f && i < f->n_vms; i++)
                check_vm(f, &f->vms[i]);
        return 0;
}
