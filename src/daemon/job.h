/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An operation that takes its time, as clients see it: an ID, progress, a result, and a way to call it off.
 */

#include "util/error.h"
#include "util/string-util.h"

typedef struct Manager Manager;
typedef struct Vm Vm;

typedef enum JobResult {
        JOB_RUNNING,
        JOB_DONE,
        JOB_FAILED,
        JOB_CANCELED,
        JOB_TIMEOUT,
        _JOB_RESULT_MAX,
        _JOB_RESULT_INVALID = -EINVAL,
} JobResult;
DECLARE_STRING_TABLE(job_result, JobResult);

typedef struct Job {
        Manager *manager; /* borrowed */
        uint32_t id;
        const char *kind; /* static: "stop" */
        char *vm_name;
        uid_t owner;     /* of the VM */
        double progress; /* 0 to 1, or -1 */
        JobResult result;
        Error *error;
        void (*cancel)(struct Job *job, void *userdata); /* ends the operation, which finishes the job */
        void *userdata;
} Job;

/* Announces a new job. It lives until job_finish(). */
int job_new(Vm *vm, const char *kind, void (*cancel)(Job *job, void *userdata), void *userdata, Job **ret);

/* Ends it. That is announced, and the job freed, in the next turn of the loop: a method's reply that names
 * the job goes out before. Returns NULL. */
Job *job_finish(Job *job, JobResult result, const Error *error);
void jobs_collect(Manager *m);
void jobs_free(Manager *m);

Job *job_find(const Manager *m, uint32_t id);
