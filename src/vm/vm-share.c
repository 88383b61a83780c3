/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "core/file-acl.h"
#include "manager.h"
#include "util/string-util.h"
#include "vm-share.h"

static const struct {
        const char *file;
        int access;
        bool runtime; /* in the runtime folder */
} shared_table[] = {
        { "id_ed25519_generated", R_OK },
        { "id_ed25519_generated.pub", R_OK },
        { "known_hosts", R_OK | W_OK }, /* ssh adds the guest's host key to it */
        { PROVISION_LOG, R_OK },
        { "vnc.sock", R_OK | W_OK, true },
};

int vm_share_access(const char *file) {
        for (size_t i = 0; i < ELEMENTSOF(shared_table); i++)
                if (streq(shared_table[i].file, file))
                        return shared_table[i].access;
        return 0;
}

void vm_share_files(const Vm *vm) {
        const Manager *m = vm->manager;

        for (size_t i = 0; i < ELEMENTSOF(shared_table); i++) {
                _cleanup_free_ char *path = strf("%s/%s", vm_name(vm), shared_table[i].file);
                int r = path ? file_acl_grant_missing_at(
                                               shared_table[i].runtime ? m->core->runtime_fd : m->vms_fd,
                                               path, vm->record.owner, shared_table[i].access)
                             : -ENOMEM;

                if (r < 0 && r != -ENOENT)
                        vm_log(LOG_WARNING, vm, NULL, "The owner of VM '%s' cannot open its '%s': %s",
                                        vm_name(vm), shared_table[i].file, strerror(-r));
        }
}
