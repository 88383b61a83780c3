/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each VM does one action after another: a call, and where the reply is a job, the wait for its end.
 * Callbacks note what came; what is to begin then is found by schedule(), once after each event. Calls go
 * out without leave to ask for a password; those that polkit wants one for are repeated one at a time, as a
 * terminal can take one question at a time. */

#include <signal.h>
#include <stdio.h>

#include "agent.h"
#include "converge-call.h"
#include "job-wait.h"
#include "log-follow.h"
#include "message-json.h"
#include "term.h"
#include "text.h"

#define CALLS_AT_ONCE 32                         /* a bus lets a client wait for some 100 replies */
#define ASKING_TIMEOUT_USEC (300 * USEC_PER_SEC) /* somebody has to find and type a password */

static const char *const converge_result_table[] = {
        [CONVERGE_DONE] = "done",
        [CONVERGE_FAILED] = "failed",
        [CONVERGE_TIMED_OUT] = "timeout",
        [CONVERGE_CANCELED] = "canceled",
        [CONVERGE_LEFT] = "left",
};
DEFINE_STRING_TABLE(converge_result, ConvergeResult, _CONVERGE_RESULT_MAX);

/* While it goes on; when it could not be done; when it is done. */
static const struct {
        const char *phase, *verb, *done;
} words[] = {
        [CONVERGE_PULL] = { "pulling the image", "pull the image of", "pulled" },
        [CONVERGE_DESTROY] = { "destroying", "destroy", "destroyed" },
        [CONVERGE_STOP] = { "shutting down", "stop", "stopped" },
        [CONVERGE_CREATE] = { "creating", "create", "created" },
        [CONVERGE_SET_LIMITS] = { "setting limits", "set limits of", "limits set" },
        [CONVERGE_UPDATE] = { "updating", "update", "updated" },
        [CONVERGE_START] = { "starting", "start", "started" },
        [CONVERGE_RESUME] = { "resuming", "resume", "resumed" },
        [CONVERGE_PROVISION] = { "reaching the guest", "provision", "provisioned" },
        [CONVERGE_WAIT] = { "reaching the guest", "wait for", "ready" },
};
_Static_assert(ELEMENTSOF(words) == _CONVERGE_ACTION_MAX, "an action has no words");

typedef enum WorkStep {
        WORK_WAITING, /* for others, or for its turn */
        WORK_CALLING,
        WORK_TO_ASK, /* polkit wants to */
        WORK_IN_JOB,
        WORK_DONE,
} WorkStep;

typedef struct Run Run;

/* An item at work. */
typedef struct Work {
        Run *run;
        ConvergeItem *item;
        LiveLine *line;
        WorkStep step;
        size_t at;                    /* among the plan's actions */
        size_t first_step, next_step; /* of the provisioning that goes on */
        bool asks;                    /* its call may ask for a password */
        sd_bus_slot *slot;
        char *path, *job;
        LogFollow log;
        uint64_t begun_usec;
} Work;

struct Run {
        Ctl *ctl;
        const ConvergeOptions *options;
        sd_event *event;
        Live *live;
        Work *works;
        size_t n, n_calling;
        bool asking;
        bool over;
        int sig; /* that interrupted it; 0: none */
        sd_bus_slot *removed, *changed;
        sd_event_source *interrupt, *terminate, *post;
};

void converge_item_done(ConvergeItem *i) {
        converge_want_done(&i->want);
        converge_plan_done(&i->plan);
        json_free(i->properties);
        free(i->image_url);
        free(i->image_sha256);
        free(i->after);
        sd_bus_error_free(&i->error);
        *i = (ConvergeItem){};
}

static ConvergeAction action_of(const Work *w) {
        return w->item->plan.actions[w->at];
}

/* "created, started, provisioned (2 steps) in 41s" */
static char *summary(const Work *w) {
        const ConvergePlan *p = &w->item->plan;
        _cleanup_free_ char *took = text_duration(now_monotonic() - w->begun_usec);
        char *text = strdup("");

        for (size_t i = 0; text && i < p->n_actions; i++) {
                char *longer = strf("%s%s%s", text, i > 0 ? ", " : "", words[p->actions[i]].done);

                free(text);
                text = longer;
        }
        if (text && p->n_actions > 0) {
                char *longer = strf("%s (%s)", text, took ?: "");

                free(text);
                text = longer;
        } else if (text)
                (void)free_and_strdup(&text, p->note ?: "up already");
        return text;
}

static void work_leave(Work *w) {
        w->slot = sd_bus_slot_unref(w->slot);
        if (w->step == WORK_CALLING)
                w->run->n_calling--;
        if (w->asks)
                w->run->asking = false;
        w->asks = false;
        free(TAKE_PTR(w->job));
        w->line->job.done = w->line->job.total = w->line->job.speed = 0;
}

static void work_finish(Work *w, ConvergeResult result) {
        _cleanup_free_ char *text = NULL;

        work_leave(w);
        log_follow_end(&w->log);
        w->step = WORK_DONE;
        w->item->result = result;
        if (result == CONVERGE_DONE)
                text = summary(w);
        live_end(w->run->live, w->line, text);
}

/* With item->error set, or by an errno. */
static void work_fail(Work *w, int r) {
        ConvergeItem *item = w->item;
        Run *run = w->run;

        if (run->sig != 0 && sd_bus_error_has_name(&item->error, error_code_name(ERROR_CANCELED))) {
                work_finish(w, CONVERGE_CANCELED);
                return;
        }
        (void)sd_bus_error_set_errno(&item->error, r);
        log_follow_end(&w->log);
        live_hide(run->live);
        r = ctl_report(run->ctl, &item->error, r, "Failed to %s VM '%s'", words[action_of(w)].verb,
                        item->vm->name);
        work_finish(w, r == EXIT_TIMED_OUT ? CONVERGE_TIMED_OUT : CONVERGE_FAILED);
}

/* What it was at is done. */
static void work_proceed(Work *w) {
        const ConvergeItem *item = w->item;

        work_leave(w);
        w->step = WORK_WAITING;
        if (action_of(w) == CONVERGE_PROVISION && w->next_step < item->vm->n_steps)
                w->first_step = w->next_step;
        else
                w->at++;
        if (w->at == item->plan.n_actions)
                work_finish(w, CONVERGE_DONE);
}

static int take_job(Work *w, sd_bus_message *reply) {
        const char *job;
        int r;

        r = sd_bus_message_read(reply, "o", &job);
        if (r >= 0)
                r = free_and_strdup(&w->job, job);
        if (r < 0)
                return r;
        w->run->n_calling--;
        w->step = WORK_IN_JOB;
        if (action_of(w) == CONVERGE_PROVISION && !w->run->options->quiet)
                log_follow_begin(&w->log, w->run->event);
        return 0;
}

static void cancel_job(Work *w);

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        Work *w = userdata;
        Ctl *c = w->run->ctl;
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int r;

        if (e && !w->asks && ctl_wants_to_ask(c, e)) {
                work_leave(w);
                w->step = WORK_TO_ASK;
                return 0;
        }
        if (e) {
                r = sd_bus_error_copy(&w->item->error, e);
                work_fail(w, r);
                return 0;
        }
        r = ctl_note_owner(c, m);
        if (r >= 0 && converge_call_is_job(w->item, action_of(w)))
                r = take_job(w, m);
        else if (r >= 0)
                work_proceed(w);
        if (r < 0)
                work_fail(w, r);
        else if (w->step == WORK_IN_JOB && w->run->sig != 0)
                cancel_job(w);
        return 0;
}

static int send_call(Work *w) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        ConvergeAction a = action_of(w);
        _cleanup_error_ Error *e = NULL;
        Run *run = w->run;
        int r;

        r = converge_call_new(run->ctl, w->item, a, run->options, w->first_step, &m, &w->next_step, &e);
        if (r < 0)
                return sd_bus_error_set(&w->item->error, error_code_name(error_code(e)), error_message(e));
        if (w->asks)
                r = sd_bus_message_set_allow_interactive_authorization(m, true);
        if (r >= 0)
                r = sd_bus_call_async(run->ctl->bus, &w->slot, m, on_reply, w,
                                w->asks ? ASKING_TIMEOUT_USEC : CONVERGE_CALL_TIMEOUT_USEC);
        return r < 0 ? r : 0;
}

static void work_call(Work *w) {
        Run *run = w->run;
        int r;

        if (w->begun_usec == 0)
                w->begun_usec = now_monotonic();
        w->asks = w->step == WORK_TO_ASK;
        if (w->asks) {
                run->asking = true;
                live_hide(run->live);
                agent_start(run->ctl);
        }
        if (action_of(w) == CONVERGE_PROVISION && w->first_step == 0 && !w->asks && !run->options->quiet)
                log_follow_prepare(&w->log);
        w->step = WORK_CALLING;
        run->n_calling++;
        if (!w->asks)
                live_phase(run->live, w->line, words[action_of(w)].phase);
        r = send_call(w);
        if (r < 0)
                work_fail(w, r);
}

/* What it waits for: 1 when that is done, 0 when it may be yet, -ECANCELED when it never will be. */
static int after_others(const Run *run, const ConvergeItem *item) {
        int r = 1;

        for (size_t i = 0; i < item->n_after; i++) {
                const Work *other = &run->works[item->after[i]];

                if (other->step != WORK_DONE)
                        r = 0;
                else if (other->item->result != CONVERGE_DONE)
                        return -ECANCELED;
        }
        return r;
}

static void work_leave_alone(Work *w) {
        ConvergeItem *item = w->item;

        if (!w->run->options->quiet && item->plan.n_actions > 0) {
                live_hide(w->run->live);
                (void)fprintf(stderr, "%s: left alone, as what it depends on failed\n", item->vm->name);
        }
        work_finish(w, CONVERGE_LEFT);
}

/* Returns whether something was begun or ended. */
static bool work_try(Work *w) {
        Run *run = w->run;
        int r;

        if (w->step != WORK_WAITING && w->step != WORK_TO_ASK)
                return false;
        if (run->sig != 0) {
                work_finish(w, CONVERGE_CANCELED);
                return true;
        }
        r = after_others(run, w->item);
        if (r < 0)
                work_leave_alone(w);
        else if (r > 0 && w->item->plan.n_actions == 0)
                work_finish(w, CONVERGE_DONE);
        else if (r > 0 && run->n_calling < CALLS_AT_ONCE && !(w->step == WORK_TO_ASK && run->asking))
                work_call(w);
        else
                return false;
        return true;
}

static int schedule(sd_event_source *s, void *userdata) {
        Run *run = userdata;
        size_t n_open = 0;
        bool again;

        do {
                again = false;
                for (size_t i = 0; i < run->n; i++)
                        again |= work_try(&run->works[i]);
        } while (again);
        for (size_t i = 0; i < run->n; i++)
                n_open += run->works[i].step != WORK_DONE;
        run->over |= n_open == 0;
        return 0;
}

static Work *find_job(Run *run, const char *job) {
        for (size_t i = 0; i < run->n; i++)
                if (run->works[i].step == WORK_IN_JOB && streq_ptr(run->works[i].job, job))
                        return &run->works[i];
        return NULL;
}

static void show_progress(Work *w) {
        const JobLine *job = &w->line->job;
        _cleanup_free_ char *text = NULL;

        if (streq_ptr(job->phase, "provisioning") && job->total > 0)
                text = strf("step %u of %u", (unsigned)job->done + 1, (unsigned)job->total);
        else if (job->total == 0 && job->done == 0 && !isempty(job->phase))
                text = strdup(job->phase);
        live_phase(w->run->live, w->line, text);
}

static int on_job_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        Run *run = userdata;
        Work *w;

        if (!ctl_from_service(run->ctl, m))
                return 0;
        w = find_job(run, sd_bus_message_get_path(m));
        if (!w || sd_bus_message_skip(m, "s") < 0 || message_to_json(m, &changed) < 0)
                return 0;
        if (job_take_properties(changed, &w->line->job, &w->item->error) < 0)
                return -ENOMEM;
        if (run->sig == 0)
                show_progress(w);
        return 0;
}

static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *object, *result;
        Run *run = userdata;
        uint32_t id;
        Work *w;
        int r;

        if (!ctl_from_service(run->ctl, m) ||
                        sd_bus_message_read(m, "uoos", &id, &job, &object, &result) < 0)
                return 0;
        w = find_job(run, job);
        if (!w)
                return 0;
        r = job_judge(result, &w->item->error);
        if (r < 0)
                work_fail(w, r);
        else {
                sd_bus_error_free(&w->item->error);
                work_proceed(w);
        }
        return 0;
}

static void on_service_changed(void *userdata, bool present) {
        Run *run = userdata;

        for (size_t i = 0; i < run->n; i++)
                if (run->works[i].step == WORK_IN_JOB)
                        work_fail(&run->works[i], job_judge(NULL, &run->works[i].item->error));
}

/* Its end is told as that of any job. One that has ended meanwhile cannot be canceled, which is no harm. */
static void cancel_job(Work *w) {
        live_phase(w->run->live, w->line, "canceling");
        (void)sd_bus_call_method_async(
                        w->run->ctl->bus, NULL, CTL_SERVICE, w->job, CTL_JOB, "Cancel", NULL, NULL, NULL);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *info, void *userdata) {
        Run *run = userdata;

        if (run->sig != 0) {
                run->over = true;
                return 0;
        }
        run->sig = (int)info->ssi_signo;
        for (size_t i = 0; i < run->n; i++)
                if (run->works[i].step == WORK_IN_JOB)
                        cancel_job(&run->works[i]);
        return 0;
}

static int subscribe(Run *run) {
        sd_bus *bus = run->ctl->bus;
        int r;

        r = sd_bus_match_signal_async(bus, &run->removed, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER,
                        "JobRemoved", on_job_removed, NULL, run);
        if (r >= 0)
                r = sd_bus_add_match_async(bus, &run->changed,
                                "type='signal',sender='" CTL_SERVICE "',path_namespace='" CTL_JOB_PREFIX
                                "',interface='org.freedesktop.DBus.Properties',member='PropertiesChanged'",
                                on_job_properties, NULL, run);
        if (r >= 0)
                r = ctl_follow_service(run->ctl, on_service_changed, run);
        return r;
}

static int run_init(Run *run, ConvergeItem *items, size_t n) {
        int r;

        r = sd_event_new(&run->event);
        if (r >= 0)
                r = live_new(run->event, n, run->options->quiet, &run->live);
        if (r < 0)
                return r;
        run->works = calloc(n + 1, sizeof(Work));
        if (!run->works)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                Work *w = &run->works[run->n++];

                *w = (Work){ .run = run, .item = &items[i], .line = live_line(run->live, i) };
                w->line->name = items[i].vm->name;
                w->path = ctl_vm_path(items[i].vm->name);
                w->log = (LogFollow){ .ctl = run->ctl, .live = run->live, .path = w->path };
                w->log.log = LOG_READER_NONE;
                if (items[i].result != CONVERGE_DONE) /* of an earlier run */
                        w->step = WORK_DONE;
                w->log.lines = (LogLines){ .name = n > 1 ? items[i].vm->name : NULL,
                        .raw = !term_is_tty(stdout) };
                if (!w->path)
                        return -ENOMEM;
        }
        return 0;
}

static void run_done(Run *run) {
        for (size_t i = 0; i < run->n; i++) {
                Work *w = &run->works[i];

                if (w->step != WORK_DONE)
                        w->item->result = CONVERGE_CANCELED;
                log_follow_end(&w->log);
                sd_bus_slot_unref(w->slot);
                free(w->path);
                free(w->job);
        }
        free(run->works);
        live_free(run->live);
        sd_bus_slot_unref(run->removed);
        sd_bus_slot_unref(run->changed);
        sd_event_source_disable_unref(run->interrupt);
        sd_event_source_disable_unref(run->terminate);
        sd_event_source_disable_unref(run->post);
        sd_event_unref(run->event);
}

/* Signals are taken by the loop as long as it runs. */
static int run_loop(Run *run) {
        int r;

        r = sd_bus_attach_event(run->ctl->bus, run->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        r = sd_event_add_signal(run->event, &run->interrupt, SIGINT, on_signal, run);
        if (r >= 0)
                r = sd_event_add_signal(run->event, &run->terminate, SIGTERM, on_signal, run);
        if (r >= 0)
                r = subscribe(run);
        if (r >= 0)
                r = sd_event_add_post(run->event, &run->post, schedule, run);
        if (r >= 0)
                r = schedule(run->post, run);
        /* sd_event_exit() would close the bus. */
        while (r >= 0 && !run->over)
                r = sd_event_run(run->event, UINT64_MAX);
        (void)ctl_follow_service(run->ctl, NULL, NULL);
        (void)sd_bus_detach_event(run->ctl->bus);
        return r;
}

int converge_run(Ctl *c, ConvergeItem *items, size_t n, const ConvergeOptions *options) {
        _cleanup_(run_done) Run run = { .ctl = c, .options = options };
        sigset_t mask, before;
        int r;

        sigemptyset(&mask);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &mask, &before) < 0)
                return ctl_report(c, NULL, -errno, "Failed to wait for signals");
        r = run_init(&run, items, n);
        if (r >= 0)
                r = run_loop(&run);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        if (r < 0) {
                if (run.live)
                        live_hide(run.live);
                return ctl_report(c, NULL, r, "Failed to speak to vmctld");
        }
        return run.sig;
}
