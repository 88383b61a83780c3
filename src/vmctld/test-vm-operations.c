/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations on VMs, with what they wait for failing, coming late, twice, or never: each call and each
 * answer in turn. Whatever happens, whoever waits is told exactly once, what failed is as it was before, and
 * in the end nothing is held any more. */
#include <dirent.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/test-record-faults.h"
#include "fake-vm.h"
#include "service.h"
#include "util/fd-util.h"
#include "util/test.h"
#include "vm/broken.h"
#include "vm/vm-guest.h"
#include "vm/vm-index.h"

#define OWNER 1000
#define OTHER 1001

static Manager *m;
static sd_event *event;
static uint16_t port_first = 42000, port_last = 42063;
static char base[] = "/tmp/test-vm-operations.XXXXXX";

/* --- What clients are told */

static JobResult job_result;
static unsigned jobs_new, jobs_finished;
static bool other_hears;

static void on_vm_new(Manager *manager, Vm *vm) {
}
static void on_vm_removed(Manager *manager, const char *name, uid_t owner) {
}
static void on_vm_changed(Manager *manager, Vm *vm, VmChange what) {
}
static void on_vm_event(Manager *manager, Vm *vm, const VmEvent *e) {
}
static void on_image(void *userdata, Image *image) {
}
static void on_job_new(void *userdata, Job *job) {
        jobs_new++;
}
static void on_job_changed(void *userdata, Job *job) {
}
static void on_job_finished(void *userdata, Job *job) {
        jobs_finished++;
        job_result = job->result;
        other_hears = job_is_of(job, OTHER);
}

static const ManagerHooks hooks = {
        .vm_new = on_vm_new,
        .vm_removed = on_vm_removed,
        .vm_changed = on_vm_changed,
        .vm_event = on_vm_event,
        .image = { on_image, on_image, on_image },
        .job = { on_job_new, on_job_changed, on_job_finished },
};

typedef struct Waiter {
        unsigned told;
        int r;
        ErrorCode code;
} Waiter;
static Waiter waiter;
static char last_message[512]; /* of an error that somebody was told */

static void on_done(void *userdata, int r, const Error *error) {
        Waiter *w = userdata;

        /* Where memory is short it may be so for the error as well. */
        CHECK(r < 0 ? error || faults->happened : !error);
        w->told++;
        w->r = r;
        w->code = error ? error_code(error) : 0;
        if (error)
                (void)snprintf(last_message, sizeof(last_message), "%s", error_message(error));
        if (getenv("TEST_TALKS") && error)
                printf("told: %s\n", error_message(error));
}

static void on_raw(void *userdata, int r, const char *text, const Error *error) {
        on_done(userdata, r, error);
}

/* --- The bed */

static bool is_busy(void) {
        return m && m->core->operations.running;
}

static void start_service(void) {
        Config c = {
                .system = true,
                .state_dir = strf("%s/state", base),
                .runtime_dir = strf("%s/run", base),
                .conf_dir = strf("%s/conf", base),
                .qemu = strdup("/bin/true"),
                .uid_first = 100000,
                .uid_count = 4096,
                .port_first = port_first,
                .port_last = port_last,
                .stop_timeout = 30 * USEC_PER_SEC,
                .console_log_max = MIB,
        };

        memcpy(c.limits, resource_limits_default, sizeof(c.limits));
        fake_reset(event);
        waiter = (Waiter){};
        jobs_new = jobs_finished = fake_signals = 0;
        fake_grow_to = 0;
        fake_process_hangs = false;
        CHECK_EQ(service_new(event, NULL, NULL, &c, &hooks, &m), 0);
        CHECK_EQ(service_load(m), 0);
}

static void set_up(void) {
        start_service();
        fake_settle();
}

static unsigned count_files(int fd) {
        int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(copy);
        unsigned n = 0;

        CHECK(dir);
        for (struct dirent *de; (de = readdir(dir));)
                n += !streq(de->d_name, ".") && !streq(de->d_name, "..") && !streq(de->d_name, ".uids");
        closedir(dir);
        return n;
}

static void check_nothing_held(void) {
        for (int i = 0; i < _RESOURCE_MAX; i++)
                if (i != RESOURCE_VMS && i != RESOURCE_PORTS)
                        CHECK_EQ(accounts_total(m->core->accounts, i), 0);
        CHECK(!m->core->operations.running);
        CHECK_EQ(fake_live_workers, 0);
        CHECK_EQ(m->core->operations.jobs.n, 0);
        CHECK_EQ(jobs_new, jobs_finished);
        CHECK_EQ(accounts_used(m->core->accounts, OWNER, RESOURCE_VMS), m->n_vms);
}

/* Without faults: all that is left goes. */
static void tear_down(void) {
        fake_break_at(FAKE_NONE, 0);
        while (m->n_vms > 0) {
                Waiter gone = {};
                size_t n = m->n_vms;

                CHECK_EQ(vm_remove(m->vms[0], 0, on_done, &gone, NULL), 0);
                fake_settle();
                CHECK_EQ(gone.told, 1);
                CHECK_EQ(gone.r, 0);
                CHECK_EQ(m->n_vms, n - 1);
        }
        check_nothing_held();
        CHECK_EQ(accounts_total(m->core->accounts, RESOURCE_VMS), 0);
        CHECK_EQ(accounts_total(m->core->accounts, RESOURCE_PORTS), 0);
        CHECK_EQ(fake_live_processes, 0);
        CHECK_EQ(fake_live_scopes, 0);
        m = service_free(m);
        /* What could not be deleted is when the service starts again. */
        set_up();
        CHECK_EQ(m->n_vms, 0);
        CHECK_EQ(count_files(m->vms_fd), 0);
        CHECK_EQ(count_files(m->core->runtime_fd), 0);
        m = service_free(m);
}

static int create(bool start, Error **reterr) {
        static const int files[_VM_FILE_MAX] = { -EBADF, STDIN_FILENO, -EBADF, -EBADF };
        VmRecord record = { .name = fake_strdup("web"), .owner = OWNER };

        vm_spec_init(&record.spec);
        record.spec.disk = MIB;
        record.spec.start = start;
        return vm_create(m, OWNER, &record, files, on_done, &waiter, reterr);
}

static Vm *web(void) {
        return manager_find_vm(m, "web");
}

static VmState state(void) {
        return web() ? vm_state(web()) : _VM_STATE_INVALID;
}

/* As vm.json has it. */
static void read_record(VmRecord *ret) {
        _cleanup_free_ char *text = NULL;
        size_t len;

        CHECK_EQ(read_file_at(m->vms_fd, "web/vm.json", VM_RECORD_MAX_SIZE, &text, &len), 0);
        /* the line with the checksum is the last but one */
        text[len - strlen("  \"checksum\": \"crc32:01234567\"\n}\n") - 2] = '\n';
        text[len - strlen("  \"checksum\": \"crc32:01234567\"\n}\n") - 1] = '}';
        text[len - strlen("  \"checksum\": \"crc32:01234567\"\n}\n")] = '\0';
        CHECK_EQ(vm_record_parse(text, strlen(text), ret, NULL), 0);
}

static bool interrupted; /* by somebody who calls it off */

/* --- The scenarios: how it is before, what is asked for, what holds then */

typedef struct Scenario {
        const char *name;
        bool running; /* before; else there is a VM that is stopped, or, with `absent`, none */
        bool absent;
        int (*run)(Error **reterr);
        void (*check)(bool done); /* `done`: its waiter was told of no error */
        bool is_job;              /* its end is told by a job alone */
} Scenario;

static int run_create(Error **reterr) {
        return create(false, reterr);
}
static void check_create(bool done) {
        CHECK_EQ(m->n_vms, done);
        CHECK_EQ(count_files(m->vms_fd), done);
        CHECK_EQ(accounts_used(m->core->accounts, OWNER, RESOURCE_PORTS), done);
        if (done)
                CHECK_EQ(state(), VM_PREPARED);
}

static int run_create_started(Error **reterr) {
        return create(true, reterr);
}
static void check_create_started(bool done) {
        CHECK_EQ(count_files(m->vms_fd), m->n_vms);
        if (done)
                CHECK_EQ(state(), VM_RUNNING);
        else
                CHECK(!web() || !web()->process);
}

static int run_start(Error **reterr) {
        return vm_start(web(), OWNER, on_done, &waiter, reterr);
}
static void check_start(bool done) {
        CHECK_EQ(web()->process != NULL, done);
        CHECK_EQ(fake_live_processes, done);
        if (done)
                CHECK_EQ(state(), VM_RUNNING);
}

static int run_start_grown(Error **reterr) {
        fake_grow_to = 2 * MIB;
        return run_start(reterr);
}
static void check_start_grown(bool done) {
        VmRecord record;

        check_start(done);
        read_record(&record);
        CHECK_EQ(record.disk_size, web()->record.disk_size);
        vm_record_done(&record);
}

static int run_stop(Error **reterr) {
        Job *job;

        return vm_stop(web(), OWNER, 0, &job, reterr);
}
static void check_stop(bool done) {
        CHECK(job_result == JOB_DONE || (interrupted && job_result == JOB_CANCELED));
        CHECK(!web()->process || job_result == JOB_CANCELED);
}

static int run_kill(Error **reterr) {
        return vm_kill(web(), OWNER, on_done, &waiter, reterr);
}
static void check_kill(bool done) {
        CHECK(done);
        CHECK(!web()->process);
        CHECK(fake_signals & 1U << SIGKILL);
}

static int run_remove(Error **reterr) {
        return vm_remove(web(), OWNER, on_done, &waiter, reterr);
}
/* What fails is the deletion of files, which is told; or the VM is as it was. */
static void check_remove(bool done) {
        if (done)
                CHECK(!web());
        else if (web())
                CHECK(state() != VM_STOPPING);
}

static int run_suspend(Error **reterr) {
        return vm_suspend(web(), OWNER, on_done, &waiter, reterr);
}
static void check_suspend(bool done) {
        if (web()->process)
                CHECK_EQ(state(), done ? VM_SUSPENDED : VM_RUNNING);
}

static int run_qmp(Error **reterr) {
        return vm_qmp(web(), OWNER, "query-status", on_raw, &waiter, reterr);
}
static void check_qmp(bool done) {
}

static int change_limits(
                uint64_t memory_max, uint64_t cpu_weight, waiter_t done, void *userdata, Error **reterr) {
        VmSpec from, to;

        CHECK_EQ(vm_spec_copy(&web()->record.spec, &from), 0);
        CHECK_EQ(vm_spec_copy(&from, &to), 0);
        if (memory_max > 0)
                to.limits.memory_max = memory_max;
        if (cpu_weight > 0)
                to.limits.cpu_weight = cpu_weight;
        return vm_update(web(), OWNER, &from, &to, done, userdata, reterr);
}

static int run_limits(Error **reterr) {
        return change_limits(GIB, 0, on_done, &waiter, reterr);
}
/* In memory, on disk and in force are the same. */
static void check_limits(bool done) {
        const VmSpec *spec = &web()->record.spec;
        VmRecord record;

        read_record(&record);
        CHECK_EQ(spec->limits.memory_max, done ? GIB : 0);
        CHECK_EQ(record.spec.limits.memory_max, spec->limits.memory_max);
        if (web()->process && !strv_length(web()->warnings))
                CHECK_EQ(fake_memory_max, vm_limits_resolve(spec, !web()->kvm).memory_max);
        vm_record_done(&record);
}

static Job *guest_job;

static int run_wait_ready(Error **reterr) {
        const GuestOptions o = { .stage = GUEST_SSH, .private_key = STDIN_FILENO };

        return vm_guest_wait(web(), OWNER, &o, &guest_job, reterr);
}

/* Nobody logs in, so no key is needed. */
static int run_wait_sshd(Error **reterr) {
        const GuestOptions o = { .stage = GUEST_SSHD, .private_key = -EBADF };

        return vm_guest_wait(web(), OWNER, &o, &guest_job, reterr);
}

static void check_job(bool done) {
        VmRecord record;

        CHECK_EQ(jobs_new, jobs_finished);
        read_record(&record);
        CHECK_EQ(strv_length(record.provisioned), strv_length(web()->record.provisioned));
        vm_record_done(&record);
}
static void check_provision(bool done) {
        check_job(done);
        if (job_result == JOB_DONE) {
                CHECK_STREQ(web()->record.provisioned[0], "f1");
                CHECK_EQ(strv_length(web()->record.provisioned), 1);
        }
}

static int run_provision(Error **reterr) {
        ProvisionStep steps[] = { { (char *)"f1", (char *)"{\"kind\":\"shell\"}", STDIN_FILENO } };
        const GuestOptions o = {
                .stage = GUEST_SSH, .private_key = STDIN_FILENO, .steps = steps, .n_steps = 1
        };

        return vm_guest_provision(web(), OWNER, &o, &guest_job, reterr);
}

static const Scenario scenarios[] = {
        { "create", .absent = true, .run = run_create, .check = check_create },
        { "create and start", .absent = true, .run = run_create_started, .check = check_create_started },
        { "start", .run = run_start, .check = check_start },
        { "start with a larger disk", .run = run_start_grown, .check = check_start_grown },
        { "stop", true, .run = run_stop, .check = check_stop, .is_job = true },
        { "kill", true, .run = run_kill, .check = check_kill },
        { "remove", .run = run_remove, .check = check_remove },
        { "remove while it runs", true, .run = run_remove, .check = check_remove },
        { "suspend", true, .run = run_suspend, .check = check_suspend },
        { "qmp", true, .run = run_qmp, .check = check_qmp },
        { "limits", .run = run_limits, .check = check_limits },
        { "limits while it runs", true, .run = run_limits, .check = check_limits },
        { "wait", true, .run = run_wait_ready, .check = check_job, .is_job = true },
        { "wait for sshd", true, .run = run_wait_sshd, .check = check_job, .is_job = true },
        { "provision", true, .run = run_provision, .check = check_provision, .is_job = true },
};

static void prepare(const Scenario *s) {
        set_up();
        if (s->absent)
                return;
        CHECK_EQ(create(s->running, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        waiter = (Waiter){};
        fake_signals = 0;
}

/* False: there is no such point any more. */
static bool try(const Scenario *s, FakeFault fault, unsigned point) {
        _cleanup_error_ Error *e = NULL;
        bool broke;
        int r;

        if (getenv("TEST_TALKS"))
                printf("%s, fault %i at %u\n", s->name, fault, point);
        prepare(s);
        fake_break_at(fault, point);
        r = s->run(&e);
        CHECK((r < 0) == (e != NULL));
        fake_settle();
        broke = fake_broke();
        fake_break_at(FAKE_NONE, 0);
        if (!s->is_job || r < 0)
                CHECK_EQ(waiter.told, r < 0 ? 0 : 1);
        check_nothing_held();
        if (r >= 0)
                s->check(waiter.r >= 0);
        if (fault == FAKE_NONE || fault == FAKE_TWICE)
                CHECK(r >= 0 && waiter.r >= 0);
        tear_down();
        return broke;
}

static void test_faults(void) {
        static const FakeFault kinds[] = { FAKE_FAILS, FAKE_LATE, FAKE_TWICE };

        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++) {
                (void)try(&scenarios[i], FAKE_NONE, 0);
                for (size_t f = 0; f < ELEMENTSOF(kinds); f++) {
                        unsigned point = 0;

                        while (try(&scenarios[i], kinds[f], point))
                                point++;
                        printf("%s: %u points\n", scenarios[i].name, point);
                        CHECK(point > 0);
                }
        }
}

/* --- Each call of libc in turn, memory being short above all. What then works is open; but whoever waits is
 * told once, nothing stays held, and the VM can be destroyed. */

static void hold_faults(bool hold) {
        static int held = NO_FAULT;
        int countdown = faults->countdown;

        faults->countdown = hold ? NO_FAULT : held;
        held = hold ? countdown : NO_FAULT;
}

static bool try_call(const Scenario *s, int n) {
        _cleanup_error_ Error *e = NULL;
        bool happened;
        int r;

        if (getenv("TEST_TALKS"))
                printf("%s, call %i fails\n", s->name, n);
        prepare(s);
        faults->happened = false;
        faults->countdown = n;
        r = s->run(&e);
        fake_settle();
        faults->countdown = NO_FAULT;
        happened = faults->happened;
        CHECK(happened || r >= 0);
        if (!s->is_job || r < 0)
                CHECK_EQ(waiter.told, r < 0 ? 0 : 1);
        check_nothing_held();
        faults->happened = false;
        tear_down();
        return happened;
}

static void test_calls(void) {
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++) {
                int n = 0;

                while (try_call(&scenarios[i], n))
                        n++;
                printf("%s: %i calls\n", scenarios[i].name, n);
        }
}

/* --- Somebody calls it off, at each point */

typedef enum Interruption { CANCEL, DESTROY, KILL, STOP, END, _INTERRUPTION_MAX } Interruption;
static Interruption interruption;
static Waiter destroyer;

/* What a client can: a job, or the creation that it waits for. */
static void cancel_all(void) {
        for (Operation *op = m->core->operations.running; op; op = op->next)
                if (!op->parent &&
                                (op->job || op->type->kind == OPERATION_CREATE ||
                                                op->type->kind == OPERATION_START)) {
                        (void)operation_cancel_for(op, ERROR_CANCELED, "It was canceled");
                        return;
                }
}

static void interrupt(void) {
        Job *job;

        if (interruption == END)
                m = service_free(m);
        else if (interruption == CANCEL)
                cancel_all();
        else if (!web())
                return;
        else if (interruption == DESTROY)
                CHECK_EQ(vm_remove(web(), 0, on_done, &destroyer, NULL), 0);
        else if (interruption == KILL)
                (void)vm_kill(web(), 0, NULL, NULL, NULL);
        else
                (void)vm_stop(web(), 0, USEC_PER_SEC, &job, NULL);
}

static bool try_interrupted(const Scenario *s, Interruption how, unsigned point) {
        _cleanup_error_ Error *e = NULL;
        bool broke;
        int r;

        if (getenv("TEST_TALKS"))
                printf("%s, interrupted (%i) at %u\n", s->name, how, point);
        prepare(s);
        interruption = how;
        destroyer = (Waiter){};
        fake_break_at(FAKE_STOPS, point);
        r = s->run(&e);
        CHECK_EQ(r, 0);
        fake_settle();
        broke = fake_broke();
        fake_break_at(FAKE_NONE, 0);
        if (!m) { /* nobody has to be told by a service that ends, and none is twice */
                CHECK(waiter.told <= 1);
                fake_live_workers = fake_live_processes = fake_live_scopes = 0;
                set_up();
                tear_down();
                return true;
        }
        if (!s->is_job)
                CHECK_EQ(waiter.told, 1);
        CHECK(destroyer.told <= 1);
        CHECK(destroyer.r >= 0 || destroyer.code == ERROR_TIMEOUT); /* of a scope that goes late */
        if (destroyer.told)
                CHECK_EQ(web() != NULL, destroyer.r < 0);
        check_nothing_held();
        interrupted = true;
        if (how == CANCEL)
                s->check(waiter.r >= 0);
        interrupted = false;
        tear_down();
        return broke;
}

static void test_interruptions(void) {
        fake_on_stop = interrupt;
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
                for (int how = 0; how < _INTERRUPTION_MAX; how++) {
                        unsigned point = 0;

                        while (point < 32 && try_interrupted(&scenarios[i], how, point))
                                point++;
                }
}

/* --- One by one */

static void make_web(bool start) {
        set_up();
        CHECK_EQ(create(start, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.r, 0);
        waiter = (Waiter){};
}

/* A creation that is called off while the VM starts: the VM stays, does not run, and its maker hears it. */
static void test_canceled_creation(void) {
        set_up();
        CHECK_EQ(create(true, NULL), 0);
        CHECK(fake_run_until("process-executed"));
        CHECK_EQ(waiter.told, 0);
        CHECK_EQ(state(), VM_STARTING);
        cancel_all();
        CHECK_EQ(waiter.told, 0); /* QEMU is there still */
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_CANCELED);
        CHECK(web() && !web()->process);
        tear_down();
}

/* The scope of a start that failed goes while the next one waits for the host: that is asked once, and told
 * once. */
static void test_scope_goes_early(void) {
        make_web(false);
        CHECK_EQ(run_start(NULL), 0);
        CHECK(fake_run_until("start-scope"));
        CHECK_EQ(vm_kill(web(), OWNER, NULL, NULL, NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_CANCELED);
        waiter = (Waiter){};
        fake_signals = 0;
        CHECK_EQ(run_start(NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
}

/* QEMU does not say what it can, and it is not PID 1 that is blamed. */
static void test_host_is_silent(void) {
        make_web(false);
        CHECK_EQ(run_start(NULL), 0);
        CHECK(fake_run_until("host"));
        CHECK(fake_pass_deadline());
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_QEMU_FAILED);
        CHECK_STREQ(last_message, "'/bin/true' did not tell its version within 20 s");
        tear_down();
}

/* One that does not go keeps the VM from being started, and the error says so. */
static void test_scope_stays(void) {
        make_web(false);
        CHECK_EQ(run_start(NULL), 0);
        CHECK(fake_run_until("start-scope"));
        CHECK_EQ(vm_kill(web(), OWNER, NULL, NULL, NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        CHECK_EQ(waiter.told, 1);
        waiter = (Waiter){};
        fake_signals = 0;
        CHECK_EQ(run_start(NULL), 0);
        CHECK(fake_answer("host"));
        CHECK_EQ(waiter.told, 0);
        CHECK(fake_pass_deadline());
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_SCOPE_FAILED);
        CHECK(strstr(last_message, "'vmctl-web.scope' of the last run of VM 'web' is not gone"));
        waiter = (Waiter){};
        CHECK_EQ(run_start(NULL), 0); /* PID 1 is asked anew */
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
}

/* Whoever joins a stop hears of its end, and may be in more of a hurry. */
static void test_joined_stop(void) {
        Job *first, *second, *third;
        uint64_t deadline;

        make_web(true);
        CHECK_EQ(vm_stop(web(), OWNER, 20 * USEC_PER_SEC, &first, NULL), 0);
        deadline = vm_stop_deadline(web()->stop);
        CHECK_EQ(vm_stop(web(), OTHER, 10 * USEC_PER_SEC, &second, NULL), 0);
        CHECK(first == second);
        CHECK(vm_stop_deadline(web()->stop) < deadline);
        deadline = vm_stop_deadline(web()->stop);
        CHECK_EQ(vm_stop(web(), 0, 60 * USEC_PER_SEC, &third, NULL), 0);
        CHECK_EQ(vm_stop_deadline(web()->stop), deadline);
        fake_settle();
        CHECK_EQ(jobs_finished, 1);
        CHECK_EQ(job_result, JOB_DONE);
        CHECK(other_hears);
        tear_down();
}

/* What cannot be beside what is under way is refused, and says why; a stop can be called off in time. */
static void test_conflicts(void) {
        _cleanup_error_ Error *e = NULL;
        Job *job;

        make_web(true);
        CHECK_EQ(vm_stop(web(), OWNER, 0, &job, NULL), 0);
        CHECK(vm_start(web(), OWNER, on_done, &waiter, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_INVALID_STATE);
        CHECK_STREQ(error_message(e), "VM 'web' cannot be started while it is stopping");
        CHECK(operation_cancel_for(job->operation, ERROR_CANCELED, "It was canceled"));
        fake_settle();
        CHECK_EQ(waiter.told, 0);
        CHECK_EQ(job_result, JOB_CANCELED);
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
}

/* Changes that meet are both made. */
static void test_two_updates(void) {
        Waiter other = {};

        make_web(true);
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        CHECK_EQ(change_limits(0, 77, on_done, &other, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told + other.told, 2);
        CHECK_EQ(waiter.r + other.r, 0);
        CHECK_EQ(web()->record.spec.limits.memory_max, GIB);
        CHECK_EQ(web()->record.spec.limits.cpu_weight, 77);
        CHECK_EQ(fake_memory_max, GIB);
        tear_down();
}

/* The other one is made though the first fails: its child could not be forked. */
static void test_update_behind_a_failed_one(void) {
        Waiter other = {};

        make_web(false);
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        fake_break_at(FAKE_FAILS, 0);
        CHECK_EQ(change_limits(0, 77, on_done, &other, NULL), 0);
        fake_settle();
        fake_break_at(FAKE_NONE, 0);
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(other.told, 1);
        waiter = other = (Waiter){};
        CHECK_EQ(change_limits(2 * GIB, 0, on_done, &waiter, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(web()->record.spec.limits.memory_max, 2 * GIB);
        tear_down();
}

/* The scope is not there yet, or no more: that is no failure, and the limits are in force when it is there.
 */
static void test_update_without_scope(void) {
        make_web(true);
        fake_scope_is_late = true;
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(web()->record.spec.limits.memory_max, GIB);
        CHECK_EQ(fake_memory_max, GIB);
        tear_down();
}

/* Whoever asked hears that it failed: so they must not be in force. */
static void test_update_without_answer(void) {
        uint64_t before;

        make_web(true);
        before = fake_memory_max;
        fake_limits_unsaid = true;
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK(waiter.r < 0);
        CHECK_EQ(web()->record.spec.limits.memory_max, 0);
        CHECK_EQ(fake_memory_max, before);
        tear_down();
}

static void on_host_known(void *userdata) {
}

/* Limits are being written when the VM is started: it runs with what is shown. */
static void test_start_meets_update(void) {
        Waiter other = {};

        make_web(false);
        CHECK_EQ(host_ensure(web()->manager->host, on_host_known, NULL), 0);
        fake_settle();
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        CHECK_EQ(vm_start(web(), OWNER, on_done, &other, NULL), 0);
        CHECK(fake_run_until("task")); /* the disk has not answered */
        CHECK(!web()->process);
        fake_settle();
        CHECK_EQ(waiter.told + other.told, 2);
        CHECK_EQ(waiter.r + other.r, 0);
        CHECK_EQ(state(), VM_RUNNING);
        CHECK_EQ(web()->record.spec.limits.memory_max, GIB);
        CHECK_EQ(fake_memory_max, GIB);
        tear_down();
}

/* The other way round: the start has begun, and the scope is made before they are written. */
static void test_update_meets_start(void) {
        Waiter other = {};

        make_web(false);
        CHECK_EQ(vm_start(web(), OWNER, on_done, &other, NULL), 0);
        CHECK_EQ(change_limits(GIB, 0, on_done, &waiter, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told + other.told, 2);
        CHECK_EQ(waiter.r + other.r, 0);
        CHECK_EQ(state(), VM_RUNNING);
        CHECK_EQ(web()->record.spec.limits.memory_max, GIB);
        CHECK_EQ(fake_memory_max, GIB);
        tear_down();
}

/* QEMU has its SIGTERM when the service is started again: it keeps its time. */
static void test_restart_while_terminating(void) {
        Job *job;

        make_web(true);
        CHECK_EQ(vm_stop(web(), OWNER, USEC_PER_SEC, &job, NULL), 0);
        CHECK(fake_run_until("process-end")); /* but the guest takes its time */
        CHECK(fake_pass_deadline());
        CHECK(fake_signals & 1U << SIGTERM);
        CHECK(!(fake_signals & 1U << SIGKILL));
        m = service_free(m);
        fake_live_processes = fake_live_scopes = 0;
        start_service();
        CHECK_EQ(state(), VM_STOPPING);
        CHECK(!(fake_signals & 1U << SIGKILL));
        CHECK_EQ(vm_stop_step(web()->stop), VM_STOP_TERMINATE);
        CHECK(fake_pass_deadline());
        CHECK(fake_signals & 1U << SIGKILL);
        fake_settle();
        CHECK(!web()->process);
        CHECK_EQ(web()->failure, VM_FAILURE_NONE);
        tear_down();
}

static void say(const char *name, const char *data) {
        _cleanup_json_ Json *json = NULL;

        CHECK_EQ(json_parse(data, strlen(data), NULL, &json, NULL), 0);
        vm_process_handlers.monitor_event(web()->process, name, json, web());
}

static void restart(void) {
        m = service_free(m);
        fake_live_processes = fake_live_scopes = 0;
        start_service();
}

/* What QEMU says of its end is known to a service that is started again, however soon the first one died. */
static void test_restart_after_last_words(void) {
        make_web(true);
        say("GUEST_PANICKED", "{\"action\":\"poweroff\"}");
        restart();
        CHECK(web()->panicked);
        say("SHUTDOWN", "{\"guest\":true,\"reason\":\"guest-panic\"}");
        restart();
        CHECK_STREQ(web()->shutdown_reason, "guest-panic");
        CHECK_EQ(run_kill(NULL), 0);
        fake_settle();
        CHECK_EQ(web()->failure, VM_FAILURE_GUEST_PANIC);
        tear_down();

        make_web(true);
        vm_note_status(web(), "internal-error");
        restart();
        fake_settle();
        CHECK_EQ(web()->failure, VM_FAILURE_INTERNAL_ERROR);
        tear_down();
}

/* QEMU says twice how it ends, and that it runs again. */
static void test_events_twice(void) {
        make_web(true);
        for (int i = 0; i < 2; i++)
                say("RESUME", "{}");
        fake_settle();
        CHECK_EQ(state(), VM_RUNNING);
        for (int i = 0; i < 2; i++)
                say("NETDEV_STREAM_DISCONNECTED", "{}");
        CHECK_EQ(strv_length(web()->warnings), 1);
        for (int i = 0; i < 2; i++)
                say("GUEST_PANICKED", "{\"action\":\"poweroff\"}");
        for (int i = 0; i < 2; i++)
                say("SHUTDOWN", "{\"guest\":true,\"reason\":\"guest-panic\"}");
        CHECK_EQ(run_kill(NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(web()->failure, VM_FAILURE_GUEST_PANIC);
        tear_down();
}

/* The internal error of the accelerator is told twice, and what ends for it is ended once. */
static void test_internal_error_twice(void) {
        make_web(true);
        for (int i = 0; i < 2; i++)
                vm_note_status(web(), "internal-error");
        fake_settle();
        CHECK_EQ(fake_live_processes, 0);
        CHECK_EQ(web()->failure, VM_FAILURE_INTERNAL_ERROR);
        tear_down();
}

/* What is left of web when its document is damaged. */
static void make_broken(bool running) {
        int folder;

        make_web(running);
        folder = openat(m->vms_fd, "web", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK_EQ(write_file_at(folder, "vm.json", "{}", 2, 0600, 0), 0);
        close(folder);
        restart();
        CHECK(!web());
        CHECK(broken_find(m, JOB_TARGET_VM, "web"));
}

static int remove_broken(Error **reterr) {
        return broken_remove(m, JOB_TARGET_VM, "web", 0, on_done, &waiter, reterr);
}

/* A VM that cannot be read is removed when nothing runs for it any more, and not before; its name is free.
 */
static void test_broken(void) {
        _cleanup_error_ Error *e = NULL;

        make_broken(true);
        CHECK(create(false, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_VM_EXISTS);
        CHECK_EQ(remove_broken(NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        CHECK_EQ(waiter.told, 0);
        CHECK_EQ(count_files(m->vms_fd), 1);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(count_files(m->vms_fd), 0);
        CHECK_EQ(count_files(m->core->runtime_fd), 0);
        CHECK(!broken_find(m, JOB_TARGET_VM, "web"));
        e = error_free(e);
        CHECK(remove_broken(&e) < 0);
        CHECK_EQ(error_code(e), ERROR_NO_SUCH_VM);
        waiter = (Waiter){};
        CHECK_EQ(create(false, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.r, 0);
        tear_down();
}

/* Nothing of it is gone when PID 1 does not say that its scope is; who asks twice is told twice. */
static void test_broken_without_systemd(void) {
        Waiter other = {};

        make_broken(true);
        CHECK_EQ(remove_broken(NULL), 0);
        CHECK_EQ(broken_remove(m, JOB_TARGET_VM, "web", OWNER, on_done, &other, NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        CHECK(fake_pass_deadline());
        CHECK_EQ(waiter.told + other.told, 2);
        CHECK_EQ(waiter.code, ERROR_TIMEOUT);
        CHECK_EQ(other.code, ERROR_TIMEOUT);
        CHECK(broken_find(m, JOB_TARGET_VM, "web"));
        CHECK_EQ(count_files(m->vms_fd), 1);
        CHECK(!m->core->operations.running);
        CHECK_EQ(remove_broken(NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 2);
        CHECK_EQ(waiter.r, 0);
        tear_down();
}

/* Each call and each answer fails, or comes late. */
static void test_broken_faults(void) {
        for (FakeFault fault = FAKE_FAILS; fault <= FAKE_LATE; fault++) {
                bool broke = true;

                for (unsigned point = 0; broke; point++) {
                        int r;

                        make_broken(false);
                        fake_break_at(fault, point);
                        r = remove_broken(NULL);
                        fake_settle();
                        broke = fake_broke();
                        fake_break_at(FAKE_NONE, 0);
                        CHECK_EQ(waiter.told, r >= 0);
                        CHECK(!m->core->operations.running);
                        if (broken_find(m, JOB_TARGET_VM, "web")) {
                                CHECK(r < 0 || waiter.r < 0);
                                CHECK_EQ(remove_broken(NULL), 0);
                                fake_settle();
                        }
                        CHECK(!broken_find(m, JOB_TARGET_VM, "web"));
                        tear_down();
                }
        }
}

/* PID 1 does not say that the scope is gone: the VM is as it was, and can be destroyed when it says so. */
static void test_removal_without_systemd(void) {
        make_web(true);
        CHECK_EQ(run_remove(NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        CHECK_EQ(waiter.told, 0);
        CHECK(fake_pass_deadline());
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_TIMEOUT);
        CHECK_EQ(state(), VM_STOPPED);
        CHECK(!m->core->operations.running);
        m = service_free(m);
        set_up(); /* the scope is in nobody's way any more */
        CHECK(web());
        CHECK_EQ(run_remove(NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK(!web());
        fake_live_scopes = 0;
        tear_down();
}

/* A removal that waits for the scope goes on when the service is started again. */
static void test_restart_while_removing(void) {
        make_web(true);
        CHECK_EQ(run_remove(NULL), 0);
        CHECK(fake_run_until("scope-removed"));
        restart();
        CHECK(!web());
        fake_settle();
        tear_down();
}

/* --- A process that hangs in the kernel: SIGKILL does nothing to it */

static void make_hanging(void) {
        make_web(true);
        fake_process_hangs = true;
}

static void pass_deadlines(void) {
        while (waiter.told == 0 && jobs_finished == 0) {
                CHECK(!fake_run_until("process-end"));
                CHECK(fake_pass_deadline());
        }
}

/* The VM is shown as what it is: one that was killed, and has not ended. */
static void check_hangs(void) {
        _cleanup_error_ Error *e = NULL;
        Waiter none = {};

        CHECK(fake_signals & 1U << SIGKILL);
        CHECK_EQ(state(), VM_STOPPING);
        CHECK_EQ(m->n_vms, 1);
        CHECK_EQ(count_files(m->vms_fd), 1);
        check_nothing_held();
        CHECK(vm_start(web(), OWNER, on_done, &none, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_INVALID_STATE);
        CHECK_EQ(none.told, 0);
}

static void check_hangs_told(void) {
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_QEMU_HANGS);
        CHECK_EQ(strv_length(web()->warnings), 1);
        check_hangs();
        waiter = (Waiter){};
}

static void test_destroy_that_hangs(void) {
        make_hanging();
        for (int i = 0; i < 2; i++) {
                CHECK_EQ(run_remove(NULL), 0);
                pass_deadlines();
                check_hangs_told();
        }
        CHECK_EQ(run_remove(NULL), 0);
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK(!web());
        tear_down();

        make_hanging(); /* it ends when nobody waits for it any more */
        CHECK_EQ(run_remove(NULL), 0);
        pass_deadlines();
        check_hangs_told();
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(state(), VM_STOPPED);
        fake_signals = 0;
        CHECK_EQ(run_start(NULL), 0);
        fake_settle();
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
}

static void test_kill_that_hangs(void) {
        Waiter other = {};

        make_hanging();
        CHECK_EQ(run_kill(NULL), 0);
        CHECK_EQ(vm_kill(web(), OTHER, on_done, &other, NULL), 0);
        pass_deadlines();
        CHECK_EQ(other.code, ERROR_QEMU_HANGS);
        check_hangs_told();
        CHECK_EQ(run_kill(NULL), 0);
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.r, 0);
        CHECK_EQ(state(), VM_STOPPED);
        tear_down();
}

/* All three steps of it; who stops it once more does not have the guest asked. */
static void test_stop_that_hangs(void) {
        make_hanging();
        CHECK_EQ(run_stop(NULL), 0);
        pass_deadlines();
        CHECK_EQ(job_result, JOB_FAILED);
        CHECK(fake_signals & 1U << SIGTERM);
        check_hangs();
        fake_signals = 0;
        jobs_new = jobs_finished = 0;
        CHECK_EQ(run_stop(NULL), 0);
        CHECK_EQ(vm_stop_step(web()->stop), VM_STOP_KILL);
        CHECK(fake_signals & 1U << SIGKILL);
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(jobs_finished, 1);
        CHECK_EQ(job_result, JOB_DONE);
        CHECK_EQ(state(), VM_STOPPED);
        tear_down();
}

/* It hangs while it starts, as in opening a file: who started it hears that, and not when it has ended. */
static void test_start_that_hangs(void) {
        make_web(false);
        CHECK_EQ(run_start(NULL), 0);
        CHECK(fake_run_until("query-status"));
        fake_process_hangs = true;
        while (waiter.told == 0)
                CHECK(fake_pass_deadline());
        CHECK_EQ(waiter.code, ERROR_QMP_TIMEOUT);
        waiter = (Waiter){};
        check_hangs();
        CHECK_EQ(run_remove(NULL), 0);
        pass_deadlines();
        check_hangs_told();
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(state(), VM_STOPPED);
        fake_signals = 0;
        CHECK_EQ(run_start(NULL), 0);
        fake_settle();
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
}

/* A service that is started again knows what was killed. */
static void test_restart_while_it_hangs(void) {
        make_hanging();
        CHECK_EQ(run_remove(NULL), 0);
        pass_deadlines();
        check_hangs_told();
        restart();
        check_hangs();
        CHECK_EQ(run_remove(NULL), 0);
        fake_process_wakes();
        fake_settle();
        CHECK_EQ(waiter.r, 0);
        CHECK(!web());
        tear_down();
}

/* A name is taken for whoever waits for an image, and free again when they do not any more. */
static void test_reservation(void) {
        _cleanup_error_ Error *e = NULL;
        VmPlace place;

        set_up();
        CHECK_EQ(vm_reserve(m, "web", OTHER, &place, NULL), 0);
        CHECK(create(false, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_VM_EXISTS);
        CHECK_EQ(accounts_used(m->core->accounts, OTHER, RESOURCE_VMS), 1);
        vm_place_done(&place);
        CHECK_EQ(accounts_used(m->core->accounts, OTHER, RESOURCE_VMS), 0);
        CHECK_EQ(create(false, NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.r, 0);
        tear_down();
}

static int create_with_network(Error **reterr) {
        static const int files[_VM_FILE_MAX] = { -EBADF, STDIN_FILENO, -EBADF, -EBADF };
        VmRecord record = { .name = fake_strdup("web"), .owner = OWNER };

        vm_spec_init(&record.spec);
        record.spec.network = VM_NETWORK_USER;
        return vm_create(m, OWNER, &record, files, on_done, &waiter, reterr);
}

/* Listens at this port of the loopback address, or, with 0, at one of the kernel's choice. */
static int listen_at(uint16_t port, uint16_t *ret) {
        struct sockaddr_in sa = {
                .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
        };
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        socklen_t len = sizeof(sa);

        CHECK(fd >= 0);
        CHECK(bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) >= 0 && listen(fd, 1) >= 0);
        CHECK(getsockname(fd, (struct sockaddr *)&sa, &len) >= 0);
        *ret = ntohs(sa.sin_port);
        return fd;
}

static void check_no_port(uint16_t port) {
        _cleanup_free_ char *message = strf(
                        "No SSH port from %u to %u (SSHPortRange=) is left for VM 'web': "
                        "other VMs have 0, and at 1 other programs listen",
                        port, port);

        CHECK_EQ(waiter.told, 1);
        CHECK_EQ(waiter.code, ERROR_PORTS_EXHAUSTED);
        CHECK_STREQ(last_message, message);
        waiter = (Waiter){};
}

/* Somebody listens at each port of the range, be it that the VM has one already. */
static void test_ports_taken(void) {
        uint16_t port;
        int fd = listen_at(0, &port);

        port_first = port_last = port;
        set_up();
        CHECK_EQ(create_with_network(NULL), 0);
        fake_settle();
        check_no_port(port);
        CHECK_EQ(m->n_vms, 0);
        CHECK_EQ(accounts_total(m->core->accounts, RESOURCE_PORTS), 0);
        close(fd);
        CHECK_EQ(create_with_network(NULL), 0);
        fake_settle();
        CHECK_EQ(waiter.r, 0);
        waiter = (Waiter){};
        fd = listen_at(port, &port);
        CHECK_EQ(run_start(NULL), 0);
        fake_settle();
        check_no_port(port);
        CHECK_EQ(state(), VM_PREPARED);
        CHECK_EQ(web()->record.ssh_port, port);
        close(fd);
        CHECK_EQ(run_start(NULL), 0);
        fake_settle();
        CHECK_EQ(state(), VM_RUNNING);
        tear_down();
        port_first = 42000;
        port_last = 42063;
}

/* Without a descriptor left the kernel that was given is not taken for none. */
static void test_no_descriptors(void) {
        static const int files[_VM_FILE_MAX] = { -EBADF, STDIN_FILENO, -EBADF, -EBADF };
        struct rlimit old, none;
        int copies[_VM_FILE_MAX], next = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);

        CHECK(getrlimit(RLIMIT_NOFILE, &old) >= 0);
        none = (struct rlimit){ (rlim_t)next, old.rlim_max };
        close(next);
        CHECK(setrlimit(RLIMIT_NOFILE, &none) >= 0);
        CHECK_EQ(vm_files_dup(files, copies), -EMFILE);
        CHECK(setrlimit(RLIMIT_NOFILE, &old) >= 0);
        CHECK_EQ(vm_files_dup(files, copies), 0);
        CHECK(copies[VM_FILE_KERNEL] > 2 && copies[VM_FILE_IMAGE] < 0);
        vm_files_close(copies);
}

/* A definition without steps any more: that is noted, and there is nothing to do in the guest. */
static void test_no_steps(void) {
        const GuestOptions o = { .stage = GUEST_SSH, .private_key = STDIN_FILENO };
        VmRecord record;

        make_web(true);
        CHECK_EQ(run_provision(NULL), 0);
        fake_settle();
        CHECK_EQ(job_result, JOB_DONE);
        CHECK_EQ(strv_length(web()->record.provisioned), 1);
        CHECK_EQ(vm_guest_provision(web(), OWNER, &o, &guest_job, NULL), 0);
        fake_settle();
        CHECK_EQ(jobs_finished, 2);
        CHECK_EQ(job_result, JOB_DONE);
        read_record(&record);
        CHECK_EQ(strv_length(record.provisioned), 0);
        CHECK_EQ(strv_length(web()->record.provisioned), 0);
        vm_record_done(&record);
        tear_down();
}

/* One user cannot have more workers than theirs, and hears so at once; root has what it needs. */
static void test_quota(void) {
        const GuestOptions o = { .stage = GUEST_SSH, .private_key = STDIN_FILENO };
        uint64_t limit = resource_limits_default[RESOURCE_WORKERS].per_user;
        _cleanup_error_ Error *e = NULL;
        Job *job;

        make_web(true);
        for (uint64_t i = 0; i < limit; i++)
                CHECK_EQ(vm_guest_wait(web(), OWNER, &o, &job, NULL), 0);
        CHECK(vm_guest_wait(web(), OWNER, &o, &job, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_QUOTA_EXCEEDED);
        CHECK_EQ(accounts_used(m->core->accounts, OWNER, RESOURCE_WORKERS), limit);
        CHECK_EQ(vm_guest_wait(web(), 0, &o, &job, NULL), 0);
        CHECK_EQ(accounts_used(m->core->accounts, 0, RESOURCE_WORKERS), 1);
        fake_settle();
        CHECK_EQ(accounts_total(m->core->accounts, RESOURCE_WORKERS), 0);
        tear_down();
}

static void check_uid(uid_t expected) {
        uid_t uid;

        CHECK_EQ(uid_pool_pick(m->core->uids, &uid, NULL), 0);
        CHECK_EQ(uid, expected);
}

/* What was somebody's is nobody's in this boot until there is no other; a restart does not change that. */
static void test_uids(void) {
        uid_t first, last;

        set_up();
        first = m->core->config.uid_first;
        last = first + m->core->config.uid_count - 1;
        check_uid(first);
        uid_pool_hold(m->core->uids, first, false);
        check_uid(first + 1);
        m = service_free(m);
        set_up();
        check_uid(first + 256); /* so many are noted at once */
        for (uid_t uid = first + 257; uid <= last; uid++)
                check_uid(uid);
        uid_pool_hold(m->core->uids, first + 300, false);
        uid_pool_hold(m->core->uids, first + 299, false);
        for (uid_t uid = first; uid < first + 256; uid++)
                check_uid(uid);
        check_uid(first + 300);
        check_uid(first + 299);
        CHECK(uid_pool_pick(m->core->uids, &first, NULL) < 0);
        CHECK(unlinkat(m->core->runtime_fd, ".uids", 0) >= 0);
        m = service_free(m);
}

int main(void) {
        faults_init();
        fake_hold_faults = hold_faults;
        fake_is_busy = is_busy;
        setvbuf(stdout, NULL, _IOLBF, 0);
        CHECK(mkdtemp(base));
        CHECK_EQ(sd_event_new(&event), 0);
        test_uids();
        test_reservation();
        test_no_descriptors();
        test_ports_taken();
        test_canceled_creation();
        test_scope_goes_early();
        test_host_is_silent();
        test_scope_stays();
        test_joined_stop();
        test_conflicts();
        test_two_updates();
        test_update_behind_a_failed_one();
        test_update_without_scope();
        test_update_without_answer();
        test_start_meets_update();
        test_update_meets_start();
        test_restart_while_terminating();
        test_restart_after_last_words();
        test_events_twice();
        test_internal_error_twice();
        test_removal_without_systemd();
        test_destroy_that_hangs();
        test_kill_that_hangs();
        test_stop_that_hangs();
        test_start_that_hangs();
        test_restart_while_it_hangs();
        test_broken();
        test_broken_without_systemd();
        test_broken_faults();
        test_restart_while_removing();
        test_quota();
        test_no_steps();
        test_faults();
        test_interruptions();
        test_calls();
        sd_event_unref(event);
        CHECK_EQ(remove_tree_at(AT_FDCWD, base), 0);
        return EXIT_SUCCESS;
}
