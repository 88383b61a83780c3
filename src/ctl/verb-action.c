/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that do one thing to each VM that is named: start, stop, kill, reset, suspend, resume, destroy.
 *
 * All calls go out at once, without leave to ask for a password. Those that polkit wants a password for are
 * repeated one after another, as a terminal can take one question at a time. Stop answers with a job, whose
 * end is then waited for. The job is gone if vmctld restarts meanwhile: then the VM's state tells what
 * became of it, and the power button is pressed again if the guest runs on. */

#include <stdio.h>

#include "broken.h"
#include "message-json.h"
#include "remote.h"
#include "ssh-install.h"
#include "ssh-wait.h"
#include "term.h"
#include "text.h"
#include "verbs.h"

#define CALLS_AT_ONCE 32 /* a bus lets a client wait for some 100 replies */

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
        ACTION_TO_ASK, /* polkit wants to ask */
        ACTION_IN_JOB,
        ACTION_LOST, /* its job was the former service's */
        ACTION_DONE,
} ActionStep;

typedef struct Batch Batch;

typedef struct Action {
        Batch *batch;
        const char *name; /* borrowed from argv */
        char *path;
        char *job;
        sd_bus_slot *slot;
        ActionStep step;
        bool broken;        /* there is no such VM: it may be one that cannot be read */
        sd_bus_error error; /* set when it failed */
} Action;

struct Batch {
        Ctl *ctl;
        const ActionKind *kind;
        bool is_stop, block;
        uint64_t stop_timeout_usec, started;
        size_t n, n_calling, n_pending;
        bool recheck; /* the service came back */
        Action *actions;
};

static void batch_done(Batch *b) {
        for (size_t i = 0; i < b->n; i++) {
                Action *a = &b->actions[i];

                sd_bus_slot_unref(a->slot);
                sd_bus_error_free(&a->error);
                free(a->path);
                free(a->job);
        }
        free(b->actions);
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
                *a = (Action){ .batch = b, .name = args->words[i], .path = ctl_vm_path(args->words[i]) };
                b->n++;
                if (!a->path)
                        return ctl_oom();
        }
        b->n_pending = b->n;
        return 0;
}

static void action_finish(Action *a) {
        if (a->step == ACTION_CALLING)
                a->batch->n_calling--;
        a->step = ACTION_DONE;
        a->batch->n_pending--;
}

static void action_fail(Action *a, int r) {
        (void)sd_bus_error_set_errno(&a->error, r);
        action_finish(a);
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
        r = sd_bus_message_new_method_call(b->ctl->bus, &m, CTL_SERVICE, a->path, CTL_VM, b->kind->member);
        if (r >= 0 && b->is_stop)
                r = sd_bus_message_append(m, "t", remaining_stop_usec(a));
        else if (r >= 0 && streq(b->kind->member, "Start"))
                r = sd_bus_message_append(m, "a{sv}", 0);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static void action_take_reply(Action *a, sd_bus_message *reply) {
        const char *job;
        int r = 0;

        sd_bus_error_free(&a->error); /* that it is not there, where it was broken */
        if (!a->batch->is_stop || !a->batch->block) {
                action_finish(a);
                return;
        }
        r = sd_bus_message_read(reply, "o", &job);
        if (r >= 0)
                r = free_and_strdup(&a->job, job);
        if (r < 0) {
                action_fail(a, r);
                return;
        }
        if (a->step == ACTION_CALLING)
                a->batch->n_calling--;
        a->step = ACTION_IN_JOB;
}

static void action_call(Action *a);

/* Whether the call was made once more, for one that cannot be read. If there is none, that the VM is not
 * there is what is told. */
static bool action_fails(Action *a, const sd_bus_error *e) {
        if (a->broken && broken_is_none(e))
                return false;
        sd_bus_error_free(&a->error);
        (void)sd_bus_error_copy(&a->error, e);
        if (a->broken || !streq(a->batch->kind->verb, "destroy") ||
                        !sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_OBJECT))
                return false;
        a->broken = true;
        return true;
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Action *a = userdata;
        Ctl *c = a->batch->ctl;
        int r;

        if (sd_bus_message_is_method_error(m, NULL)) {
                if (ctl_wants_to_ask(c, sd_bus_message_get_error(m))) {
                        a->batch->n_calling--;
                        a->step = ACTION_TO_ASK;
                        return 0;
                }
                if (action_fails(a, sd_bus_message_get_error(m))) {
                        a->batch->n_calling--;
                        a->slot = sd_bus_slot_unref(a->slot);
                        action_call(a);
                } else
                        action_finish(a);
                return 0;
        }
        r = ctl_note_owner(c, m);
        if (r < 0)
                action_fail(a, r);
        else
                action_take_reply(a, m);
        return 0;
}

static void action_call(Action *a) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Batch *b = a->batch;
        int r;

        a->step = ACTION_CALLING;
        b->n_calling++;
        r = action_new_call(a, &m);
        if (r >= 0)
                r = sd_bus_call_async(b->ctl->bus, &a->slot, m, on_reply, a, b->kind->timeout_usec);
        if (r < 0)
                action_fail(a, r);
}

static void action_call_and_wait(Action *a) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        r = action_new_call(a, &m);
        if (r < 0) {
                action_fail(a, r);
                return;
        }
        if (a->step == ACTION_TO_ASK)
                r = ctl_call_asking(a->batch->ctl, m, a->batch->kind->timeout_usec, &reply, &error);
        else
                r = ctl_call(a->batch->ctl, m, a->batch->kind->timeout_usec, &reply, &error);
        if (r >= 0)
                action_take_reply(a, reply);
        else if (action_fails(a, &error))
                action_call_and_wait(a);
        else
                action_finish(a);
}

static int batch_call_all(Batch *b) {
        int r;

        for (size_t next = 0; next < b->n || b->n_calling > 0;) {
                if (next < b->n && b->n_calling < CALLS_AT_ONCE) {
                        action_call(&b->actions[next++]);
                        continue;
                }
                r = ctl_step(b->ctl, UINT64_MAX, NULL); /* each call has its own deadline */
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_TO_ASK)
                        action_call_and_wait(&b->actions[i]);
        return 0;
}

static Action *find_job(Batch *b, const char *job) {
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_IN_JOB && streq_ptr(b->actions[i].job, job))
                        return &b->actions[i];
        return NULL;
}

static void set_job_error(Action *a, const char *result) {
        if (sd_bus_error_is_set(&a->error)) /* the job's properties told */
                return;
        if (streq(result, "timeout"))
                (void)sd_bus_error_set_const(&a->error, error_code_name(ERROR_TIMEOUT),
                                "QEMU could not be ended in time");
        else if (streq(result, "canceled"))
                (void)sd_bus_error_set_const(
                                &a->error, error_code_name(ERROR_CANCELED), "The job was canceled");
        else
                (void)sd_bus_error_setf(
                                &a->error, error_code_name(ERROR_FAILED), "The job ended as '%s'", result);
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *object, *result;
        Batch *b = userdata;
        Action *a;
        uint32_t id;

        if (!ctl_from_service(b->ctl, m) || sd_bus_message_read(m, "uoos", &id, &job, &object, &result) < 0)
                return 0;
        a = find_job(b, job);
        if (!a)
                return 0;
        if (streq(result, "done"))
                sd_bus_error_free(&a->error);
        else
                set_job_error(a, result);
        action_finish(a);
        return 0;
}

/* The string property of that name among those that changed, or NULL. */
static const char *changed_string(const Json *changed, const char *name) {
        const char *s = json_get_string(changed, name);

        return isempty(s) ? NULL : s;
}

static int on_job_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Batch *b = userdata;
        Action *a;

        if (!ctl_from_service(b->ctl, m))
                return 0;
        a = find_job(b, sd_bus_message_get_path(m));
        if (!a || sd_bus_message_skip(m, "s") < 0 || message_to_json(m, &changed) < 0)
                return 0;
        if (changed_string(changed, "ErrorName")) {
                sd_bus_error_free(&a->error);
                (void)sd_bus_error_set(&a->error, changed_string(changed, "ErrorName"),
                                changed_string(changed, "ErrorMessage"));
        }
        return 0;
}

static bool is_down(const char *state) {
        return streq_ptr(state, "stopped") || streq_ptr(state, "failed") || streq_ptr(state, "prepared");
}

static int on_vm_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Batch *b = userdata;

        if (!ctl_from_service(b->ctl, m))
                return 0;
        for (size_t i = 0; i < b->n; i++) {
                Action *a = &b->actions[i];

                if (a->step != ACTION_LOST || !streq(a->path, sd_bus_message_get_path(m)))
                        continue;
                if (sd_bus_message_skip(m, "s") < 0 || message_to_json(m, &changed) < 0)
                        return 0;
                if (is_down(json_get_string(changed, "State")))
                        action_finish(a);
                return 0;
        }
        return 0;
}

static void on_service_changed(void *userdata, bool present) {
        Batch *b = userdata;

        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_IN_JOB) {
                        b->actions[i].step = ACTION_LOST;
                        sd_bus_error_free(&b->actions[i].error);
                }
        b->recheck = present;
}

static void action_recheck(Action *a) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *state = NULL;
        int r;

        r = sd_bus_get_property_string(
                        a->batch->ctl->bus, CTL_SERVICE, a->path, CTL_VM, "State", &error, &state);
        if (r < 0) {
                bool away = sd_bus_error_has_names(&error, SD_BUS_ERROR_NO_REPLY,
                                SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                error_code_name(ERROR_SERVICE_ENDING));
                bool gone = sd_bus_error_has_names(
                                &error, SD_BUS_ERROR_UNKNOWN_OBJECT, error_code_name(ERROR_NO_SUCH_VM));

                if (away)
                        return; /* we are told when it is back */
                if (!gone)
                        (void)sd_bus_error_move(&a->error, &error);
                action_finish(a);
        } else if (is_down(state))
                action_finish(a);
        else if (!streq(state, "stopping"))
                action_call_and_wait(a);
}

static int batch_subscribe(Batch *b) {
        sd_bus *bus = b->ctl->bus;
        int r;

        r = sd_bus_match_signal_async(bus, NULL, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER, "JobRemoved",
                        on_job_removed, NULL, b);
        if (r >= 0)
                r = sd_bus_add_match_async(bus, NULL,
                                "type='signal',sender='" CTL_SERVICE "',path_namespace='" CTL_JOB_PREFIX
                                "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                                on_job_properties, NULL, b);
        if (r >= 0)
                r = sd_bus_add_match_async(bus, NULL,
                                "type='signal',sender='" CTL_SERVICE "',path_namespace='" CTL_VM_PREFIX
                                "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged',"
                                "arg0='" CTL_VM "'",
                                on_vm_properties, NULL, b);
        if (r >= 0)
                r = ctl_follow_service(b->ctl, on_service_changed, b);
        return r;
}

static int batch_wait(Batch *b) {
        uint64_t deadline = b->started + b->stop_timeout_usec + STOP_GRACE_USEC;
        Progress progress;
        int r = 0;

        progress_begin(&progress,
                        b->n == 1 ? "Waiting for the guest to shut down…"
                                  : "Waiting for the guests to shut down…");
        while (b->n_pending > 0) {
                if (b->recheck) {
                        b->recheck = false;
                        for (size_t i = 0; i < b->n; i++)
                                if (b->actions[i].step == ACTION_LOST)
                                        action_recheck(&b->actions[i]);
                        continue;
                }
                r = ctl_step(b->ctl, deadline, &progress);
                if (r < 0)
                        break;
        }
        progress_end(&progress);
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step != ACTION_DONE)
                        action_fail(&b->actions[i], r);
        return 0;
}

static void write_json(const Batch *b, JsonWriter *w) {
        json_write_array(w);
        for (size_t i = 0; i < b->n; i++)
                json_write_result(w, b->actions[i].name, &b->actions[i].error);
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

                if (sd_bus_error_is_set(&a->error))
                        r = worse(r,
                                        ctl_report(b->ctl, &a->error, -EIO, "Failed to %s VM '%s'",
                                                        b->kind->verb, a->name));
        }
        return b->ctl->json ? worse(r, batch_print_json(b)) : r;
}

static int batch_run(Batch *b) {
        int r = 0;

        b->started = now_monotonic();
        if (b->is_stop && b->block)
                r = batch_subscribe(b);
        if (r >= 0)
                r = batch_call_all(b);
        if (r >= 0)
                r = batch_wait(b);
        if (r < 0)
                return ctl_report(b->ctl, NULL, r, "Failed to speak to vmctld");
        return batch_report(b);
}

/* Those that were started can be waited for one after another: the deadline is the same for all. */
static int batch_wait_for_ssh(Batch *b, uint64_t timeout_usec) {
        uint64_t deadline = now_monotonic() + timeout_usec;
        int r = 0;

        for (size_t i = 0; i < b->n; i++)
                if (!sd_bus_error_is_set(&b->actions[i].error))
                        r = worse(r, ssh_wait_for_vm(b->ctl, b->actions[i].name, deadline));
        return r;
}

static void batch_print_warnings(const Batch *b) {
        for (size_t i = 0; i < b->n; i++)
                if (b->actions[i].step == ACTION_DONE && !sd_bus_error_is_set(&b->actions[i].error))
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
                ctl_complain(NULL, "'%s' is no time", text);
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
