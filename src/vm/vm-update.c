/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A change of the definition. Limits of a running VM are given to PID 1 first, since that can take them back
 * without a disk; then the record is written; and only then the change is in memory. When the record cannot
 * be written PID 1 is told of the old limits again; also after a crash in between, which is noted before.
 *
 * Changes of one VM are made one after the other. Each is what differs between two definitions, so that one
 * does not undo what another has changed meanwhile. */
#include "util/log.h"
#include "vm-index.h"
#include "vm.h"

typedef enum UpdateStep {
        UPDATE_TURN,   /* others come first */
        UPDATE_LIMITS, /* asked of PID 1 */
        UPDATE_WRITE,
        UPDATE_FOLLOW, /* limits that PID 1 could not be given before, as there was no scope */
        UPDATE_UNDO,   /* of the limits */
} UpdateStep;

typedef struct Update {
        Operation op;
        Manager *manager; /* borrowed */
        Vm *vm;           /* borrowed */
        UpdateStep step;
        VmSpec from, to; /* owned: what is to be changed */
        VmSpec spec;     /* owned: the whole, as it is to be, then as it was */
        uint16_t port;   /* kept for it; 0: none */
        ScopeJob *scope_job;
        bool in_force;
        bool in_doubt; /* PID 1 did not take the old limits back: the next instance tries again */
        Error *error;  /* why it fails */
} Update;

static void update_done(Operation *op) {
        Update *u = (Update *)op;

        vm_spec_done(&u->from);
        vm_spec_done(&u->to);
        vm_spec_done(&u->spec);
        scope_job_free(u->scope_job);
        error_free(u->error);
}

static void begin_next(Manager *m, const char *uuid);

/* What cannot be noted costs no more than what it is noted for. */
static void note_changing(Vm *vm, bool changing) {
        if (vm->limits_changing == changing)
                return;
        vm->limits_changing = changing;
        (void)vm_save_run_state(vm);
}

static void complete(Update *u) {
        Vm *vm = u->vm;

        u->scope_job = scope_job_free(u->scope_job);
        if (u->port > 0)
                manager_drop_port(vm, u->port);
        if (!u->in_doubt)
                note_changing(vm, false);
        if (u->error)
                operation_fail(&u->op, u->error);
        else
                operation_complete(&u->op, NULL);
        vm_start_updated(u->manager, u->op.target_uuid);
        begin_next(u->manager, u->op.target_uuid);
}

static void on_undone(void *userdata, int r, const Error *error) {
        Update *u = userdata;

        u->in_doubt = r < 0 && u->vm->process;
        if (u->in_doubt)
                (void)vm_warn(u->vm, NULL,
                                "Limits that were refused are in force until the VM's next start: %s",
                                error_message(error));
        complete(u);
}

static int set_limits(Update *u, const VmSpec *spec, scope_done_t done) {
        const VmLimits limits = vm_limits_resolve(spec, !u->vm->kvm);

        u->scope_job = scope_job_free(u->scope_job);
        return systemd_set_limits(u->manager->systemd, u->vm->unit, &limits, done, u, &u->scope_job);
}

static void fail(Update *u, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        int r;

        u->error = error_copy(error);
        if (!u->error)
                (void)error_set(&u->error, ERROR_NO_MEMORY, "Cannot change VM '%s'", vm_name(u->vm));
        if (!u->in_force || !u->vm->process) {
                complete(u);
                return;
        }
        u->step = UPDATE_UNDO;
        r = set_limits(u, &u->vm->record.spec, on_undone);
        if (r < 0)
                on_undone(u, error_set_errno(&e, r, "systemd cannot be asked"), e);
}

/* It is asked only when the VM goes, with all that PID 1 knows of it; what waits for the disk was told. */
static bool cancel(Operation *op) {
        Update *u = (Update *)op;

        if (u->step == UPDATE_WRITE || u->step == UPDATE_FOLLOW)
                return false;
        u->in_force = false;
        error_free(u->error);
        u->error = NULL;
        fail(u, op->reason);
        return true;
}

static const OperationType update_type = {
        .kind = OPERATION_UPDATE,
        .size = sizeof(Update),
        .cancel = cancel,
        .done = update_done,
};

static int format(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const Update *u = userdata;
        VmRecord record = u->vm->record; /* of which nothing is owned */

        record.spec = u->spec;
        if (u->port > 0)
                record.ssh_port = u->port;
        return vm_record_format(&record, ret, ret_len);
}

static void on_followed(void *userdata, int r, const Error *error) {
        Update *u = userdata;

        if (r < 0 && r != -ENOENT && u->vm->process)
                (void)vm_warn(u->vm, NULL, "Its new limits are not in force before its next start: %s",
                                error_message(error));
        complete(u);
}

/* A process that came while the record was written, or whose scope did, may have been given the old limits.
 * What is asked after that, PID 1 does after it; one that is asked later is given the new ones. */
static void follow(Update *u) {
        _cleanup_error_ Error *e = NULL;
        int r;

        if (!u->vm->process || u->in_force) {
                complete(u);
                return;
        }
        u->step = UPDATE_FOLLOW;
        r = set_limits(u, &u->vm->record.spec, on_followed);
        if (r < 0)
                on_followed(u, error_set_errno(&e, r, "systemd cannot be asked"), e);
}

static void on_written(void *userdata, int r, const Error *error) {
        Update *u = userdata;
        Vm *vm = u->vm;
        VmSpec old = vm->record.spec;

        if (r < 0) {
                fail(u, error);
                return;
        }
        vm->record.spec = u->spec;
        u->spec = old;
        if (u->port > 0)
                manager_settle_port(vm, u->port);
        u->port = 0;
        vm_changed(vm, VM_CHANGE_SPEC);
        vm_flush(vm);
        follow(u);
}

static const RecordChange record_change = { .format = format, .done = on_written };

static void write_record(Update *u) {
        _cleanup_error_ Error *e = NULL;

        u->step = UPDATE_WRITE;
        if (record_write(u->vm->stored, &record_change, u, &e) >= 0)
                return;
        u->step = UPDATE_LIMITS; /* it can be called off */
        fail(u, e);
}

/* Without a scope, of a VM that is about to start or has just ended, nobody is limited. Where no answer came
 * PID 1 may have done it, or be about to. */
static void on_limits(void *userdata, int r, const Error *error) {
        Update *u = userdata;

        u->scope_job = scope_job_free(u->scope_job);
        u->in_force = r == -ECONNRESET || r == -ETIMEDOUT;
        if (r < 0 && r != -ENOENT) {
                fail(u, error);
                return;
        }
        u->in_force = r >= 0;
        write_record(u);
}

static int check_disk(const Vm *vm, const VmSpec *spec, Error **reterr) {
        const VmRecord *rec = &vm->record;

        if (spec->disk == rec->spec.disk)
                return 0;
        if (spec->disk > 0 && rec->disk_size == 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "VM '%s' has no disk that could grow",
                                vm_name(vm));
        if (spec->disk < rec->disk_size)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "disk %s is smaller than the disk is now, %s; it can only grow",
                                FORMAT_SIZE(spec->disk), FORMAT_SIZE(rec->disk_size));
        return 0;
}

static int check_definition(const Vm *vm, const VmSpec *spec, Error **reterr) {
        unsigned files = 0;
        int r;

        for (int i = 0; i < _VM_FILE_MAX; i++)
                files |= vm->record.files[i].path ? 1U << i : 0;
        r = vm_spec_check(spec, files, reterr);
        return r < 0 ? r : check_disk(vm, spec, reterr);
}

/* The whole definition as it is to be, of what it is now. */
static int prepare(Update *u, Error **reterr) {
        Vm *vm = u->vm;
        int flags, r;

        if (!vm->stored || vm->removal)
                return error_set(reterr, ERROR_NO_SUCH_VM, "VM '%s' was destroyed meanwhile", vm_name(vm));
        r = vm_spec_copy(&vm->record.spec, &u->spec);
        flags = r < 0 ? r : vm_spec_rebase(&u->from, &u->to, &u->spec);
        if (r < 0 || flags == -ENOMEM)
                return error_set_errno(reterr, -ENOMEM, "Cannot change VM '%s'", vm_name(vm));
        if ((vm->process || vm->start) && !(flags & SPEC_LIMIT))
                return error_set(reterr, ERROR_INVALID_STATE,
                                "VM '%s' runs; only its limits can be changed now", vm_name(vm));
        r = check_definition(vm, &u->spec, reterr);
        if (r >= 0 && u->spec.network == VM_NETWORK_USER && vm->record.ssh_port == 0)
                r = manager_pick_port(vm, &u->port, reterr);
        return r;
}

static void begin(Update *u) {
        _cleanup_error_ Error *e = NULL;
        int r;

        u->step = UPDATE_LIMITS;
        r = prepare(u, &e);
        if (r < 0) {
                fail(u, e);
                return;
        }
        if (!u->vm->process) {
                write_record(u);
                return;
        }
        note_changing(u->vm, true);
        r = set_limits(u, &u->spec, on_limits);
        if (r < 0) {
                (void)error_set_errno(&e, r, "Cannot ask systemd to change VM '%s'", vm_name(u->vm));
                fail(u, e);
        }
}

/* The oldest of those that wait; the list begins with the newest. */
static void begin_next(Manager *m, const char *uuid) {
        Update *next = NULL;

        for (Operation *op = m->core->operations.running; op; op = op->next)
                if (op->type == &update_type && streq_ptr(op->target_uuid, uuid))
                        next = (Update *)op;
        if (next && next->step == UPDATE_TURN)
                begin(next);
}

static int update_new(Vm *vm, uid_t requester, waiter_t done, void *userdata, Update **ret, Error **reterr) {
        const OperationSpec spec = vm_operation(vm, requester, NULL);
        Operation *op;
        int r;

        r = operation_admit(&vm->manager->core->operations, OPERATION_UPDATE, vm->record.uuid, vm_name(vm),
                        &op, reterr);
        if (r >= 0)
                r = operation_new(&vm->manager->core->operations, &update_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        *ret = (Update *)op;
        (*ret)->manager = vm->manager;
        (*ret)->vm = vm;
        return 0;
}

int vm_update(Vm *vm, uid_t requester, VmSpec *from, VmSpec *to, waiter_t done, void *userdata,
                Error **reterr) {
        Update *u;
        int r;

        r = update_new(vm, requester, done, userdata, &u, reterr);
        if (r < 0) {
                vm_spec_done(from);
                vm_spec_done(to);
                return r;
        }
        u->from = *from;
        u->to = *to;
        *from = *to = (VmSpec){};
        begin_next(vm->manager, vm->record.uuid);
        return 0;
}

bool vm_update_is_written(const Vm *vm) {
        for (const Operation *op = vm->manager->core->operations.running; op; op = op->next)
                if (op->type == &update_type && ((const Update *)op)->vm == vm &&
                                ((const Update *)op)->step == UPDATE_WRITE)
                        return true;
        return false;
}

/* A change of nothing: which limits are those of the record is settled by writing it. */
int vm_update_continue(Vm *vm) {
        Update *u;
        int r;

        r = update_new(vm, 0, NULL, NULL, &u, NULL);
        if (r >= 0)
                begin_next(vm->manager, vm->record.uuid);
        return r;
}
