/* SPDX-License-Identifier: GPL-2.0-or-later */
/* After a restart: what an earlier instance noted in /run is compared with what is really there. A QEMU that
 * lives is taken over, with the operation that was under way; of one that has ended the reason is found out;
 * none is ever killed or started for it. */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"

#define RUN_STATE_MAX (64 * KIB)

static int read_document(int folder, const char *file, Json **ret) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = read_file_at(folder, file, RUN_STATE_MAX, &text, &len);
        return r < 0 ? r : json_parse(text, len, NULL, ret, NULL);
}

static void load_history(Vm *vm, const Json *doc) {
        const Json *warnings = json_get(doc, "warnings");
        uint64_t n;

        (void)json_get_unsigned(doc, "started-at", &vm->started_at);
        (void)json_get_unsigned(doc, "state-changed-at", &vm->state_changed_at);
        (void)free_and_strdup(&vm->shutdown_reason, json_get_string(doc, "shutdown-reason"));
        if (json_get_unsigned(doc, "resets", &n) >= 0)
                vm->resets = (uint32_t)n;
        if (json_get_unsigned(doc, "io-errors", &n) >= 0)
                vm->io_errors = (uint32_t)n;
        for (size_t i = 0; i < json_length(warnings); i++)
                (void)strv_extend(&vm->warnings, json_string(json_element(warnings, i)) ?: "");
}

static void load_end(Vm *vm, const Json *doc) {
        VmFailure failure = vm_failure_from_string(json_get_string(doc, "failure"));

        load_history(vm, doc);
        if ((int)failure > VM_FAILURE_NONE) {
                vm->failure = failure;
                (void)free_and_strdup(&vm->failure_message, json_get_string(doc, "message"));
        }
}

static int identity_from(const Json *doc, ProcessIdentity *ret) {
        uint64_t shim, qemu, started;

        if (json_get_unsigned(doc, "shim-pid", &shim) < 0 || json_get_unsigned(doc, "qemu-pid", &qemu) < 0 ||
                        json_get_unsigned(doc, "shim-started", &started) < 0 || shim < 2 ||
                        shim > INT32_MAX || qemu > INT32_MAX)
                return -EBADMSG;
        *ret = (ProcessIdentity){
                .shim_pid = (pid_t)shim, .qemu_pid = (pid_t)qemu, .shim_started = started
        };
        return 0;
}

/* Operations of the earlier instance go on where it left off. */
static void continue_operations(Vm *vm, const Json *doc) {
        _cleanup_error_ Error *e = NULL;
        uint64_t deadline = 0;
        int r = 0;

        if (json_get_boolean(doc, "removing") == 1)
                r = vm_remove(vm, NULL, NULL, &e);
        else if (json_get_boolean(doc, "ending") == 1)
                vm_end_process(vm);
        else if (json_get_unsigned(doc, "stop-deadline", &deadline) >= 0 && deadline > 0)
                r = vm_stop_continue(vm, deadline);
        if (r < 0)
                log_at(LOG_WARNING, vm_name(vm), NULL, "Cannot go on with what was under way: %s",
                                error_message(e));
}

/* Whoever wanted the start has got no answer, and some of what makes it complete died with the earlier
 * instance. */
static void undo_start(Vm *vm) {
        log_at(LOG_WARNING, vm_name(vm), NULL,
                        "The service ended while the VM started: the start is undone");
        vm_end_process(vm);
        systemd_kill_scope(vm->manager->systemd, vm->unit); /* QEMU's PID may not be known yet */
}

static int attach(Vm *vm, const Json *doc, int folder, int monitor_fd) {
        Manager *m = vm->manager;
        ProcessIdentity id;
        const char *status;
        int r;

        r = identity_from(doc, &id);
        if (r < 0) {
                safe_close(monitor_fd);
                return r;
        }
        r = process_attach(
                        m->event, &id, vm->unit, monitor_fd, folder, &vm_process_handlers, vm, &vm->process);
        if (r < 0)
                return r;
        r = systemd_watch_scope(m->systemd, vm->unit, true, &vm->scope_watch);
        if (r < 0)
                return r;
        vm->kvm = json_get_boolean(doc, "kvm") == 1;
        vm->came_up = json_get_boolean(doc, "came-up") == 1;
        vm->panicked = json_get_boolean(doc, "panicked") == 1;
        load_history(vm, doc);
        status = json_get_string(doc, "status");
        (void)free_and_strdup(&vm->status, status);
        vm->announced = vm_state(vm);
        if (vm->came_up)
                continue_operations(vm, doc);
        else
                undo_start(vm);
        return 0;
}

void vm_attach(Vm *vm, int monitor_fd) {
        _cleanup_close_ int monitor = monitor_fd;
        _cleanup_free_ char *log = strf("%s/console.log", vm_name(vm));
        _cleanup_close_ int folder = openat(vm->manager->runtime_fd, vm_name(vm),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_json_ Json *run = NULL, *end = NULL;
        int r;

        vm->state_changed_at = vm->record.created;
        vm->ever_started = log && faccessat(vm->manager->vms_fd, log, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
        if (folder >= 0 && read_document(folder, "run.json", &run) >= 0) {
                r = attach(vm, run, folder, TAKE_FD(monitor));
                if (r < 0)
                        log_at(LOG_ERR, vm_name(vm), NULL, "Cannot take over the running QEMU: %s",
                                        strerror(-r));
        } else if (folder >= 0 && read_document(folder, "end.json", &end) >= 0)
                load_end(vm, end);
        vm->announced = vm_state(vm);
}
