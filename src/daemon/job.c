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
        free(job->vm_name);
        error_free(job->error);
        free(job);
}

int job_new(Vm *vm, const char *kind, void (*cancel)(Job *job, void *userdata), void *userdata, Job **ret) {
        Manager *m = vm->manager;
        Job *job = malloc(sizeof(Job)), **grown;

        if (!job)
                return -ENOMEM;
        *job = (Job){
                .manager = m,
                .id = ++m->last_job_id,
                .kind = kind,
                .vm_name = strdup(vm_name(vm)),
                .owner = vm->record.owner,
                .progress = -1,
                .cancel = cancel,
                .userdata = userdata,
        };
        grown = job->vm_name ? reallocarray(m->jobs, m->n_jobs + 1, sizeof(Job *)) : NULL;
        if (!grown) {
                job_free(job);
                return -ENOMEM;
        }
        m->jobs = grown;
        m->jobs[m->n_jobs++] = job;
        m->hooks->job_new(m, job);
        *ret = job;
        return 0;
}

Job *job_finish(Job *job, JobResult result, const Error *error) {
        if (!job)
                return NULL;
        job->result = result;
        job->error = error_copy(error);
        job->cancel = NULL;
        manager_schedule_flush(job->manager);
        return NULL;
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
