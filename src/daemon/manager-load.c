/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The start-up: from the folders of the VMs to the index, and to the QEMUs that run for them. */
#include "fd-store.h"
#include "manager.h"
#include "util/log.h"

static int load_vm(void *userdata, Record **record, const Json *document, Error **reterr) {
        Manager *m = userdata;
        VmRecord definition;
        Vm *vm;
        int r;

        r = vm_record_read(document, &definition, reterr);
        if (r < 0)
                return r;
        r = vm_new(m, &definition, &vm);
        if (r < 0)
                return r;
        r = record_name_reserve(m->records, vm_name(vm), vm->record.owner, vm, &vm->taken, reterr);
        if (r < 0) {
                vm_free(vm);
                return r;
        }
        vm->stored = TAKE_PTR(*record);
        record_set_object(vm->stored, vm);
        return manager_add_vm(m, vm);
}

static int format_vm(void *object, char **ret, size_t *ret_len) {
        const Vm *vm = object;

        return vm_record_format(&vm->record, ret, ret_len);
}

const RecordType manager_vm_records = {
        .document = "vm.json",
        .kind = "VM",
        .folder_is_name = true,
        .size_max = VM_RECORD_MAX_SIZE,
        .sealed_since = VM_RECORD_SEALED_SINCE,
        .exists = ERROR_VM_EXISTS,
        .check_name = vm_name_check,
        .load = load_vm,
        .format = format_vm,
};

static void report_broken(const RecordStore *s) {
        size_t n;
        const RecordBroken *b = record_store_broken(s, &n);

        for (size_t i = 0; i < n; i++)
                log_at(LOG_ERR, b[i].name, NULL, "Ignoring VM '%s', as '%s' cannot be read: %s", b[i].name,
                                b[i].path, b[i].reason);
}

/* Without PID 1's list VMs are taken over by our notes alone, and a start looks for a scope first. */
static void attach_vms(Manager *m) {
        _cleanup_strv_ char **scopes = NULL;
        bool known = systemd_list_scopes(m->systemd, &scopes) >= 0;

        fd_store_open();
        for (size_t i = 0; i < m->n_vms; i++) {
                Vm *vm = m->vms[i];
                VmScope scope = VM_SCOPE_UNKNOWN;

                if (known)
                        scope = strv_contains(scopes, vm->unit) ? VM_SCOPE_THERE : VM_SCOPE_NONE;
                vm_attach(vm, fd_store_take(vm_name(vm)), scope);
        }
        fd_store_close_rest();
}

int manager_load(Manager *m) {
        int r;

        r = image_store_load(m->images);
        if (r < 0)
                return r;
        r = record_store_load(m->records);
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s/vms': %m", m->config.state_dir);
        report_broken(m->records);
        attach_vms(m);
        return 0;
}
