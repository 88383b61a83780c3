/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Start: the host is known, the scope's name is free, the shim is held, the scope is around it, QEMU is
 * executed, it says that it runs. Each callback stores what it got and calls step(). */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/message-ids.h"
#include "host/fd-store.h"
#include "launch.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-index.h"
#include "vm.h"

/* Below the 25 s after which a D-Bus client gives up by default, so that it gets our answer. QEMU needs 30
 * ms. */
#define START_TIMEOUT (20 * USEC_PER_SEC)
#define CALL_TIMEOUT (2 * START_TIMEOUT) /* never: the start's own comes first, and says it better */
#define COMMAND_SHOWN_MAX 256
#define FAIL_TIMEOUT (4 * USEC_PER_SEC) /* from SIGKILL until it is told all the same: within those 25 s */
#define END_TIMEOUT (2 * USEC_PER_SEC)  /* from the end of the monitor to QEMU's; it takes milliseconds */

typedef enum StartStep {
        START_HOST,
        START_SCOPE_FREE,
        START_PORT, /* is secured, once no change of the definition is being written */
        START_LAUNCH,
        START_SCOPE,
        START_EXECUTE,
        START_STATUS,
        START_FAILING, /* the process is being ended */
} StartStep;

struct VmStart {
        Operation op;
        Manager *manager; /* borrowed */
        Vm *vm;           /* borrowed; lives as long as we are under way */
        StartStep step;
        Error *error; /* why it fails */
        ScopeJob *scope_job;
        sd_event_source *deadline;
        int vnc_fd;
        uint64_t grow_to;
        uint16_t port; /* kept for us while it is written down; 0: none is */
        bool kvm, monitor_closed;
        bool noted, has_scope; /* both, and QEMU may be executed */
        NetworkBackend network;
        bool cleared; /* a scope that was in the way */
        QmpCall *calls[5];
};

static void start_done(Operation *op) {
        VmStart *s = (VmStart *)op;

        host_forget(s->manager->host, s);
        for (size_t i = 0; i < ELEMENTSOF(s->calls); i++)
                qmp_cancel(s->calls[i]);
        scope_job_free(s->scope_job);
        sd_event_source_disable_unref(s->deadline);
        safe_close(s->vnc_fd);
        error_free(s->error);
}

static void step(VmStart *s);

/* The slots go now, not at the end of the turn: nothing may call us any more. */
static void complete(VmStart *s) {
        Vm *vm = s->vm;

        host_forget(vm->manager->host, s);
        s->scope_job = scope_job_free(s->scope_job);
        s->deadline = sd_event_source_disable_unref(s->deadline);
        vm->start = NULL;
        vm_flush(vm);
        operation_complete(&s->op, s->error);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata);

static int set_deadline(VmStart *s, uint64_t timeout) {
        s->deadline = sd_event_source_disable_unref(s->deadline);
        return sd_event_add_time_relative(s->vm->manager->core->event, &s->deadline, CLOCK_MONOTONIC,
                        timeout, 100 * USEC_PER_MSEC, on_deadline, s);
}

void vm_start_fail(VmStart *s, const Error *error) {
        Vm *vm = s->vm;

        if (s->step == START_FAILING)
                return;
        if (!s->error)
                s->error = error_copy(error);
        if (s->step == START_SCOPE_FREE)
                systemd_leave_scope(vm->scope_watch);
        s->step = START_FAILING;
        for (size_t i = 0; i < ELEMENTSOF(s->calls); i++)
                s->calls[i] = qmp_cancel(s->calls[i]);
        if (vm->process) {
                vm_end_process(vm);
                (void)set_deadline(s, FAIL_TIMEOUT);
        } else if (s->port == 0)
                complete(s);
}

static bool cancel(Operation *op) {
        vm_start_fail((VmStart *)op, op->reason);
        return true;
}

static const OperationType start_type = {
        .kind = OPERATION_START,
        .size = sizeof(VmStart),
        .cancel = cancel,
        .done = start_done,
};

static void fail(VmStart *s, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "%s", what);
        vm_start_fail(s, e);
}

void vm_start_process_ended(VmStart *s, const ProcessEnd *end) {
        Vm *vm = s->vm;
        bool executed = s->step > START_EXECUTE && s->step != START_FAILING;

        if (executed || !s->error) {
                _cleanup_free_ char *words = vm_last_words(vm);

                error_free(s->error);
                s->error = NULL;
                (void)error_set(&s->error, ERROR_QEMU_FAILED, "QEMU ended while it started (%s %i): %s",
                                end->signaled ? "signal" : "status", end->code, words ?: "it said nothing");
                vm_set_failure(vm,
                                end->oom                        ? VM_FAILURE_OOM
                                                : end->signaled ? VM_FAILURE_SIGNAL
                                                                : VM_FAILURE_EXIT_CODE,
                                error_message(s->error));
        } else if (error_code(s->error) == ERROR_QMP_TIMEOUT)
                vm_set_failure(vm, VM_FAILURE_TIMEOUT, error_message(s->error));
        else if (error_code(s->error) == ERROR_QMP_FAILED)
                vm_set_failure(vm, VM_FAILURE_QMP, error_message(s->error));
        memset(s->calls, 0, sizeof(s->calls)); /* they went with the monitor */
        complete(s);
}

/* As a QEMU does that is about to end; one that goes on without its monitor is of no use. */
void vm_start_monitor_closed(VmStart *s) {
        if (s->step == START_FAILING)
                return;
        s->monitor_closed = true;
        (void)sd_event_source_set_time_relative(s->deadline, END_TIMEOUT);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata) {
        _cleanup_error_ Error *e = NULL;
        VmStart *s = userdata;

        if (s->step == START_FAILING) {
                if (s->vm->process) /* it was killed, and hangs, or takes its time */
                        complete(s);
                return 0;
        }
        if (s->monitor_closed)
                (void)error_set(&e, ERROR_QMP_FAILED, "QEMU of VM '%s' closed its monitor while it started",
                                vm_name(s->vm));
        else if (s->step >= START_EXECUTE)
                (void)error_set(&e, ERROR_QMP_TIMEOUT, "QEMU of VM '%s' did not answer within 20 s",
                                vm_name(s->vm));
        else if (s->step == START_HOST)
                (void)error_set(&e, ERROR_QEMU_FAILED, "'%s' did not tell its version within 20 s",
                                s->manager->core->config.qemu);
        else if (s->step == START_SCOPE_FREE)
                (void)error_set(&e, ERROR_SCOPE_FAILED,
                                "'%s' of the last run of VM '%s' is not gone within 20 s: a process in it "
                                "hangs "
                                "in the kernel, or systemd does not answer",
                                s->vm->unit, vm_name(s->vm));
        else
                (void)error_set(&e, ERROR_SCOPE_FAILED, "systemd made no scope for VM '%s' within 20 s",
                                vm_name(s->vm));
        vm_start_fail(s, e);
        return 0;
}

static void on_host(void *userdata) {
        step(userdata);
}

static void go_ahead(VmStart *s) {
        int r;

        if (!s->noted || !s->has_scope)
                return;
        /* Not earlier: PID 1 would look at this before it makes the scope. The shim does nothing without us
         * yet. */
        fd_store_push(vm_name(s->vm), process_monitor_fd(s->vm->process));
        s->step = START_EXECUTE;
        r = process_go(s->vm->process);
        if (r < 0)
                fail(s, r, "The shim ended before QEMU was executed");
}

static void on_scope(void *userdata, int r, const Error *error) {
        VmStart *s = userdata;
        bool failing = s->step == START_FAILING; /* the shim is being killed, and is not to execute QEMU */

        s->scope_job = scope_job_free(s->scope_job);
        if (r == -EEXIST && !s->cleared && !failing) {
                s->cleared = true;
                systemd_clear_scope(s->vm->scope_watch);
                return;
        }
        if (r == -EEXIST) /* and not ours, so it must not be ended with our shim */
                s->vm->scope_watch = systemd_unwatch_scope(s->vm->scope_watch);
        if (failing)
                return;
        if (r < 0) {
                vm_start_fail(s, error);
                return;
        }
        s->has_scope = true;
        go_ahead(s);
}

void vm_start_launched(VmStart *s) {
        int r;

        if (s->step == START_FAILING)
                return;
        /* A crash of the service from here on must find the process again; one before has it end by itself.
         */
        r = vm_save_run_state(s->vm);
        if (r < 0) {
                fail(s, r, "Cannot note in the runtime folder that the VM starts");
                return;
        }
        vm_changed(s->vm, VM_CHANGE_PROCESS);
        s->noted = true;
        go_ahead(s);
}

static int choose_accelerator(VmStart *s, Error **reterr) {
        const Host *h = s->vm->manager->host;
        const char *reason;
        bool works = host_has_kvm(h, &reason);
        VmAccelerator asked = s->vm->record.spec.accelerator;

        if (asked == VM_ACCELERATOR_KVM && !works)
                return error_set(reterr, ERROR_ACCELERATOR_UNAVAILABLE, "KVM does not work on this host: %s",
                                reason);
        if (asked == VM_ACCELERATOR_AUTO && !works)
                (void)vm_warn(s->vm, MESSAGE_VM_NO_KVM, "No KVM, so the guest is emulated and slow: %s",
                                reason);
        s->kvm = asked != VM_ACCELERATOR_TCG && works;
        return 0;
}

static int choose_network(VmStart *s, Error **reterr) {
        UserBackend asked = s->vm->manager->core->config.user_backend;
        const char *reason;
        bool works = host_has_passt(s->vm->manager->host, &reason);

        s->network = NETWORK_BACKEND_NONE;
        if (s->vm->record.spec.network != VM_NETWORK_USER)
                return 0;
        if (asked == USER_BACKEND_PASST && !works)
                return error_set(reterr, ERROR_TOOL_MISSING,
                                "vmctld.conf has UserBackend=passt, and passt cannot be used: %s", reason);
        s->network = works && asked != USER_BACKEND_SLIRP ? NETWORK_BACKEND_PASST : NETWORK_BACKEND_SLIRP;
        return 0;
}

/* --- The port. The range is shared with instances of users, who may have made a VM while this one did not
 * run, and with all else on the host. */

static void launch(VmStart *s);

static int format_port(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const VmStart *s = userdata;
        VmRecord record = s->vm->record; /* of which nothing is owned */

        record.ssh_port = s->port;
        return vm_record_format(&record, ret, ret_len);
}

static void on_port_written(void *userdata, int r, const Error *error) {
        VmStart *s = userdata;
        Vm *vm = s->vm;
        uint16_t old = vm->record.ssh_port, port = s->port;

        s->port = 0;
        if (r < 0)
                manager_drop_port(vm, port);
        else {
                manager_settle_port(vm, port);
                (void)vm_warn(vm, MESSAGE_VM_PORT_CHANGED,
                                "SSH port %u was taken by another program, so it is now %u", old, port);
                vm_changed(vm, VM_CHANGE_SPEC);
        }
        if (s->step == START_FAILING)
                complete(s);
        else if (r < 0)
                vm_start_fail(s, error);
        else
                launch(s);
}

static const RecordChange port_change = { .format = format_port, .done = on_port_written };

/* 1: it is as it should be; 0: another one is being written down. */
static int secure_port(VmStart *s, Error **reterr) {
        Vm *vm = s->vm;
        int r;

        if (vm->record.spec.network != VM_NETWORK_USER || !manager_port_is_taken(vm))
                return 1;
        r = manager_pick_port(vm, &s->port, reterr);
        if (r < 0)
                return r;
        r = record_write(vm->stored, &port_change, s, reterr);
        if (r < 0) {
                manager_drop_port(vm, s->port);
                s->port = 0;
        }
        return r;
}

static int make_launch(VmStart *s, Launch **ret, Error **reterr) {
        Manager *m = s->vm->manager;
        _cleanup_close_ int folder = openat(
                        m->vms_fd, vm_name(s->vm), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        const LaunchInput in = {
                .config = &m->core->config,
                .record = &s->vm->record,
                .host = m->host,
                .folder_fd = folder,
                .runtime_fd = m->core->runtime_fd,
                .kvm = s->kvm,
                .network = s->network,
        };

        if (folder < 0)
                return error_set_errno(reterr, -errno, "Cannot open the folder of VM '%s'", vm_name(s->vm));
        return launch_new(&in, ret, reterr);
}

static int watch_scope(VmStart *s) {
        return systemd_watch_scope(s->vm->manager->systemd, s->vm->unit, false, &s->vm->scope_watch);
}

static int make_scope(VmStart *s) {
        Manager *m = s->vm->manager;
        const ScopeSpec spec = {
                .unit = s->vm->unit,
                .shim = process_shim_id(s->vm->process),
                .limits = vm_limits_resolve(&s->vm->record.spec, !s->kvm),
                .kvm = s->kvm,
                /* PID 1 kills when this is over: after our own SIGTERM and SIGKILL. */
                .stop_timeout = m->core->config.stop_timeout + 10 * USEC_PER_SEC,
        };
        int r;

        r = watch_scope(s);
        return r < 0 ? r : systemd_start_scope(m->systemd, &spec, on_scope, s, &s->scope_job);
}

static void forget_last_run(Vm *vm) {
        VmChange state = vm->failure != VM_FAILURE_NONE ? VM_CHANGE_STATE : 0;

        vm->failure = VM_FAILURE_NONE;
        free(TAKE_PTR(vm->failure_message));
        free(TAKE_PTR(vm->shutdown_reason));
        free(TAKE_PTR(vm->status));
        vm->came_up = vm->ending = vm->killed = vm->panicked = vm->internal_error = false;
        vm->limits_changing = false;
        vm->resets = vm->io_errors = 0;
        vm->warnings = strv_free(vm->warnings);
        vm_changed(vm, state | VM_CHANGE_COUNTERS | VM_CHANGE_WARNINGS);
}

static void launch(VmStart *s) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = s->vm;
        Launch *l;
        int r;

        r = host_check_qemu(vm->manager->host, &e);
        if (r >= 0)
                r = choose_accelerator(s, &e);
        if (r >= 0)
                r = choose_network(s, &e);
        if (r >= 0)
                r = make_launch(s, &l, &e);
        if (r < 0) {
                vm_start_fail(s, e);
                return;
        }
        s->vnc_fd = TAKE_FD(l->vnc_fd);
        s->grow_to = l->grow_to;
        vm->kvm = s->kvm;
        vm->network = s->network;
        s->step = START_SCOPE;
        r = process_launch(vm->manager->core->event, vm->manager->core->launcher, l, vm->unit, START_TIMEOUT,
                        &vm_process_handlers, vm, &vm->process, &e);
        if (r < 0) {
                vm_start_fail(s, e);
                return;
        }
        vm->ever_started = true;
        r = make_scope(s); /* which the launcher comes to when it has executed the shim */
        if (r < 0)
                fail(s, r, "Cannot ask systemd for a scope");
        else
                vm_changed(vm, VM_CHANGE_PROCESS);
}

static void step(VmStart *s) {
        _cleanup_error_ Error *e = NULL;
        Vm *vm = s->vm;
        int r;

        if (s->step == START_HOST) {
                r = host_ensure(vm->manager->host, on_host, s);
                if (r < 0) {
                        fail(s, r, "Cannot ask QEMU for its version");
                        return;
                }
                if (r == 0)
                        return;
                s->step = START_SCOPE_FREE;
        }
        if (s->step == START_SCOPE_FREE) {
                r = vm->unattached && !vm->scope_watch ? watch_scope(s) : 0;
                if (r < 0) {
                        fail(s, r, "Cannot watch the VM's scope");
                        return;
                }
                if (vm->scope_watch) { /* of the last run, perhaps; PID 1 is about to collect it */
                        systemd_clear_scope(vm->scope_watch);
                        return;
                }
                s->step = START_PORT;
        }
        if (s->step == START_PORT) {
                /* What runs must be what is shown of it: a change that is on its way to the disk comes
                 * first. */
                if (vm_update_is_written(vm))
                        return;
                forget_last_run(vm);
                r = secure_port(s, &e);
                if (r < 0) {
                        vm_start_fail(s, e);
                        return;
                }
                s->step = START_LAUNCH;
                if (r > 0)
                        launch(s);
        } else if (s->step == START_SCOPE) { /* the one that was in the way is gone */
                r = make_scope(s);
                if (r < 0)
                        fail(s, r, "Cannot ask systemd for a scope");
        }
}

/* One of the last run may go while we wait for something else. */
void vm_start_scope_free(VmStart *s) {
        if (s->step == START_SCOPE_FREE || s->step == START_SCOPE)
                step(s);
}

void vm_start_updated(Manager *m, const char *uuid) {
        VmStart *s = (VmStart *)operation_find(&m->core->operations, uuid, 1U << OPERATION_START);

        if (s && s->step == START_PORT)
                step(s);
}

void vm_start_scope_in_use(VmStart *s, pid_t pid, const char *command) {
        _cleanup_free_ char *shown = string_escape(command, strlen(command), COMMAND_SHOWN_MAX);
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_SCOPE_FAILED, "'%s' is there already, with process %i in it: %s",
                        s->vm->unit, (int)pid, shown ?: "");
        vm_start_fail(s, e);
}

static void answered(VmStart *s, int r, const Error *error, size_t call) {
        s->calls[call] = NULL;
        if (r == -ECONNRESET)
                return; /* QEMU is about to be gone, or the deadline passes */
        if (r < 0)
                vm_start_fail(s, error);
}

static void on_fd(void *userdata, int r, const Json *result, const Error *error) {
        answered(userdata, r, error, 0);
}

static void on_display(void *userdata, int r, const Json *result, const Error *error) {
        answered(userdata, r, error, 1);
}

/* The disk has grown, whatever happens to the start. When that cannot be noted the next one finds out. */
typedef struct Growth {
        Vm *vm; /* borrowed: its record is, too */
        uint64_t size;
} Growth;

static int format_growth(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const Growth *g = userdata;
        VmRecord record = g->vm->record; /* of which nothing is owned */

        record.disk_size = g->size;
        return vm_record_format(&record, ret, ret_len);
}

static void on_size_written(void *userdata, int r, const Error *error) {
        _cleanup_free_ Growth *g = userdata;

        if (r >= 0)
                g->vm->record.disk_size = g->size;
        else if (error_code(error) != ERROR_CANCELED)
                (void)vm_warn(g->vm, NULL, "That its disk has grown could not be noted: %s",
                                error_message(error));
}

static void note_size(Vm *vm, uint64_t size) {
        static const RecordChange change = { .format = format_growth, .done = on_size_written };
        Growth *g = malloc(sizeof(Growth));

        if (!g)
                return;
        *g = (Growth){ vm, size };
        if (record_write(vm->stored, &change, g, NULL) < 0)
                free(g);
}

static void on_resized(void *userdata, int r, const Json *result, const Error *error) {
        VmStart *s = userdata;

        if (r >= 0)
                note_size(s->vm, s->grow_to);
        answered(s, r, error, 2);
}

static void on_continued(void *userdata, int r, const Json *result, const Error *error) {
        answered(userdata, r, error, 3);
}

/* QEMU answers in order, so this is the last reply. */
static void on_status(void *userdata, int r, const Json *result, const Error *error) {
        const char *status = qmp_word(result, "status");
        VmStart *s = userdata;
        Vm *vm = s->vm;

        answered(s, r, error, 4);
        if (r < 0 || s->step == START_FAILING)
                return;
        vm->came_up = true;
        vm_note_status(vm, *status ? status : "running");
        /* What is not noted as complete is undone after a crash, so nobody may be told that it is. */
        r = vm_save_run_state(vm);
        if (r < 0) {
                vm->came_up = false;
                fail(s, r, "Cannot note in the runtime folder that the VM runs");
                return;
        }
        complete(s);
}

static int call(VmStart *s, size_t i, const char *command, const char *arguments, qmp_reply_t reply) {
        return qmp_call(process_monitor(s->vm->process), command, arguments, CALL_TIMEOUT, reply, s,
                        &s->calls[i]);
}

static int hand_over_display(VmStart *s) {
        int r;

        r = qmp_call_fd(process_monitor(s->vm->process), "getfd", "{\"fdname\":\"vnc\"}", TAKE_FD(s->vnc_fd),
                        CALL_TIMEOUT, on_fd, s, &s->calls[0]);
        if (r < 0)
                return r;
        return call(s, 1, "display-update",
                        "{\"type\":\"vnc\",\"addresses\":[{\"type\":\"fd\",\"str\":\"vnc\"}]}", on_display);
}

/* The guest must not see the disk before it has its size: QEMU was started paused. */
static int grow_disk(VmStart *s) {
        _cleanup_free_ char *arguments = strf(
                        "{\"node-name\":\"disk\",\"size\":%llu}", (unsigned long long)s->grow_to);
        int r;

        r = arguments ? call(s, 2, "block_resize", arguments, on_resized) : -ENOMEM;
        return r < 0 ? r : call(s, 3, "cont", NULL, on_continued);
}

/* All in one go, which QEMU takes when it has built the machine. */
static int command_qemu(VmStart *s) {
        int r = 0;

        if (!process_monitor(s->vm->process))
                return -ENOTCONN;
        if (s->vnc_fd >= 0)
                r = hand_over_display(s);
        if (r >= 0 && s->grow_to > 0)
                r = grow_disk(s);
        return r < 0 ? r : call(s, 4, "query-status", NULL, on_status);
}

void vm_start_executed(VmStart *s) {
        int r;

        if (s->step != START_EXECUTE)
                return;
        s->step = START_STATUS;
        s->vm->came_up = false;
        vm_save_run_state(s->vm);
        vm_changed(s->vm, VM_CHANGE_PROCESS);
        r = command_qemu(s);
        if (r < 0)
                fail(s, r, "Cannot talk to QEMU");
}

static int begin(Vm *vm, uid_t requester, Operation *parent, VmStart **ret, Error **reterr) {
        const OperationSpec spec = vm_operation(vm, requester, parent);
        Operation *op;
        VmStart *s;
        int r;

        r = operation_new(&vm->manager->core->operations, &start_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        s = (VmStart *)op;
        s->manager = vm->manager;
        s->vm = vm;
        s->vnc_fd = -EBADF;
        r = set_deadline(s, START_TIMEOUT);
        if (r < 0) {
                r = error_set_errno(reterr, r, "Cannot start VM '%s'", vm_name(vm));
                operation_drop(op, reterr);
                return r;
        }
        *ret = s;
        return 0;
}

int vm_start_for(Vm *vm, uid_t requester, Operation *parent, waiter_t done, void *userdata, Error **reterr) {
        Operation *same;
        VmStart *s;
        int r;

        r = operation_admit(&vm->manager->core->operations, OPERATION_START, vm->record.uuid, vm_name(vm),
                        &same, reterr);
        if (r > 0)
                return parent ? operation_wait(same, parent, done, userdata, reterr)
                              : operation_join(same, requester, done, userdata, reterr);
        if (r >= 0 && vm->process && vm->ending)
                r = error_set(reterr, ERROR_INVALID_STATE, "VM '%s' cannot be started while it is %s",
                                vm_name(vm), vm_state_to_string(vm_state(vm)));
        if (r >= 0 && vm->process && process_qemu_is_gone(vm->process))
                r = error_set(reterr, ERROR_INVALID_STATE,
                                "VM '%s' cannot be started yet: its QEMU has just ended", vm_name(vm));
        if (r < 0)
                return r;
        if (vm->process) {
                if (done)
                        done(userdata, 0, NULL);
                return 0;
        }
        r = begin(vm, requester, parent, &s, reterr);
        if (r < 0)
                return r;
        r = operation_wait(&s->op, parent, done, userdata, reterr);
        if (r < 0) {
                operation_drop(&s->op, reterr);
                return r;
        }
        vm->start = s;
        vm_changed(vm, 0);
        step(s);
        return 0;
}

int vm_start(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        return vm_start_for(vm, requester, NULL, done, userdata, reterr);
}
