/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Remove: the process is ended, the folder loses its name in one rename, the VM leaves the index when its
 * scope is gone (another VM may take the name then), and a child deletes the files. What is interrupted goes
 * on at the next start-up: before the rename from run.json, after it because folders of that name are swept.
 */
#include <fcntl.h>
#include <stdio.h>

#include "manager.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"

#define DELETE_TIMEOUT \
        (10 * 60 * USEC_PER_SEC) /* large files on a slow disk; the next start-up would finish it */

struct VmRemoval {
        Vm *vm; /* borrowed; NULL once it has left the index */
        Manager *manager;
        Waiters *waiters;
        char *folder; /* ".old-…" */
        char *name;
        bool renamed;
        Task *task;
};

VmRemoval *vm_removal_free(VmRemoval *r) {
        if (!r)
                return NULL;
        task_free(r->task);
        free(r->waiters);
        free(r->folder);
        free(r->name);
        free(r);
        return NULL;
}

static int delete_files(void *argument) {
        VmRemoval *r = argument;

        return remove_tree_at(r->manager->vms_fd, r->folder) < 0 ? 1 : 0;
}

static void finish(VmRemoval *removal, int r, const Error *error) {
        Waiters *waiters = TAKE_PTR(removal->waiters);

        vm_removal_free(removal);
        waiters_fire(&waiters, r, error);
}

static void on_deleted(void *userdata, int status, const char *output, size_t len) {
        _cleanup_error_ Error *e = NULL;
        VmRemoval *removal = userdata;
        int r = 0;

        if (status != 0)
                r = error_set(&e, ERROR_IO,
                                "Some files of VM '%s' could not be deleted; the service tries again when "
                                "it starts",
                                removal->name);
        finish(removal, r, e);
}

static void fail(VmRemoval *removal, int error, const char *what) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = removal->vm;

        (void)error_set_errno(&e, error, "Cannot %s of VM '%s'", what, removal->name);
        vm->removal = NULL;
        vm_changed(vm, 0);
        finish(removal, error, e);
}

/* The VM is freed. */
static void leave(VmRemoval *removal) {
        Vm *vm = TAKE_PTR(removal->vm);
        Manager *m = removal->manager;
        int r;

        vm->removal = NULL;
        manager_remove_vm(m, vm);
        r = task_call(m->event, delete_files, removal, DELETE_TIMEOUT, on_deleted, removal, &removal->task);
        if (r < 0)
                on_deleted(removal, r, NULL, 0);
}

static void on_gone(void *userdata, int error, const Error *unused) {
        VmRemoval *removal = userdata;
        Vm *vm = removal->vm;
        Manager *m = vm->manager;
        int r;

        if (renameat(m->vms_fd, vm_name(vm), m->vms_fd, removal->folder) < 0) {
                fail(removal, -errno, "remove the folder");
                return;
        }
        r = remove_tree_at(m->runtime_fd, vm_name(vm));
        if (r < 0)
                log_warning_errno(
                                r, "Cannot remove the runtime folder of VM '%s', ignoring: %m", vm_name(vm));
        removal->renamed = true;
        if (vm->unattached && !vm->scope_watch)
                (void)systemd_watch_scope(m->systemd, vm->unit, false, &vm->scope_watch);
        if (!vm->scope_watch)
                leave(removal);
        else if (vm->unattached)
                systemd_end_scope(vm->scope_watch);
        else
                systemd_clear_scope(vm->scope_watch);
}

void vm_removal_scope_free(VmRemoval *removal) {
        if (removal->renamed)
                leave(removal);
}

int vm_remove(Vm *vm, waiter_t done, void *userdata, Error **reterr) {
        VmRemoval *removal;
        int r;

        if (vm->create) {
                vm_create_cancel(vm);
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        if (vm->removal) {
                r = waiters_add(&vm->removal->waiters, done, userdata);
                return r < 0 ? error_set_errno(reterr, r, "Cannot wait for the end of VM '%s'", vm_name(vm))
                             : 0;
        }
        removal = malloc(sizeof(VmRemoval));
        if (!removal)
                return error_set_errno(reterr, -ENOMEM, "Cannot destroy VM '%s'", vm_name(vm));
        *removal = (VmRemoval){
                .vm = vm,
                .manager = vm->manager,
                /* the UUID: a VM of the same name may be destroyed again before this one's files are gone */
                .folder = strf(".old-%s", vm->record.uuid),
                .name = strdup(vm_name(vm)),
        };
        r = removal->folder && removal->name ? waiters_add(&removal->waiters, done, userdata) : -ENOMEM;
        if (r < 0) {
                vm_removal_free(removal);
                return error_set_errno(reterr, r, "Cannot destroy VM '%s'", vm_name(vm));
        }
        vm->removal = removal;
        r = vm_kill(vm, on_gone, removal, reterr);
        if (r < 0) {
                removal->waiters = NULL;
                vm->removal = vm_removal_free(removal);
        }
        return r;
}
