/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "bus-util.h"
#include "core/bus-paths.h"
#include "host/cgroup.h"
#include "job-bus.h"
#include "signals.h"
#include "util/fd-util.h"
#include "util/log-request.h"
#include "util/log.h"
#include "vm-bus.h"
#include "vm-guest-bus.h"
#include "vm/console-open.h"
#include "vm/vm-index.h"

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        _cleanup_free_ char *name = NULL;
        const BusFace *face = userdata;
        Vm *vm;
        int r;

        r = sd_bus_path_decode(path, BUS_PATH_VM, &name);
        if (r <= 0)
                return r;
        vm = manager_find_vm(face->manager, name);
        if (!vm || !access_may_use(face->access, vm->record.uuid, vm->record.owner, false))
                return 0;
        *ret = vm;
        return 1;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        const BusFace *face = userdata;
        const Manager *m = face->manager;
        char **paths = calloc(m->n_vms + 1, sizeof(char *));
        size_t n = 0;

        if (!paths)
                return -ENOMEM;
        for (size_t i = 0; i < m->n_vms; i++) {
                if (!access_may_see(face->access, m->vms[i]->record.owner))
                        continue;
                paths[n] = bus_vm_path(vm_name(m->vms[i]));
                if (!paths[n++]) {
                        strv_free(paths);
                        return -ENOMEM;
                }
        }
        *ret = paths;
        return 1;
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(m, "s", vm_state_to_string(vm_state(userdata)));
}

static int get_failure(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append(m, "s", vm_failure_to_string(vm->failure));
}

static int get_backend(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return sd_bus_message_append(m, "s", "qemu");
}

static int get_spec(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        const Image *image = vm->record.image_uuid
                        ? image_find_by_uuid(vm->manager->images, vm->record.image_uuid)
                        : NULL;

        return bus_append_spec(m, &vm->record, image ? image_name(image) : NULL);
}

static int get_provisioned(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append_strv(m, vm->record.provisioned);
}

static int get_pid(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append(m, "u", vm->process ? (uint32_t)process_qemu_pid(vm->process) : 0);
}

static int get_attached(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;
        const Qmp *q = vm->process ? process_monitor(vm->process) : NULL;

        return sd_bus_message_append(m, "b", q && qmp_is_ready(q));
}

static int get_accelerator(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append(m, "s", !vm->process ? "" : vm->kvm ? "kvm" : "tcg");
}

static int get_network(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append(m, "s", vm->process ? network_backend_to_string(vm->network) : "");
}

static int get_addresses(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        /* Behind user networking, the guest is reached at the host's loopback address. */
        return vm->record.spec.network == VM_NETWORK_USER ? sd_bus_message_append(m, "as", 1, "127.0.0.1")
                                                          : sd_bus_message_append(m, "as", 0);
}

static int get_user(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append(m, "s", vm->record.spec.user ?: "vm");
}

/* Paths: one getter, which file and whether it is there now. */
static bool has_overlay(const Vm *vm) {
        return vm->record.disk_size > 0;
}
static bool has_seed(const Vm *vm) {
        return vm->record.seed;
}
static bool has_key(const Vm *vm) {
        return vm->record.generated_key;
}
static bool is_up(const Vm *vm) {
        return vm->process != NULL;
}
static bool has_display(const Vm *vm) {
        return vm->process && vm->record.spec.display == VM_DISPLAY_VNC;
}

static const struct {
        const char *property, *file;
        bool runtime;
        bool (*is_there)(const Vm *vm);
} path_table[] = {
        { "Folder", NULL, false, NULL },
        { "Overlay", "overlay.qcow2", false, has_overlay },
        { "Seed", "seed.iso", false, has_seed },
        { "SSHPrivateKey", "id_ed25519_generated", false, has_key },
        { "SSHKnownHosts", "known_hosts", false, NULL },
        { "QMPSocket", "qmp.sock", true, is_up },
        { "AgentSocket", "agent.sock", true, is_up },
        { "VNCSocket", "vnc.sock", true, has_display },
};

static int get_path(sd_bus *bus, const char *object, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        for (size_t i = 0; i < ELEMENTSOF(path_table); i++) {
                _cleanup_free_ char *path = NULL;

                if (!streq(path_table[i].property, property))
                        continue;
                if (path_table[i].is_there && !path_table[i].is_there(vm))
                        break;
                path = path_table[i].runtime ? vm_runtime_path(vm, path_table[i].file)
                                             : vm_path(vm, path_table[i].file);
                return path ? sd_bus_message_append(m, "s", path) : -ENOMEM;
        }
        return sd_bus_message_append(m, "s", "");
}

static int get_usage(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;
        CgroupUsage u = {};

        if (vm->process)
                cgroup_usage(process_shim_pid(vm->process), &u);
        return sd_bus_message_append(m, "t",
                        streq(property, "CPUUsageNSec")                    ? u.cpu_nsec
                                        : streq(property, "MemoryCurrent") ? u.memory_current
                                                                           : u.memory_peak);
}

static int get_warnings(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Vm *vm = userdata;

        return sd_bus_message_append_strv(m, vm->warnings);
}

/* Starts an operation that will reply through bus_reply_done(). */
typedef int (*operation_t)(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);

static int run(sd_bus_message *m, Vm *vm, operation_t operation) {
        _cleanup_error_ Error *e = NULL;

        if (operation(vm, bus_face_caller(m), bus_reply_done, sd_bus_message_ref(m), &e) >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_start(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        int r;

        r = bus_read_options(m, NULL, 0, &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        return run(m, userdata, vm_start);
}

static int method_stop(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        uint64_t timeout;
        Job *job;
        int r;

        r = sd_bus_message_read(m, "t", &timeout);
        if (r < 0)
                return r;
        r = vm_stop(userdata, bus_face_caller(m), timeout, &job, &e);
        if (r < 0)
                return bus_reply_error(m, e);
        return job_bus_reply(m, job->id);
}

static int method_kill(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return run(m, userdata, vm_kill);
}
static int method_reset(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return run(m, userdata, vm_reset);
}
static int method_suspend(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return run(m, userdata, vm_suspend);
}
static int method_resume(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return run(m, userdata, vm_resume);
}
static int method_destroy(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return run(m, userdata, vm_remove);
}

static int method_open_console(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = console_open(userdata, &e);

        return fd < 0 ? bus_reply_error(m, e) : sd_bus_reply_method_return(m, "h", fd);
}

static int method_open_console_log(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        LogRequest request = { .tail = LOG_REQUEST_ALL };
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool follow = false, this_run = false;
        const BusOption options[] = {
                { "tail", 'u', &request.tail },
                { "follow", 'b', &follow },
                { "this-run", 'b', &this_run },
        };
        int r;

        r = bus_read_options(m, options, ELEMENTSOF(options), &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        request.flags = (follow ? LOG_REQUEST_FOLLOW : 0) | (this_run ? LOG_REQUEST_THIS_RUN : 0);
        fd = console_open_log(userdata, bus_face_caller(m), &request, &e);
        return fd < 0 ? bus_reply_error(m, e) : sd_bus_reply_method_return(m, "h", fd);
}

static int update(sd_bus_message *m, Vm *vm, SpecFlags allowed) {
        VmSpec from = {}, to = {};
        _cleanup_error_ Error *e = NULL;
        int r;

        r = vm_spec_copy(&vm->record.spec, &from);
        if (r >= 0)
                r = vm_spec_copy(&from, &to);
        if (r >= 0)
                r = bus_read_spec(m, allowed, &to, NULL, &e);
        if (r < 0) {
                vm_spec_done(&from);
                vm_spec_done(&to);
                return e ? bus_reply_error(m, e) : r;
        }
        r = vm_update(vm, bus_face_caller(m), &from, &to, bus_reply_done, sd_bus_message_ref(m), &e);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_update_spec(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return update(m, userdata, SPEC_UPDATE | SPEC_LIMIT);
}

static int method_set_limits(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        return update(m, userdata, SPEC_LIMIT);
}

static void on_raw_reply(void *userdata, int r, const char *text, const Error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = userdata;

        if (r < 0)
                (void)bus_reply_error(call, error);
        else
                (void)sd_bus_reply_method_return(call, "s", text);
}

static int method_qmp(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        const char *command;
        int r;

        r = sd_bus_message_read(m, "s", &command);
        if (r < 0)
                return r;
        r = vm_qmp(userdata, bus_face_caller(m), command, on_raw_reply, sd_bus_message_ref(m), &e);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

#define CONST_STRING(name, field) \
        SD_BUS_PROPERTY(name, "s", NULL, offsetof(Vm, field), SD_BUS_VTABLE_PROPERTY_CONST)
#define CONST_GET(name, type, get) SD_BUS_PROPERTY(name, type, get, 0, SD_BUS_VTABLE_PROPERTY_CONST)
#define CHANGING(name, type, get) SD_BUS_PROPERTY(name, type, get, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
#define CHANGING_FIELD(name, type, field) \
        SD_BUS_PROPERTY(name, type, NULL, offsetof(Vm, field), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Start", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT, method_start,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Stop", SD_BUS_ARGS("t", timeout_usec), SD_BUS_RESULT("o", job), method_stop,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Kill", NULL, NULL, method_kill, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Reset", NULL, NULL, method_reset, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Suspend", NULL, NULL, method_suspend, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Resume", NULL, NULL, method_resume, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Destroy", NULL, NULL, method_destroy, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenConsole", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", console),
                        method_open_console, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenConsoleLog", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("h", log),
                        method_open_console_log, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("UpdateSpec", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                        method_update_spec, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetLimits", SD_BUS_ARGS("a{sv}", limits), SD_BUS_NO_RESULT,
                        method_set_limits, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("WaitReady", SD_BUS_ARGS("s", stage, "t", timeout_usec, "a{sv}", options),
                        SD_BUS_RESULT("o", job), vm_guest_bus_wait, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Provision", SD_BUS_ARGS("aa{sv}", steps, "a{sv}", options),
                        SD_BUS_RESULT("o", job), vm_guest_bus_provision, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("OpenProvisionLog", SD_BUS_NO_ARGS, SD_BUS_RESULT("h", log),
                        vm_guest_bus_open_log, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Qmp", SD_BUS_ARGS("s", command), SD_BUS_RESULT("s", reply), method_qmp,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_SIGNAL_WITH_ARGS("Event", SD_BUS_ARGS("s", event, "a{sv}", details), 0),

        CONST_STRING("Name", record.name),
        CONST_STRING("UUID", record.uuid),
        SD_BUS_PROPERTY("Owner", "u", NULL, offsetof(Vm, record.owner), SD_BUS_VTABLE_PROPERTY_CONST),
        CONST_GET("Backend", "s", get_backend),
        CHANGING("State", "s", get_state),
        CHANGING("FailureReason", "s", get_failure),
        CHANGING_FIELD("FailureMessage", "s", failure_message),
        CHANGING("Spec", "a{sv}", get_spec),
        CONST_STRING("Unit", unit),
        CHANGING("PID", "u", get_pid),
        SD_BUS_PROPERTY("UID", "u", NULL, offsetof(Vm, record.uid), SD_BUS_VTABLE_PROPERTY_CONST),
        CHANGING_FIELD("QMPStatus", "s", status),
        CHANGING("Attached", "b", get_attached),
        CHANGING("Accelerator", "s", get_accelerator),
        CHANGING("NetworkBackend", "s", get_network),
        CHANGING_FIELD("Machine", "s", record.machine), /* known once it is prepared, then for life */
        CHANGING("Addresses", "as", get_addresses),
        CONST_STRING("MAC", record.mac),
        CHANGING_FIELD("SSHPort", "q", record.ssh_port),
        CHANGING("SSHUser", "s", get_user),
        CHANGING("SSHPrivateKey", "s", get_path),
        CHANGING("SSHKnownHosts", "s", get_path),
        CONST_GET("Folder", "s", get_path),
        CHANGING("Overlay", "s", get_path),
        CHANGING("Seed", "s", get_path),
        CHANGING("QMPSocket", "s", get_path),
        CHANGING("VNCSocket", "s", get_path),
        CHANGING("AgentSocket", "s", get_path),
        SD_BUS_PROPERTY("CreatedAt", "t", NULL, offsetof(Vm, record.created), SD_BUS_VTABLE_PROPERTY_CONST),
        CHANGING_FIELD("StartedAt", "t", started_at),
        CHANGING_FIELD("StateChangedAt", "t", state_changed_at),
        CHANGING_FIELD("ShutdownReason", "s", shutdown_reason),
        CHANGING_FIELD("Resets", "u", resets),
        CHANGING_FIELD("IOErrors", "u", io_errors),
        SD_BUS_PROPERTY("CPUUsageNSec", "t", get_usage, 0, 0),
        SD_BUS_PROPERTY("MemoryCurrent", "t", get_usage, 0, 0),
        SD_BUS_PROPERTY("MemoryPeak", "t", get_usage, 0, 0),
        CHANGING("Warnings", "as", get_warnings),
        CHANGING("ProvisionedSteps", "as", get_provisioned),
        SD_BUS_VTABLE_END,
};

static const struct {
        VmChange change;
        const char *property;
} change_table[] = {
        { VM_CHANGE_STATE, "State" },
        { VM_CHANGE_STATE, "FailureReason" },
        { VM_CHANGE_STATE, "FailureMessage" },
        { VM_CHANGE_STATE, "StartedAt" },
        { VM_CHANGE_STATE, "StateChangedAt" },
        { VM_CHANGE_PROCESS, "PID" },
        { VM_CHANGE_PROCESS, "Attached" },
        { VM_CHANGE_PROCESS, "Accelerator" },
        { VM_CHANGE_PROCESS, "NetworkBackend" },
        { VM_CHANGE_PROCESS, "QMPSocket" },
        { VM_CHANGE_PROCESS, "VNCSocket" },
        { VM_CHANGE_PROCESS, "AgentSocket" },
        { VM_CHANGE_QMP, "QMPStatus" },
        { VM_CHANGE_SPEC, "Spec" },
        { VM_CHANGE_SPEC, "Machine" },
        { VM_CHANGE_SPEC, "Addresses" },
        { VM_CHANGE_SPEC, "SSHPort" },
        { VM_CHANGE_SPEC, "SSHUser" },
        { VM_CHANGE_SPEC, "SSHPrivateKey" },
        { VM_CHANGE_SPEC, "SSHKnownHosts" },
        { VM_CHANGE_SPEC, "Overlay" },
        { VM_CHANGE_SPEC, "Seed" },
        { VM_CHANGE_COUNTERS, "ShutdownReason" },
        { VM_CHANGE_COUNTERS, "Resets" },
        { VM_CHANGE_COUNTERS, "IOErrors" },
        { VM_CHANGE_WARNINGS, "Warnings" },
        { VM_CHANGE_PROVISION, "ProvisionedSteps" },
};

void vm_bus_new(Manager *m, Vm *vm) {
        _cleanup_free_ char *path = bus_vm_path(vm_name(vm));

        if (!path)
                return;
        (void)signal_object_added(m->clients, HEARERS(vm->record.owner), path, "org.vmctl1.VM", vtable, vm);
        (void)signal_of_manager(m->clients, HEARERS(vm->record.owner), "VMNew", "so", vm_name(vm), path);
}

void vm_bus_removed(Manager *m, const char *name, uid_t owner) {
        _cleanup_free_ char *path = bus_vm_path(name);

        if (!path)
                return;
        (void)signal_object_removed(m->clients, HEARERS(owner), path, "org.vmctl1.VM");
        (void)signal_of_manager(m->clients, HEARERS(owner), "VMRemoved", "so", name, path);
}

void vm_bus_changed(Manager *m, Vm *vm, VmChange what) {
        _cleanup_free_ char *path = bus_vm_path(vm_name(vm));
        char *names[ELEMENTSOF(change_table) + 1];
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(change_table); i++)
                if (change_table[i].change & what)
                        names[n++] = (char *)change_table[i].property;
        names[n] = NULL;
        if (path && n > 0)
                (void)signal_properties_changed(m->clients, HEARERS(vm->record.owner), path, "org.vmctl1.VM",
                                vtable, vm, names);
}

static int append_event(sd_bus_message *s, const VmEvent *event) {
        int r;

        r = sd_bus_message_append(s, "s", event->name);
        if (r >= 0)
                r = sd_bus_message_open_container(s, 'a', "{sv}");
        for (size_t i = 0; r >= 0 && i < VM_EVENT_FIELDS_MAX && event->fields[i].key; i++) {
                const VmEventField *f = &event->fields[i];

                r = f->string ? sd_bus_message_append(s, "{sv}", f->key, "s", f->string)
                              : sd_bus_message_append(s, "{sv}", f->key, "b", f->boolean);
        }
        return r < 0 ? r : sd_bus_message_close_container(s);
}

void vm_bus_event(Manager *m, Vm *vm, const VmEvent *event) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *s = NULL;
        _cleanup_free_ char *path = bus_vm_path(vm_name(vm));
        int r;

        r = path ? sd_bus_message_new_signal(m->bus, &s, path, "org.vmctl1.VM", "Event") : -ENOMEM;
        if (r >= 0)
                r = append_event(s, event);
        if (r >= 0)
                r = clients_send(m->clients, HEARERS(vm->record.owner), s);
        if (r < 0)
                log_debug_errno(r, "Cannot send event '%s', ignoring: %m", event->name);
}

int vm_bus_add(BusFace *face) {
        sd_bus *bus = face->manager->bus;
        int r;

        r = sd_bus_add_fallback_vtable(bus, NULL, BUS_PATH_VM, "org.vmctl1.VM", vtable, find, face);
        return r < 0 ? r : sd_bus_add_node_enumerator(bus, NULL, BUS_PATH_VM, enumerate, face);
}
