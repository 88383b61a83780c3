/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From a KDL document to definitions: walks blocks by the table of keys. Errors are collected, not returned,
 * so that one reading finds them all. */
#include "vmfile-reader.h"

static void step_done(VmfileStep *s) {
        free(s->command);
        free(s->source);
        free(s->script);
        free(s->destination);
        strv_free(s->env);
}

static void vm_done(VmfileVm *vm) {
        vm_spec_done(&vm->spec);
        for (size_t i = 0; i < vm->n_steps; i++)
                step_done(&vm->steps[i]);
        for (size_t i = 0; i < vm->n_disks; i++)
                free(vm->disks[i].name);
        free(vm->name);
        free(vm->image);
        free(vm->image_url);
        free(vm->sha256);
        free(vm->kernel);
        free(vm->initrd);
        free(vm->user_data);
        free(vm->ssh_key);
        free(vm->bridge);
        free(vm->private_key);
        free(vm->steps);
        free(vm->forwards);
        free(vm->disks);
        strv_free(vm->depends_on);
}

Vmfile *vmfile_free(Vmfile *f) {
        if (!f)
                return NULL;
        for (size_t i = 0; i < f->n_vms; i++)
                vm_done(&f->vms[i]);
        free(f->vms);
        free(f);
        return NULL;
}

const VmfileVm *vmfile_find(const Vmfile *f, const char *name) {
        for (size_t i = 0; i < f->n_vms; i++)
                if (streq_ptr(f->vms[i].name, name))
                        return &f->vms[i];
        return NULL;
}

static unsigned line_of(const VmfileReader *r, KdlSpan span) {
        return kdl_diagnostics_line(r->d, span.start);
}

/* The block where a name is known that is not known here. */
static VmfileBlock block_of(const char *name) {
        for (size_t i = 0; i < vmfile_n_keys; i++)
                if (streq(vmfile_keys[i].name, name))
                        return vmfile_keys[i].in;
        return _VMFILE_BLOCK_INVALID;
}

static void complain_unknown(VmfileReader *r, VmfileBlock in, const KdlString *name) {
        const char *nearest = vmfile_key_nearest(in, name->text);
        VmfileBlock other = block_of(name->text);

        vmfile_error(r, name->span,
                        in == VMFILE_BLOCK_FILE ? "'%s' cannot stand here" : "'%s' is not a setting of %s",
                        name->text, vmfile_block_to_string(in));
        if (other == VMFILE_BLOCK_FILE)
                vmfile_hint(r, "a vm block stands on its own, not in another one: is a '}' missing?");
        else if (other >= 0)
                vmfile_hint(r, "it belongs between the braces of %s", vmfile_block_to_string(other));
        else if (nearest)
                vmfile_hint(r, "did you mean '%s'?", nearest);
}

/* How many values a key takes. */
static void value_bounds(const VmfileKey *k, size_t *ret_min, size_t *ret_max) {
        bool flag = k->kind == VMFILE_KIND_FLAG ||
                        (k->kind == VMFILE_KIND_SPEC && spec_key_find(k->spec)->type == SPEC_BOOLEAN);

        *ret_min = flag ? 0 : 1;
        *ret_max = 1;
        if (k->kind == VMFILE_KIND_FORWARD)
                *ret_min = *ret_max = 2;
        else if (k->kind == VMFILE_KIND_DISK)
                *ret_max = 2;
        else if (k->kind == VMFILE_KIND_NAMES)
                *ret_max = SIZE_MAX;
        else if (k->kind == VMFILE_KIND_BLOCK || k->kind == VMFILE_KIND_ENV)
                *ret_min = *ret_max = 0;
}

static bool check_values(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s) {
        size_t min, max;

        value_bounds(k, &min, &max);
        if (k->kind == VMFILE_KIND_ENV || (s->n_values >= min && s->n_values <= max))
                return true;
        if (s->n_values < min)
                vmfile_error(r, s->span, "%s needs %s", k->name, min == 1 ? "a value" : "two values");
        else
                vmfile_error(r, max == 0 ? s->values[0]->span : s->span, "%s takes %s", k->name,
                                max == 0                   ? "no value of its own"
                                                : max == 1 ? "one value only"
                                                           : "two values at most");
        if (k->argument)
                vmfile_hint(r, "write it as: %s %s", k->name, k->argument);
        else
                vmfile_hint(r, "write it as: %s { ... }", k->name);
        return false;
}

static VmfileSetting setting_of_node(const KdlNode *n) {
        VmfileSetting s = { .name = &n->name, .node = n, .span = n->name.span };

        for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e)) {
                if (e->key.text)
                        continue;
                if (s.n_values < ELEMENTSOF(s.values))
                        s.values[s.n_values] = &e->value;
                s.n_values++;
        }
        return s;
}

static VmfileSetting setting_of_property(const KdlEntry *e) {
        return (VmfileSetting){
                .name = &e->key, .values = { &e->value }, .n_values = 1, .span = e->key.span
        };
}

/* The settings of one block, and which of them were seen. */
typedef struct Settings {
        VmfileBlock in;
        VmfileVm *vm;
        void *base;
        KdlSpan *seen; /* by place in the table; empty: not seen */
} Settings;

static void read_settings(VmfileReader *r, const KdlNode *n, Settings *settings);

static void read_block(VmfileReader *r, const KdlNode *n, VmfileBlock in, VmfileVm *vm, void *base) {
        _cleanup_free_ KdlSpan *seen = calloc(vmfile_n_keys, sizeof(KdlSpan));

        if (!seen)
                r->r = -ENOMEM;
        else
                read_settings(r, n, &(Settings){ in, vm, base, seen });
}

/* A name that ends a setting: nothing may stand in it. */
static void check_leaf(VmfileReader *r, const VmfileKey *k, const KdlNode *n) {
        const KdlNode *child = kdl_node_children(n);

        if (child)
                vmfile_error(r, child->name.span, "%s has no settings of its own", k->name);
        for (const KdlEntry *e = kdl_node_entries(n); e && k->kind != VMFILE_KIND_ENV; e = kdl_entry_next(e))
                if (e->key.text)
                        vmfile_error(r, e->key.span, "%s has no property '%s'", k->name, e->key.text);
}

static void read_provision(VmfileReader *r, const VmfileSetting *s, VmfileVm *vm) {
        const char *type = s->n_values == 1 ? vmfile_string(r, s->values[0]) : NULL;
        bool is_file = type && streq(type, "file");
        VmfileStep *grown, *step;

        if (!type)
                return;
        if (!is_file && !streq(type, "shell")) {
                vmfile_error(r, s->values[0]->span, "provision '%s' is not supported", type);
                vmfile_hint(r, "it is \"shell\" or \"file\"");
                return;
        }
        if (vm->n_steps >= VMFILE_STEPS_MAX) {
                vmfile_error(r, s->span, "there are more than %d steps", VMFILE_STEPS_MAX);
                return;
        }
        grown = reallocarray(vm->steps, vm->n_steps + 1, sizeof(VmfileStep));
        if (!grown) {
                r->r = -ENOMEM;
                return;
        }
        vm->steps = grown;
        step = &vm->steps[vm->n_steps++];
        *step = (VmfileStep){
                .type = is_file ? VMFILE_STEP_FILE : VMFILE_STEP_INLINE,
                .mode = VMFILE_MODE_UNSET,
                .line = line_of(r, s->span),
        };
        read_block(r, s->node, is_file ? VMFILE_BLOCK_COPY : VMFILE_BLOCK_SHELL, vm, step);
        vmfile_check_step(r, step, s->span);
}

static void apply(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, Settings *settings) {
        if (!check_values(r, k, s))
                return;
        if (k->kind == VMFILE_KIND_PROVISION) {
                read_provision(r, s, settings->vm);
                return;
        }
        vmfile_set_value(r, k, s, settings->vm, settings->base);
        if (k->block >= 0 && s->node)
                read_block(r, s->node, k->block, settings->vm, settings->base);
        else if (s->node)
                check_leaf(r, k, s->node);
        if (k->kind == VMFILE_KIND_NETWORK)
                vmfile_check_network(r, settings->vm, s->values[0]);
}

static void read_setting(VmfileReader *r, const VmfileSetting *s, Settings *settings) {
        const VmfileKey *k = vmfile_key_find(settings->in, s->name->text);
        KdlSpan *seen;

        if (kdl_diagnostics_errors(r->d) >= KDL_ERRORS_MAX)
                return;
        if (!k || !kdl_string_is(s->name, k->name)) {
                complain_unknown(r, settings->in, s->name);
                return;
        }
        seen = &settings->seen[k - vmfile_keys];
        if (seen->end > 0 && !(k->flags & VMFILE_KEY_REPEAT)) {
                vmfile_error(r, s->span, "%s stands here twice", k->name);
                vmfile_hint(r, "the first one is on line %u", line_of(r, *seen));
                return;
        }
        *seen = s->span;
        apply(r, k, s, settings);
}

static void read_settings(VmfileReader *r, const KdlNode *n, Settings *settings) {
        for (const KdlEntry *e = kdl_node_entries(n); e; e = kdl_entry_next(e))
                if (e->key.text) {
                        VmfileSetting s = setting_of_property(e);

                        read_setting(r, &s, settings);
                }
        for (const KdlNode *child = kdl_node_children(n); child; child = kdl_node_next(child)) {
                VmfileSetting s = setting_of_node(child);

                read_setting(r, &s, settings);
        }
}

static void read_vm(VmfileReader *r, const KdlNode *n) {
        VmfileSetting s = setting_of_node(n);
        VmfileVm *grown = reallocarray(r->file->vms, r->file->n_vms + 1, sizeof(VmfileVm)), *vm;
        const char *name;

        if (!grown) {
                r->r = -ENOMEM;
                return;
        }
        r->file->vms = grown;
        vm = &grown[r->file->n_vms++];
        *vm = (VmfileVm){
                .line = line_of(r, n->name.span), .span = n->name.span, .ready = _VMFILE_READY_INVALID
        };
        vm_spec_init(&vm->spec);
        if (s.n_values == 1) {
                name = vmfile_string(r, s.values[0]);
                vm->span = s.values[0]->span;
                if (name)
                        vmfile_keep(r, &vm->name, name);
        } else {
                vmfile_error(r, s.span, s.n_values == 0 ? "a vm needs a name" : "a vm has one name only");
                vmfile_hint(r, "write it as: vm \"name\" { ... }");
        }
        read_block(r, n, VMFILE_BLOCK_VM, vm, vm);
        /* Whoever says nothing about cloud-init gets none: the default of CreateVM is another one. */
        (void)vm_spec_set_number(&vm->spec, spec_key_find("cloud-init"), vm->has_cloud_init, NULL);
}

static void read_document(VmfileReader *r, const KdlDocument *doc) {
        for (const KdlNode *n = kdl_document_nodes(doc); n && r->r == 0; n = kdl_node_next(n)) {
                if (!kdl_string_is(&n->name, "vm"))
                        complain_unknown(r, VMFILE_BLOCK_FILE, &n->name);
                else if (r->file->n_vms >= VMFILE_VMS_MAX)
                        vmfile_error(r, n->name.span, "there are more than %d VMs", VMFILE_VMS_MAX);
                else
                        read_vm(r, n);
        }
}

int vmfile_parse(const char *text, size_t len, const VmfileOptions *o, Vmfile **ret, KdlDiagnostics *d) {
        _cleanup_vmfile_ Vmfile *f = calloc(1, sizeof(Vmfile));
        _cleanup_kdl_ KdlDocument *doc = NULL;
        VmfileReader r = { .options = o, .d = d, .file = f };
        int q;

        if (!f)
                return -ENOMEM;
        q = kdl_parse(text, len, KDL_VERSION_ANY, &doc, d);
        if (q < 0)
                return q;
        read_document(&r, doc);
        if (r.r == 0)
                vmfile_check(&r);
        if (r.r < 0)
                return r.r;
        if (kdl_diagnostics_errors(d) > 0)
                return -EBADMSG;
        *ret = TAKE_PTR(f);
        return 0;
}
