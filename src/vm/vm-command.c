/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Commands that QEMU carries out at once: suspend, resume, reset, and raw ones of people who debug. */
#include "manager.h"
#include "vm.h"

#define COMMAND_TIMEOUT (10 * USEC_PER_SEC)
#define RAW_TIMEOUT (20 * USEC_PER_SEC)

typedef struct Command {
        Operation op;
        Vm *vm;             /* borrowed: it owns the connection that we wait for */
        const char *status; /* static: what the run state is when it is done; NULL: it does not change */
        QmpCall *call;
        qmp_raw_reply_t raw; /* who wants QEMU's answer; NULL: nobody */
        void *raw_userdata;
} Command;

static bool cancel(Operation *op) {
        Command *c = (Command *)op;

        c->call = qmp_cancel(c->call);
        if (c->raw)
                c->raw(c->raw_userdata, -error_code_errno(error_code(op->reason)), NULL, op->reason);
        operation_fail(op, op->reason);
        return true;
}

static const OperationType command_type = {
        .kind = OPERATION_COMMAND,
        .size = sizeof(Command),
        .cancel = cancel,
};

void vm_commands_end(Vm *vm) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_QMP_FAILED, "QEMU of VM '%s' ended before it answered", vm_name(vm));
        operations_cancel(&vm->manager->core->operations, vm->record.uuid, 1U << OPERATION_COMMAND, e);
}

static const Error *judge(const Command *c, int r, const Error *error, Error **why) {
        if (r != -ETIMEDOUT || !process_monitor_is_taken(c->vm->process))
                return error;
        (void)vm_set_not_attached(c->vm, why);
        return *why;
}

/* QEMU answers these after the event that changes the state; the query that the event causes is answered
 * later, so the state would lag behind the reply: it is noted here. */
static void on_done(void *userdata, int r, const Json *result, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        Command *c = userdata;

        c->call = NULL;
        if (r < 0) {
                operation_fail(&c->op, judge(c, r, error, &e));
                return;
        }
        if (c->status && c->vm->process) {
                vm_note_status(c->vm, c->status);
                vm_flush(c->vm);
        }
        operation_complete(&c->op, NULL);
}

static void on_raw(void *userdata, int r, const char *text, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        Command *c = userdata;

        c->call = NULL;
        if (r < 0)
                error = judge(c, r, error, &e);
        c->raw(c->raw_userdata, r, text, error);
        if (r < 0)
                operation_fail(&c->op, error);
        else
                operation_complete(&c->op, NULL);
}

static int check(const Vm *vm, uint64_t patience, uint64_t *ret_timeout, Error **reterr) {
        if (!vm->process || !process_monitor(vm->process) || vm->ending)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' does not run: it is %s", vm_name(vm),
                                vm_state_to_string(vm_state(vm)));
        *ret_timeout = process_patience(vm->process, patience);
        return *ret_timeout == 0 ? vm_set_not_attached(vm, reterr) : 0;
}

static int begin(Vm *vm, uid_t requester, uint64_t patience, uint64_t *ret_timeout, Command **ret,
                Error **reterr) {
        const OperationSpec spec = vm_operation(vm, requester, NULL);
        Operation *op;
        int r;

        r = operation_admit(&vm->manager->core->operations, OPERATION_COMMAND, vm->record.uuid, vm_name(vm),
                        &op, reterr);
        if (r >= 0)
                r = check(vm, patience, ret_timeout, reterr);
        if (r >= 0)
                r = operation_new(&vm->manager->core->operations, &command_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        *ret = (Command *)op;
        (*ret)->vm = vm;
        return 0;
}

static int run_command(Vm *vm, uid_t requester, const char *command, const char *status, waiter_t done,
                void *userdata, Error **reterr) {
        uint64_t timeout;
        Command *c;
        int r;

        r = begin(vm, requester, COMMAND_TIMEOUT, &timeout, &c, reterr);
        if (r < 0)
                return r;
        c->status = status;
        r = qmp_call(process_monitor(vm->process), command, NULL, timeout, on_done, c, &c->call);
        if (r < 0)
                r = error_set_errno(reterr, r, "Cannot command QEMU of VM '%s'", vm_name(vm));
        else
                r = operation_wait(&c->op, NULL, done, userdata, reterr);
        if (r < 0) {
                c->call = qmp_cancel(c->call);
                operation_drop(&c->op, reterr);
        }
        return r;
}

static int change_run_state(Vm *vm, uid_t requester, const char *command, const char *status, waiter_t done,
                void *userdata, Error **reterr) {
        if (streq_ptr(vm->status, status) && vm->process && !vm->start) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        return run_command(vm, requester, command, status, done, userdata, reterr);
}

int vm_suspend(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        return change_run_state(vm, requester, "stop", "paused", done, userdata, reterr);
}

int vm_resume(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        return change_run_state(vm, requester, "cont", "running", done, userdata, reterr);
}

int vm_reset(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        return run_command(vm, requester, "system_reset", NULL, done, userdata, reterr);
}

int vm_qmp(Vm *vm, uid_t requester, const char *command, qmp_raw_reply_t done, void *userdata,
                Error **reterr) {
        _cleanup_error_ Error *e = NULL;
        uint64_t timeout;
        Command *c;
        int r;

        r = begin(vm, requester, RAW_TIMEOUT, &timeout, &c, reterr);
        if (r < 0)
                return r;
        c->raw = done;
        c->raw_userdata = userdata;
        r = qmp_call_raw(process_monitor(vm->process), command, timeout, on_raw, c, &c->call, &e);
        if (r >= 0)
                return 0;
        if (!e)
                r = error_set_errno(&e, r, "QEMU cannot be asked");
        operation_fail(&c->op, e);
        if (reterr)
                *reterr = TAKE_PTR(e);
        return r;
}
