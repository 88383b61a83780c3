/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Each VM does one action after another: a call, and where the reply is a job, the wait for its end.
 * Callbacks note what came; what is to begin then is found by schedule(), once after each event. */

#include <signal.h>
#include <stdio.h>

#include "client/jobs.h"
#include "converge-call.h"
#include "log-follow.h"
#include "term.h"
#include "text.h"

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
        WORK_BUSY,    /* with a call or a job */
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
        ClientCall *call;             /* one of these while it is busy */
        ClientJob *job;
        bool begun; /* the job */
        char *path;
        LogFollow log;
        uint64_t begun_usec;
} Work;

struct Run {
        Ctl *ctl;
        const ConvergeOptions *options;
        sd_event *event;
        Live *live;
        ClientJobs *jobs;
        Work *works;
        size_t n;
        bool over;
        int sig; /* that interrupted it; 0: none */
        sd_event_source *interrupt, *terminate, *post;
};

void converge_item_done(ConvergeItem *i) {
        converge_want_done(&i->want);
        converge_plan_done(&i->plan);
        json_free(i->properties);
        free(i->image_url);
        free(i->image_sha256);
        free(i->after);
        error_free(i->error);
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
        w->call = client_call_free(w->call);
        w->job = client_job_free(w->job);
        w->begun = false;
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

static void work_fail(Work *w, const Error *error) {
        ConvergeItem *item = w->item;
        Run *run = w->run;
        int r;

        item->error = error_copy(error);
        if (run->sig != 0 && error_is(error, ERROR_CANCELED)) {
                work_finish(w, CONVERGE_CANCELED);
                return;
        }
        log_follow_end(&w->log);
        live_hide(run->live);
        r = ctl_report(run->ctl, error, -EIO, "Failed to %s VM '%s'", words[action_of(w)].verb,
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

static void on_reply(void *userdata, sd_bus_message *reply, const Error *error) {
        if (reply)
                work_proceed(userdata);
        else
                work_fail(userdata, error);
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

static void on_job_changed(void *userdata, const ClientJob *job) {
        Work *w = userdata;

        if (!w->begun && action_of(w) == CONVERGE_PROVISION && !w->run->options->quiet)
                log_follow_begin(&w->log, w->run->event);
        w->begun = true;
        if (!isempty(client_job_progress(job).phase) && job_line_take(&w->line->job, job) >= 0 &&
                        w->run->sig == 0)
                show_progress(w);
}

static void on_job_done(void *userdata, const ClientJob *job, const Error *error) {
        if (error)
                work_fail(userdata, error);
        else
                work_proceed(userdata);
}

static int begin_call(Work *w, Error **reterr) {
        static const ClientJobHandlers handlers = { .changed = on_job_changed, .done = on_job_done };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        ConvergeAction a = action_of(w);
        Run *run = w->run;
        int r;

        r = converge_call_new(run->ctl, w->item, a, run->options, w->first_step, &m, &w->next_step, reterr);
        if (r < 0)
                return r;
        if (converge_call_is_job(w->item, a))
                r = client_job_begin(run->jobs, m, CONVERGE_CALL_TIMEOUT_USEC, &handlers, w, &w->job);
        else
                r = client_call_begin(
                                run->ctl->client, m, CONVERGE_CALL_TIMEOUT_USEC, on_reply, w, &w->call);
        return r < 0 ? client_error(run->ctl->client, r, reterr) : 0;
}

static void work_call(Work *w) {
        _cleanup_error_ Error *e = NULL;
        Run *run = w->run;

        if (w->begun_usec == 0)
                w->begun_usec = now_monotonic();
        if (action_of(w) == CONVERGE_PROVISION && w->first_step == 0 && !run->options->quiet)
                log_follow_prepare(&w->log);
        w->step = WORK_BUSY;
        live_phase(run->live, w->line, words[action_of(w)].phase);
        if (begin_call(w, &e) < 0)
                work_fail(w, e);
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

        if (w->step != WORK_WAITING)
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
        else if (r > 0 && !client_is_busy(run->ctl->client)) /* its files would be held open meanwhile */
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

/* What the service has begun it ends: a job when it is asked to, a call by itself. */
static void work_cancel(Work *w) {
        if (w->job && client_job_path(w->job))
                live_phase(w->run->live, w->line, "canceling");
        if (w->job)
                client_job_cancel(w->job);
        else if (client_call_is_waiting(w->call))
                work_finish(w, CONVERGE_CANCELED);
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *info, void *userdata) {
        Run *run = userdata;

        if (run->sig != 0) {
                run->over = true;
                return 0;
        }
        run->sig = (int)info->ssi_signo;
        for (size_t i = 0; i < run->n; i++)
                if (run->works[i].step == WORK_BUSY)
                        work_cancel(&run->works[i]);
        return 0;
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
                w->path = client_vm_path(items[i].vm->name);
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
                client_call_free(w->call);
                client_job_free(w->job);
                free(w->path);
        }
        free(run->works);
        client_jobs_free(run->jobs);
        live_free(run->live);
        sd_event_source_disable_unref(run->interrupt);
        sd_event_source_disable_unref(run->terminate);
        sd_event_source_disable_unref(run->post);
        sd_event_unref(run->event);
}

static void about_to_ask(void *userdata) {
        Run *run = userdata;

        live_hide(run->live);
}

static int run_loop(Run *run) {
        Client *client = run->ctl->client;
        int r;

        r = sd_bus_attach_event(client_bus(client), run->event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        client_on_ask(client, about_to_ask, run);
        r = sd_event_add_signal(
                        run->event, &run->interrupt, SIGINT | SD_EVENT_SIGNAL_PROCMASK, on_signal, run);
        if (r >= 0)
                r = sd_event_add_signal(run->event, &run->terminate, SIGTERM | SD_EVENT_SIGNAL_PROCMASK,
                                on_signal, run);
        if (r >= 0)
                r = client_jobs_new(client, &run->jobs);
        if (r >= 0)
                r = sd_event_add_post(run->event, &run->post, schedule, run);
        if (r >= 0)
                r = schedule(run->post, run);
        /* sd_event_exit() would close the bus. */
        while (r >= 0 && !run->over)
                r = sd_event_run(run->event, UINT64_MAX);
        client_on_ask(client, NULL, NULL);
        (void)sd_bus_detach_event(client_bus(client));
        return r;
}

int converge_run(Ctl *c, ConvergeItem *items, size_t n, const ConvergeOptions *options) {
        _cleanup_(run_done) Run run = { .ctl = c, .options = options };
        int r;

        r = run_init(&run, items, n);
        if (r >= 0)
                r = run_loop(&run);
        if (r < 0) {
                if (run.live)
                        live_hide(run.live);
                return ctl_report(c, NULL, r, "Failed to speak to vmctld");
        }
        return run.sig;
}
