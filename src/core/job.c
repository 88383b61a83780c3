/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <string.h>

#include "job.h"

static const char *const job_result_table[] = {
        [JOB_RUNNING] = "",
        [JOB_DONE] = "done",
        [JOB_FAILED] = "failed",
        [JOB_CANCELED] = "canceled",
        [JOB_TIMEOUT] = "timeout",
};
DEFINE_STRING_TABLE(job_result, JobResult, _JOB_RESULT_MAX);

static void job_free(Job *job) {
        free(job->hearers);
        free(job->target_name);
        free(job->phase);
        error_free(job->error);
        free(job);
}

bool job_is_of(const Job *job, uid_t uid) {
        for (size_t i = 0; i < job->n_hearers; i++)
                if (job->hearers[i] == uid)
                        return true;
        return false;
}

static int add_hearer(Job *job, uid_t uid) {
        uid_t *grown;

        if (job_is_of(job, uid))
                return 0;
        grown = reallocarray(job->hearers, job->n_hearers + 1, sizeof(uid_t));
        if (!grown)
                return -ENOMEM;
        job->hearers = grown;
        job->hearers[job->n_hearers++] = uid;
        return 0;
}

int job_join(Job *job, uid_t requester) {
        return add_hearer(job, requester);
}

int job_new(Jobs *jobs, const JobSpec *spec, Job **ret) {
        Job *job = malloc(sizeof(Job)), **grown;

        if (!job)
                return -ENOMEM;
        *job = (Job){
                .jobs = jobs,
                .id = ++jobs->last_id,
                .kind = spec->kind,
                .target = spec->target,
                .target_name = strdup(spec->target_name),
                .owner = spec->owner,
                .requester = spec->requester,
                .progress = -1,
                .phase = strdup(""),
                .operation = spec->operation,
        };
        grown = job->target_name && job->phase ? reallocarray(jobs->list, jobs->n + 1, sizeof(Job *)) : NULL;
        if (grown)
                jobs->list = grown;
        if (!grown || add_hearer(job, job->owner) < 0 || add_hearer(job, job->requester) < 0) {
                job_free(job);
                return -ENOMEM;
        }
        jobs->list[jobs->n++] = job;
        jobs->hooks->job_new(jobs->userdata, job);
        *ret = job;
        return 0;
}

void job_set_progress(Job *job, const JobProgress *p) {
        if (!job || job->result != JOB_RUNNING || free_and_strdup(&job->phase, p->phase) < 0)
                return;
        job->done = p->done;
        job->total = p->total;
        job->speed = p->speed;
        job->progress = p->total > 0 ? (double)MIN(p->done, p->total) / (double)p->total : -1;
        job->jobs->hooks->job_changed(job->jobs->userdata, job);
}

Job *job_finish(Job *job, JobResult result, const Error *error) {
        if (!job)
                return NULL;
        job->result = result;
        if (result == JOB_DONE)
                job->progress = 1;
        job->error = error_copy(error);
        job->operation = NULL;
        return NULL;
}

JobResult job_result_of(const Error *error) {
        if (!error)
                return JOB_DONE;
        switch (error_code(error)) {
        case ERROR_CANCELED:
                return JOB_CANCELED;
        case ERROR_TIMEOUT:
                return JOB_TIMEOUT;
        default:
                return JOB_FAILED;
        }
}

void jobs_collect(Jobs *jobs) {
        size_t kept = 0;

        for (size_t i = 0; i < jobs->n; i++) {
                Job *job = jobs->list[i];

                if (job->result == JOB_RUNNING) {
                        jobs->list[kept++] = job;
                        continue;
                }
                jobs->hooks->job_finished(jobs->userdata, job);
                job_free(job);
        }
        jobs->n = kept;
}

void jobs_done(Jobs *jobs) {
        for (size_t i = 0; i < jobs->n; i++)
                job_free(jobs->list[i]);
        free(jobs->list);
        *jobs = (Jobs){};
}

Job *job_find(const Jobs *jobs, uint32_t id) {
        for (size_t i = 0; i < jobs->n; i++)
                if (jobs->list[i]->id == id)
                        return jobs->list[i];
        return NULL;
}
