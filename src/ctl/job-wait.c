/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals are subscribed to before the call, and what comes meanwhile is kept by sd-bus until the reply has
 * told the job's path: so the end of a job is not missed, however early it comes. */

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "job-wait.h"
#include "message-json.h"
#include "term.h"
#include "util/fd-util.h"

#define PROPERTIES "org.freedesktop.DBus.Properties"

/* A property that is not among those that changed stays as it is. */
static void take_number(const Json *properties, const char *key, uint64_t *value) {
        (void)json_get_unsigned(properties, key, value);
}

int job_take_properties(const Json *properties, JobLine *line, sd_bus_error *error) {
        const char *phase = json_get_string(properties, "Phase"),
                   *name = json_get_string(properties, "ErrorName");
        int r = 0;

        if (phase)
                r = free_and_strdup(&line->phase, phase);
        take_number(properties, "Done", &line->done);
        take_number(properties, "Total", &line->total);
        take_number(properties, "Speed", &line->speed);
        if (!isempty(name)) {
                sd_bus_error_free(error);
                (void)sd_bus_error_set(error, name, json_get_string(properties, "ErrorMessage"));
        }
        return r;
}

static int on_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        JobWait *w = userdata;

        if (w->result || !ctl_from_service(w->ctl, m) || !streq_ptr(sd_bus_message_get_path(m), w->path) ||
                        sd_bus_message_skip(m, "s") < 0 || message_to_json(m, &changed) < 0)
                return 0;
        if (job_take_properties(changed, &w->line, &w->error) < 0)
                return -ENOMEM;
        if (w->sig == 0)
                job_line_show(&w->line);
        return 0;
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *job, *object, *result;
        JobWait *w = userdata;
        uint32_t id;
        int r;

        if (!ctl_from_service(w->ctl, m) ||
                        sd_bus_message_read(m, "uoos", &id, &job, &object, &result) < 0 ||
                        !streq_ptr(job, w->path))
                return 0;
        r = free_and_strdup(&w->object, object);
        if (r >= 0)
                r = free_and_strdup(&w->result, result);
        return r;
}

static void on_service_changed(void *userdata, bool present) {
        JobWait *w = userdata;

        w->lost |= w->path && !w->result;
}

static int subscribe(JobWait *w) {
        sd_bus *bus = w->ctl->bus;
        int r;

        r = sd_bus_match_signal_async(bus, &w->removed, CTL_SERVICE, CTL_MANAGER_PATH, CTL_MANAGER,
                        "JobRemoved", on_removed, NULL, w);
        if (r >= 0)
                r = sd_bus_add_match_async(bus, &w->changed,
                                "type='signal',sender='" CTL_SERVICE "',path_namespace='" CTL_JOB_PREFIX
                                "',interface='" PROPERTIES "',member='PropertiesChanged'",
                                on_properties, NULL, w);
        return r;
}

static int call(JobWait *w, sd_bus_message *m, uint64_t timeout_usec) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *path;
        int r;

        r = ctl_call(w->ctl, m, timeout_usec, &reply, &w->error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = free_and_strdup(&w->path, path);
        return r;
}

/* What it was at before the service began to tell us. A job that is gone has told its end before; else it
 * was a former service's, which ended before we looked out for that. */
static int on_all_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *properties = NULL;
        JobWait *w = userdata;

        w->lost |= !w->result && sd_bus_message_is_method_error(m, NULL);
        if (w->result || w->lost || message_to_json(m, &properties) < 0)
                return 0;
        if (job_take_properties(properties, &w->line, &w->error) < 0)
                return -ENOMEM;
        if (w->sig == 0)
                job_line_show(&w->line);
        return 0;
}

static int ask_properties(JobWait *w) {
        return sd_bus_call_method_async(w->ctl->bus, &w->asked, CTL_SERVICE, w->path, PROPERTIES, "GetAll",
                        on_all_properties, w, "s", CTL_JOB);
}

/* Its end is told as that of any job. One that has ended meanwhile cannot be cancelled, which is no harm. */
static int cancel(JobWait *w) {
        job_line_clear(&w->line);
        if (!w->line.quiet && term_can_redraw(stderr)) {
                (void)fputs("Canceling…", stderr);
                (void)fflush(stderr);
                w->line.drawn = true;
        }
        return sd_bus_call_method_async(
                        w->ctl->bus, NULL, CTL_SERVICE, w->path, CTL_JOB, "Cancel", NULL, NULL, NULL);
}

static int take_signal(JobWait *w, int fd) {
        struct signalfd_siginfo info;
        bool again = w->sig != 0;

        if (read(fd, &info, sizeof(info)) != sizeof(info))
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        w->sig = (int)info.ssi_signo;
        return again ? -EINTR : cancel(w);
}

static int wait_for_any(JobWait *w, int signals) {
        struct pollfd fds[] = { { .events = POLLIN, .fd = signals }, { .fd = sd_bus_get_fd(w->ctl->bus) } };
        int r = sd_bus_get_events(w->ctl->bus);

        if (r < 0 || fds[1].fd < 0)
                return r < 0 ? r : fds[1].fd;
        fds[1].events = (short)r;
        if (poll(fds, ELEMENTSOF(fds), -1) < 0)
                return errno == EINTR ? 0 : -errno;
        return fds[0].revents ? take_signal(w, signals) : 0;
}

static int wait_for_end(JobWait *w, int signals) {
        int r = 0;

        while (r >= 0 && !w->result && !w->lost) {
                r = sd_bus_process(w->ctl->bus, NULL);
                if (r == 0)
                        r = wait_for_any(w, signals);
        }
        return r < 0 ? r : 0;
}

static int wait_with_signals(JobWait *w) {
        _cleanup_close_ int signals = -EBADF;
        sigset_t mask, before;
        int r;

        sigemptyset(&mask);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &mask, &before) < 0)
                return -errno;
        signals = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        r = signals < 0 ? -errno : wait_for_end(w, signals);
        job_line_clear(&w->line);
        (void)sigprocmask(SIG_SETMASK, &before, NULL);
        return r;
}

int job_judge(const char *result, sd_bus_error *error) {
        if (streq_ptr(result, "done"))
                return 0;
        if (!result) {
                sd_bus_error_free(error);
                return sd_bus_error_set(error, error_code_name(ERROR_FAILED),
                                "vmctld ended meanwhile; 'journalctl -u vmctld' may tell why");
        }
        if (sd_bus_error_is_set(error))
                return -sd_bus_error_get_errno(error);
        if (streq(result, "timeout"))
                return sd_bus_error_set(error, error_code_name(ERROR_TIMEOUT), "It took too long");
        if (streq(result, "canceled"))
                return sd_bus_error_set(error, error_code_name(ERROR_CANCELED), "It was canceled");
        return sd_bus_error_setf(error, error_code_name(ERROR_FAILED), "The job ended as '%s'", result);
}

int job_wait_run(JobWait *w, sd_bus_message *m, uint64_t call_timeout_usec) {
        int r = 0;

        if (!w->no_wait)
                r = subscribe(w);
        if (r >= 0)
                r = call(w, m, call_timeout_usec);
        if (r < 0 || w->no_wait)
                return r < 0 ? r : 0;
        /* Not before the call, which may have started the service. */
        r = ctl_follow_service(w->ctl, on_service_changed, w);
        if (r >= 0)
                r = ask_properties(w);
        if (r >= 0)
                r = wait_with_signals(w);
        (void)ctl_follow_service(w->ctl, NULL, NULL);
        return r < 0 ? r : job_judge(w->result, &w->error);
}

void job_wait_done(JobWait *w) {
        job_line_done(&w->line);
        sd_bus_slot_unref(w->removed);
        sd_bus_slot_unref(w->changed);
        sd_bus_slot_unref(w->asked);
        sd_bus_error_free(&w->error);
        free(w->path);
        free(w->object);
        free(w->result);
}

/* Whether it ended as it did because we were told to end. */
static bool is_interrupted(const JobWait *w, int r) {
        return r < 0 && w->sig != 0 && (!w->result || streq(w->result, "canceled"));
}

int job_wait_report(JobWait *w, int r, const char *kept, const char *format, ...) {
        _cleanup_free_ char *what = NULL;
        va_list ap;

        if (is_interrupted(w, r)) {
                bool left = !w->result;

                ctl_complain(left ? "The service may still be at it: 'vmctl monitor' shows." : kept,
                                left ? "Left" : "Canceled");
                return 128 + w->sig;
        }
        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);
        return ctl_report(w->ctl, &w->error, r, "%s", what ?: "Failed");
}

void job_wait_write(const JobWait *w, int r, JsonWriter *json) {
        json_put_string(json, "Result", r >= 0 && w->no_wait ? "running" : r >= 0 ? "done" : w->result ?: "failed");
        if (w->path)
                json_put_string(json, "Job", w->path);
        if (r < 0 && sd_bus_error_is_set(&w->error)) {
                json_put_string(json, "ErrorName", w->error.name);
                json_put_string(json, "ErrorMessage", w->error.message);
        }
}
