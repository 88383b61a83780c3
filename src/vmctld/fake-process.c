/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU with its shim and its monitor, instead of process.c, launch.c and src/qmp. */
#include <errno.h>
#include <signal.h>
#include <sys/stat.h>

#include "fake-vm.h"
#include "util/test.h"

#define CALLS_MAX 8

struct QmpCall {
        Process *process;
        char *command;
        qmp_reply_t reply;
        qmp_raw_reply_t raw;
        void *userdata;
        FakeAnswer *answer;
};

struct Process {
        const ProcessHandlers *handlers;
        void *userdata;
        bool executed;
        bool launched;
        FakeAnswer *launching, *executing, *end;
        QmpCall *calls[CALLS_MAX];
};

static Process *living; /* one at a time is enough */
unsigned fake_signals, fake_live_processes;
bool fake_process_hangs;
uint64_t fake_grow_to;

int launch_new(const LaunchInput *in, Launch **ret, Error **reterr) {
        int r = fake_point("launch");

        if (r < 0)
                return error_set_errno(reterr, r, "Nothing can be launched");
        fake_hold(true);
        CHECK(mkdirat(in->runtime_fd, in->record->name, 0700) >= 0 || errno == EEXIST);
        fake_hold(false);
        *ret = fake_alloc(sizeof(Launch));
        CHECK(*ret);
        **ret = (Launch){ .monitor_fd = -EBADF,
                .control_fd = -EBADF,
                .runtime_fd = -EBADF,
                .vnc_fd = -EBADF,
                .grow_to = fake_grow_to };
        return 0;
}

Launch *launch_free(Launch *l) {
        free(l);
        return NULL;
}

static void expect_end(Process *p) {
        if (!p->end && !fake_process_hangs)
                p->end = fake_expect("process-end", fake_process_end, p);
}

void fake_process_wakes(void) {
        fake_process_hangs = false;
        CHECK(fake_signals & 1U << SIGKILL);
        expect_end(living);
}

static void on_launched(void *object, bool ok) {
        _cleanup_error_ Error *e = NULL;
        Process *p = object;

        p->launching = NULL;
        if (ok) {
                p->launched = true;
                p->handlers->launched(p, p->userdata);
                return;
        }
        (void)error_set(&e, ERROR_IO, "The shim cannot be executed");
        expect_end(p);
        p->handlers->launch_failed(p, e, p->userdata);
}

int process_launch(sd_event *event, Launcher *launcher, Launch *launch, const char *unit,
                uint64_t timeout_usec, const ProcessHandlers *handlers, void *userdata, Process **ret,
                Error **reterr) {
        int r = fake_point("process-launch");

        launch_free(launch);
        if (r < 0)
                return error_set_errno(reterr, r, "The shim cannot be executed");
        CHECK(!living);
        living = fake_alloc(sizeof(Process));
        CHECK(living);
        *living = (Process){ .handlers = handlers, .userdata = userdata };
        fake_live_processes++;
        living->launching = fake_expect("process-launched", on_launched, living);
        *ret = living;
        return 0;
}

Process *process_free(Process *p) {
        if (!p)
                return NULL;
        for (size_t i = 0; i < CALLS_MAX; i++)
                qmp_cancel(p->calls[i]);
        fake_forget(p->launching);
        fake_forget(p->executing);
        fake_forget(p->end);
        living = NULL;
        free(p);
        return NULL;
}

static void on_executed(void *object, bool ok) {
        _cleanup_error_ Error *e = NULL;
        Process *p = object;

        p->executing = NULL;
        if (ok) {
                p->executed = true;
                for (int i = 0; i <= fake_comes_twice(); i++)
                        p->handlers->executed(p, p->userdata);
                return;
        }
        (void)error_set(&e, ERROR_IMAGE_MISSING, "The image is gone");
        expect_end(p);
        for (int i = 0; i < 2; i++) /* a shim may say anything, as often as it likes */
                p->handlers->launch_failed(p, e, p->userdata);
}

int process_go(Process *p) {
        int r = fake_point("process-go");

        CHECK(!(fake_signals & 1U << SIGKILL)); /* nobody executes what is being killed */
        if (r < 0)
                return r;
        p->executing = fake_expect("process-executed", on_executed, p);
        return 0;
}

static void reply(QmpCall *c, bool ok, int r) {
        _cleanup_json_ Json *result = NULL;
        _cleanup_error_ Error *e = NULL;
        Process *p = c->process;

        for (size_t i = 0; i < CALLS_MAX; i++)
                if (p->calls[i] == c)
                        p->calls[i] = NULL;
        fake_hold(true);
        CHECK_EQ(json_parse("{\"status\":\"running\"}", 20, NULL, &result, NULL), 0);
        fake_hold(false);
        if (!ok)
                (void)error_set(&e, ERROR_QMP_FAILED, "QEMU refused it");
        if (ok && streq(c->command, "system_powerdown"))
                expect_end(p);
        if (c->raw)
                c->raw(c->userdata, ok ? 0 : r, ok ? "{\"return\":{}}" : NULL, e);
        else if (c->reply)
                c->reply(c->userdata, ok ? 0 : r, ok ? result : NULL, e);
        free(c->command);
        free(c);
}

static void on_answer(void *object, bool ok) {
        QmpCall *c = object;

        c->answer = NULL;
        reply(c, ok, -EPROTO);
}

/* As process.c has it: what was asked is answered, the monitor is lost, then the end is told. */
void fake_process_end(void *object, bool ok) {
        const ProcessEnd end = { .known = true, .signaled = !ok, .code = ok ? 0 : SIGSEGV };
        Process *p = object;

        p->end = NULL;
        p->launching = fake_forget(p->launching);
        p->executing = fake_forget(p->executing);
        for (size_t i = 0; i < CALLS_MAX; i++)
                if (p->calls[i]) {
                        QmpCall *c = p->calls[i];

                        c->answer = fake_forget(c->answer);
                        reply(c, false, -ECONNRESET);
                }
        if (p->executed)
                p->handlers->monitor_lost(p, NULL, p->userdata);
        fake_live_processes--;
        p->handlers->ended(p, &end, p->userdata);
}

void fake_scope_killed(void) {
        if (!living)
                return;
        living->end = fake_forget(living->end);
        expect_end(living);
}

int process_signal(Process *p, int sig) {
        fake_signals |= 1U << sig;
        expect_end(p);
        return 0;
}

void process_identity(const Process *p, ProcessIdentity *ret) {
        *ret = (ProcessIdentity){ .shim_pid = 2, .qemu_pid = p->executed ? 3 : 0, .shim_started = 1 };
}

int process_start_time(pid_t pid, uint64_t *ret) {
        return -ESRCH;
}

int process_attach(sd_event *event, Launcher *launcher, const ProcessIdentity *id, const char *unit,
                int monitor_fd, int runtime_fd, const ProcessHandlers *handlers, void *userdata,
                Process **ret) {
        living = fake_alloc(sizeof(Process));
        CHECK(living);
        *living = (Process){
                .handlers = handlers, .userdata = userdata, .launched = true, .executed = true
        };
        fake_live_processes++;
        *ret = living;
        return 0;
}

Qmp *process_monitor(const Process *p) {
        return p->executed ? (Qmp *)p : NULL;
}
bool process_monitor_is_taken(const Process *p) {
        return false;
}
ShimState process_shim_state(const Process *p) {
        return SHIM_RUNNING;
}
bool process_qemu_is_gone(const Process *p) {
        return false;
}
uint64_t process_patience(const Process *p, uint64_t usec) {
        return usec;
}
int process_monitor_fd(const Process *p) {
        return -EBADF;
}
pid_t process_qemu_pid(const Process *p) {
        return p->executed ? 3 : 0;
}
pid_t process_shim_pid(const Process *p) {
        return p->launched ? 2 : 0;
}
uint64_t process_shim_id(const Process *p) {
        return 1;
}

/* --- QMP */

static int call(Qmp *q, const char *command, qmp_reply_t done, qmp_raw_reply_t raw, void *userdata,
                QmpCall **ret) {
        Process *p = (Process *)q;
        int r = fake_point(command);

        for (size_t i = 0; r >= 0 && i < CALLS_MAX; i++) {
                QmpCall *c;

                if (p->calls[i])
                        continue;
                c = fake_alloc(sizeof(QmpCall));
                CHECK(c);
                *c = (QmpCall){ p, fake_strdup(command), done, raw, userdata, NULL };
                c->answer = fake_expect(c->command, on_answer, c);
                p->calls[i] = c;
                if (ret)
                        *ret = c;
                return 0;
        }
        return r < 0 ? r : -ENOBUFS;
}

int qmp_call(Qmp *q, const char *command, const char *arguments, uint64_t timeout_usec, qmp_reply_t callback,
                void *userdata, QmpCall **ret_call) {
        return call(q, command, callback, NULL, userdata, ret_call);
}

int qmp_call_fd(Qmp *q, const char *command, const char *arguments, int fd, uint64_t timeout_usec,
                qmp_reply_t callback, void *userdata, QmpCall **ret_call) {
        return call(q, command, callback, NULL, userdata, ret_call);
}

int qmp_call_raw(Qmp *q, const char *text, uint64_t timeout_usec, qmp_raw_reply_t callback, void *userdata,
                QmpCall **ret_call, Error **reterr) {
        return call(q, text, NULL, callback, userdata, ret_call);
}

QmpCall *qmp_cancel(QmpCall *c) {
        if (!c)
                return NULL;
        for (size_t i = 0; i < CALLS_MAX; i++)
                if (c->process->calls[i] == c)
                        c->process->calls[i] = NULL;
        fake_forget(c->answer);
        free(c->command);
        free(c);
        return NULL;
}

const char *qmp_word(const Json *data, const char *key) {
        return json_get_string(data, key) ?: "";
}
