/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of a VM is noted for this boot: run.json while a QEMU runs, and end.json of how it ended. */
#include <fcntl.h>
#include <unistd.h>

#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"

/* /run is a tmpfs: writing there does not wait for a disk. */
static int write_runtime(Vm *vm, const char *file, JsonWriter *w) {
        _cleanup_close_ int folder = openat(vm->manager->core->runtime_fd, vm_name(vm),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = folder < 0 ? -errno : json_writer_finish(w, &text, &len);
        if (r >= 0)
                r = write_file_at(folder, file, text, len, 0600, 0);
        if (r < 0 && r != -ENOENT)
                log_warning_errno(r, "Cannot note the state of VM '%s' in '%s': %m", vm_name(vm), file);
        return r;
}

/* What clients are told of the run, so that a restarted service tells the same. */
static void put_history(JsonWriter *w, const Vm *vm) {
        json_put_unsigned(w, "started-at", vm->started_at);
        json_put_unsigned(w, "state-changed-at", vm->state_changed_at);
        json_put_string(w, "shutdown-reason", vm->shutdown_reason);
        json_put_unsigned(w, "resets", vm->resets);
        json_put_unsigned(w, "io-errors", vm->io_errors);
        json_write_key(w, "warnings");
        json_write_array(w);
        STRV_FOREACH(text, vm->warnings)
                json_write_string(w, *text);
        json_write_end(w);
}

int vm_save_run_state(Vm *vm) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        ProcessIdentity id;

        if (!vm->process || process_shim_pid(vm->process) == 0) /* what is not there yet ends with us */
                return 0;
        if (json_writer_new(0, &w) < 0)
                return -ENOMEM;
        process_identity(vm->process, &id);
        json_write_object(w);
        json_put_unsigned(w, "shim-pid", (uint64_t)id.shim_pid);
        json_put_unsigned(w, "shim-started", id.shim_started);
        json_put_unsigned(w, "qemu-pid", (uint64_t)id.qemu_pid);
        json_put_boolean(w, "kvm", vm->kvm);
        json_put_string(w, "network", network_backend_to_string(vm->network));
        json_put_boolean(w, "came-up", vm->came_up);
        json_put_boolean(w, "ending", vm->ending);
        json_put_boolean(w, "killed", vm->killed);
        json_put_boolean(w, "panicked", vm->panicked);
        json_put_boolean(w, "internal-error", vm->internal_error);
        json_put_boolean(w, "limits-changing", vm->limits_changing);
        json_put_boolean(w, "removing", vm->removal != NULL);
        if (vm->stop) {
                json_put_string(w, "stop-step", vm_stop_step_to_string(vm_stop_step(vm->stop)));
                json_put_unsigned(w, "stop-deadline", vm_stop_deadline(vm->stop));
        }
        json_put_string(w, "status", vm->status);
        put_history(w, vm);
        json_write_end(w);
        return write_runtime(vm, "run.json", w);
}

static int save_end(Vm *vm) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(0, &w) < 0)
                return -ENOMEM;
        json_write_object(w);
        json_put_string(w, "failure", vm_failure_to_string(vm->failure));
        json_put_string(w, "message", vm->failure_message);
        json_put_boolean(w, "removing", vm->removal != NULL);
        put_history(w, vm);
        json_write_end(w);
        return write_runtime(vm, "end.json", w);
}

void vm_save_end(Vm *vm) {
        _cleanup_free_ char *run = strf("%s/run.json", vm_name(vm));
        int r;

        r = save_end(vm);
        if (run)
                (void)unlinkat(vm->manager->core->runtime_fd, run, 0);
        if (r == -ENOSPC) /* there is the room of that now */
                (void)save_end(vm);
}

/* Of one that may run, and could not be taken over, earlier notes may say more than we know. */
void vm_save(Vm *vm) {
        if (vm->process)
                (void)vm_save_run_state(vm);
        else if (!vm->unattached)
                vm_save_end(vm);
}
