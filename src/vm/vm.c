/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

#include "core/message-ids.h"
#include "manager.h"
#include "util/log.h"
#include "vm.h"

#define WARNINGS_MAX 32 /* a broken QEMU could have us warn of ever new things */

static const char *const vm_state_table[] = {
        [VM_PREPARING] = "preparing",
        [VM_PREPARED] = "prepared",
        [VM_STARTING] = "starting",
        [VM_RUNNING] = "running",
        [VM_SUSPENDED] = "suspended",
        [VM_STOPPING] = "stopping",
        [VM_STOPPED] = "stopped",
        [VM_FAILED] = "failed",
};
DEFINE_STRING_TABLE(vm_state, VmState, _VM_STATE_MAX);

static const char *const network_backend_table[_NETWORK_BACKEND_MAX] = {
        [NETWORK_BACKEND_NONE] = "none",
        [NETWORK_BACKEND_SLIRP] = "slirp",
        [NETWORK_BACKEND_PASST] = "passt",
};
DEFINE_STRING_TABLE(network_backend, NetworkBackend, _NETWORK_BACKEND_MAX);

static const char *const vm_failure_table[] = {
        [VM_FAILURE_NONE] = "",
        [VM_FAILURE_EXIT_CODE] = "exit-code",
        [VM_FAILURE_SIGNAL] = "signal",
        [VM_FAILURE_OOM] = "oom",
        [VM_FAILURE_GUEST_PANIC] = "guest-panic",
        [VM_FAILURE_INTERNAL_ERROR] = "internal-error",
        [VM_FAILURE_TIMEOUT] = "timeout",
        [VM_FAILURE_QMP] = "qmp",
};
DEFINE_STRING_TABLE(vm_failure, VmFailure, _VM_FAILURE_MAX);

void vm_place_done(VmPlace *place) {
        record_name_free(place->name);
        charge_release(&place->charge);
        *place = (VmPlace){};
}

int vm_new(Manager *manager, VmRecord *record, VmPlace *place, Vm **ret) {
        _cleanup_(vm_freep) Vm *vm = malloc(sizeof(Vm));

        if (!vm) {
                vm_record_done(record);
                vm_place_done(place);
                return -ENOMEM;
        }
        *vm = (Vm){ .manager = manager, .record = *record, .place = *place };
        *record = (VmRecord){};
        *place = (VmPlace){};
        vm->unit = strf("vmctl-%s.scope", vm_name(vm));
        if (!vm->unit)
                return -ENOMEM;
        vm->announced = _VM_STATE_INVALID;
        *ret = TAKE_PTR(vm);
        return 0;
}

Vm *vm_free(Vm *vm) {
        if (!vm)
                return NULL;
        record_free(vm->stored);
        process_free(vm->process);
        systemd_unwatch_scope(vm->scope_watch);
        sd_event_source_disable_unref(vm->linger);
        vm_place_done(&vm->place);
        charge_release(&vm->port);
        vm_record_done(&vm->record);
        free(vm->unit);
        free(vm->status);
        free(vm->failure_message);
        free(vm->shutdown_reason);
        strv_free(vm->warnings);
        free(vm);
        return NULL;
}

VmState vm_state(const Vm *vm) {
        if (vm->make)
                return VM_PREPARING;
        if (vm->process && (vm->stop || vm->ending || vm->removal))
                return VM_STOPPING;
        if (vm->start || (vm->process && !vm->came_up))
                return VM_STARTING;
        if (vm->process)
                return !vm->status || streq(vm->status, "running") ? VM_RUNNING : VM_SUSPENDED;
        if (vm->failure != VM_FAILURE_NONE)
                return VM_FAILED;
        return vm->ever_started ? VM_STOPPED : VM_PREPARED;
}

static uint64_t now_realtime(void) {
        struct timespec ts;

        clock_gettime(CLOCK_REALTIME, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

void vm_changed(Vm *vm, VmChange what) {
        VmState state = vm_state(vm);

        if (state != vm->announced) {
                vm->announced = state;
                vm->state_changed_at = now_realtime();
                if (state == VM_STARTING)
                        vm->started_at = vm->state_changed_at;
                what |= VM_CHANGE_STATE;
                vm_log(LOG_DEBUG, vm, NULL, "State is now %s", vm_state_to_string(state));
        }
        vm->changes |= what;
        if (vm->changes)
                operations_schedule_flush(&vm->manager->core->operations);
}

/* Nobody is told what a restarted service would not know. */
void vm_flush(Vm *vm) {
        VmChange what;

        vm_changed(vm, 0);
        what = vm->changes;
        vm->changes = 0;
        if (what & (VM_CHANGE_STATE | VM_CHANGE_COUNTERS | VM_CHANGE_WARNINGS))
                vm_save_run_state(vm);
        if (what)
                vm->manager->hooks->vm_changed(vm->manager, vm, what);
}

LogSubject vm_log_subject(const Vm *vm, const char *message_id) {
        return (LogSubject){
                .vm_name = vm_name(vm),
                .vm_uuid = vm->record.uuid,
                .vm_owner = &vm->record.owner,
                .message_id = message_id,
        };
}

static const char *const failure_messages[_VM_FAILURE_MAX] = {
        [VM_FAILURE_EXIT_CODE] = MESSAGE_VM_EXIT_CODE,
        [VM_FAILURE_SIGNAL] = MESSAGE_VM_SIGNAL,
        [VM_FAILURE_OOM] = MESSAGE_VM_OOM,
        [VM_FAILURE_GUEST_PANIC] = MESSAGE_VM_GUEST_PANIC,
        [VM_FAILURE_INTERNAL_ERROR] = MESSAGE_VM_INTERNAL_ERROR,
        [VM_FAILURE_TIMEOUT] = MESSAGE_VM_TIMEOUT,
        [VM_FAILURE_QMP] = MESSAGE_VM_QMP,
};

void vm_set_failure(Vm *vm, VmFailure failure, const char *message) {
        vm->failure = failure;
        (void)free_and_strdup(&vm->failure_message, message);
        if (failure != VM_FAILURE_NONE)
                vm_log(LOG_WARNING, vm, failure_messages[failure], "VM failed (%s): %s",
                                vm_failure_to_string(failure), message);
        vm_changed(vm, VM_CHANGE_STATE);
}

int vm_warn(Vm *vm, const char *message_id, const char *format, ...) {
        char *text = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&text, format, ap);
        va_end(ap);
        if (r < 0)
                return -ENOMEM;
        vm_log(LOG_WARNING, vm, message_id, "%s", text);
        if (strv_contains(vm->warnings, text) || strv_length(vm->warnings) >= WARNINGS_MAX) {
                free(text);
                return 0;
        }
        r = strv_push(&vm->warnings, text);
        vm_changed(vm, VM_CHANGE_WARNINGS);
        return r;
}

OperationSpec vm_operation(const Vm *vm, uid_t requester, Operation *parent) {
        return (OperationSpec){
                .requester = requester,
                .target = JOB_TARGET_VM,
                .target_name = vm_name(vm),
                .target_uuid = vm->record.uuid,
                .target_owner = vm->record.owner,
                .parent = parent,
        };
}

char *vm_path(const Vm *vm, const char *file) {
        return strf("%s/vms/%s%s%s", vm->manager->core->config.state_dir, vm_name(vm), file ? "/" : "",
                        file ?: "");
}

char *vm_runtime_path(const Vm *vm, const char *file) {
        return strf("%s/%s/%s", vm->manager->core->config.runtime_dir, vm_name(vm), file);
}
