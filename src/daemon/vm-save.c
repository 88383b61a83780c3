/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What of a VM is on disk: vm.json (durable, written by a child because fsync() takes its time), and, for
 * this boot only, run.json while a QEMU runs and end.json of how it ended. */
#include <fcntl.h>
#include <unistd.h>

#include "manager.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"

#define SAVE_TIMEOUT (30 * USEC_PER_SEC) /* a disk that takes longer is broken */

struct VmSave {
        Vm *vm; /* borrowed */
        Task *task;
        Waiters *waiters; /* for this writing */
        Waiters *next;    /* came while it ran: it is written once more for them */
        bool again;
        int folder_fd;
        char *text;
        size_t len;
};

VmSave *vm_save_free(VmSave *s) {
        if (!s)
                return NULL;
        task_free(s->task);
        free(s->waiters);
        free(s->next);
        safe_close(s->folder_fd);
        free(s->text);
        free(s);
        return NULL;
}

static int write_record(void *argument) {
        VmSave *s = argument;

        return write_file_at(s->folder_fd, "vm.json", s->text, s->len, 0600, WRITE_FILE_SYNC) < 0 ? 1 : 0;
}

static int begin(VmSave *s);

static void on_written(void *userdata, int status, const char *output, size_t len) {
        _cleanup_error_ Error *e = NULL;
        Waiters *waiters;
        VmSave *s = userdata;
        Vm *vm = s->vm;
        int r = 0;

        s->task = task_free(s->task);
        if (status != 0)
                r = error_set(&e, ERROR_IO, "The definition of VM '%s' could not be written to disk",
                                vm_name(vm));
        if (r < 0)
                log_at(LOG_ERR, vm_name(vm), NULL, "%s", error_message(e));
        waiters = TAKE_PTR(s->waiters);
        if (s->again) {
                s->again = false;
                s->waiters = TAKE_PTR(s->next);
                if (begin(s) < 0)
                        log_at(LOG_ERR, vm_name(vm), NULL,
                                        "The last change of the definition could not be written");
        } else
                vm->save = vm_save_free(s);
        waiters_fire(&waiters, r, e);
}

static int begin(VmSave *s) {
        int r;

        free(TAKE_PTR(s->text));
        s->folder_fd = safe_close(s->folder_fd);
        s->folder_fd = openat(s->vm->manager->vms_fd, vm_name(s->vm),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (s->folder_fd < 0)
                return -errno;
        r = vm_record_format(&s->vm->record, &s->text, &s->len);
        if (r < 0)
                return r;
        return task_call(s->vm->manager->event, write_record, s, SAVE_TIMEOUT, on_written, s, &s->task);
}

int vm_save(Vm *vm, waiter_t done, void *userdata) {
        VmSave *s = vm->save;
        int r;

        if (s) {
                s->again = true;
                return waiters_add(&s->next, done, userdata);
        }
        s = malloc(sizeof(VmSave));
        if (!s)
                return -ENOMEM;
        *s = (VmSave){ .vm = vm, .folder_fd = -EBADF };
        r = waiters_add(&s->waiters, done, userdata);
        if (r >= 0)
                r = begin(s);
        if (r < 0) {
                vm_save_free(s);
                return r;
        }
        vm->save = s;
        return 0;
}

/* /run is a tmpfs: writing there does not wait for a disk. */
static int write_runtime(Vm *vm, const char *file, JsonWriter *w) {
        _cleanup_close_ int folder = openat(vm->manager->runtime_fd, vm_name(vm),
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

        if (!vm->process)
                return 0;
        if (json_writer_new(0, &w) < 0)
                return -ENOMEM;
        process_identity(vm->process, &id);
        json_write_object(w);
        json_put_unsigned(w, "shim-pid", (uint64_t)id.shim_pid);
        json_put_unsigned(w, "shim-started", id.shim_started);
        json_put_unsigned(w, "qemu-pid", (uint64_t)id.qemu_pid);
        json_put_boolean(w, "kvm", vm->kvm);
        json_put_boolean(w, "came-up", vm->came_up);
        json_put_boolean(w, "ending", vm->ending);
        json_put_boolean(w, "panicked", vm->panicked);
        json_put_boolean(w, "removing", vm->removal != NULL);
        json_put_unsigned(w, "stop-deadline", vm_stop_deadline(vm->stop));
        json_put_string(w, "status", vm->status);
        put_history(w, vm);
        json_write_end(w);
        return write_runtime(vm, "run.json", w);
}

void vm_save_end(Vm *vm) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *run = strf("%s/run.json", vm_name(vm));

        if (json_writer_new(0, &w) < 0)
                return;
        json_write_object(w);
        json_put_string(w, "failure", vm_failure_to_string(vm->failure));
        json_put_string(w, "message", vm->failure_message);
        put_history(w, vm);
        json_write_end(w);
        (void)write_runtime(vm, "end.json", w);
        if (run)
                (void)unlinkat(vm->manager->runtime_fd, run, 0);
}

/* A change of limits of a running VM counts when PID 1 has taken it and it is on disk. The VM may be gone by
 * then. */
typedef struct LimitsChange {
        Manager *manager; /* borrowed */
        char *vm;
        ScopeJob *job;
        waiter_t done;
        void *userdata;
} LimitsChange;

static LimitsChange *limits_change_free(LimitsChange *c) {
        if (!c)
                return NULL;
        scope_job_free(c->job);
        free(c->vm);
        free(c);
        return NULL;
}
DEFINE_CLEANUP(LimitsChange *, limits_change_free);

static void on_limits(void *userdata, int r, const Error *error) {
        _cleanup_(limits_change_freep) LimitsChange *c = userdata;
        _cleanup_error_ Error *e = NULL;
        Vm *vm = manager_find_vm(c->manager, c->vm);

        if (r >= 0 && !vm)
                r = error_set(&e, ERROR_NO_SUCH_VM, "VM '%s' was destroyed meanwhile", c->vm);
        else if (r >= 0) {
                r = vm_save(vm, c->done, c->userdata);
                if (r >= 0)
                        return;
                (void)error_set_errno(&e, r, "Cannot write the definition of VM '%s'", c->vm);
        }
        if (c->done)
                c->done(c->userdata, r, e ?: error);
}

static int change_live_limits(Vm *vm, waiter_t done, void *userdata) {
        VmLimits limits = vm_limits_resolve(&vm->record.spec, !vm->kvm);
        _cleanup_(limits_change_freep) LimitsChange *c = malloc(sizeof(LimitsChange));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (LimitsChange){
                .manager = vm->manager, .vm = strdup(vm_name(vm)), .done = done, .userdata = userdata
        };
        if (!c->vm)
                return -ENOMEM;
        r = systemd_set_limits(vm->manager->systemd, vm->unit, &limits, on_limits, c, &c->job);
        if (r < 0)
                return r;
        TAKE_PTR(c);
        return 0;
}

/* What the new definition needs beyond itself. */
static int fit_record(Vm *vm, const VmSpec *spec, Error **reterr) {
        VmRecord *rec = &vm->record;

        if (spec->disk != rec->spec.disk && spec->disk > 0 && rec->disk_size == 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "VM '%s' has no disk that could grow",
                                vm_name(vm));
        if (spec->disk != rec->spec.disk && spec->disk < rec->disk_size)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "disk %s is smaller than the disk is now, %s; it can only grow",
                                FORMAT_SIZE(spec->disk), FORMAT_SIZE(rec->disk_size));
        if (spec->network == VM_NETWORK_USER && rec->ssh_port == 0)
                return manager_reassign_port(vm->manager, vm, reterr);
        return 0;
}

int vm_update(Vm *vm, VmSpec *spec, waiter_t done, void *userdata, Error **reterr) {
        VmSpec old;
        int r;

        if (vm->create || vm->removal)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' cannot be changed while it is %s",
                                vm_name(vm), vm_state_to_string(vm_state(vm)));
        r = fit_record(vm, spec, reterr);
        if (r < 0)
                return r;
        old = vm->record.spec;
        vm->record.spec = *spec;
        r = vm->process ? change_live_limits(vm, done, userdata) : vm_save(vm, done, userdata);
        if (r < 0) {
                vm->record.spec = old;
                return error_set_errno(reterr, r, "Cannot change VM '%s'", vm_name(vm));
        }
        vm_spec_done(&old);
        *spec = (VmSpec){};
        vm_changed(vm, VM_CHANGE_SPEC);
        return 0;
}
