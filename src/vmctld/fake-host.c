/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's facts, child processes and the bus's clients, instead of host.c, task.c, worker.c and clients.c. */
#include "bus/clients.h"
#include "core/task.h"
#include "core/worker.h"
#include "fake-vm.h"
#include "util/test.h"

/* --- The host */

struct Host {
        FakeAnswer *answer;
        bool known;
        host_done_t done;
        void *userdata;
};

int host_new(sd_event *event, const char *qemu, bool other_users, Host **ret) {
        *ret = fake_alloc(sizeof(Host));
        return *ret ? 0 : -ENOMEM;
}

Host *host_free(Host *h) {
        if (h)
                fake_forget(h->answer);
        free(h);
        return NULL;
}

static void on_known(void *object, bool ok) {
        Host *h = object;

        h->answer = NULL;
        h->known = true;
        h->done(h->userdata);
}

int host_ensure(Host *h, host_done_t done, void *userdata) {
        int r = fake_point("host");

        if (r < 0)
                return r;
        if (h->known) {
                h->known = false; /* ask anew next time */
                return 1;
        }
        CHECK(!h->answer || h->userdata != userdata); /* who asks twice is told twice */
        h->done = done;
        h->userdata = userdata;
        fake_forget(h->answer);
        h->answer = fake_expect("host", on_known, h);
        return 0;
}

void host_forget(Host *h, void *userdata) {
        if (h->userdata == userdata)
                h->answer = fake_forget(h->answer);
}

int host_check_qemu(const Host *h, Error **reterr) {
        int r = fake_point("check-qemu");

        return r < 0 ? error_set(reterr, ERROR_QEMU_MISSING, "There is no QEMU") : 0;
}

int host_resolve_machine(const Host *h, const char *asked, const char **ret, Error **reterr) {
        *ret = "pc-q35-7.2";
        return 0;
}

bool host_has_kvm(const Host *h, const char **ret_reason) {
        return true;
}
gid_t host_kvm_gid(const Host *h) {
        return 0;
}
const char *host_qemu_version(const Host *h) {
        return "7.2";
}
bool host_has_passt(const Host *h, const char **ret_reason) {
        *ret_reason = "There is no passt";
        return false;
}

int host_uefi(const Host *h, const char **ret_code, const char **ret_vars, Error **reterr) {
        return error_set(reterr, ERROR_FIRMWARE_MISSING, "There is no UEFI");
}

/* --- Children. Their work is done at once, unless it fails. */

struct Task {
        FakeAnswer *answer, *end;
        task_done_t done;
        task_gone_t gone;
        void *userdata, *gone_userdata;
        int (*function)(void *argument);
        int status;
};

static void on_task(void *object, bool ok) {
        Task *t = object;

        t->answer = NULL;
        t->done(t->userdata, t->status, "", 0);
}

int task_call(sd_event *event, int (*function)(void *argument), void *argument, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret) {
        int r = fake_point("task");
        Task *t;

        if (r < 0)
                return r;
        t = fake_alloc(sizeof(Task));
        CHECK(t);
        *t = (Task){ .done = done, .userdata = userdata };
        t->status = fake_point("task-work") < 0 ? ENOSPC : function(argument);
        t->answer = fake_expect("task", on_task, t);
        *ret = t;
        return 0;
}

int task_run(sd_event *event, const ChildSpec *spec, const void *input, size_t len, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret) {
        return -ENOSYS;
}

void task_set_line_handler(Task *t, task_line_t line) {
}

static void on_gone(void *object, bool ok) {
        Task *t = object;

        t->end = NULL;
        t->gone(t->gone_userdata);
}

int task_kill(Task *t, task_gone_t gone, void *userdata) {
        if (!t->answer)
                return 0;
        t->answer = fake_forget(t->answer);
        t->gone = gone;
        t->gone_userdata = userdata;
        t->end = fake_expect("task-gone", on_gone, t);
        return 1;
}

Task *task_free(Task *t) {
        if (!t)
                return NULL;
        fake_forget(t->answer);
        fake_forget(t->end);
        free(t);
        return NULL;
}

/* --- Workers */

struct Worker {
        FakeAnswer *answer, *end;
        const WorkerHandlers *handlers;
        worker_gone_t gone;
        void *userdata, *gone_userdata;
        Charge charge;
        bool ended;
        Json *result; /* that it lends, as the real one does */
};

unsigned fake_live_workers;
const char *fake_worker_result =
                "{\"disk-size\":1048576,\"kernel\":{\"path\":\"/boot/vmlinuz\",\"ino\":1,\"btime\":1,"
                "\"ctime\":1,\"mtime\":1,\"size\":1}}";

static void settle(Worker *w) {
        if (!w->ended)
                fake_live_workers--;
        w->ended = true;
        charge_release(&w->charge);
}

static Json *parse(const char *text) {
        Json *json;

        fake_hold(true);
        CHECK_EQ(json_parse(text, strlen(text), NULL, &json, NULL), 0);
        fake_hold(false);
        return json;
}

static void on_worker(void *object, bool ok) {
        static const char step_done[] = "{\"phase\":\"step-done\",\"step\":1}";
        _cleanup_json_ Json *line = NULL;
        _cleanup_error_ Error *e = NULL;
        Worker *w = object;

        w->answer = NULL;
        if (ok && w->handlers->line) {
                line = parse(step_done);
                for (int i = 0; i <= fake_comes_twice(); i++)
                        w->handlers->line(w->userdata, line);
        }
        settle(w);
        w->result = parse(fake_worker_result);
        if (!ok)
                (void)error_set(&e, ERROR_INVALID_IMAGE, "That is no image");
        w->handlers->done(w->userdata, ok ? w->result : NULL, e);
}

int worker_run(Core *core, const WorkerSpec *spec, const char *request, size_t len,
                const WorkerHandlers *handlers, void *userdata, Worker **ret, Error **reterr) {
        int r = fake_point("worker");
        Worker *w;

        CHECK(request && len > 0);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot run a worker");
        w = fake_alloc(sizeof(Worker));
        CHECK(w);
        w->handlers = handlers;
        w->userdata = userdata;
        r = charge(core->accounts, spec->requester, RESOURCE_WORKERS, 1, &w->charge, reterr);
        if (r < 0) {
                free(w);
                return r;
        }
        fake_live_workers++;
        w->answer = fake_expect("worker", on_worker, w);
        *ret = w;
        return 0;
}

int worker_charge(Worker *w, uid_t requester, Error **reterr) {
        return 0;
}

static void on_worker_gone(void *object, bool ok) {
        Worker *w = object;

        w->end = NULL;
        settle(w);
        w->gone(w->gone_userdata);
}

int worker_kill(Worker *w, worker_gone_t gone, void *userdata) {
        if (w->ended)
                return 0;
        w->answer = fake_forget(w->answer);
        w->gone = gone;
        w->gone_userdata = userdata;
        w->end = fake_expect("worker-gone", on_worker_gone, w);
        return 1;
}

Worker *worker_free(Worker *w) {
        if (!w)
                return NULL;
        fake_forget(w->answer);
        fake_forget(w->end);
        settle(w);
        json_free(w->result);
        free(w);
        return NULL;
}

/* --- The bus's clients: there are none */

int clients_new(sd_bus *bus, Accounts *accounts, bool everybody, Clients **ret) {
        *ret = NULL;
        return 0;
}

Clients *clients_free(Clients *c) {
        return NULL;
}
