/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Remove: the process is ended, then its scope. When nothing runs any more the record loses its name, the VM
 * leaves the index (another VM may take the name then), and the record's store deletes the files. What is
 * interrupted goes on at the next start-up: before the record is removed by what is noted of the run or its
 * end, after it because the store sweeps. */
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-index.h"
#include "vm.h"

typedef enum RemovalStep {
        REMOVAL_MAKE,    /* the VM's making was called off: it goes with that */
        REMOVAL_PROCESS, /* is being ended */
        REMOVAL_SCOPE,   /* is going */
        REMOVAL_FILES,   /* alone are left */
} RemovalStep;

struct VmRemoval {
        Operation op;
        Vm *vm; /* borrowed; NULL once it has left the index */
        RemovalStep step;
        bool deleted;
        Error *error; /* of the deletion */
};

static void removal_done(Operation *op) {
        error_free(((VmRemoval *)op)->error);
}

static void finish(VmRemoval *removal) {
        if (removal->deleted && removal->step == REMOVAL_FILES)
                operation_complete(&removal->op, removal->error);
}

static void on_deleted(void *userdata, int r, const Error *error) {
        VmRemoval *removal = userdata;

        removal->deleted = true;
        removal->error = error_copy(error);
        finish(removal);
}

/* The VM is freed. */
static void leave(VmRemoval *removal) {
        Vm *vm = TAKE_PTR(removal->vm);

        removal->step = REMOVAL_FILES;
        vm->removal = NULL;
        manager_remove_vm(vm->manager, vm);
        finish(removal);
}

static void fail(VmRemoval *removal, const Error *error) {
        Vm *vm = removal->vm;

        vm->removal = NULL;
        vm_save(vm);
        vm_changed(vm, 0);
        operation_fail(&removal->op, error);
}

/* By its deadline alone, as long as nothing of the VM is gone. PID 1 is asked anew by whoever wants the
 * scope gone next. */
static bool cancel(Operation *op) {
        VmRemoval *removal = (VmRemoval *)op;
        _cleanup_error_ Error *e = NULL;

        if (removal->step == REMOVAL_PROCESS) {
                (void)vm_set_hangs(removal->vm, &e);
                fail(removal, e);
                return true;
        }
        if (removal->step != REMOVAL_SCOPE)
                return false;
        systemd_leave_scope(removal->vm->scope_watch);
        fail(removal, op->reason);
        return true;
}

static const OperationType removal_type = {
        .kind = OPERATION_REMOVE,
        .size = sizeof(VmRemoval),
        .cancel = cancel,
        .done = removal_done,
};

static void remove_files(VmRemoval *removal) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = removal->vm;
        int r;

        (void)operation_set_deadline(&removal->op, 0, NULL);
        if (record_remove(&vm->stored, on_deleted, removal, &e) < 0) {
                fail(removal, e);
                return;
        }
        r = remove_tree_at(vm->manager->core->runtime_fd, vm_name(vm));
        if (r < 0)
                log_warning_errno(
                                r, "Cannot remove the runtime folder of VM '%s', ignoring: %m", vm_name(vm));
        leave(removal);
}

static int await_scope(VmRemoval *removal) {
        Vm *vm = removal->vm;
        int r = 0;

        if (vm->unattached && !vm->scope_watch)
                r = systemd_watch_scope(vm->manager->systemd, vm->unit, false, &vm->scope_watch);
        if (r < 0 || !vm->scope_watch)
                return r;
        vm_save(vm);
        if (vm->unattached)
                systemd_end_scope(vm->scope_watch);
        else
                systemd_clear_scope(vm->scope_watch);
        return 1;
}

void vm_removal_process_ended(VmRemoval *removal) {
        _cleanup_error_ Error *e = NULL;
        int r;

        removal->step = REMOVAL_SCOPE;
        r = await_scope(removal);
        if (r < 0) {
                (void)error_set_errno(
                                &e, r, "Cannot wait for the scope of VM '%s' to end", vm_name(removal->vm));
                fail(removal, e);
        } else if (r == 0)
                remove_files(removal);
}

void vm_removal_scope_free(VmRemoval *removal) {
        if (removal->step == REMOVAL_SCOPE)
                remove_files(removal);
}

/* It is not the error of the making, which was called off for this, that counts. */
static void on_unmade(void *userdata, int r, const Error *error) {
        VmRemoval *removal = userdata;

        removal->vm = NULL;
        operation_complete(&removal->op, NULL);
}

static int begin(Vm *vm, uid_t requester, waiter_t done, void *userdata, VmRemoval **ret, Error **reterr) {
        OperationSpec spec = vm_operation(vm, requester, NULL);
        VmRemoval *removal;
        Operation *op;
        int r;

        if (!vm->make) { /* PID 1 needs milliseconds for a scope whose process has ended */
                spec.timeout_usec = VM_END_TIMEOUT;
                spec.late = "systemd did not end the VM's scope within 20 s: it was not destroyed";
        }
        r = operation_new(&vm->manager->core->operations, &removal_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        removal = (VmRemoval *)op;
        removal->vm = vm;
        removal->step = vm->make ? REMOVAL_MAKE : REMOVAL_PROCESS;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r >= 0 && vm->make)
                r = operation_wait((Operation *)vm->make, op, on_unmade, removal, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        *ret = removal;
        return 0;
}

/* What is called off for it may have taken the VM along. */
static bool is_there(const Manager *m, const char *name, const char *uuid) {
        const Vm *vm = manager_find_vm(m, name);

        return vm && streq(vm->record.uuid, uuid);
}

int vm_remove(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        _cleanup_free_ char *uuid = strdup(vm->record.uuid), *name = strdup(vm_name(vm));
        Manager *m = vm->manager;
        VmRemoval *removal;
        Operation *same;
        int r;

        if (!uuid || !name)
                return error_set_errno(reterr, -ENOMEM, "Cannot destroy VM '%s'", vm_name(vm));
        r = operation_admit(&m->core->operations, OPERATION_REMOVE, uuid, name, &same, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                return operation_join(same, requester, done, userdata, reterr);
        if (!is_there(m, name, uuid)) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        r = begin(vm, requester, done, userdata, &removal, reterr);
        if (r < 0 || removal->step == REMOVAL_MAKE)
                return r;
        vm->removal = removal;
        vm_changed(vm, 0);
        if (vm->unattached)
                systemd_kill_scope(m->systemd, vm->unit);
        if (!vm->process) {
                vm_removal_process_ended(removal);
                return 0;
        }
        vm_save(vm);
        vm_end_process(vm);
        return 0;
}
