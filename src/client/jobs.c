/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Signals may come before the reply that tells the job's path. So as long as a reply is awaited, all jobs
 * that are heard of are kept, by their paths, in case that one of them turns out to be ours. When it is
 * ours, its properties are asked for: it may have been at work before the service began to tell us, and a
 * job that is gone without a word was a former service's. */

#include "jobs.h"
#include "decode.h"
#include "util/string-util.h"

struct ClientJob {
        ClientJobs *jobs;
        ClientJob *next;
        const ClientJobHandlers *handlers; /* NULL: it was only heard of */
        void *userdata;
        ClientCall *call;  /* that begins it */
        ClientCall *asked; /* for its properties */
        bool over, lost, canceled;
        bool unsure; /* its end may be among the signals that were lost */

        char *path, *phase, *object, *result;
        uint64_t done, total, speed;
        Error *error; /* why it fails, as it tells itself */
};

struct ClientJobs {
        Client *client;
        ClientJob *first; /* those that are not over; borrowed, but for those only heard of */
        size_t n_calling;
        sd_bus_slot *removed, *changed, *signals_lost;
        ServiceWatch *watch;
};

static void unlink_job(ClientJob *job) {
        for (ClientJob **p = &job->jobs->first; *p; p = &(*p)->next)
                if (*p == job) {
                        *p = job->next;
                        return;
                }
}

static ClientJob *find_job(const ClientJobs *jobs, const char *path) {
        for (ClientJob *job = jobs->first; job; job = job->next)
                if (streq_ptr(job->path, path))
                        return job;
        return NULL;
}

static int add_job(ClientJobs *jobs, const char *path, ClientJob **ret) {
        ClientJob *job = malloc(sizeof(ClientJob));

        if (!job)
                return -ENOMEM;
        *job = (ClientJob){ .jobs = jobs, .next = jobs->first, .path = path ? strdup(path) : NULL };
        jobs->first = job;
        if (path && !job->path) {
                client_job_free(job);
                return -ENOMEM;
        }
        *ret = job;
        return 0;
}

/* The job that a signal is about: ours, or one that may be. NULL: it is none of our business. */
static ClientJob *heard_of(ClientJobs *jobs, sd_bus_message *m, const char *path) {
        ClientJob *job;

        if (!client_from_service(jobs->client, m))
                return NULL;
        job = find_job(jobs, path);
        if (!job && jobs->n_calling > 0 && add_job(jobs, path, &job) < 0)
                return NULL;
        return job;
}

static void forget_heard(ClientJobs *jobs) {
        ClientJob *job = jobs->first;

        while (job) {
                ClientJob *next = job->next;

                if (!job->handlers)
                        client_job_free(job);
                job = next;
        }
}

static void leave_call(ClientJob *job) {
        if (!job->call)
                return;
        job->call = client_call_free(job->call);
        if (--job->jobs->n_calling == 0)
                forget_heard(job->jobs);
}

/* Nothing may be done with the job after this. */
static void finish(ClientJob *job, const Error *error) {
        leave_call(job);
        job->asked = client_call_free(job->asked);
        unlink_job(job);
        job->over = true;
        job->handlers->done(job->userdata, job, error);
}

/* What it tells of itself comes first. */
static void finish_by_result(ClientJob *job) {
        _cleanup_error_ Error *e = NULL;

        if (streq(job->result, "done")) {
                finish(job, NULL);
                return;
        }
        if (job->error)
                e = error_copy(job->error);
        else if (streq(job->result, "timeout"))
                (void)error_set(&e, ERROR_TIMEOUT, "It took too long");
        else if (streq(job->result, "canceled"))
                (void)error_set(&e, ERROR_CANCELED, "It was canceled");
        else
                (void)error_set(&e, ERROR_FAILED, "The job ended as '%s'", job->result);
        finish(job, e);
}

static void finish_lost(ClientJob *job) {
        Client *c = job->jobs->client;
        _cleanup_error_ Error *e = NULL;

        job->lost = true;
        if (sd_bus_is_open(client_bus(c)) > 0)
                (void)error_set(&e, ERROR_FAILED,
                                "vmctld ended meanwhile; 'journalctl -u vmctld' may tell why");
        else
                (void)client_error(c, -ENOTCONN, &e);
        finish(job, e);
}

static void finish_errno(ClientJob *job, int r) {
        _cleanup_error_ Error *e = NULL;

        (void)client_error(job->jobs->client, r, &e);
        finish(job, e);
}

/* A property that is not among those that changed stays as it is. */
static int take_properties(ClientJob *job, sd_bus_message *m) {
        _cleanup_json_ Json *properties = NULL;
        const char *phase, *name;
        int r;

        r = client_decode(m, &properties);
        if (r < 0)
                return r;
        phase = json_get_string(properties, "Phase");
        name = json_get_string(properties, "ErrorName");
        if (phase)
                r = free_and_strdup(&job->phase, phase);
        (void)json_get_unsigned(properties, "Done", &job->done);
        (void)json_get_unsigned(properties, "Total", &job->total);
        (void)json_get_unsigned(properties, "Speed", &job->speed);
        if (!isempty(name))
                (void)client_error_named(job->jobs->client, name,
                                json_get_string(properties, "ErrorMessage"), &job->error);
        return r;
}

static void tell_changed(ClientJob *job) {
        if (job->handlers && job->handlers->changed)
                job->handlers->changed(job->userdata, job);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        ClientJob *job = heard_of(userdata, m, sd_bus_message_get_path(m));

        if (job && sd_bus_message_skip(m, "s") >= 0 && take_properties(job, m) >= 0)
                tell_changed(job);
        return 0;
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *path, *object, *result;
        ClientJob *job;
        uint32_t id;
        int r;

        if (sd_bus_message_read(m, "uoos", &id, &path, &object, &result) < 0)
                return 0;
        job = heard_of(userdata, m, path);
        if (!job)
                return 0;
        r = free_and_strdup(&job->object, object);
        if (r >= 0)
                r = free_and_strdup(&job->result, result);
        if (job->handlers && r < 0)
                finish_errno(job, r);
        else if (job->handlers)
                finish_by_result(job);
        return 0;
}

/* Who is told may free jobs and begin others, which have no path yet. What was heard of is not of the
 * service that answers now. */
static void on_service_changed(void *userdata, bool present) {
        ClientJobs *jobs = userdata;
        ClientJob *job;

        forget_heard(jobs);
        job = jobs->first;
        while (job)
                if (job->handlers && job->path) {
                        finish_lost(job);
                        job = jobs->first;
                } else
                        job = job->next;
}

static void send_cancel(ClientJob *job) {
        (void)sd_bus_call_method_async(client_bus(job->jobs->client), NULL, VMCTL_SERVICE, job->path,
                        VMCTL_JOB, "Cancel", NULL, NULL, NULL);
}

static int ask_properties(ClientJob *job);

/* The service is there, and will not tell. */
static void finish_unheard(ClientJob *job, const Error *error) {
        job->lost = true;
        finish(job, error);
}

/* A service that lets us wait is asked once more. */
static void ask_again(ClientJob *job) {
        _cleanup_error_ Error *e = NULL;
        int r = ask_properties(job);

        if (r >= 0)
                return;
        (void)client_error(job->jobs->client, r, &e);
        finish_unheard(job, e);
}

static void on_no_job(ClientJob *job) {
        _cleanup_error_ Error *e = NULL;

        if (!job->unsure) {
                finish_lost(job);
                return;
        }
        (void)error_set(&e, ERROR_FAILED, "It has ended, but the signal that tells how was lost");
        finish_unheard(job, e);
}

/* Without an answer its end is awaited, if that can still be told. */
static void on_properties(void *userdata, sd_bus_message *reply, const Error *error) {
        ClientJob *job = userdata;

        job->asked = client_call_free(job->asked);
        if (reply) {
                job->unsure = false;
                if (take_properties(job, reply) >= 0)
                        tell_changed(job);
        } else if (error_is(error, ERROR_NO_SUCH_JOB))
                on_no_job(job);
        else if (job->unsure && error_is(error, ERROR_TIMEOUT))
                ask_again(job);
        else if (job->unsure)
                finish_unheard(job, error);
}

static int ask_properties(ClientJob *job) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Client *c = job->jobs->client;
        int r;

        r = client_new_call(c, job->path, DBUS_PROPERTIES, "GetAll", &m);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", VMCTL_JOB);
        return r < 0 ? r : client_call_begin(c, m, 0, on_properties, job, &job->asked);
}

/* We were stopped for long, or whoever reads what we print was. */
static int on_signals_lost(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        ClientJobs *jobs = userdata;

        if (!client_from_service(jobs->client, m))
                return 0;
        for (ClientJob *job = jobs->first; job; job = job->next) {
                if (!job->handlers || !job->path)
                        continue;
                job->unsure = true; /* an answer that is under way comes behind this signal, and is newer */
                if (!job->asked)
                        (void)ask_properties(job);
        }
        return 0;
}

/* What was heard of it before it was known to be ours. */
static void take_heard(ClientJob *job, const char *path) {
        ClientJob *heard = find_job(job->jobs, path);

        if (!heard || heard->handlers)
                return;
        job->phase = TAKE_PTR(heard->phase);
        job->object = TAKE_PTR(heard->object);
        job->result = TAKE_PTR(heard->result);
        job->error = TAKE_PTR(heard->error);
        job->done = heard->done;
        job->total = heard->total;
        job->speed = heard->speed;
        client_job_free(heard);
}

static void on_called(void *userdata, sd_bus_message *reply, const Error *error) {
        ClientJob *job = userdata;
        const char *path;
        int r;

        if (!reply) {
                finish(job, error);
                return;
        }
        r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0) {
                take_heard(job, path);
                r = free_and_strdup(&job->path, path);
        }
        leave_call(job);
        if (r >= 0 && job->result) {
                finish_by_result(job);
                return;
        }
        if (r >= 0)
                r = ask_properties(job);
        if (r < 0) {
                finish_errno(job, r);
                return;
        }
        if (job->canceled)
                send_cancel(job);
        tell_changed(job);
}

int client_jobs_new(Client *c, ClientJobs **ret) {
        _cleanup_(client_jobs_freep) ClientJobs *jobs = malloc(sizeof(ClientJobs));
        int r;

        if (!jobs)
                return -ENOMEM;
        *jobs = (ClientJobs){ .client = c };
        r = sd_bus_match_signal_async(client_bus(c), &jobs->removed, VMCTL_SERVICE, VMCTL_MANAGER_PATH,
                        VMCTL_MANAGER, "JobRemoved", on_removed, NULL, jobs);
        if (r >= 0)
                r = sd_bus_add_match_async(client_bus(c), &jobs->changed,
                                "type='signal',sender='" VMCTL_SERVICE "',path_namespace='" VMCTL_JOB_PREFIX
                                "',interface='" DBUS_PROPERTIES "',member='PropertiesChanged'",
                                on_changed, NULL, jobs);
        if (r >= 0)
                r = sd_bus_match_signal_async(client_bus(c), &jobs->signals_lost, VMCTL_SERVICE,
                                VMCTL_MANAGER_PATH, VMCTL_MANAGER, "SignalsLost", on_signals_lost, NULL,
                                jobs);
        if (r >= 0)
                r = service_watch_new(c, on_service_changed, jobs, &jobs->watch);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(jobs);
        return 0;
}

ClientJobs *client_jobs_free(ClientJobs *jobs) {
        if (!jobs)
                return NULL;
        forget_heard(jobs);
        assert(!jobs->first);
        sd_bus_slot_unref(jobs->removed);
        sd_bus_slot_unref(jobs->changed);
        sd_bus_slot_unref(jobs->signals_lost);
        service_watch_free(jobs->watch);
        free(jobs);
        return NULL;
}

int client_job_begin(ClientJobs *jobs, sd_bus_message *m, uint64_t timeout_usec,
                const ClientJobHandlers *handlers, void *userdata, ClientJob **ret) {
        ClientJob *job;
        int r;

        r = add_job(jobs, NULL, &job);
        if (r < 0)
                return r;
        job->handlers = handlers;
        job->userdata = userdata;
        r = client_call_begin(jobs->client, m, timeout_usec, on_called, job, &job->call);
        if (r < 0) {
                client_job_free(job);
                return r;
        }
        jobs->n_calling++;
        *ret = job;
        return 0;
}

ClientJob *client_job_free(ClientJob *job) {
        if (!job)
                return NULL;
        if (!job->over) {
                unlink_job(job);
                leave_call(job);
                client_call_free(job->asked);
        }
        error_free(job->error);
        free(job->path);
        free(job->phase);
        free(job->object);
        free(job->result);
        free(job);
        return NULL;
}

void client_job_cancel(ClientJob *job) {
        _cleanup_error_ Error *e = NULL;

        if (job->over)
                return;
        job->canceled = true;
        if (job->path)
                send_cancel(job);
        else if (client_call_is_waiting(job->call)) {
                (void)error_set(&e, ERROR_CANCELED, "It was canceled");
                finish(job, e);
        }
}

ClientJobProgress client_job_progress(const ClientJob *job) {
        return (ClientJobProgress){ job->phase, job->done, job->total, job->speed };
}

const char *client_job_path(const ClientJob *job) {
        return job->path;
}

const char *client_job_object(const ClientJob *job) {
        return job->object;
}

const char *client_job_result(const ClientJob *job) {
        return job->result;
}

bool client_job_is_lost(const ClientJob *job) {
        return job->lost;
}
