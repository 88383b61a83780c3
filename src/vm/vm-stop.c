/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stop, in three steps: the guest is asked, QEMU is told (SIGTERM), QEMU is killed; and kill, which is the
 * last of these alone. Both end with the process. */
#include <signal.h>
#include <time.h>

#include "core/message-ids.h"
#include "manager.h"
#include "util/log.h"
#include "vm.h"

#define COMMAND_TIMEOUT (10 * USEC_PER_SEC)
#define TERM_TIMEOUT \
        (5 * USEC_PER_SEC) /* QEMU ends within milliseconds of a SIGTERM unless its disk hangs */

static const char *const vm_stop_step_table[] = {
        [VM_STOP_POWERDOWN] = "powerdown",
        [VM_STOP_TERMINATE] = "terminate",
        [VM_STOP_KILL] = "kill",
};
DEFINE_STRING_TABLE(vm_stop_step, VmStopStep, _VM_STOP_STEP_MAX);

struct VmStop {
        Operation op;
        Vm *vm; /* borrowed */
        VmStopStep step;
        uint64_t deadline; /* CLOCK_MONOTONIC usec */
        sd_event_source *timer;
        QmpCall *calls[2];
};

static void stop_done(Operation *op) {
        sd_event_source_disable_unref(((VmStop *)op)->timer);
}

/* Nothing calls us any more. The process is there, and with it its monitor. */
static void let_go(VmStop *s) {
        for (size_t i = 0; i < ELEMENTSOF(s->calls); i++)
                s->calls[i] = qmp_cancel(s->calls[i]);
        s->timer = sd_event_source_disable_unref(s->timer);
        s->vm->stop = NULL;
}

uint64_t vm_stop_deadline(const VmStop *s) {
        return s->deadline;
}

VmStopStep vm_stop_step(const VmStop *s) {
        return s->step;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static uint64_t in(const Vm *vm, uint64_t usec) {
        uint64_t now;

        (void)sd_event_now(vm->manager->core->event, CLOCK_MONOTONIC, &now);
        return now + usec;
}

static int arm(VmStop *s, uint64_t deadline) {
        s->deadline = deadline;
        s->timer = sd_event_source_disable_unref(s->timer);
        return sd_event_add_time(s->vm->manager->core->event, &s->timer, CLOCK_MONOTONIC, deadline,
                        50 * USEC_PER_MSEC, on_timer, s);
}

static void next_step(VmStop *s) {
        Vm *vm = s->vm;

        if (s->step != VM_STOP_POWERDOWN) {
                s->step = VM_STOP_KILL;
                vm_end_process(vm);
                (void)arm(s, in(vm, VM_END_TIMEOUT));
                return;
        }
        s->step = VM_STOP_TERMINATE;
        vm->ending = true;
        (void)process_signal(vm->process, SIGTERM);
        if (arm(s, in(vm, TERM_TIMEOUT)) < 0)
                vm_end_process(vm);
        (void)vm_save_run_state(vm);
}

static void give_up(VmStop *s) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = s->vm;

        (void)vm_set_hangs(vm, &e);
        let_go(s);
        (void)vm_save_run_state(vm);
        operation_fail(&s->op, e);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        VmStop *s = userdata;

        if (s->step == VM_STOP_KILL && s->vm->killed) {
                give_up(s);
                return 0;
        }
        if (s->step == VM_STOP_POWERDOWN && process_monitor_is_taken(s->vm->process))
                (void)vm_warn(s->vm, MESSAGE_VM_FORCED,
                                "Somebody else was connected to qmp.sock, so the guest could not be told to "
                                "shut "
                                "down and was ended by force");
        else if (s->step == VM_STOP_POWERDOWN)
                (void)vm_warn(s->vm, MESSAGE_VM_FORCED,
                                "The guest did not shut down in time and was ended by force");
        next_step(s);
        return 0;
}

static void answered(VmStop *s, size_t call, int r, const Error *error) {
        s->calls[call] = NULL;
        if (r < 0 && r != -ECONNRESET)
                vm_log(LOG_WARNING, s->vm, NULL, "Cannot press the power button: %s", error_message(error));
}

static void on_continued(void *userdata, int r, const Json *result, const Error *error) {
        answered(userdata, 0, r, error);
}

static void on_powerdown(void *userdata, int r, const Json *result, const Error *error) {
        answered(userdata, 1, r, error);
}

static void press_power_button(VmStop *s) {
        Qmp *q = process_monitor(s->vm->process);
        uint64_t now, timeout = COMMAND_TIMEOUT;

        if (q && process_monitor_is_taken(s->vm->process)) {
                (void)sd_event_now(s->vm->manager->core->event, CLOCK_MONOTONIC, &now);
                timeout = s->deadline - MIN(now, s->deadline);
        }
        /* A guest that is paused cannot react. */
        if (q && !streq_ptr(s->vm->status, "running"))
                (void)qmp_call(q, "cont", NULL, timeout, on_continued, s, &s->calls[0]);
        if (!q || qmp_call(q, "system_powerdown", NULL, timeout, on_powerdown, s, &s->calls[1]) < 0)
                next_step(s);
}

/* The guest is left alone from now on. Once QEMU has its signal it is too late. */
static bool cancel(Operation *op) {
        VmStop *s = (VmStop *)op;
        Vm *vm = s->vm;

        if (s->step != VM_STOP_POWERDOWN)
                return false;
        let_go(s);
        (void)vm_save_run_state(vm);
        vm_changed(vm, 0);
        operation_fail(op, op->reason);
        return true;
}

static const OperationType stop_type = {
        .kind = OPERATION_STOP,
        .size = sizeof(VmStop),
        .cancel = cancel,
        .done = stop_done,
};

static int stop_new(Vm *vm, uid_t requester, VmStop **ret, Error **reterr) {
        const OperationSpec spec = vm_operation(vm, requester, NULL);
        Operation *op;
        int r;

        r = operation_new(&vm->manager->core->operations, &stop_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        r = operation_announce(op, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        *ret = (VmStop *)op;
        (*ret)->vm = vm;
        return 0;
}

static int begin(Vm *vm, uid_t requester, VmStopStep step, uint64_t deadline, VmStop **ret, Error **reterr) {
        VmStop *s;
        int r;

        r = stop_new(vm, requester, &s, reterr);
        if (r < 0)
                return r;
        s->step = step;
        r = arm(s, deadline);
        if (r < 0) {
                r = error_set_errno(reterr, r, "Cannot stop VM '%s'", vm_name(vm));
                operation_drop(&s->op, reterr);
                return r;
        }
        vm->stop = s;
        *ret = s;
        return 0;
}

static int finished_job(Vm *vm, uid_t requester, Job **ret, Error **reterr) {
        VmStop *s;
        int r;

        r = stop_new(vm, requester, &s, reterr);
        if (r < 0)
                return r;
        *ret = s->op.job;
        operation_complete(&s->op, NULL);
        return 0;
}

/* One stop at a time; whoever is in more of a hurry sets its pace. */
static int join(VmStop *s, uid_t requester, uint64_t deadline, Job **ret, Error **reterr) {
        int r;

        r = operation_join(&s->op, requester, NULL, NULL, reterr);
        if (r >= 0 && s->step == VM_STOP_POWERDOWN && deadline < s->deadline) {
                r = arm(s, deadline);
                if (r < 0)
                        r = error_set_errno(reterr, r, "Cannot stop VM '%s' earlier", vm_name(s->vm));
                (void)vm_save_run_state(s->vm);
        }
        if (r < 0)
                return r;
        *ret = s->op.job;
        return 0;
}

static uint64_t deadline_of(const Vm *vm, uint64_t timeout_usec) {
        uint64_t now, deadline;

        (void)sd_event_now(vm->manager->core->event, CLOCK_MONOTONIC, &now);
        if (timeout_usec == 0)
                timeout_usec = vm->manager->core->config.stop_timeout;
        return __builtin_add_overflow(now, timeout_usec, &deadline) ? USEC_INFINITY - 1 : deadline;
}

int vm_stop(Vm *vm, uid_t requester, uint64_t timeout_usec, Job **ret, Error **reterr) {
        uint64_t deadline = deadline_of(vm, timeout_usec);
        Operation *same;
        bool no_guest;
        VmStop *s;
        int r;

        r = operation_admit(&vm->manager->core->operations, OPERATION_STOP, vm->record.uuid, vm_name(vm),
                        &same, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                return join((VmStop *)same, requester, deadline, ret, reterr);
        if (!vm->process)
                return finished_job(vm, requester, ret, reterr);

        /* A start was called off: there is no guest yet, and no way back. Or one that hangs is there still.
         */
        no_guest = vm->start || vm->killed;
        r = begin(vm, requester, no_guest ? VM_STOP_KILL : VM_STOP_POWERDOWN,
                        no_guest ? in(vm, VM_END_TIMEOUT) : deadline, &s, reterr);
        if (r < 0)
                return r;
        *ret = s->op.job;
        if (no_guest)
                vm_end_process(vm);
        else
                press_power_button(s);
        (void)vm_save_run_state(vm);
        vm_changed(vm, 0);
        return 0;
}

int vm_stop_continue(Vm *vm, VmStopStep step, uint64_t deadline_usec) {
        VmStop *s;

        return begin(vm, 0, step, deadline_usec, &s, NULL);
}

/* --- Kill */

typedef struct VmKill {
        Operation op;
        Vm *vm; /* borrowed */
} VmKill;

/* By its deadline alone. */
static bool cancel_kill(Operation *op) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = ((VmKill *)op)->vm;

        (void)vm_set_hangs(vm, &e);
        vm->kill = NULL;
        operation_fail(op, e);
        return true;
}

static const OperationType kill_type = {
        .kind = OPERATION_KILL,
        .size = sizeof(VmKill),
        .cancel = cancel_kill,
};

int vm_kill(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        OperationSpec spec = vm_operation(vm, requester, NULL);
        Operation *op;
        int r;

        spec.timeout_usec = VM_END_TIMEOUT;
        spec.late = "The VM's process does not end";
        r = operation_admit(&vm->manager->core->operations, OPERATION_KILL, vm->record.uuid, vm_name(vm),
                        &op, reterr);
        if (r < 0)
                return r;
        if (r > 0)
                return operation_join(op, requester, done, userdata, reterr);
        if (vm->unattached)
                systemd_kill_scope(vm->manager->systemd, vm->unit);
        if (!vm->process) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        r = operation_new(&vm->manager->core->operations, &kill_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r < 0) {
                operation_drop(op, reterr);
                return r;
        }
        ((VmKill *)op)->vm = vm;
        vm->kill = op;
        vm_end_process(vm);
        return 0;
}

void vm_stop_finished(Vm *vm) {
        VmStop *s = vm->stop;
        Operation *kill = TAKE_PTR(vm->kill);

        if (s) {
                s->timer = sd_event_source_disable_unref(s->timer);
                vm->stop = NULL;
                vm_changed(vm, 0);
                operation_complete(&s->op, NULL);
        }
        if (kill)
                operation_complete(kill, NULL);
}
