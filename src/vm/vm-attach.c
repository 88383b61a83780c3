/* SPDX-License-Identifier: GPL-2.0-or-later */
/* After a restart: what an earlier instance noted in /run is compared with what is really there. A QEMU that
 * lives is taken over, with the operation that was under way; of one that has ended the reason is found out;
 * none is ever killed or started for it. Where the notes are lost, what is in the VM's scope is taken over.
 */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/message-ids.h"
#include "host/passt.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-share.h"
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

/* Returns whether it was being removed. */
static bool load_end(Vm *vm, const Json *doc) {
        VmFailure failure = vm_failure_from_string(json_get_string(doc, "failure"));

        load_history(vm, doc);
        if ((int)failure > VM_FAILURE_NONE) {
                vm->failure = failure;
                (void)free_and_strdup(&vm->failure_message, json_get_string(doc, "message"));
        }
        return json_get_boolean(doc, "removing") == 1;
}

/* Without any of them we would take for true what nobody noted. */
static const char *const run_booleans[] = { "kvm", "came-up", "ending", "panicked", "removing", NULL };

static int identity_from(const Json *doc, ProcessIdentity *ret) {
        uint64_t shim, qemu, started;

        if (json_get_unsigned(doc, "shim-pid", &shim) < 0 || json_get_unsigned(doc, "qemu-pid", &qemu) < 0 ||
                        json_get_unsigned(doc, "shim-started", &started) < 0 || shim < 2 ||
                        shim > INT32_MAX || qemu > INT32_MAX)
                return -EBADMSG;
        for (const char *const *key = run_booleans; *key; key++)
                if (json_get_boolean(doc, *key) < 0)
                        return -EBADMSG;
        *ret = (ProcessIdentity){
                .shim_pid = (pid_t)shim, .qemu_pid = (pid_t)qemu, .shim_started = started
        };
        return 0;
}

static void warn_of_rest(const Vm *vm, const Error *error) {
        vm_log(LOG_WARNING, vm, NULL, "Cannot go on with what was under way: %s", error_message(error));
}

/* May free the VM. */
static void remove_on(Vm *vm) {
        _cleanup_error_ Error *e = NULL;

        if (vm_remove(vm, 0, NULL, NULL, &e) < 0)
                warn_of_rest(vm, e);
}

/* Operations of the earlier instance go on where it left off. */
static void continue_operations(Vm *vm, const Json *doc) {
        _cleanup_error_ Error *e = NULL;
        VmStopStep step = vm_stop_step_from_string(json_get_string(doc, "stop-step"));
        uint64_t deadline = 0;
        int r = 0;

        if (json_get_boolean(doc, "limits-changing") == 1)
                r = vm_update_continue(vm);
        if (r < 0)
                vm_log(LOG_WARNING, vm, NULL, "Limits of VM '%s' that were not written down may be in force",
                                vm_name(vm));
        r = 0;
        if (json_get_boolean(doc, "removing") == 1)
                r = vm_remove(vm, 0, NULL, NULL, &e);
        else if (json_get_boolean(doc, "killed") == 1 || (vm->ending && (int)step < 0))
                vm_end_process(vm);
        else if ((int)step >= 0 && json_get_unsigned(doc, "stop-deadline", &deadline) >= 0)
                r = vm_stop_continue(vm, step, deadline);
        if (r < 0)
                warn_of_rest(vm, e);
}

/* Whoever wanted the start has got no answer, and some of what makes it complete died with the earlier
 * instance. */
static void undo_start(Vm *vm) {
        vm_log(LOG_WARNING, vm, NULL, "The service ended while the VM started: the start is undone");
        vm_end_process(vm);
        systemd_kill_scope(vm->manager->systemd, vm->unit); /* QEMU's PID may not be known yet */
}

static int watch_scope(Vm *vm) {
        return systemd_watch_scope(vm->manager->systemd, vm->unit, true, &vm->scope_watch);
}

static int take_over(Vm *vm, const ProcessIdentity *id, int folder, int monitor_fd) {
        int r;

        r = process_attach(vm->manager->core->event, vm->manager->core->launcher, id, vm->unit, monitor_fd,
                        folder, &vm_process_handlers, vm, &vm->process);
        if (r >= 0 && watch_scope(vm) < 0)
                log_error("Out of memory: what systemd does to '%s' goes unnoticed", vm->unit);
        return r;
}

/* What a service wrote that knew but one is without. */
static void load_network(Vm *vm, const Json *doc) {
        NetworkBackend network = network_backend_from_string(json_get_string(doc, "network"));

        if ((int)network >= 0)
                vm->network = network;
        else if (vm->record.spec.network == VM_NETWORK_USER)
                vm->network = NETWORK_BACKEND_SLIRP;
}

static void on_passt(pid_t pid, const char *command, void *userdata) {
        bool *there = userdata;

        *there = *there || startswith(command, PASST_PATH " ");
}

/* QEMU tells of its end but once, and only the connection that is lost has heard it. */
static void look_for_passt(Vm *vm) {
        bool there = false;
        int r;

        if (vm->network != NETWORK_BACKEND_PASST || process_qemu_is_gone(vm->process))
                return;
        r = systemd_list_processes(vm->manager->systemd, vm->unit, on_passt, &there);
        if (r >= 0 && !there)
                vm_passt_ended(vm);
}

static int attach(Vm *vm, const Json *doc, const ProcessIdentity *id, int folder, int monitor_fd) {
        bool is_connected = monitor_fd >= 0;
        const char *status;
        int r;

        r = take_over(vm, id, folder, monitor_fd);
        if (r < 0)
                return r;
        vm->kvm = json_get_boolean(doc, "kvm") == 1;
        load_network(vm, doc);
        vm->ending = json_get_boolean(doc, "ending") == 1;
        vm->came_up = json_get_boolean(doc, "came-up") == 1;
        vm->panicked = json_get_boolean(doc, "panicked") == 1;
        vm->internal_error = json_get_boolean(doc, "internal-error") == 1;
        load_history(vm, doc);
        if (!is_connected)
                look_for_passt(vm);
        status = json_get_string(doc, "status");
        (void)free_and_strdup(&vm->status, status);
        vm->announced = vm_state(vm);
        if (vm->came_up)
                continue_operations(vm, doc);
        else
                undo_start(vm);
        return 0;
}

typedef struct Search {
        const char *mark; /* in the command line of QEMU */
        ProcessIdentity id;
        bool kvm;
        NetworkBackend network;
} Search;

/* Who is in the scope of a VM has no more rights than that, or is somebody whom root has put there. */
static void on_process(pid_t pid, const char *command, void *userdata) {
        Search *s = userdata;
        const char *accelerator;

        if (startswith(command, VMCTL_HELPER_DIR "/vmctl-shim"))
                s->id.shim_pid = pid;
        else if (strstr(command, s->mark)) {
                s->id.qemu_pid = pid;
                accelerator = strstr(command, " -accel ");
                s->kvm = accelerator && startswith(accelerator, " -accel kvm");
                s->network = strstr(command, " -netdev stream,")    ? NETWORK_BACKEND_PASST
                                : strstr(command, " -netdev user,") ? NETWORK_BACKEND_SLIRP
                                                                    : NETWORK_BACKEND_NONE;
        }
}

/* The scope lives, so the VM does, whatever became of the notes: it is shown, and can be ended, but neither
 * be started once more nor lose the sockets in its runtime folder. */
static int attach_to_scope(Vm *vm, int monitor_fd) {
        _cleanup_close_ int monitor = monitor_fd,
                            folder = make_dir_at(vm->manager->core->runtime_fd, vm_name(vm),
                                            vm->manager->core->config.system ? 0711 : 0700);
        _cleanup_free_ char *mark = strf(" -name guest=%s ", vm_name(vm));
        Search s = { .mark = mark };
        int r;

        if (folder < 0)
                return folder;
        if (!mark)
                return -ENOMEM;
        r = systemd_list_processes(vm->manager->systemd, vm->unit, on_process, &s);
        if (r < 0)
                return r;
        if (s.id.shim_pid == 0 && s.id.qemu_pid == 0)
                return 0;
        if (s.id.shim_pid > 0)
                (void)process_start_time(s.id.shim_pid, &s.id.shim_started);
        r = take_over(vm, &s.id, folder, TAKE_FD(monitor));
        if (r < 0)
                return r;
        vm->kvm = s.kvm;
        vm->network = s.network;
        vm->came_up = true;
        vm->announced = vm_state(vm);
        return vm_warn(vm, NULL, "The service's notes on this run are lost: QEMU was found by its scope");
}

static int read_run(int folder, Json **ret, ProcessIdentity *ret_id) {
        _cleanup_json_ Json *doc = NULL;
        int r;

        if (folder < 0)
                return -ENOENT;
        r = read_document(folder, "run.json", &doc);
        if (r >= 0)
                r = identity_from(doc, ret_id);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(doc);
        return 0;
}

static int attach_or_load(Vm *vm, int monitor_fd, VmScope scope, bool *ret_removing) {
        _cleanup_close_ int monitor = monitor_fd;
        _cleanup_close_ int folder = openat(vm->manager->core->runtime_fd, vm_name(vm),
                        O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        _cleanup_json_ Json *run = NULL, *end = NULL;
        ProcessIdentity id;
        int r;

        r = read_run(folder, &run, &id);
        if (r < 0 && r != -ENOENT)
                vm_log(LOG_WARNING, vm, NULL, "Cannot read run.json of VM '%s': %s", vm_name(vm),
                                strerror(-r));
        if (r >= 0)
                return attach(vm, run, &id, folder, TAKE_FD(monitor));
        if (r == -ENOENT && folder >= 0 && read_document(folder, "end.json", &end) >= 0) {
                *ret_removing = load_end(vm, end);
                return 0;
        }
        vm->unattached = scope == VM_SCOPE_UNKNOWN;
        return scope == VM_SCOPE_THERE ? attach_to_scope(vm, TAKE_FD(monitor)) : 0;
}

/* One that PID 1 keeps though its VM does not run: of a crash at the wrong moment, or somebody's. */
static void clear_left_over(Vm *vm) {
        if (watch_scope(vm) >= 0)
                systemd_clear_scope(vm->scope_watch);
}

void vm_attach(Vm *vm, int monitor_fd, VmScope scope) {
        _cleanup_free_ char *log = strf("%s/console.log", vm_name(vm));
        bool removing = false;
        int r;

        vm->state_changed_at = vm->record.created;
        vm->ever_started = log && faccessat(vm->manager->vms_fd, log, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
        r = attach_or_load(vm, monitor_fd, scope, &removing);
        if (r < 0) {
                vm->unattached = true;
                (void)vm_warn(vm, MESSAGE_VM_NOT_ATTACHED,
                                "It may run, but could not be taken over (%s): it cannot be started before "
                                "it was killed, or the service started again",
                                strerror(-r));
        } else if (scope == VM_SCOPE_THERE && !vm->process)
                clear_left_over(vm);
        vm_share_files(vm);
        vm->announced = vm_state(vm);
        if (removing)
                remove_on(vm);
}
