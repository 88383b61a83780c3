/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A service with the interface of vmctld and no VMs behind it, for tests of vmctl. What it does depends on a
 * VM's name; what it is told it prints, a line for each call. */

#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include "client/decode.h"
#include "ctl.h"
#include "test-service.h"
#include "util/fd-util.h"

typedef struct FakeVM {
        char *name, *path, *state;
        uint16_t ssh_port;
        unsigned stops, waits;
} FakeVM;

static struct {
        sd_bus *bus;
        sd_event *event;
        FakeVM *vms;
        size_t n_vms;
        uint32_t last_job;
} service;

/* A job that will end when its timer does. */
typedef struct FakeJob {
        size_t vm; /* its index: the array moves as it grows */
        uint32_t id;
        char *path;
        sd_bus_slot *slot; /* of its object */
} FakeJob;

uint32_t new_job(void) {
        return ++service.last_job;
}

static FakeVM *find_path(const char *path) {
        for (size_t i = 0; i < service.n_vms; i++)
                if (streq(service.vms[i].path, path))
                        return &service.vms[i];
        return NULL;
}

static FakeVM *add_vm(const char *name, const char *state) {
        FakeVM *vm;

        service.vms = reallocarray(service.vms, service.n_vms + 1, sizeof(FakeVM));
        assert(service.vms);
        vm = &service.vms[service.n_vms++];
        *vm = (FakeVM){ .name = strdup(name), .path = client_vm_path(name), .state = strdup(state) };
        return vm;
}

void print_call(sd_bus_message *m, const char *name) {
        FakeVM *vm = find_path(sd_bus_message_get_path(m));
        bool first = true;

        name = vm ? vm->name : name;
        printf("%s%s%s", sd_bus_message_get_member(m), name ? " " : "", name ?: "");
        while (sd_bus_message_at_end(m, true) == 0) {
                _cleanup_(json_writer_freep) JsonWriter *w = NULL;
                _cleanup_free_ char *text = NULL;
                _cleanup_json_ Json *v = NULL;

                if (json_writer_new(0, &w) < 0 || client_decode(m, &v) < 0)
                        break;
                json_write_value(w, v);
                if (json_writer_finish(w, &text, NULL) < 0)
                        break;
                printf("%s%s", first ? " " : ", ", text);
                first = false;
        }
        puts("");
        (void)fflush(stdout);
        (void)sd_bus_message_rewind(m, true);
}

static int emit_state(FakeVM *vm, const char *state) {
        int r;

        r = free_and_strdup(&vm->state, state);
        return r < 0 ? r : sd_bus_emit_properties_changed(service.bus, vm->path, VMCTL_VM, "State", NULL);
}

static int take_name(sd_event_source *s, uint64_t usec, void *userdata) {
        sd_event_source_unref(s);
        return sd_bus_request_name(service.bus, VMCTL_SERVICE, 0);
}

static int in_a_moment(sd_event_time_handler_t handler, void *userdata) {
        sd_event_source *s;

        return sd_event_add_time_relative(
                        service.event, &s, CLOCK_MONOTONIC, 100 * USEC_PER_MSEC, 1, handler, userdata);
}

static int job_free(FakeJob *job, int r) {
        sd_bus_slot_unref(job->slot);
        free(job->path);
        free(job);
        return r;
}

static int end_job(sd_event_source *s, uint64_t usec, void *userdata) {
        FakeJob *job = userdata;
        bool stuck = streq(service.vms[job->vm].name, "stuck");
        int r;

        sd_event_source_unref(s);
        if (stuck)
                (void)sd_bus_emit_signal(service.bus, service.vms[job->vm].path,
                                "org.freedesktop.DBus.Properties", "PropertiesChanged", "sa{sv}as", VMCTL_VM,
                                1, "Warnings", "as", 2, "It is old", "The guest is deaf", 0);
        if (stuck)
                r = sd_bus_emit_signal(service.bus, job->path, "org.freedesktop.DBus.Properties",
                                "PropertiesChanged", "sa{sv}as", VMCTL_JOB, 2, "ErrorName", "s",
                                "org.vmctl1.Error.QemuFailed", "ErrorMessage", "s", "QEMU is stuck", 0);
        else
                r = emit_state(&service.vms[job->vm], "stopped");
        if (r >= 0)
                r = sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved", "uoos",
                                job->id, job->path, service.vms[job->vm].path, stuck ? "failed" : "done");
        return job_free(job, r);
}

/* "doomed" is not so lucky, and whoever listens nowhere is not, either. */
static int end_wait(sd_event_source *s, uint64_t usec, void *userdata) {
        FakeJob *job = userdata;
        FakeVM *vm = &service.vms[job->vm];
        bool doomed = streq(vm->name, "doomed"), deaf = streq(vm->name, "deaf");
        int r = 0;

        sd_event_source_unref(s);
        if (doomed)
                r = emit_state(vm, "failed");
        else if (deaf)
                r = sd_bus_emit_signal(service.bus, job->path, "org.freedesktop.DBus.Properties",
                                "PropertiesChanged", "sa{sv}as", VMCTL_JOB, 2, "ErrorName", "s",
                                "org.vmctl1.Error.GuestNotReady", "ErrorMessage", "s",
                                "The guest was not ready after 1 s", 0);
        if (r >= 0)
                r = sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved", "uoos",
                                job->id, job->path, vm->path,
                                doomed                 ? "canceled"
                                                : deaf ? "failed"
                                                       : "done");
        return job_free(job, r);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        FakeJob *job = userdata;
        int r;

        print_call(m, NULL);
        r = sd_bus_reply_method_return(m, NULL);
        if (r >= 0)
                r = sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved", "uoos",
                                job->id, job->path, service.vms[job->vm].path, "canceled");
        return job_free(job, r);
}

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

/* `end` NULL: it goes on until it is canceled. */
static int reply_job(sd_bus_message *m, sd_event_time_handler_t end) {
        FakeVM *vm = find_path(sd_bus_message_get_path(m));
        FakeJob *job = calloc(1, sizeof(FakeJob));
        int r;

        *job = (FakeJob){ .vm = (size_t)(vm - service.vms), .id = new_job() };
        job->path = strf(VMCTL_JOB_PREFIX "/%u", job->id);
        r = sd_bus_add_object_vtable(service.bus, &job->slot, job->path, VMCTL_JOB, job_vtable, job);
        if (r >= 0)
                r = sd_bus_reply_method_return(m, "o", job->path);
        return r < 0 || !end ? r : in_a_moment(end, job);
}

/* A crash: the job is never heard of again, and "reborn" comes up while nobody tells of it. */
static int crash(sd_event_source *s, uint64_t usec, void *userdata) {
        int r;

        sd_event_source_unref(s);
        for (size_t i = 0; i < service.n_vms; i++)
                if (streq(service.vms[i].state, "starting") &&
                                free_and_strdup(&service.vms[i].state, "running") < 0)
                        return -ENOMEM;
        r = sd_bus_release_name(service.bus, VMCTL_SERVICE);
        return r < 0 ? r : in_a_moment(take_name, NULL);
}

/* The job ends as others do, but the client was told too much to be told of that. */
static int lose_end(sd_event_source *s, uint64_t usec, void *userdata) {
        FakeJob *job = userdata;
        int r;

        sd_event_source_unref(s);
        r = free_and_strdup(&service.vms[job->vm].state, "stopped");
        (void)job_free(job, 0);
        return r < 0 ? r
                     : sd_bus_emit_signal(
                                       service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "SignalsLost", NULL);
}

static int method_stop(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        FakeVM *vm = find_path(sd_bus_message_get_path(m));

        print_call(m, NULL);
        if (streq(vm->name, "unheard"))
                return reply_job(m, lose_end);
        return reply_job(m, streq(vm->name, "forgotten") && vm->stops++ == 0 ? crash : end_job);
}

static int method_wait(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        FakeVM *vm = find_path(sd_bus_message_get_path(m));

        print_call(m, NULL);
        if (streq(vm->name, "reborn") && vm->waits++ == 0)
                return sd_bus_error_set(reterr, "org.vmctl1.Error.ServiceEnding", "The service ended");
        return reply_job(m, streq(vm->name, "asleep") ? NULL : end_wait);
}

static int method_state(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        static const char *const states[][2] = { { "Start", "running" }, { "Kill", "stopped" },
                { "Suspend", "suspended" }, { "Resume", "running" }, { "Reset", "running" } };
        FakeVM *vm = find_path(sd_bus_message_get_path(m));
        int r;

        print_call(m, NULL);
        if (streq(vm->name, "broken"))
                return sd_bus_error_set(reterr, "org.vmctl1.Error.QemuFailed",
                                streq(sd_bus_message_get_member(m), "Reset")
                                                ? "Cannot reset VM 'broken': it is broken"
                                                : "QEMU said \033[31mno");
        if (streq(vm->name, "guarded") && sd_bus_message_get_allow_interactive_authorization(m) <= 0)
                return sd_bus_error_set(
                                reterr, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "Who are you?");
        if (streq(vm->name, "silent"))
                return 1; /* no reply, ever */
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                if (streq(states[i][0], sd_bus_message_get_member(m))) {
                        r = streq(vm->name, "reborn") ? free_and_strdup(&vm->state, "starting")
                                                      : emit_state(vm, states[i][1]);
                        if (r < 0)
                                return r;
                }
        return sd_bus_reply_method_return(m, NULL);
}

static int method_change(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        print_call(m, NULL);
        return sd_bus_reply_method_return(m, NULL);
}

static int method_create(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name;
        FakeVM *vm;
        int r;

        print_call(m, NULL);
        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (streq(name, "web"))
                return sd_bus_error_set(reterr, "org.vmctl1.Error.VMExists", "There is a VM 'web' already");
        if (streq(name, "imageless"))
                return sd_bus_error_set(reterr, "org.vmctl1.Error.NoSuchImage", "There is no such image");
        vm = add_vm(name, "prepared");
        vm->ssh_port = startswith(name, "late") ? 10024 : 0;
        return sd_bus_reply_method_return(m, "o", vm->path);
}

static int method_list(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sossusutsuqta{sv})");
        for (size_t i = 0; r >= 0 && i < service.n_vms; i++) {
                const FakeVM *vm = &service.vms[i];
                bool running = streq(vm->state, "running");

                r = sd_bus_message_append(reply, "(sossusutsuqta{sv})", vm->name, vm->path, vm->state, "",
                                getuid(), "qemu", 2, 2 * GIB, "user", running ? 12345 : 0, vm->ssh_port,
                                UINT64_C(0), 0);
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(service.bus, reply, NULL);
}

static int method_capabilities(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return sd_bus_reply_method_return(m, "a{sv}", 4, "accelerators", "as", 1, "tcg",
                        "default-accelerator", "s", "tcg", "qemu-version", "s", "7.2.22", "machine-types",
                        "a{ss}", 1, "q35", "pc-q35-7.2");
}

static int on_console(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        char data[256];
        ssize_t n = read(fd, data, sizeof(data));

        if (n > 0 && write_all(fd, data, (size_t)n) >= 0)
                return 0;
        /* What comes after the end of input shows that output goes on. */
        (void)write_all(fd, "bye\r\n", 5);
        sd_event_source_disable_unref(s);
        return 0;
}

static int method_console(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        sd_event_source *s;
        int r;

        print_call(m, NULL);
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        r = sd_event_add_io(service.event, &s, pair[0], EPOLLIN, on_console, NULL);
        if (r >= 0)
                r = sd_event_source_set_io_fd_own(s, true);
        if (r < 0)
                return r;
        (void)write_all(TAKE_FD(pair[0]), "login: ", 7);
        return sd_bus_reply_method_return(m, "h", pair[1]);
}

static int method_log(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        static const char text[] = "first line\n\033]0;title\007\033[2Jsecond \033[32mline\033[0m\n";
        _cleanup_close_ int fd = memfd_with("log", text, sizeof(text) - 1);

        print_call(m, NULL);
        return fd < 0 ? fd : sd_bus_reply_method_return(m, "h", fd);
}

/* The file of the tests; none where there is none. */
static int method_provision_log(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_free_ char *path = strf("%s/provision.log", getenv("FAKE_FOLDER") ?: "/nowhere");
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);

        if (fd < 0)
                return sd_bus_error_set(
                                reterr, "org.vmctl1.Error.InvalidState", "It has not been provisioned");
        return sd_bus_reply_method_return(m, "h", fd);
}

static int method_qmp(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *command;

        print_call(m, NULL);
        if (sd_bus_message_read(m, "s", &command) < 0)
                return -EBADMSG;
        return sd_bus_reply_method_return(m, "s", "{\"return\": {\"status\": \"running\"}}");
}

/* A guest's sshd that comes up: QEMU closes what nobody in the guest takes, then it greets. */
static int on_guest(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        _cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
        static unsigned n;

        if (n++ > 0)
                (void)write_all(client, "SSH-2.0-fake\r\n", 14);
        return 0;
}

static uint16_t listen_as_guest(void) {
        struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t len = sizeof(address);

        if (fd < 0 || bind(fd, (struct sockaddr *)&address, len) < 0 || listen(fd, 8) < 0 ||
                        getsockname(fd, (struct sockaddr *)&address, &len) < 0 ||
                        sd_event_add_io(service.event, NULL, fd, EPOLLIN, on_guest, NULL) < 0)
                abort();
        return ntohs(address.sin_port);
}

/* A file of that VM's in $FAKE_FOLDER. */
static int get_file(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        _cleanup_free_ char *file = strf("%s/%s.%s", getenv("FAKE_FOLDER") ?: "/nowhere",
                        find_path(path)->name, streq(property, "SSHPrivateKey") ? "key" : "known_hosts");

        return sd_bus_message_append(reply, "s", file && access(file, F_OK) >= 0 ? file : "");
}

static int get_string(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        FakeVM *vm = find_path(path);
        int r = 0;

        if (vm && streq(property, "State") && streq(vm->state, "starting"))
                r = in_a_moment(crash, NULL);
        if (r < 0)
                return r;
        return sd_bus_message_append(reply, "s",
                        streq(property, "Version")                  ? "0.1"
                                        : streq(property, "Name")   ? vm->name
                                        : streq(property, "State")  ? vm->state
                                        : streq(property, "Folder") ? (getenv("FAKE_FOLDER") ?: "/nowhere")
                                        : streq(property, "FailureMessage") ? "the guest panicked"
                                        : streq(property, "SSHUser") ? (getenv("FAKE_USER") ?: "ubuntu")
                                        : streq(property, "UUID")    ? "6c1f"
                                                                     : "");
}

static int get_port(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "q", find_path(path)->ssh_port);
}

/* Of each kind one for each name in $FAKE_BROKEN. */
static int get_broken(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const char *name = getenv("FAKE_BROKEN");

        if (!name)
                return sd_bus_message_append(reply, "a(ssss)", 0);
        return sd_bus_message_append(reply, "a(ssss)", 2, "vm", name, "/vms/vm.json",
                        "It is \033[31mdamaged", "image", name, "/images/image.json", "It is damaged");
}

static int method_remove_broken(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *kind, *name, *broken = getenv("FAKE_BROKEN");
        int r;

        r = sd_bus_message_read(m, "ss", &kind, &name);
        if (r < 0)
                return r;
        if (!broken || !streq(name, broken))
                return sd_bus_error_setf(error,
                                streq(kind, "vm") ? "org.vmctl1.Error.NoSuchVM"
                                                  : "org.vmctl1.Error.NoSuchImage",
                                "There is none '%s' that cannot be read", name);
        (void)sd_bus_message_rewind(m, true);
        print_call(m, NULL);
        return sd_bus_reply_method_return(m, NULL);
}

static int get_strings(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "as", 0);
}

static int get_spec(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "a{sv}", 4, "vcpus", "u", 2, "memory", "t", 2 * GIB, "network",
                        "s", "user", "cpu-quota", "u", 50);
}

static int find_vm(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *reterr) {
        return find_path(path) != NULL;
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CreateVM", "sa{sv}", "o", method_create, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ListVMs", "", "a(sossusutsuqta{sv})", method_list, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("GetCapabilities", "", "a{sv}", method_capabilities, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("RemoveBrokenRecord", "ss", "", method_remove_broken, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Version", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("BrokenRecords", "a(ssss)", get_broken, 0, 0),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable vm_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Start", "a{sv}", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Stop", "t", "o", method_stop, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("WaitReady", "sta{sv}", "o", method_wait, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Kill", "", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Reset", "", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Suspend", "", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Resume", "", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Destroy", "", "", method_state, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("OpenConsole", "", "h", method_console, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("OpenConsoleLog", "a{sv}", "h", method_log, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("OpenProvisionLog", "", "h", method_provision_log, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("UpdateSpec", "a{sv}", "", method_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("SetLimits", "a{sv}", "", method_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Qmp", "s", "s", method_qmp, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Name", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("FailureMessage", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SSHUser", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SSHPrivateKey", "s", get_file, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SSHKnownHosts", "s", get_file, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("UUID", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Folder", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Spec", "a{sv}", get_spec, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("SSHPort", "q", get_port, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Warnings", "as", get_strings, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

/* NAME=STATE[:PORT], where the port "guest" is one that a guest of sorts listens on; or a number of VMs. */
static void add_vms(char *text) {
        char *state = strchr(text, '='), *port = strchr(text, ':');
        uint32_t n;

        if (!state && parse_u32(text, &n) >= 0)
                for (uint32_t i = 0; i < n; i++) {
                        _cleanup_free_ char *name = strf("vm%04u", i);

                        add_vm(name, "stopped")->ssh_port = 10022;
                }
        if (!state)
                return;
        *state++ = '\0';
        if (port)
                *port++ = '\0';
        add_vm(text, state)->ssh_port = !port  ? 0
                        : streq(port, "guest") ? listen_as_guest()
                                               : (uint16_t)atoi(port);
}

static int serve(int argc, char *argv[]) {
        int r;

        (void)signal(SIGPIPE, SIG_IGN);
        r = sd_event_new(&service.event);
        for (int i = 1; r >= 0 && i < argc; i++)
                add_vms(argv[i]);
        if (r >= 0)
                r = sd_bus_open_user(&service.bus);
        if (r >= 0)
                r = sd_bus_add_object_vtable(
                                service.bus, NULL, VMCTL_MANAGER_PATH, VMCTL_MANAGER, manager_vtable, NULL);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(
                                service.bus, NULL, VMCTL_VM_PREFIX, VMCTL_VM, vm_vtable, find_vm, NULL);
        if (r >= 0)
                r = images_serve(service.bus, service.event);
        if (r >= 0)
                r = sd_bus_attach_event(service.bus, service.event, 0);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(service.bus, true);
        if (r >= 0)
                r = sd_bus_request_name(service.bus, VMCTL_SERVICE, 0);
        if (r < 0)
                return r;
        puts("ready");
        (void)fflush(stdout);
        return sd_event_loop(service.event);
}

int main(int argc, char *argv[]) {
        return serve(argc, argv) < 0;
}
