/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What QEMU tells of a VM, and what follows from it: the table of QMP events, the run state, the end. */
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "core/message-ids.h"
#include "host/fd-store.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-guest.h"

#define QUERY_TIMEOUT (10 * USEC_PER_SEC)
#define LINGER_TIMEOUT (3 * USEC_PER_SEC) /* from SIGKILL until the whole scope gets one */
#define LAST_WORDS_MAX 512
#define QEMU_LOG_READ_MAX (128 * KIB)

static void tell(Vm *vm, const char *name, VmEventField a, VmEventField b, VmEventField c, VmEventField d) {
        const VmEvent event = { name, { a, b, c, d } };

        vm->manager->hooks->vm_event(vm->manager, vm, &event);
}

static VmEventField text(const char *key, const char *value) {
        return (VmEventField){ .key = key, .string = value };
}
static VmEventField flag(const char *key, bool value) {
        return (VmEventField){ .key = key, .boolean = value };
}
static const VmEventField none;

/* QEMU says why it ends once, and nothing else tells it after a crash of ours: noted before all else. */
static void on_shutdown(Vm *vm, const Json *data) {
        (void)free_and_strdup(&vm->shutdown_reason, qmp_word(data, "reason"));
        (void)vm_save_run_state(vm);
        vm_changed(vm, VM_CHANGE_COUNTERS);
        tell(vm, "shutdown", flag("guest", json_get_boolean(data, "guest") == 1),
                        text("reason", qmp_word(data, "reason")), none, none);
}

static void on_reset(Vm *vm, const Json *data) {
        vm->resets++;
        vm_changed(vm, VM_CHANGE_COUNTERS);
        tell(vm, "reset", flag("guest", json_get_boolean(data, "guest") == 1),
                        text("reason", qmp_word(data, "reason")), none, none);
}

static void on_panicked(Vm *vm, const Json *data) {
        vm->panicked = true;
        (void)vm_save_run_state(vm);
        tell(vm, "guest-panicked", text("action", qmp_word(data, "action")), none, none, none);
}

static void on_crashloaded(Vm *vm, const Json *data) {
        tell(vm, "guest-crashloaded", text("action", qmp_word(data, "action")), none, none, none);
}

/* Disks have their names from people. */
static const char *device_name(const Json *data) {
        const char *name = json_get_string(data, "node-name");

        return name && vm_name_is_valid(name) ? name : qmp_word(data, "node-name");
}

static void on_io_error(Vm *vm, const Json *data) {
        bool nospace = json_get_boolean(data, "nospace") == 1;

        vm->io_errors++;
        if (nospace)
                (void)vm_warn(vm, MESSAGE_VM_DISK_FULL,
                                "The host's disk is full: the guest was paused; free some space, then "
                                "resume it");
        else
                (void)vm_warn(vm, MESSAGE_VM_IO_ERROR, "Device '%s' had an I/O error (%s)",
                                device_name(data), qmp_word(data, "operation"));
        vm_changed(vm, VM_CHANGE_COUNTERS);
        tell(vm, "io-error", text("device", device_name(data)),
                        text("operation", qmp_word(data, "operation")),
                        text("action", qmp_word(data, "action")),
                        text("reason", nospace ? "nospace" : "other"));
}

static void on_watchdog(Vm *vm, const Json *data) {
        (void)vm_warn(vm, NULL, "The guest's watchdog expired (%s)", qmp_word(data, "action"));
        tell(vm, "watchdog", text("action", qmp_word(data, "action")), none, none, none);
}

static void on_stop(Vm *vm, const Json *data) {
        vm_query_status(vm);
        tell(vm, "stop", none, none, none, none);
}

static void on_resume(Vm *vm, const Json *data) {
        vm_query_status(vm);
        tell(vm, "resume", none, none, none, none);
}

static void on_suspend(Vm *vm, const Json *data) {
        vm_query_status(vm);
        tell(vm, "suspend", none, none, none, none);
}

static void on_wakeup(Vm *vm, const Json *data) {
        vm_query_status(vm);
        tell(vm, "wakeup", none, none, none, none);
}

static void on_powerdown(Vm *vm, const Json *data) {
        tell(vm, "powerdown", none, none, none, none);
}

static void on_memory_failure(Vm *vm, const Json *data) {
        (void)vm_warn(vm, NULL, "The host reported a memory error (%s)", qmp_word(data, "action"));
        tell(vm, "memory-failure", text("action", qmp_word(data, "action")), none, none, none);
}

/* When all is being ended that is nothing to tell. */
void vm_passt_ended(Vm *vm) {
        if (!vm->ending)
                (void)vm_warn(vm, MESSAGE_VM_NETWORK_LOST,
                                "passt, which carried the VM's network, has ended: the guest is without one "
                                "until the VM is stopped and started again");
}

static void on_netdev_disconnected(Vm *vm, const Json *data) {
        vm_passt_ended(vm);
}

static const struct {
        const char *name;
        void (*handle)(Vm *vm, const Json *data);
} event_table[] = {
        { "BLOCK_IO_ERROR", on_io_error },
        { "GUEST_CRASHLOADED", on_crashloaded },
        { "GUEST_PANICKED", on_panicked },
        { "MEMORY_FAILURE", on_memory_failure },
        { "NETDEV_STREAM_DISCONNECTED", on_netdev_disconnected },
        { "POWERDOWN", on_powerdown },
        { "RESET", on_reset },
        { "RESUME", on_resume },
        { "SHUTDOWN", on_shutdown },
        { "STOP", on_stop },
        { "SUSPEND", on_suspend },
        { "WAKEUP", on_wakeup },
        { "WATCHDOG", on_watchdog },
};

static void on_event(Process *p, const char *name, const Json *data, void *userdata) {
        for (size_t i = 0; i < ELEMENTSOF(event_table); i++)
                if (streq(event_table[i].name, name)) {
                        event_table[i].handle(userdata, data);
                        return;
                }
}

/* QEMU stays, with all vCPUs stopped for good, when the accelerator fails: nobody can do anything with it.
 */
static void fail_internally(Vm *vm) {
        vm->internal_error = true;
        tell(vm, "internal-error", none, none, none, none);
        vm_end_process(vm);
}

void vm_note_status(Vm *vm, const char *status) {
        if (streq_ptr(vm->status, status))
                return;
        (void)free_and_strdup(&vm->status, status);
        vm_changed(vm, VM_CHANGE_QMP);
        if (streq(status, "internal-error"))
                fail_internally(vm);
}

static void on_queried(void *userdata, int r, const Json *result, const Error *error) {
        const char *status = qmp_word(result, "status");
        Vm *vm = userdata;

        if (r < 0 || isempty(status))
                return; /* a connection that has ended is reported by itself */
        if (!streq(status, "prelaunch") && !vm->start)
                vm->came_up = true;
        vm_note_status(vm, status);
        vm_save_run_state(vm);
}

void vm_query_status(Vm *vm) {
        if (process_monitor(vm->process))
                (void)qmp_call(process_monitor(vm->process), "query-status", NULL, QUERY_TIMEOUT, on_queried,
                                vm, NULL);
}

int vm_set_not_attached(const Vm *vm, Error **reterr) {
        return error_set(reterr, ERROR_NOT_ATTACHED,
                        "VM '%s' runs, but cannot be commanded: somebody else is connected to its qmp.sock",
                        vm_name(vm));
}

static void on_launched(Process *p, void *userdata) {
        Vm *vm = userdata;

        if (vm->start)
                vm_start_launched(vm->start);
}

static void on_executed(Process *p, void *userdata) {
        Vm *vm = userdata;

        if (vm->start)
                vm_start_executed(vm->start);
}

static void on_launch_failed(Process *p, const Error *error, void *userdata) {
        Vm *vm = userdata;

        if (vm->start)
                vm_start_fail(vm->start, error);
}

static void on_image_modified(Process *p, const char *path, void *userdata) {
        (void)vm_warn(userdata, MESSAGE_VM_IMAGE_CHANGED,
                        "The image '%s' has changed since the VM was created: the VM's overlay may not fit "
                        "its "
                        "base any more",
                        path);
}

static void on_ready(Process *p, void *userdata) {
        Vm *vm = userdata;

        vm_changed(vm, VM_CHANGE_PROCESS);
        if (vm->start) /* what it asks for is under way */
                return;
        fd_store_push(vm_name(vm), process_monitor_fd(p));
        vm_query_status(vm);
}

static void on_lost(Process *p, const Error *error, void *userdata) {
        Vm *vm = userdata;

        fd_store_remove(vm_name(vm));
        vm_changed(vm, VM_CHANGE_PROCESS);
        if (!error) { /* the usual end; the process's follows */
                if (vm->start)
                        vm_start_monitor_closed(vm->start);
                return;
        }
        if (vm->start)
                vm_start_fail(vm->start, error);
        else
                (void)vm_warn(vm, NULL, "The connection to QEMU is lost: %s", error_message(error));
}

char *vm_last_words(const Vm *vm) {
        _cleanup_free_ char *path = strf("%s/qemu.log", vm_name(vm)), *log = NULL, *shown = NULL;
        size_t len, start;

        if (!path || read_file_at(vm->manager->core->runtime_fd, path, QEMU_LOG_READ_MAX, &log, &len) < 0)
                return NULL;
        while (len > 0 && (log[len - 1] == '\n' || log[len - 1] == '\r'))
                log[--len] = '\0';
        /* QEMU says what is wrong in its last line; what comes before is warnings. */
        start = len > 0 ? (size_t)((char *)(memrchr(log, '\n', len) ?: log - 1) + 1 - log) : 0;
        shown = string_escape(log + start, len - start, LAST_WORDS_MAX);
        if (isempty(shown))
                return NULL;
        return TAKE_PTR(shown);
}

/* Why it ended, in the order of what tells most. */
static void conclude(Vm *vm, const ProcessEnd *end) {
        _cleanup_free_ char *words = vm_last_words(vm), *message = NULL;
        const char *said = words ?: "it said nothing";

        if (vm->panicked)
                vm_set_failure(vm, VM_FAILURE_GUEST_PANIC,
                                "The guest's kernel panicked; see its console log");
        else if (vm->internal_error)
                vm_set_failure(vm, VM_FAILURE_INTERNAL_ERROR,
                                "The accelerator could not go on with the guest (QEMU's run state "
                                "internal-error)");
        else if (end->oom)
                vm_set_failure(vm, VM_FAILURE_OOM,
                                "The VM needed more memory than its memory-max and was killed");
        else if (vm->ending || process_qemu_pid(vm->process) == 0 ||
                        (end->known && !end->signaled && end->code == 0) ||
                        (!end->known && vm->shutdown_reason)) /* QEMU itself has told why */
                vm_set_failure(vm, VM_FAILURE_NONE, NULL);
        else if (!end->known)
                vm_set_failure(vm, VM_FAILURE_SIGNAL,
                                "QEMU has ended, and how is not known: its shim had been killed, or did not "
                                "answer");
        else if (end->signaled) {
                message = strf("QEMU was killed by signal %i (%s): %s", end->code,
                                sigdescr_np(end->code) ?: "unknown", said);
                vm_set_failure(vm, VM_FAILURE_SIGNAL, message);
        } else {
                message = strf("QEMU exited with status %i: %s", end->code, said);
                vm_set_failure(vm, VM_FAILURE_EXIT_CODE, message);
        }
}

static void on_shim_lost(Process *p, void *userdata) {
        (void)vm_warn(userdata, MESSAGE_VM_SHIM_LOST, "The VM's shim was killed, so its console is cut off");
}

static void on_shim_silent(Process *p, void *userdata) {
        Vm *vm = userdata;

        vm_log(LOG_WARNING, vm, NULL,
                        "QEMU has ended and its shim does not answer: what is left of %s is killed",
                        vm->unit);
        systemd_kill_scope(vm->manager->systemd, vm->unit);
}

static void on_ended(Process *p, const ProcessEnd *end, void *userdata) {
        Vm *vm = userdata;

        vm->linger = sd_event_source_disable_unref(vm->linger);
        fd_store_remove(vm_name(vm));
        if (!vm->start)
                conclude(vm, end);
        /* Not executed, or not known to be. */
        if (process_qemu_pid(p) == 0 && vm->scope_watch)
                systemd_end_scope(vm->scope_watch);
        /* Without the shim nobody ends what ran beside QEMU, if it does not do so by itself. */
        else if (!end->known && vm->network == NETWORK_BACKEND_PASST)
                systemd_kill_scope(vm->manager->systemd, vm->unit);
        vm_commands_end(vm);
        vm->left_session = process_shim_pid(p);
        vm->process = process_free(vm->process);
        if (vm->start) /* what it failed of is known there */
                vm_start_process_ended(vm->start, end);
        vm->ending = vm->killed = false;
        free(TAKE_PTR(vm->status));
        vm_changed(vm, VM_CHANGE_PROCESS | VM_CHANGE_QMP);
        vm_save_end(vm);
        vm_stop_finished(vm);
        vm_guests_end(vm);
        vm_flush(vm);
        if (vm->removal)
                vm_removal_process_ended(vm->removal); /* may free the VM */
}

const ProcessHandlers vm_process_handlers = {
        .launched = on_launched,
        .executed = on_executed,
        .launch_failed = on_launch_failed,
        .image_modified = on_image_modified,
        .monitor_ready = on_ready,
        .monitor_event = on_event,
        .monitor_lost = on_lost,
        .shim_silent = on_shim_silent,
        .shim_lost = on_shim_lost,
        .ended = on_ended,
};

static int on_linger(sd_event_source *s, uint64_t usec, void *userdata) {
        Vm *vm = userdata;

        vm->linger = sd_event_source_disable_unref(vm->linger);
        systemd_kill_scope(vm->manager->systemd, vm->unit);
        return 0;
}

void vm_end_process(Vm *vm) {
        int r;

        if (!vm->process)
                return;
        if (!vm->killed) {
                vm->ending = vm->killed = true;
                vm_save_run_state(vm);
                vm_changed(vm, 0);
        }
        r = process_signal(vm->process, SIGKILL);
        if (r < 0 && r != -ESRCH)
                log_warning_errno(r, "Cannot kill QEMU of VM '%s': %m", vm_name(vm));
        if (!vm->linger)
                (void)sd_event_add_time_relative(vm->manager->core->event, &vm->linger, CLOCK_MONOTONIC,
                                LINGER_TIMEOUT, 0, on_linger, vm);
}

int vm_set_hangs(Vm *vm, Error **reterr) {
        pid_t pid = process_qemu_pid(vm->process);

        if (pid == 0)
                pid = process_shim_pid(vm->process);
        (void)vm_warn(vm, NULL, "Its process %i was killed and does not end: it hangs in the kernel",
                        (int)pid);
        return error_set(reterr, ERROR_QEMU_HANGS,
                        "VM '%s' was killed, but its process %i does not end: it hangs in the kernel",
                        vm_name(vm), (int)pid);
}

/* The shim hands the rest of the log to slow readers, while the run is over. It leads a session, with all
 * that it executed in it, and no other can have its number before the last of these is gone. A service that
 * was restarted knows a shim by its command. */
static bool is_left_over(const Vm *vm, pid_t pid, const char *command) {
        if (vm->unattached)
                return false;
        return (vm->left_session > 0 && getsid(pid) == vm->left_session) ||
                        startswith(command, VMCTL_HELPER_DIR "/vmctl-shim");
}

/* If it is somebody else's it is no longer, or never was, ours. */
void vm_scope_in_use(Vm *vm, pid_t pid, const char *command) {
        if (!vm->start && !vm->removal)
                return;
        if (is_left_over(vm, pid, command)) {
                systemd_end_scope(vm->scope_watch);
                return;
        }
        vm->scope_watch = systemd_unwatch_scope(vm->scope_watch);
        if (vm->start)
                vm_start_scope_in_use(vm->start, pid, command);
        if (vm->removal)
                vm_removal_scope_free(vm->removal); /* may free the VM */
}

void vm_scope_removed(Vm *vm) {
        vm->scope_watch = systemd_unwatch_scope(vm->scope_watch);
        vm->left_session = 0;
        vm->unattached = false;
        if (vm->start)
                vm_start_scope_free(vm->start);
        if (vm->removal)
                vm_removal_scope_free(vm->removal); /* may free the VM */
}
