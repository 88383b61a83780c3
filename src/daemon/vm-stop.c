/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Stop, kill, and the commands that change the run state. */
#include <signal.h>
#include <time.h>

#include "manager.h"
#include "util/log.h"
#include "vm.h"

#define COMMAND_TIMEOUT (10 * USEC_PER_SEC)
#define TERM_TIMEOUT \
        (5 * USEC_PER_SEC) /* QEMU ends within milliseconds of a SIGTERM unless its disk hangs */

typedef enum StopStep { STOP_POWERDOWN, STOP_TERM, STOP_KILL } StopStep;

struct VmStop {
        Vm *vm;   /* borrowed */
        Job *job; /* owned: finished by us */
        StopStep step;
        uint64_t deadline; /* CLOCK_MONOTONIC usec */
        sd_event_source *timer;
        QmpCall *calls[2];
};

VmStop *vm_stop_free(VmStop *s) {
        if (!s)
                return NULL;
        for (size_t i = 0; i < ELEMENTSOF(s->calls); i++)
                qmp_cancel(s->calls[i]);
        sd_event_source_disable_unref(s->timer);
        free(s);
        return NULL;
}

uint64_t vm_stop_deadline(const VmStop *s) {
        return s ? s->deadline : 0;
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata);

static int arm(VmStop *s, uint64_t deadline) {
        s->deadline = deadline;
        s->timer = sd_event_source_disable_unref(s->timer);
        return sd_event_add_time(s->vm->manager->event, &s->timer, CLOCK_MONOTONIC, deadline,
                        50 * USEC_PER_MSEC, on_timer, s);
}

static void next_step(VmStop *s) {
        Vm *vm = s->vm;
        uint64_t now;

        if (s->step != STOP_POWERDOWN) {
                s->step = STOP_KILL;
                vm_end_process(vm);
                return;
        }
        s->step = STOP_TERM;
        vm->ending = true;
        vm_save_run_state(vm);
        (void)process_signal(vm->process, SIGTERM);
        (void)sd_event_now(vm->manager->event, CLOCK_MONOTONIC, &now);
        if (arm(s, now + TERM_TIMEOUT) < 0)
                vm_end_process(vm);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *userdata) {
        VmStop *s = userdata;

        if (s->step == STOP_POWERDOWN && process_monitor_is_taken(s->vm->process))
                (void)vm_warn(s->vm,
                                "Somebody else was connected to qmp.sock, so the guest could not be told to "
                                "shut "
                                "down and was ended by force");
        else if (s->step == STOP_POWERDOWN)
                (void)vm_warn(s->vm, "The guest did not shut down in time and was ended by force");
        next_step(s);
        return 0;
}

static void answered(VmStop *s, size_t call, int r, const Error *error) {
        s->calls[call] = NULL;
        if (r < 0 && r != -ECONNRESET)
                log_at(LOG_WARNING, vm_name(s->vm), NULL, "Cannot press the power button: %s",
                                error_message(error));
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
                (void)sd_event_now(s->vm->manager->event, CLOCK_MONOTONIC, &now);
                timeout = s->deadline - MIN(now, s->deadline);
        }
        /* A guest that is paused cannot react. */
        if (q && !streq_ptr(s->vm->status, "running"))
                (void)qmp_call(q, "cont", NULL, timeout, on_continued, s, &s->calls[0]);
        if (!q || qmp_call(q, "system_powerdown", NULL, timeout, on_powerdown, s, &s->calls[1]) < 0)
                next_step(s);
}

static void on_cancel(Job *job, void *userdata) {
        VmStop *s = userdata;
        Vm *vm = s->vm;

        if (s->step != STOP_POWERDOWN)
                return; /* too late: QEMU has its signal */
        s->job = job_finish(s->job, JOB_CANCELED, NULL);
        vm->stop = vm_stop_free(s);
        vm_save_run_state(vm);
        vm_changed(vm, 0);
}

static int new_job(Vm *vm, void (*cancel)(Job *job, void *userdata), void *userdata, Job **ret) {
        const JobSpec spec = { "stop", JOB_TARGET_VM, vm_name(vm), vm->record.owner, vm->record.owner,
                cancel, userdata };

        return job_new(vm->manager, &spec, ret);
}

static int stop_new(Vm *vm, uint64_t deadline, VmStop **ret) {
        VmStop *s = malloc(sizeof(VmStop));
        int r;

        if (!s)
                return -ENOMEM;
        *s = (VmStop){ .vm = vm };
        r = arm(s, deadline);
        if (r >= 0)
                r = new_job(vm, on_cancel, s, &s->job);
        if (r < 0) {
                vm_stop_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

static int finished_job(Vm *vm, uint32_t *ret, Error **reterr) {
        Job *job;
        int r;

        r = new_job(vm, NULL, NULL, &job);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot make a job");
        *ret = job->id;
        job_finish(job, JOB_DONE, NULL);
        return 0;
}

static void cancel_start(Vm *vm) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "VM '%s' was stopped while it started", vm_name(vm));
        vm_start_fail(vm->start, e);
}

int vm_stop(Vm *vm, uint64_t timeout_usec, uint32_t *ret_job, Error **reterr) {
        uint64_t now, deadline;
        VmStop *s;
        int r;

        if (vm->create || vm->removal)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' cannot be stopped while it is %s",
                                vm_name(vm), vm->create ? "preparing" : "being destroyed");
        if (vm->start && !vm->process)
                cancel_start(vm);
        if (!vm->process)
                return finished_job(vm, ret_job, reterr);

        (void)sd_event_now(vm->manager->event, CLOCK_MONOTONIC, &now);
        if (timeout_usec == 0)
                timeout_usec = vm->manager->config.stop_timeout;
        deadline = __builtin_add_overflow(now, timeout_usec, &deadline) ? USEC_INFINITY - 1 : deadline;
        if (vm->stop) {
                /* One stop at a time; whoever is in more of a hurry sets its pace. */
                if (vm->stop->step == STOP_POWERDOWN && deadline < vm->stop->deadline)
                        (void)arm(vm->stop, deadline);
                *ret_job = vm->stop->job->id;
                return 0;
        }
        r = stop_new(vm, deadline, &s);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot stop VM '%s'", vm_name(vm));
        *ret_job = s->job->id;
        vm->stop = s;
        if (vm->start) {
                s->step = STOP_KILL; /* there is no guest yet, and no way back */
                cancel_start(vm);
        } else
                press_power_button(s);
        vm_save_run_state(vm);
        vm_changed(vm, 0);
        return 0;
}

int vm_stop_continue(Vm *vm, uint64_t deadline_usec) {
        return stop_new(vm, deadline_usec, &vm->stop);
}

void vm_stop_finished(Vm *vm) {
        if (!vm->stop)
                return;
        vm->stop->job = job_finish(vm->stop->job, JOB_DONE, NULL);
        vm->stop = vm_stop_free(vm->stop);
        vm_changed(vm, 0);
}

int vm_kill(Vm *vm, waiter_t done, void *userdata, Error **reterr) {
        int r;

        if (vm->create)
                return error_set(reterr, ERROR_INVALID_STATE,
                                "VM '%s' cannot be killed while it is preparing", vm_name(vm));
        if (vm->start)
                cancel_start(vm);
        if (vm->unattached)
                systemd_kill_scope(vm->manager->systemd, vm->unit);
        if (!vm->process) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        r = waiters_add(&vm->gone, done, userdata);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot wait for the end of VM '%s'", vm_name(vm));
        vm_end_process(vm);
        return 0;
}

typedef struct Command {
        Vm *vm; /* borrowed: it owns the connection that we wait for */
        waiter_t done;
        void *userdata;
} Command;

static void on_command(void *userdata, int r, const Json *result, const Error *error) {
        _cleanup_free_ Command *c = userdata;
        _cleanup_error_ Error *e = NULL;

        if (r == -ETIMEDOUT && process_monitor_is_taken(c->vm->process))
                r = vm_set_not_attached(c->vm, &e);
        if (c->done)
                c->done(c->userdata, r, e ?: error);
}

static int run_command(Vm *vm, const char *command, waiter_t done, void *userdata, Error **reterr) {
        uint64_t timeout;
        Command *c;
        int r;

        if (!vm->process || vm->start || !process_monitor(vm->process) || vm->ending)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' does not run: it is %s", vm_name(vm),
                                vm_state_to_string(vm_state(vm)));
        timeout = process_patience(vm->process, COMMAND_TIMEOUT);
        if (timeout == 0)
                return vm_set_not_attached(vm, reterr);
        c = malloc(sizeof(Command));
        if (!c)
                return error_set_errno(reterr, -ENOMEM, "Cannot command QEMU");
        *c = (Command){ vm, done, userdata };
        r = qmp_call(process_monitor(vm->process), command, NULL, timeout, on_command, c, NULL);
        if (r < 0) {
                free(c);
                return error_set_errno(reterr, r, "Cannot command QEMU of VM '%s'", vm_name(vm));
        }
        return 0;
}

/* QEMU answers these after the event that changes the state; the query that the event causes is answered
 * later, so the state would lag behind the reply: it is noted here. */
typedef struct RunStateChange {
        char *vm;
        Manager *manager;
        const char *status;
        waiter_t done;
        void *userdata;
} RunStateChange;

static void on_run_state(void *userdata, int r, const Error *error) {
        RunStateChange *c = userdata;
        Vm *vm = manager_find_vm(c->manager, c->vm);

        if (r >= 0 && vm && vm->process) {
                vm_note_status(vm, c->status);
                vm_flush(vm);
        }
        if (c->done)
                c->done(c->userdata, r, error);
        free(c->vm);
        free(c);
}

static int change_run_state(Vm *vm, const char *command, const char *status, waiter_t done, void *userdata,
                Error **reterr) {
        RunStateChange *c;
        int r;

        if (streq_ptr(vm->status, status) && vm->process && !vm->start) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        c = malloc(sizeof(RunStateChange));
        if (!c)
                return error_set_errno(reterr, -ENOMEM, "Cannot command QEMU");
        *c = (RunStateChange){ strdup(vm_name(vm)), vm->manager, status, done, userdata };
        r = c->vm ? run_command(vm, command, on_run_state, c, reterr)
                  : error_set_errno(reterr, -ENOMEM, "Cannot command QEMU");
        if (r < 0) {
                free(c->vm);
                free(c);
        }
        return r;
}

int vm_suspend(Vm *vm, waiter_t done, void *userdata, Error **reterr) {
        return change_run_state(vm, "stop", "paused", done, userdata, reterr);
}

int vm_resume(Vm *vm, waiter_t done, void *userdata, Error **reterr) {
        return change_run_state(vm, "cont", "running", done, userdata, reterr);
}

int vm_reset(Vm *vm, waiter_t done, void *userdata, Error **reterr) {
        return run_command(vm, "system_reset", done, userdata, reterr);
}
