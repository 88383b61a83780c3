/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An operation that takes its time, as clients see it: an ID, progress, a result, and a way to call it off.
 */

#include "util/error.h"
#include "util/string-util.h"

typedef struct Operation Operation;

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

/* What a job works on; it need not be there yet, or any more. */
typedef enum JobTarget {
        JOB_TARGET_VM,
        JOB_TARGET_IMAGE,
} JobTarget;

/* How far an operation is. */
typedef struct JobProgress {
        const char *phase;           /* borrowed, not NULL: "downloading" */
        uint64_t done, total, speed; /* bytes, bytes, bytes a second; 0: not known */
} JobProgress;

typedef struct Job Job;

/* Who tells clients. */
typedef struct JobHooks {
        void (*job_new)(void *userdata, Job *job);
        void (*job_changed)(void *userdata, Job *job);
        void (*job_finished)(void *userdata, Job *job);
} JobHooks;

/* All that there are. */
typedef struct Jobs {
        Job **list; /* owned, by rising ID */
        size_t n;
        uint32_t last_id;
        const JobHooks *hooks;
        void *userdata;
} Jobs;

struct Job {
        Jobs *jobs; /* borrowed */
        uint32_t id;
        const char *kind; /* static: "stop" */
        JobTarget target;
        char *target_name;
        uid_t owner;     /* of the target */
        uid_t requester; /* who hears of it, too */
        uid_t *hearers;  /* owned: these two, and those who asked for the same later */
        size_t n_hearers;
        double progress; /* 0 to 1, or -1 */
        char *phase;     /* never NULL */
        uint64_t done, total, speed;
        JobResult result;
        Error *error;
        Operation *operation; /* borrowed; NULL: it has ended */
};

typedef struct JobSpec {
        const char *kind; /* static */
        JobTarget target;
        const char *target_name;
        uid_t owner, requester;
        Operation *operation;
} JobSpec;

/* Announces an operation's job. It lives until job_finish(). See operation_announce(). */
int job_new(Jobs *jobs, const JobSpec *spec, Job **ret);

/* Whoever asks for what is under way already hears of its end, too. */
int job_join(Job *job, uid_t requester);

void job_set_progress(Job *job, const JobProgress *p); /* of nobody's job (NULL): nothing */

/* Ends it. That is announced, and the job freed, by jobs_collect() in the next turn of the loop: a method's
 * reply that names the job goes out before. Returns NULL. */
Job *job_finish(Job *job, JobResult result, const Error *error);
JobResult job_result_of(const Error *error); /* NULL: it is done */
void jobs_collect(Jobs *jobs);
void jobs_done(Jobs *jobs);

bool job_is_of(const Job *job, uid_t uid); /* they asked for it, or its target is theirs */
Job *job_find(const Jobs *jobs, uint32_t id);
