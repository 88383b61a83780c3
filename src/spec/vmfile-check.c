/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is right by itself and wrong together. */
#include "util/nearest.h"
#include "vmfile-reader.h"

void vmfile_check_step(VmfileReader *r, VmfileStep *step, KdlSpan span) {
        if (step->type == VMFILE_STEP_FILE) {
                if (step->source && step->destination)
                        return;
                vmfile_error(r, span, "a file step needs a source and a destination");
                vmfile_hint(r, "add: %s \"path\"", step->source ? "destination" : "source");
                return;
        }
        if (!step->command == !step->script) {
                vmfile_error(r, span,
                                step->command ? "a shell step has either inline or script, not both"
                                              : "a shell step needs inline or script");
                vmfile_hint(r, step->command ? "make it two steps" : "add: inline \"command\"");
        }
        if (step->script) {
                step->type = VMFILE_STEP_SCRIPT;
                step->source = TAKE_PTR(step->script);
        }
}

/* As the kernel has it, and a part of a QEMU option where a comma would start the next one. */
static bool is_interface(const char *s) {
        return strlen(s) < 16 && !strpbrk(s, "/:, \t\n") && !streq(s, ".") && !streq(s, "..");
}

void vmfile_check_network(VmfileReader *r, const VmfileVm *vm, const KdlValue *mode) {
        if (!vm->bridge)
                return;
        if (mode->type == KDL_STRING && !kdl_string_is(&mode->string, "tap"))
                vmfile_error(r, mode->span, "only network \"tap\" has a bridge");
        else if (!is_interface(vm->bridge))
                vmfile_error(r, mode->span, "'%s' is not the name of a network interface", vm->bridge);
}

static void check_name(VmfileReader *r, const VmfileVm *vm) {
        _cleanup_error_ Error *e = NULL;

        if (!vm->name)
                return;
        if (vm_name_check(vm->name, &e) < 0) {
                vmfile_error(r, vm->span, "%s", error_message(e));
                vmfile_hint(r, "1 to %d letters, digits, '-', '_' and '.', neither '-' nor '.' first",
                                VM_NAME_MAX);
        }
        for (const VmfileVm *other = r->file->vms; other < vm; other++)
                if (streq_ptr(other->name, vm->name)) {
                        vmfile_error(r, vm->span, "there are two VMs '%s'", vm->name);
                        vmfile_hint(r, "the first one is on line %u", other->line);
                        return;
                }
}

static void check_image(VmfileReader *r, const VmfileVm *vm) {
        const char *name = vm->name ?: "";

        if (vm->image && vm->image_url) {
                vmfile_error(r, vm->span, "vm '%s' has both an image and an image-url", name);
                vmfile_hint(r, "a VM has one of them");
        } else if (!vm->image && !vm->image_url && !vm->kernel) {
                vmfile_error(r, vm->span, "vm '%s' has no image", name);
                vmfile_hint(r, "add: image \"path\", or: image-url \"https://...\"");
        }
}

/* All that CreateVM would refuse. */
static void check_spec(VmfileReader *r, VmfileVm *vm) {
        unsigned files = (vm->image || vm->image_url ? 1U << VM_FILE_IMAGE : 0) |
                        (vm->kernel ? 1U << VM_FILE_KERNEL : 0) | (vm->initrd ? 1U << VM_FILE_INITRD : 0) |
                        (vm->user_data ? 1U << VM_FILE_USER_DATA : 0);
        _cleanup_error_ Error *e = NULL;

        if (files != 0 && vm_spec_check(&vm->spec, files, &e) < 0)
                vmfile_error(r, vm->span, "vm '%s': %s", vm->name ?: "", error_message(e));
        if (!vm->user_data || !vm->ssh_key)
                return;
        kdl_diagnostics_add(r->d, KDL_LEVEL_WARNING, vm->span,
                        "vm '%s' has user-data, so its ssh-key is not put into the guest", vm->name ?: "");
        kdl_diagnostics_hint(r->d, "name the key in the user-data");
        free(TAKE_PTR(vm->ssh_key));
}

static void check_access(VmfileReader *r, VmfileVm *vm) {
        const char *name = vm->name ?: "";
        bool none = vm->spec.network == VM_NETWORK_NONE && !vm->bridge;

        if (vm->ready == _VMFILE_READY_INVALID)
                vm->ready = vm->has_ssh && !none ? VMFILE_READY_SSH : VMFILE_READY_RUNNING;
        if (vm->n_steps > 0 && !vm->has_ssh) {
                vmfile_error(r, vm->span, "vm '%s' has provision steps, but no ssh block", name);
                vmfile_hint(r, "they are run over ssh; add: ssh { user \"name\" }");
        }
        if (none && (vm->n_steps > 0 || vm->ready != VMFILE_READY_RUNNING))
                vmfile_error(r, vm->span, "vm '%s' has no network, so nothing reaches it by ssh", name);
        if (vm->n_forwards > 0 && (none || vm->bridge)) {
                vmfile_error(r, vm->span, "vm '%s' forwards ports, which only network \"user\" does", name);
                if (vm->bridge)
                        vmfile_hint(r, "on a bridge the guest is reached at its own address");
        }
}

static void complain_dependency(VmfileReader *r, const VmfileVm *vm, const char *name) {
        const char *found = NULL;
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < r->file->n_vms; i++)
                if (r->file->vms[i].name)
                        word_nearer(name, r->file->vms[i].name, &best, &found);
        vmfile_error(r, vm->span, "vm '%s' depends on '%s', which is not in this file", vm->name ?: "",
                        name);
        if (found)
                vmfile_hint(r, "did you mean '%s'?", found);
}

static void check_foreign(VmfileReader *r, const VmfileVm *vm, const char *name) {
        _cleanup_error_ Error *e = NULL;

        if (vm_name_check(name, &e) < 0)
                vmfile_error(r, vm->span, "vm '%s' depends on what is no VM: %s", vm->name ?: "",
                                error_message(e));
}

typedef enum Visit {
        VISIT_NEW,
        VISIT_OPEN, /* on the way that leads here */
        VISIT_DONE,
} Visit;

typedef struct Walk {
        VmfileReader *reader;
        Visit *visits;
        size_t *way;
        size_t n_way;
} Walk;

static void complain_cycle(Walk *w, size_t to) {
        const VmfileVm *vms = w->reader->file->vms;
        _cleanup_free_ char *text = NULL;
        size_t i = 0;

        while (w->way[i] != to)
                i++;
        for (; i < w->n_way; i++) {
                char *longer = strf("%s'%s' -> ", text ?: "", vms[w->way[i]].name);

                free(text);
                text = longer;
        }
        vmfile_error(w->reader, vms[to].span, "VMs depend on each other: %s'%s'", text ?: "", vms[to].name);
        vmfile_hint(w->reader, "one of them has to come first");
}

/* At most VMFILE_VMS_MAX deep. */
static void walk(Walk *w, size_t i) {
        const VmfileVm *vm = &w->reader->file->vms[i];

        w->visits[i] = VISIT_OPEN;
        w->way[w->n_way++] = i;
        STRV_FOREACH(name, vm->depends_on) {
                const VmfileVm *other = vmfile_find(w->reader->file, *name);
                size_t j = other ? (size_t)(other - w->reader->file->vms) : 0;

                if (!other && !w->reader->options->foreign_dependencies)
                        complain_dependency(w->reader, vm, *name);
                else if (!other)
                        check_foreign(w->reader, vm, *name);
                else if (other && w->visits[j] == VISIT_OPEN)
                        complain_cycle(w, j);
                else if (other && w->visits[j] == VISIT_NEW)
                        walk(w, j);
        }
        w->n_way--;
        w->visits[i] = VISIT_DONE;
}

static void check_dependencies(VmfileReader *r) {
        _cleanup_free_ Visit *visits = calloc(r->file->n_vms + 1, sizeof(Visit));
        _cleanup_free_ size_t *way = calloc(r->file->n_vms + 1, sizeof(size_t));
        Walk w = { r, visits, way, 0 };

        if (!visits || !way) {
                r->r = -ENOMEM;
                return;
        }
        for (size_t i = 0; i < r->file->n_vms; i++)
                if (visits[i] == VISIT_NEW && r->file->vms[i].name)
                        walk(&w, i);
}

void vmfile_check(VmfileReader *r) {
        Vmfile *f = r->file;

        for (size_t i = 0; i < f->n_vms; i++) {
                check_name(r, &f->vms[i]);
                check_image(r, &f->vms[i]);
                check_spec(r, &f->vms[i]);
                check_access(r, &f->vms[i]);
        }
        check_dependencies(r);
        if (f->n_vms == 0 && kdl_diagnostics_errors(r->d) == 0) {
                vmfile_error(r, (KdlSpan){ 0 }, "there is no VM in this file");
                vmfile_hint(r, "add: vm \"name\" { image \"path\" }");
        }
}
