/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <signal.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "job-wait.h"
#include "json-print.h"
#include "term.h"

static void on_changed(void *userdata, const ClientJob *job) {
        JobWait *w = userdata;

        if (job_line_take(&w->line, job) >= 0 && w->sig == 0)
                job_line_show(&w->line);
}

static void on_done(void *userdata, const ClientJob *job, const Error *error) {
        JobWait *w = userdata;

        w->over = true;
        w->error = error_copy(error);
}

/* Its end is told as that of any job. One that has ended meanwhile cannot be canceled, which is no harm. */
static int on_signal(sd_event_source *s, const struct signalfd_siginfo *info, void *userdata) {
        JobWait *w = userdata;

        w->left = w->sig != 0;
        w->sig = (int)info->ssi_signo;
        if (w->left)
                return 0;
        job_line_clear(&w->line);
        if (!w->line.quiet && term_can_redraw(stderr)) {
                (void)fputs("Canceling…", stderr);
                (void)fflush(stderr);
                w->line.drawn = true;
        }
        client_job_cancel(w->job);
        return 0;
}

static int call(JobWait *w, sd_bus_message *m, uint64_t timeout_usec) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r;

        r = client_call(w->ctl->client, m, timeout_usec, &reply, &w->error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        return r < 0 ? r : free_and_strdup(&w->path, path);
}

static int wait_for_end(JobWait *w, sd_event *event, sd_bus_message *m, uint64_t timeout_usec) {
        static const ClientJobHandlers handlers = { .changed = on_changed, .done = on_done };
        _cleanup_(sd_event_source_unrefp) sd_event_source *interrupt = NULL, *terminate = NULL;
        int r;

        r = sd_event_add_signal(event, &interrupt, SIGINT | SD_EVENT_SIGNAL_PROCMASK, on_signal, w);
        if (r >= 0)
                r = sd_event_add_signal(event, &terminate, SIGTERM | SD_EVENT_SIGNAL_PROCMASK, on_signal, w);
        if (r >= 0)
                r = client_jobs_new(w->ctl->client, &w->jobs);
        if (r >= 0)
                r = client_job_begin(w->jobs, m, timeout_usec, &handlers, w, &w->job);
        while (r >= 0 && !w->over && !w->left)
                r = sd_event_run(event, UINT64_MAX);
        job_line_clear(&w->line);
        return r;
}

int job_wait_run(JobWait *w, sd_bus_message *m, uint64_t timeout_usec) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        sd_bus *bus = client_bus(w->ctl->client);
        int r;

        if (w->no_wait)
                return call(w, m, timeout_usec);
        r = sd_event_new(&event);
        if (r >= 0)
                r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        r = wait_for_end(w, event, m, timeout_usec);
        (void)sd_bus_detach_event(bus);
        if (r >= 0 && w->job && client_job_path(w->job))
                r = free_and_strdup(&w->path, client_job_path(w->job));
        if (r < 0)
                return r;
        return w->left ? -EINTR : w->error ? -error_code_errno(error_code(w->error)) : 0;
}

void job_wait_done(JobWait *w) {
        job_line_done(&w->line);
        client_job_free(w->job);
        client_jobs_free(w->jobs);
        error_free(w->error);
        free(w->path);
}

static const char *result_of(const JobWait *w) {
        return w->job ? client_job_result(w->job) : NULL;
}

const char *job_wait_object(const JobWait *w) {
        return w->job ? client_job_object(w->job) : NULL;
}

/* Whether it ended as it did because we were told to end. */
static bool is_interrupted(const JobWait *w) {
        return w->sig != 0 && (!result_of(w) || streq(result_of(w), "canceled"));
}

int job_wait_report(JobWait *w, int r, const char *kept, const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;

        if (is_interrupted(w)) {
                bool left = w->left || (w->path && !result_of(w));

                ctl_complain(left ? "The service may still be at it: 'vmctl monitor' shows." : kept,
                                left ? "Left" : "Canceled");
                return EXIT_SIGNALED + w->sig;
        }
        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);
        return ctl_report(w->ctl, w->error, r, "%s", what ?: "Failed");
}

void job_wait_write(const JobWait *w, int r, JsonWriter *json) {
        const char *result = result_of(w);

        json_put_string(json, "Result", r >= 0 && w->no_wait ? "running" : r >= 0 ? "done" : result ?: "failed");
        if (w->path)
                json_put_string(json, "Job", w->path);
        if (r < 0 && w->error)
                json_put_error(json, w->error);
}
