/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "service.h"
#include "stats.h"
#include "util/fd-util.h"
#include "util/test.h"

#define NAME "org.vmctl1"
#define MANAGER_PATH "/org/vmctl1"
#define VM_PATH "/org/vmctl1/vm"
#define SYSTEMD_NAME "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define TIMEOUT (120 * USEC_PER_SEC) /* on a busy machine */

static sd_bus *bus;

static void check_call(int r, const char *method, const sd_bus_error *e) {
        if (r < 0)
                TEST_FAIL("%s: %s", method, sd_bus_error_is_set(e) ? e->message : strerror(-r));
}

void service_connect(void) {
        CHECK(sd_bus_open_system(&bus) >= 0);
        CHECK(sd_bus_set_method_call_timeout(bus, TIMEOUT) >= 0);
}

uint32_t service_pid(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        uint32_t pid;

        check_call(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus", "GetConnectionUnixProcessID", &e, &reply, "s",
                                   NAME),
                        "GetConnectionUnixProcessID", &e);
        CHECK(sd_bus_message_read(reply, "u", &pid) >= 0);
        return pid;
}

static char *vm_path(const char *vm) {
        char *path;

        CHECK(sd_bus_path_encode(VM_PATH, vm, &path) >= 0);
        return path;
}

static sd_bus_message *new_vm_call(const char *vm, const char *method) {
        _cleanup_free_ char *path = vm_path(vm);
        sd_bus_message *m;

        CHECK(sd_bus_message_new_method_call(bus, &m, NAME, path, NAME ".VM", method) >= 0);
        return m;
}

static sd_bus_message *new_manager_call(const char *method) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_method_call(bus, &m, NAME, MANAGER_PATH, NAME ".Manager", method) >= 0);
        return m;
}

/* Takes m over. The caller unrefs the reply. */
static sd_bus_message *call(sd_bus_message *m) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *request = m;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus_message *reply;

        check_call(sd_bus_call(bus, request, 0, &e, &reply), sd_bus_message_get_member(request), &e);
        return reply;
}

static void append_file(sd_bus_message *m, const char *key, const char *path) {
        _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -EBADF;

        if (!path)
                return;
        if (fd < 0)
                TEST_FAIL("%s: %s", path, strerror(errno));
        CHECK(sd_bus_message_append(m, "{sv}", key, "h", fd) >= 0);
}

static void append_spec(sd_bus_message *m, const NewVm *spec) {
        CHECK(sd_bus_message_open_container(m, 'a', "{sv}") >= 0);
        append_file(m, "image", spec->image);
        if (spec->image_name)
                CHECK(sd_bus_message_append(m, "{sv}", "image-name", "s", spec->image_name) >= 0);
        append_file(m, "kernel", spec->kernel);
        append_file(m, "initrd", spec->initrd);
        if (spec->kernel)
                CHECK(sd_bus_message_append(m, "{sv}", "append", "s", "console=ttyS0 quiet") >= 0);
        CHECK(sd_bus_message_append(m, "{sv}", "memory", "t", spec->memory) >= 0);
        CHECK(sd_bus_message_append(m, "{sv}", "network", "s", spec->network ? "user" : "none") >= 0);
        CHECK(sd_bus_message_close_container(m) >= 0);
}

void service_create(const char *vm, const NewVm *spec) {
        sd_bus_message *m = new_manager_call("CreateVM");

        CHECK(sd_bus_message_append(m, "s", vm) >= 0);
        append_spec(m, spec);
        sd_bus_message_unref(call(m));
}

void service_destroy(const char *vm) {
        sd_bus_message_unref(call(new_vm_call(vm, "Destroy")));
}

void service_start(const char *vm) {
        sd_bus_message *m = new_vm_call(vm, "Start");

        CHECK(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        sd_bus_message_unref(call(m));
}

void service_kill(const char *vm) {
        sd_bus_message_unref(call(new_vm_call(vm, "Kill")));
}

typedef struct JobEnd {
        const char *path; /* of the job */
        bool done;
} JobEnd;

/* systemd's and ours have the same arguments but for the third. */
static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *path, *third, *result;
        JobEnd *end = userdata;

        CHECK(sd_bus_message_skip(m, "u") >= 0 && sd_bus_message_read_basic(m, 'o', &path) >= 0);
        CHECK(sd_bus_message_read_basic(m, sd_bus_message_is_signal(m, NAME ".Manager", NULL) ? 'o' : 's',
                              &third) >= 0);
        CHECK(sd_bus_message_read_basic(m, 's', &result) >= 0);
        if (!end->path || !streq(path, end->path))
                return 0;
        CHECK_STREQ(result, "done");
        end->done = true;
        return 0;
}

static void await_job(JobEnd *end, sd_bus_message *reply) {
        CHECK(sd_bus_message_read(reply, "o", &end->path) >= 0);
        while (!end->done) {
                int r = sd_bus_process(bus, NULL);

                CHECK(r >= 0);
                if (r == 0)
                        CHECK(sd_bus_wait(bus, TIMEOUT) > 0);
        }
}

static sd_bus_slot *match_jobs(JobEnd *end) {
        sd_bus_slot *match;

        CHECK(sd_bus_match_signal(bus, &match, NAME, MANAGER_PATH, NAME ".Manager", "JobRemoved",
                              on_job_removed, end) >= 0);
        return match;
}

double service_create_from_url(const char *vm, const char *url, const NewVm *spec) {
        sd_bus_message *m = new_manager_call("CreateVMFromURL");
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        JobEnd end = {};
        _cleanup_(sd_bus_slot_unrefp) _unused_ sd_bus_slot *match = match_jobs(&end);
        double ms;

        CHECK(sd_bus_message_append(m, "ss", vm, url) >= 0);
        append_spec(m, spec);
        CHECK(sd_bus_message_append(m, "a{sv}", 0) >= 0);
        ms = now_ms();
        reply = call(m);
        await_job(&end, reply);
        return now_ms() - ms;
}

void service_stop(const char *vm) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = new_vm_call(vm, "Stop"), *reply = NULL;
        JobEnd end = {};
        _cleanup_(sd_bus_slot_unrefp) _unused_ sd_bus_slot *match = match_jobs(&end);

        CHECK(sd_bus_message_append(m, "t", UINT64_C(0)) >= 0);
        reply = call(sd_bus_message_ref(m));
        await_job(&end, reply);
}

static sd_bus_message *new_scope_call(pid_t pid) {
        _cleanup_free_ char *unit = strf("bench-%i.scope", (int)pid);
        sd_bus_message *m;

        CHECK(unit);
        CHECK(sd_bus_message_new_method_call(bus, &m, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_NAME ".Manager",
                              "StartTransientUnit") >= 0);
        CHECK(sd_bus_message_append(m, "ssa(sv)a(sa(sv))", unit, "fail", 9, "Slice", "s", "vmctl.slice",
                              "PIDs", "au", 1, (uint32_t)pid, "CollectMode", "s", "inactive-or-failed",
                              "CPUAccounting", "b", true, "MemoryAccounting", "b", true, "TasksAccounting",
                              "b", true, "MemoryMax", "t", GIB, "DevicePolicy", "s", "strict", "DeviceAllow",
                              "a(ss)", 5, "/dev/null", "rw", "/dev/zero", "rw", "/dev/full", "rw",
                              "/dev/random", "rw", "/dev/urandom", "rw", 0) >= 0);
        return m;
}

void systemd_make_scope(pid_t pid) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_slot_unrefp) _unused_ sd_bus_slot *match = NULL;
        JobEnd end = {};

        CHECK(sd_bus_match_signal_async(bus, &match, SYSTEMD_NAME, SYSTEMD_PATH, SYSTEMD_NAME ".Manager",
                              "JobRemoved", on_job_removed, NULL, &end) >= 0);
        reply = call(new_scope_call(pid));
        await_job(&end, reply);
}

double systemd_time_scope(void) {
        pid_t pid = fork();
        double ms;

        CHECK(pid >= 0);
        if (pid == 0) {
                (void)pause();
                _exit(0);
        }
        ms = now_ms();
        systemd_make_scope(pid);
        ms = now_ms() - ms;
        CHECK_EQ(kill(pid, SIGKILL), 0);
        CHECK_EQ(waitpid(pid, NULL, 0), pid);
        return ms;
}

void service_set_memory(const char *vm, uint64_t bytes) {
        sd_bus_message *m = new_vm_call(vm, "UpdateSpec");

        CHECK(sd_bus_message_append(m, "a{sv}", 1, "memory", "t", bytes) >= 0);
        sd_bus_message_unref(call(m));
}

size_t service_list(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = call(new_manager_call("ListVMs"));
        size_t n = 0;

        CHECK(sd_bus_message_enter_container(reply, 'a', "(sossusutsuqta{sv})") >= 0);
        while (sd_bus_message_skip(reply, "(sossusutsuqta{sv})") > 0)
                n++;
        return n;
}

char *service_vm_string(const char *vm, const char *property) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = vm_path(vm);
        char *value;

        check_call(sd_bus_get_property_string(bus, NAME, path, NAME ".VM", property, &e, &value), property,
                        &e);
        return value;
}

char *service_vm_spec_string(const char *vm, const char *key) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = vm_path(vm);
        const char *name, *value;

        check_call(sd_bus_get_property(bus, NAME, path, NAME ".VM", "Spec", &e, &reply, "a{sv}"), "Spec",
                        &e);
        CHECK(sd_bus_message_enter_container(reply, 'a', "{sv}") >= 0);
        while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
                CHECK(sd_bus_message_read_basic(reply, 's', &name) >= 0);
                if (streq(name, key)) {
                        CHECK(sd_bus_message_read(reply, "v", "s", &value) >= 0);
                        return strdup(value);
                }
                CHECK(sd_bus_message_skip(reply, "v") >= 0 && sd_bus_message_exit_container(reply) >= 0);
        }
        return NULL;
}

uint32_t service_vm_pid(const char *vm) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = vm_path(vm);
        uint32_t pid;

        check_call(sd_bus_get_property_trivial(bus, NAME, path, NAME ".VM", "PID", &e, 'u', &pid), "PID",
                        &e);
        return pid;
}

int service_open_console(const char *vm) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = call(new_vm_call(vm, "OpenConsole"));
        int fd;

        CHECK(sd_bus_message_read(reply, "h", &fd) >= 0);
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        CHECK(fd >= 0);
        return fd;
}

static sd_bus *new_client(uid_t uid) {
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        sd_bus *client;

        CHECK_EQ(seteuid(uid), 0);
        CHECK(sd_bus_open_system(&client) >= 0);
        check_call(sd_bus_call_method(
                                   client, NAME, MANAGER_PATH, NAME ".Manager", "ListVMs", &e, NULL, NULL),
                        "ListVMs", &e);
        CHECK_EQ(seteuid(0), 0);
        return client;
}

void service_add_clients(unsigned n) {
        static const char *const users[] = { "root", "alice", "bob" };

        for (unsigned i = 0; i < n; i++) {
                const struct passwd *user = getpwnam(users[i % ELEMENTSOF(users)]);

                CHECK(user);
                (void)new_client(user->pw_uid); /* ends with the program */
        }
}

unsigned service_count_matches(void) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error e = SD_BUS_ERROR_NULL;
        const char *name;
        uint32_t n;

        check_call(sd_bus_call_method(bus, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                   "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", &e, &reply, "s",
                                   NAME),
                        "GetConnectionStats", &e);
        CHECK(sd_bus_message_enter_container(reply, 'a', "{sv}") >= 0);
        while (sd_bus_message_enter_container(reply, 'e', "sv") > 0) {
                CHECK(sd_bus_message_read_basic(reply, 's', &name) >= 0);
                if (streq(name, "MatchRules")) {
                        CHECK(sd_bus_message_read(reply, "v", "u", &n) >= 0);
                        return n;
                }
                CHECK(sd_bus_message_skip(reply, "v") >= 0 && sd_bus_message_exit_container(reply) >= 0);
        }
        TEST_FAIL("The bus counts no match rules");
}
