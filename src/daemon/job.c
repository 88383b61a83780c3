/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job.h"
#include "manager.h"

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

int job_new(Operation *op, Job **ret) {
        Job *job = malloc(sizeof(Job)), **grown;
        Manager *m = op->manager;

        if (!job)
                return -ENOMEM;
        *job = (Job){
                .manager = m,
                .id = ++m->last_job_id,
                .kind = operation_kind_to_string(op->type->kind),
                .target = op->target,
                .target_name = strdup(op->target_name),
                .owner = op->target_owner,
                .requester = op->requester,
                .progress = -1,
                .phase = strdup(""),
                .operation = op,
        };
        grown = job->target_name && job->phase ? reallocarray(m->jobs, m->n_jobs + 1, sizeof(Job *)) : NULL;
        if (grown)
                m->jobs = grown;
        if (!grown || add_hearer(job, job->owner) < 0 || add_hearer(job, job->requester) < 0) {
                job_free(job);
                return -ENOMEM;
        }
        m->jobs[m->n_jobs++] = job;
        m->hooks->job_new(m, job);
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
        job->manager->hooks->job_changed(job->manager, job);
}

Job *job_finish(Job *job, JobResult result, const Error *error) {
        if (!job)
                return NULL;
        job->result = result;
        if (result == JOB_DONE)
                job->progress = 1;
        job->error = error_copy(error);
        job->operation = NULL;
        manager_schedule_flush(job->manager);
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

void jobs_collect(Manager *m) {
        size_t kept = 0;

        for (size_t i = 0; i < m->n_jobs; i++) {
                Job *job = m->jobs[i];

                if (job->result == JOB_RUNNING) {
                        m->jobs[kept++] = job;
                        continue;
                }
                m->hooks->job_finished(m, job);
                job_free(job);
        }
        m->n_jobs = kept;
}

void jobs_free(Manager *m) {
        for (size_t i = 0; i < m->n_jobs; i++)
                job_free(m->jobs[i]);
        free(m->jobs);
}

Job *job_find(const Manager *m, uint32_t id) {
        for (size_t i = 0; i < m->n_jobs; i++)
                if (m->jobs[i]->id == id)
                        return m->jobs[i];
        return NULL;
}
