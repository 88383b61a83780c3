/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The start-up: from the folders of the VMs to the index, and to the QEMUs that run for them. */
#include <dirent.h>
#include <fcntl.h>

#include "core/message-ids.h"
#include "host/fd-store.h"
#include "service.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm/vm-index.h"

/* What it holds is its owner's, however much that is by now. */
static int charge_owner(Vm *vm) {
        Accounts *a = vm->manager->core->accounts;
        uid_t owner = vm->record.owner;
        int r;

        r = charge_anyway(a, owner, RESOURCE_VMS, 1, &vm->place.charge);
        if (r >= 0 && vm->record.ssh_port > 0)
                r = charge_anyway(a, owner, RESOURCE_PORTS, 1, &vm->port);
        return r;
}

static int load_vm(void *userdata, Record **stored, const Json *document, Error **reterr) {
        Manager *m = userdata;
        VmPlace place = {};
        VmRecord record;
        Vm *vm;
        int r;

        r = vm_record_read(document, &record, reterr);
        if (r < 0)
                return r;
        r = record_name_reserve(m->records, record.name, NULL, &place.name, reterr);
        if (r < 0) {
                vm_record_done(&record);
                return r;
        }
        r = vm_new(m, &record, &place, &vm);
        if (r < 0)
                return r;
        vm->stored = TAKE_PTR(*stored);
        record_set_object(vm->stored, vm);
        r = charge_owner(vm);
        if (r < 0) {
                vm_free(vm);
                return r;
        }
        r = manager_add_vm(m, vm);
        if (r >= 0)
                m->hooks->vm_new(m, vm);
        return r;
}

static const char *name_of_vm(const void *vm) {
        return vm_name(vm);
}

static int format_vm(void *object, char **ret, size_t *ret_len) {
        const Vm *vm = object;

        return vm_record_format(&vm->record, ret, ret_len);
}

const RecordType service_vm_records = {
        .document = "vm.json",
        .kind = "VM",
        .folder_is_name = true,
        .size_max = VM_RECORD_MAX_SIZE,
        .sealed_since = VM_RECORD_SEALED_SINCE,
        .exists = ERROR_VM_EXISTS,
        .check_name = vm_name_check,
        .load = load_vm,
        .name = name_of_vm,
        .format = format_vm,
};

static void report_broken(const RecordStore *s) {
        size_t n;
        const RecordBroken *b = record_store_broken(s, &n);

        for (size_t i = 0; i < n; i++) {
                const LogSubject subject = { .vm_name = b[i].name, .message_id = MESSAGE_RECORD_BROKEN };

                log_at(LOG_ERR, &subject, "Ignoring VM '%s', as '%s' cannot be read: %s", b[i].name,
                                b[i].path, b[i].reason);
        }
}

typedef struct KnownScopes {
        bool known; /* else PID 1 has not said */
        char **units;
} KnownScopes;

static VmScope scope_of(const Vm *vm, const KnownScopes *scopes) {
        if (!scopes->known)
                return VM_SCOPE_UNKNOWN;
        return strv_contains(scopes->units, vm->unit) ? VM_SCOPE_THERE : VM_SCOPE_NONE;
}

/* A folder of sockets whose VM is gone: it went while the folder could not be removed, or we did. That of a
 * VM whose record is broken may be in use. */
static bool is_left_over(const Manager *m, const char *name, char *const *scopes) {
        _cleanup_free_ char *unit = strf("vmctl-%s.scope", name);

        return unit && vm_name_is_valid(name) && !record_name_is_taken(m->records, name) &&
                        !strv_contains(scopes, unit);
}

static void sweep_runtime(const Manager *m, char *const *scopes) {
        int fd = openat(m->core->runtime_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd < 0 ? NULL : fdopendir(fd);

        if (!dir) {
                safe_close(fd);
                return;
        }
        for (struct dirent *de; (de = readdir(dir));)
                if (de->d_type == DT_DIR && is_left_over(m, de->d_name, scopes))
                        (void)remove_tree_at(m->core->runtime_fd, de->d_name);
        closedir(dir);
}

static void attach_vms(Manager *m) {
        KnownScopes scopes = {};

        /* Without it VMs are taken over by our notes alone, and a start looks for a scope first. */
        scopes.known = systemd_list_scopes(m->systemd, &scopes.units) >= 0;
        fd_store_open();
        for (size_t i = m->n_vms; i-- > 0;) {
                Vm *vm = m->vms[i]; /* may go with this */

                vm_attach(vm, fd_store_take(vm_name(vm)), scope_of(vm, &scopes));
        }
        if (scopes.known)
                sweep_runtime(m, scopes.units);
        strv_free(scopes.units);
        fd_store_close_rest();
}

int service_load(Manager *m) {
        int r;

        r = image_store_load(m->images);
        if (r < 0)
                return r;
        r = record_store_load(m->records);
        if (r < 0)
                return log_error_errno(r, "Cannot read '%s/vms': %m", m->core->config.state_dir);
        report_broken(m->records);
        attach_vms(m);
        return 0;
}
