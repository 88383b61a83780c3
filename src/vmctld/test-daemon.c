/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The parts of the service that need neither a bus nor a QEMU: the command line, children, waiters, groups.
 */
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/task.h"
#include "core/worker.h"
#include "host/cgroup.h"
#include "util/fd-util.h"
#include "util/test.h"
#include "vm/process.h"
#include "vm/qemu-command.h"
#include "vm/vm.h"

static const QemuFds no_fds = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 };

static bool has_pair(char *const *argv, const char *option, const char *value) {
        STRV_FOREACH(a, argv)
                if (streq(*a, option) && a[1] && streq(a[1], value))
                        return true;
        return false;
}

static bool mentions(char *const *argv, const char *what) {
        STRV_FOREACH(a, argv)
                if (strstr(*a, what))
                        return true;
        return false;
}

static char **command(VmRecord *rec, QemuFds fds, bool kvm) {
        const QemuMachine m = { .binary = "/usr/bin/qemu-system-x86_64",
                .record = rec,
                .kvm = kvm,
                .fds = fds,
                .uefi_code = "/usr/share/OVMF/OVMF_CODE_4M.fd" };
        char **argv;

        CHECK_EQ(qemu_command(&m, &argv), 0);
        return argv;
}

static void fill(VmRecord *rec) {
        *rec = (VmRecord){
                .name = (char *)"web",
                .uuid = (char *)"6f0c38a4-7f1c-4a3e-8f12-6e2f0d1d8b1a",
                .mac = (char *)"52:54:00:12:34:56",
                .machine = (char *)"pc-q35-7.2",
                .ssh_port = 10042,
        };
        vm_spec_init(&rec->spec);
}

static void test_command(void) {
        _cleanup_strv_ char **disk = NULL, **kernel = NULL, **micro = NULL, **kvm = NULL, **uefi = NULL,
                            **passt = NULL;
        QemuFds fds = no_fds;
        VmRecord rec;

        fill(&rec);
        fds.overlay_rw = 6;
        fds.overlay_ro = 7;
        fds.base = 8;
        fds.seed = 9;
        rec.spec.image_format = (char *)"raw";
        disk = command(&rec, fds, false);
        CHECK(has_pair(disk, "-add-fd", "fd=6,set=1") && has_pair(disk, "-add-fd", "fd=7,set=1"));
        CHECK(has_pair(disk, "-blockdev",
                        "{\"driver\":\"raw\",\"node-name\":\"base\",\"file\":\"base-file\",\"read-only\":"
                        "true}"));
        CHECK(has_pair(disk, "-blockdev",
                        "{\"driver\":\"qcow2\",\"node-name\":\"disk\",\"file\":\"disk-file\",\"backing\":"
                        "\"base\",\"read-only\":false,"
                        "\"discard\":\"unmap\"}"));
        CHECK(has_pair(disk, "-device",
                        "virtio-blk-pci,id=disk0,bus=pcie.0,addr=0x2,drive=disk,bootindex=1"));
        CHECK(has_pair(disk, "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:10042-:22"));
        CHECK(has_pair(disk, "-sandbox",
                        "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"));
        CHECK(has_pair(disk, "-cpu", "max") && has_pair(disk, "-vnc", "none"));
        CHECK(mentions(disk, "pcie-root-port") && !mentions(disk, "-kernel"));

        /* A qcow2 base never has a backing file of its own, whatever its header says by now. */
        rec.spec.image_format = (char *)"qcow2";
        kvm = command(&rec, fds, true);
        CHECK(has_pair(kvm, "-blockdev",
                        "{\"driver\":\"qcow2\",\"node-name\":\"base\",\"file\":\"base-file\",\"backing\":"
                        "null,\"read-only\":true}"));
        CHECK(has_pair(kvm, "-accel", "kvm") && has_pair(kvm, "-cpu", "host"));

        fds.network = 12;
        passt = command(&rec, fds, true);
        CHECK(has_pair(passt, "-netdev", "stream,id=net,server=off,addr.type=fd,addr.str=12"));
        CHECK(!mentions(passt, "hostfwd"));

        fds = no_fds;
        fds.kernel = 5;
        rec.spec.append = (char *)"console=ttyS0 a,b=c";
        rec.spec.network = VM_NETWORK_NONE;
        rec.spec.display = VM_DISPLAY_NONE;
        kernel = command(&rec, fds, false);
        CHECK(has_pair(kernel, "-kernel", "/proc/self/fd/5") &&
                        has_pair(kernel, "-append", "console=ttyS0 a,b=c"));
        CHECK(!mentions(kernel, "netdev") && !mentions(kernel, "-vnc") && !mentions(kernel, "virtio-blk"));

        rec.machine = (char *)"microvm";
        micro = command(&rec, fds, false);
        CHECK(!mentions(micro, "-pci") && !mentions(micro, "pcie") &&
                        mentions(micro, "virtio-serial-device"));

        rec.machine = (char *)"pc-q35-7.2";
        fds.vars_rw = 10;
        fds.vars_ro = 11;
        uefi = command(&rec, fds, false);
        CHECK(mentions(uefi, "pflash0=code,pflash1=vars") && mentions(uefi, "OVMF_CODE_4M.fd"));
}

static void test_tables(void) {
        for (int i = 0; i < _VM_STATE_MAX; i++)
                CHECK_EQ(vm_state_from_string(vm_state_to_string(i)), i);
        for (int i = 0; i < _NETWORK_BACKEND_MAX; i++)
                CHECK_EQ(network_backend_from_string(network_backend_to_string(i)), i);
        for (int i = 0; i < _VM_FAILURE_MAX; i++)
                CHECK_EQ(vm_failure_from_string(vm_failure_to_string(i)), i);
}

static void add_one(void *userdata, int r, const Error *error) {
        *(int *)userdata += r;
}

static void test_waiters(void) {
        Waiters *w = NULL;
        int a = 0, b = 0;

        CHECK_EQ(waiters_add(&w, NULL, NULL), 0);
        waiters_fire(&w, 1, NULL);
        CHECK_EQ(waiters_add(&w, add_one, &a), 0);
        CHECK_EQ(waiters_add(&w, add_one, &b), 0);
        waiters_fire(&w, 5, NULL);
        waiters_fire(&w, 5, NULL);
        CHECK_EQ(a, 5);
        CHECK_EQ(b, 5);
        CHECK(!w);
}

typedef struct Result {
        sd_event *event;
        int status;
        char *output;
} Result;

static void on_done(void *userdata, int status, const char *output, size_t len) {
        Result *r = userdata;

        r->status = status;
        r->output = strndup(output, len);
        sd_event_exit(r->event, 0);
}

static void check_task(
                sd_event *event, const char *script, uint64_t timeout, int status, const char *output) {
        char *const argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)script, NULL };
        const ChildSpec spec = { .argv = argv };
        Result result = { .event = event };
        Task *t;

        CHECK_EQ(task_run(event, &spec, "input", 5, timeout, on_done, &result, &t), 0);
        CHECK(sd_event_loop(event) >= 0);
        task_free(t);
        CHECK_EQ(result.status, status);
        if (output)
                CHECK_STREQ(result.output, output);
        free(result.output);
}

static void check_task_in_new_loop(const char *script, uint64_t timeout, int status, const char *output) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;

        CHECK(sd_event_new(&event) >= 0);
        check_task(event, script, timeout, status, output);
}

/* A provisioning has a file for each of its 256 steps, and three more. */
static void check_files(uint64_t timeout) {
        char *const argv[] = { (char *)"/bin/sh", (char *)"-c",
                (char *)"for f in /proc/self/fd/*; do echo; done | wc -l", NULL };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        ChildFd fds[WORKER_FILES_MAX];
        const ChildSpec spec = { .argv = argv, .fds = fds, .n_fds = ELEMENTSOF(fds) };
        Result result = {};
        Task *t;

        CHECK(sd_event_new(&event) >= 0);
        result.event = event;
        for (size_t i = 0; i < ELEMENTSOF(fds); i++)
                fds[i] = (ChildFd){ STDIN_FILENO, 3 + (int)i };
        CHECK_EQ(task_run(event, &spec, "", 0, timeout, on_done, &result, &t), 0);
        CHECK(sd_event_loop(event) >= 0);
        task_free(t);
        CHECK(atoi(result.output) >= WORKER_FILES_MAX + 3);
        free(result.output);
}

static void test_task(void) {
        const uint64_t enough = 20 * USEC_PER_SEC;

        check_task_in_new_loop("cat", enough, 0, "input");
        check_task_in_new_loop("echo no; exit 3", enough, 3, "no\n");
        check_task_in_new_loop("kill -9 $$", enough, -EINTR, "");
        check_task_in_new_loop("exec sleep 1000", 50 * USEC_PER_MSEC, -ETIMEDOUT, NULL);
        check_task_in_new_loop("yes", enough, -EFBIG, NULL);
        check_files(20 * USEC_PER_SEC);
        /* The output ends when all that have it are gone, not when the first child is. */
        check_task_in_new_loop("(sleep 0.1; echo late) & echo early", enough, 0, "early\nlate\n");
}

static void note(void *userdata) {
        *(bool *)userdata = true;
}

static void on_line(void *userdata, char *line, size_t len) {
        ((Result *)userdata)->output = strdup(line);
}

static void run_once(sd_event *event) {
        CHECK(sd_event_run(event, 20 * USEC_PER_SEC) > 0);
}

/* A shell and the program that it runs, which both hold lifeline[1]. */
static Task *start_family(sd_event *event, Result *result, int lifeline[static 2]) {
        char *const argv[] = { (char *)"/bin/sh", (char *)"-c", (char *)"sleep 1000 & echo up; wait", NULL };
        ChildFd fd = { .target = 3 };
        const ChildSpec spec = { .argv = argv, .fds = &fd, .n_fds = 1, .flags = CHILD_NEW_SESSION };
        Task *t;

        CHECK(pipe2(lifeline, O_CLOEXEC) >= 0);
        fd.fd = lifeline[1];
        *result = (Result){ .event = event, .status = 1000 };
        CHECK_EQ(task_run(event, &spec, "", 0, TASK_NO_DEADLINE, on_done, result, &t), 0);
        task_set_line_handler(t, on_line);
        lifeline[1] = safe_close(lifeline[1]);
        while (!result->output)
                run_once(event);
        CHECK_STREQ(result->output, "up");
        free(TAKE_PTR(result->output));
        return t;
}

static bool has_ended(int lifeline) {
        struct pollfd p = { .fd = lifeline };

        return poll(&p, 1, 20000) == 1 && (p.revents & POLLHUP);
}

static bool have_children(void) {
        siginfo_t si;

        return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) >= 0;
}

static size_t count_fds(void) {
        DIR *d = opendir("/proc/self/fd");
        size_t n = 0;

        CHECK(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

/* Who waits for a killed task hears once that it is gone. The program that it ran goes, too. */
static void test_kill(void) {
        _cleanup_close_pair_ int lifeline[2] = { -EBADF, -EBADF };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        bool gone = false;
        Result result;
        Task *t;

        CHECK(sd_event_new(&event) >= 0);
        t = start_family(event, &result, lifeline);
        CHECK_EQ(task_kill(t, note, &gone), 1);
        CHECK(!gone);
        while (!gone)
                run_once(event);
        CHECK(has_ended(lifeline[0]));
        CHECK_EQ(result.status, 1000);
        CHECK_EQ(task_kill(t, note, &gone), 0);
        task_free(t);
}

/* Nobody waits for one that was let go of, but the loop, which keeps nothing of it. */
static void test_let_go(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        size_t before;

        CHECK(sd_event_new(&event) >= 0);
        CHECK(sd_event_run(event, 0) >= 0);
        before = count_fds();
        for (int i = 0; i < 3; i++) {
                _cleanup_close_pair_ int lifeline[2] = { -EBADF, -EBADF };
                Result result;

                task_free(start_family(event, &result, lifeline));
                CHECK(has_ended(lifeline[0]));
                while (have_children())
                        run_once(event);
                CHECK_EQ(result.status, 1000);
        }
        CHECK_EQ(count_fds(), before);
}

/* --- A QEMU that ended while the service was away */

typedef struct Heard {
        bool event, ended;
} Heard;

static void on_monitor_event(Process *p, const char *name, const Json *data, void *userdata) {
        Heard *h = userdata;

        CHECK(!h->ended);
        CHECK_STREQ(name, "SHUTDOWN");
        h->event = true;
}

static void on_monitor_lost(Process *p, const Error *error, void *userdata) {
}

static void on_process_ended(Process *p, const ProcessEnd *end, void *userdata) {
        Heard *h = userdata;

        h->ended = true;
}

/* What it said before its end is heard before it is judged why it ended. */
static void test_attach_to_the_dead(void) {
        static const char said[] =
                        "{\"timestamp\":{\"seconds\":1,\"microseconds\":2},\"event\":\"SHUTDOWN\","
                        "\"data\":{\"guest\":true,\"reason\":\"guest-shutdown\"}}\n";
        static const ProcessHandlers handlers = {
                .monitor_event = on_monitor_event,
                .monitor_lost = on_monitor_lost,
                .ended = on_process_ended,
        };
        _cleanup_close_ int folder = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        int pair[2], pid_max = 1 << 22; /* nobody has this PID */
        const ProcessIdentity id = { .shim_pid = pid_max, .qemu_pid = pid_max, .shim_started = 1 };
        sd_event *event;
        Heard heard = {};
        Process *p;

        CHECK_EQ(sd_event_new(&event), 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) >= 0);
        CHECK_EQ(write_all(pair[1], said, strlen(said)), 0);
        close(pair[1]);
        CHECK_EQ(process_attach(event, NULL, &id, "vmctl-web.scope", pair[0], folder, &handlers, &heard, &p),
                        0);
        while (!heard.ended)
                run_once(event);
        CHECK(heard.event);
        process_free(p);
        sd_event_unref(event);
}

static void check_cgroup_path(const char *table, const char *controller, const char *expected) {
        _cleanup_free_ char *path = cgroup_path_in(table, controller);

        CHECK_EQ(!path, !expected);
        if (expected)
                CHECK_STREQ(path, expected);
}

static void test_cgroup(void) {
        static const char hybrid[] =
                        "11:cpu,cpuacct:/slice/a.scope\n4:memory:/b:c\n1:name=systemd:/d\n0::/e\n",
                          leftover[] = "1:name=systemd:/\n0::/vmctl.slice/vmctl-web.scope";
        _cleanup_free_ char *unit = NULL;
        CgroupUsage usage;

        check_cgroup_path(hybrid, "cpuacct", "/slice/a.scope");
        check_cgroup_path(hybrid, "memory", "/b:c");
        check_cgroup_path(hybrid, "cpu", "/slice/a.scope");
        check_cgroup_path(hybrid, NULL, "/e");
        check_cgroup_path(hybrid, "acct", NULL);
        check_cgroup_path(leftover, NULL, "/vmctl.slice/vmctl-web.scope");
        check_cgroup_path(leftover, "memory", NULL);
        check_cgroup_path("nonsense\n:", NULL, NULL);
        check_cgroup_path("", NULL, NULL);

        CHECK_EQ(cgroup_unit_of_pid(999999999, &unit), -ESRCH);
        cgroup_usage(999999999, &usage);
        CHECK(usage.cpu_nsec == 0 && usage.memory_current == 0);
}

int main(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) >= 0);
        test_command();
        test_tables();
        test_waiters();
        test_kill();
        test_let_go();
        test_attach_to_the_dead();
        test_task(); /* leaves children to loops that run no more */
        test_cgroup();
        return 0;
}
