/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that do one thing to each VM that is named: start, stop, kill, reset, suspend, resume, destroy.
 *
 * All calls go out at once. Stop answers with a job, whose end is then waited for. The job is gone if vmctld
 * restarts meanwhile: then the VM's state tells what became of it, and the power button is pressed again if
 * the guest runs on. */

#include <stdio.h>

#include "broken.h"
#include "client/decode.h"
#include "client/errors.h"
#include "client/jobs.h"
#include "json-print.h"
#include "remote.h"
#include "ssh-install.h"
#include "ssh-wait.h"
#include "term.h"
#include "text.h"
#include "verbs.h"

#define STOP_DEFAULT_USEC (30 * USEC_PER_SEC)
/* From the guest's timeout to the end of QEMU the service needs 5 s, and a little more under load. */
#define STOP_GRACE_USEC (30 * USEC_PER_SEC)

typedef struct ActionKind {
        const char *verb;
        const char *member;
        uint64_t timeout_usec;
} ActionKind;

/* The service has deadlines of its own below these; vmctl waits longer, to hear its reason. */
static const ActionKind kinds[] = {
        { "start", "Start", 90 * USEC_PER_SEC },
        { "stop", "Stop", 30 * USEC_PER_SEC },
        { "kill", "Kill", 60 * USEC_PER_SEC },
        { "reset", "Reset", 30 * USEC_PER_SEC },
        { "suspend", "Suspend", 30 * USEC_PER_SEC },
        { "resume", "Resume", 30 * USEC_PER_SEC },
        { "destroy", "Destroy", 60 * USEC_PER_SEC },
};

typedef enum ActionStep {
        ACTION_NEW,
        ACTION_CALLING,
        ACTION_IN_JOB,
        ACTION_LOST, /* its job was the former service's */
        ACTION_DONE,
} ActionStep;

typedef struct Batch Batch;

typedef struct Action {
        Batch *batch;
        const char *name; /* borrowed from argv */
        char *path;
        ClientCall *call; /* one of these */
        ClientJob *job;
        ActionStep step;
        bool broken;   /* there is no such VM: it may be one that cannot be read */
        Error *error;  /* set when it failed */
        char *warning; /* the last one that came meanwhile */
} Action;

struct Batch {
        Ctl *ctl;
        const ActionKind *kind;
        bool is_stop, block;
        uint64_t stop_timeout_usec, started;
        size_t n, n_calling, n_pending;
        bool recheck; /* the service came back, or what it told was lost */
        ClientJobs *jobs;
        ServiceWatch *watch;
        sd_bus_slot *properties, *signals_lost;
        Action *actions;
};

static void batch_done(Batch *b) {
        for (size_t i = 0; i < b->n; i++) {
                Action *a = &b->actions[i];

                client_call_free(a->call);
                client_job_free(a->job);
                error_free(a->error);
                free(a->warning);
                free(a->path);
        }
        free(b->actions);
        client_jobs_free(b->jobs);
        service_watch_free(b->watch);
        sd_bus_slot_unref(b->properties);
        sd_bus_slot_unref(b->signals_lost);
}

static bool batch_has(const Batch *b, const char *name) {
        for (size_t i = 0; i < b->n; i++)
                if (streq(b->actions[i].name, name))
                        return true;
        return false;
}

static int batch_init(Batch *b, const Args *args) {
        b->actions = calloc(args->n_words, sizeof(Action));
        if (!b->actions)
                return ctl_oom();
        for (size_t i = 0; i < args->n_words; i++) {
                Action *a = &b->actions[b->n];

                if (batch_has(b, args->words[i]))
                        continue;
                *a = (Action){ .batch = b, .name = args->words[i], .path = client_vm_path(args->words[i]) };
                b->n++;
                if (!a->path)
                        return ctl_oom();
        }
        b->n_pending = b->n;
        return 0;
}

static void action_enter(Action *a, ActionStep step) {
        a->batch->n_calling += step == ACTION_CALLING;
        a->batch->n_calling -= a->step == ACTION_CALLING;
        a->batch->n_pending -= step == ACTION_DONE;
        a->step = step;
}

static void action_finish(Action *a, const Error *error) {
        error_free(a->error);
        a->error = error_copy(error);
        action_enter(a, ACTION_DONE);
}

static void action_fail(Action *a, int r) {
        _cleanup_error_ Error *e = NULL;

        if (r == -ETIMEDOUT)
                (void)error_set(&e, ERROR_TIMEOUT, "vmctld did not answer in time");
        else
                (void)client_error(a->batch->ctl->client, r, &e);
        action_finish(a, e);
}

/* The time that the guest has, or has left when its job was lost. 0 would mean the default, so "at once" is
 * the shortest there is. */
static uint64_t remaining_stop_usec(const Action *a) {
        const Batch *b = a->batch;
        uint64_t gone = a->step == ACTION_LOST ? now_monotonic() - b->started : 0;

        return b->stop_timeout_usec > gone ? b->stop_timeout_usec - gone : 1;
}

static int action_new_call(Action *a, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Batch *b = a->batch;
        int r;

        if (a->broken)
                return broken_new_removal(b->ctl, "vm", a->name, ret);
        r = client_new_call(b->ctl->client, a->path, VMCTL_VM, b->kind->member, &m);
        if (r >= 0 && b->is_stop)
                r = sd_bus_message_append(m, "t", remaining_stop_usec(a));
        else if (r >= 0 && streq(b->kind->member, "Start"))
                r = sd_bus_message_append(m, "a{sv}", 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static void action_call(Action *a);

/* What is not there may be what cannot be read. If there is none of these, either, that it is not there is
 * what is told. */
static void on_reply(void *userdata, sd_bus_message *reply, const Error *error) {
        Action *a = userdata;

        if (error_is(error, ERROR_NO_SUCH_VM) && !a->broken && streq(a->batch->kind->verb, "destroy")) {
                a->broken = true;
                a->error = error_copy(error);
                action_call(a);
        } else if (a->broken && broken_is_none(error))
                action_enter(a, ACTION_DONE);
        else
                action_finish(a, reply ? NULL : error);
}

static void on_job_changed(void *userdata, const ClientJob *job) {
        action_enter(userdata, ACTION_IN_JOB);
}

static void on_job_done(void *userdata, const ClientJob *job, const Error *error) {
        Action *a = userdata;

        if (client_job_is_lost(job)) {
                action_enter(a, ACTION_LOST);
                a->batch->recheck |= client_has_service(a->batch->ctl->client);
        } else
                action_finish(a, error);
}

static void action_call(Action *a) {
        static const ClientJobHandlers handlers = { .changed = on_job_changed, .done = on_job_done };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Batch *b = a->batch;
        int r;

        r = action_new_call(a, &m);
        action_enter(a, ACTION_CALLING);
        a->call = client_call_free(a->call);
        a->job = client_job_free(a->job);
        if (r >= 0 && b->jobs)
                r = client_job_begin(b->jobs, m, b->kind->timeout_usec, &handlers, a, &a->job);
        else if (r >= 0)
                r = client_call_begin(b->ctl->client, m, b->kind->timeout_usec, on_reply, a, &a->call);
        if (r < 0)
                action_fail(a, r);
}

static bool is_down(const char *state) {
        return streq_ptr(state, "stopped") || streq_ptr(state, "failed") || streq_ptr(state, "prepared");
}

/* As that the guest did not act on its button. Those of the VM's start stand before it. */
static void note_warning(Action *a, const Json *warnings) {
        const char *last = json_length(warnings) > 0
                        ? json_string(json_element(warnings, json_length(warnings) - 1))
                        : NULL;

        if (last)
                (void)free_and_strdup(&a->warning, last);
}

static int on_vm_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Batch *b = userdata;

        if (!client_from_service(b->ctl->client, m))
                return 0;
        for (size_t i = 0; i < b->n; i++) {
                Action *a = &b->actions[i];

                if (a->step == ACTION_DONE || !streq(a->path, sd_bus_message_get_path(m)))
                        continue;
                if (sd_bus_message_skip(m, "s") < 0 || client_decode(m, &changed) < 0)
                        return 0;
                note_warning(a, json_get(changed, "Warnings"));
                if (a->step == ACTION_LOST && is_down(json_get_string(changed, "State")))
                        action_finish(a, NULL);
                return 0;
        }
        return 0;
}

static void on_service_changed(void *userdata, bool present) {
        Batch *b = userdata;

        b->recheck = present;
}

static int on_signals_lost(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Batch *b = userdata;

        b->recheck |= client_from_service(b->ctl->client, m);
        return 0;
}

static bool is_away(const Error *e) {
        return client_is_cut_off(e) || streq(error_name(e), SD_BUS_ERROR_SERVICE_UNKNOWN);
}

static void action_recheck(Action *a) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *state = NULL;
        int r;

        r = client_get_string(a->batch->ctl->client, a->path, VMCTL_VM, "State", &state, &error);
        if (r < 0 && is_away(error))
                return; /* we are told when it is back */
        if (r < 0)
                action_finish(a, error_is(error, ERROR_NO_SUCH_VM) ? NULL : error);
        else if (is_down(state))
                action_finish(a, NULL);
        else if (!streq(state, "stopping"))
                action_call(a);
}

static int batch_subscribe(Batch *b) {
        Client *client = b->ctl->client;
        int r;

        r = client_jobs_new(client, &b->jobs);
        if (r >= 0)
                r = sd_bus_add_match_async(client_bus(client), &b->properties,
                                "type='signal',sender='" VMCTL_SERVICE "',path_namespace='" VMCTL_VM_PREFIX
                                "',interface='" DBUS_PROPERTIES
                                "',member='PropertiesChanged',arg0='" VMCTL_VM "'",
                                on_vm_properties, NULL, b);
        if (r >= 0)
                r = sd_bus_match_signal_async(client_bus(client), &b->signals_lost, VMCTL_SERVICE,
                                VMCTL_MANAGER_PATH, VMCTL_MANAGER, "SignalsLost", on_signals_lost, NULL, b);
        if (r >= 0)
                r = service_watch_new(client, on_service_changed, b, &b->watch);
        return r;
}

static void batch_recheck(Batch *b) {
        b->recheck = false;
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_LOST)
                        action_recheck(&b->actions[i]);
}

/* Each call has its own deadline, and may ask for a password. */
static void batch_wait(Batch *b) {
        uint64_t deadline = b->started + b->stop_timeout_usec + STOP_GRACE_USEC;
        Progress progress;
        int r = 0;

        progress_begin(&progress,
                        b->n == 1 ? "Waiting for the guest to shut down…"
                                  : "Waiting for the guests to shut down…");
        while (r >= 0 && b->n_pending > 0)
                if (b->recheck)
                        batch_recheck(b);
                else
                        r = b->n_calling > 0 ? ctl_step(b->ctl, UINT64_MAX, NULL)
                                             : ctl_step(b->ctl, deadline, &progress);
        progress_end(&progress);
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step != ACTION_DONE)
                        action_fail(&b->actions[i], r);
}

static void write_json(const Batch *b, JsonWriter *w) {
        json_write_array(w);
        for (size_t i = 0; i < b->n; i++)
                json_write_result(w, b->actions[i].name, b->actions[i].error);
        json_write_end(w);
}

static int batch_print_json(const Batch *b) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        write_json(b, w);
        return json_print(w);
}

/* Of two outcomes the worse: failed, then waited in vain, then done. */
static int worse(int a, int b) {
        return a < 0 ? a : b < 0 ? b : MAX(a, b);
}

static int batch_report(Batch *b) {
        int r = 0;

        for (size_t i = 0; i < b->n; i++) {
                Action *a = &b->actions[i];

                if (a->warning)
                        ctl_print_warning(a->warning, b->n > 1 ? a->name : NULL);
                if (a->error)
                        r = worse(r,
                                        ctl_report(b->ctl, a->error, -EIO, "Failed to %s VM '%s'",
                                                        b->kind->verb, a->name));
        }
        return b->ctl->json ? worse(r, batch_print_json(b)) : r;
}

static int batch_run(Batch *b) {
        int r;

        b->started = now_monotonic();
        r = b->is_stop && b->block ? batch_subscribe(b) : 0;
        if (r < 0)
                return ctl_report(b->ctl, NULL, r, "Failed to speak to vmctld");
        for (size_t i = 0; i < b->n; i++)
                action_call(&b->actions[i]);
        batch_wait(b);
        return batch_report(b);
}

/* Those that were started can be waited for one after another: the deadline is the same for all. */
static int batch_wait_for_ssh(Batch *b, uint64_t timeout_usec) {
        uint64_t deadline = now_monotonic() + timeout_usec;
        int r = 0;

        for (size_t i = 0; i < b->n && r < EXIT_SIGNALED; i++)
                if (!b->actions[i].error)
                        r = worse(r, ssh_wait_for_vm(b->ctl, b->actions[i].name, deadline));
        return r;
}

static void batch_print_warnings(const Batch *b) {
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_DONE && !b->actions[i].error)
                        ctl_print_warnings(b->ctl, b->actions[i].path, b->n > 1 ? b->actions[i].name : NULL);
}

static const ActionKind *find_kind(const char *verb) {
        for (size_t i = 0; i < ELEMENTSOF(kinds); i++)
                if (streq(kinds[i].verb, verb))
                        return &kinds[i];
        assert(false);
        return NULL;
}

static int parse_timeout(const Args *args, uint64_t default_usec, uint64_t *ret) {
        const char *text = args_get(args, "timeout");

        *ret = default_usec;
        if (text && parse_timespan(text, ret) < 0) {
                ctl_complain(TIME_HINT, "'%s' is no time", text);
                return EXIT_USAGE;
        }
        return 0;
}

int verb_action(Ctl *c, const Args *args) {
        _cleanup_(batch_done) Batch b = { .ctl = c, .kind = find_kind(args->verb->name), .block = true };
        uint64_t ssh_timeout_usec = 0;
        bool wait = false;
        int r;

        if (streq(args->verb->name, "stop")) {
                b.is_stop = true;
                b.block = !args_has(args, "no-block");
                r = parse_timeout(args, STOP_DEFAULT_USEC, &b.stop_timeout_usec);
                if (r != 0)
                        return r;
        }
        if (streq(args->verb->name, "start")) {
                wait = args_has(args, "wait");
                r = parse_timeout(args, SSH_WAIT_BOOT_USEC, &ssh_timeout_usec);
                if (r != 0)
                        return r;
        }
        if (wait && c->host)
                return remote_exec(c, args); /* the port is on that host */
        r = ctl_connect(c);
        if (r != 0)
                return r;
        r = batch_init(&b, args);
        if (r < 0)
                return r;
        r = batch_run(&b);
        if (streq(b.kind->verb, "destroy"))
                ssh_refresh(c);
        if (streq(b.kind->verb, "start"))
                batch_print_warnings(&b);
        return wait ? worse(r, batch_wait_for_ssh(&b, ssh_timeout_usec)) : r;
}
