/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A call that the service answers with a job, and the wait for the job's end. Ctrl-C cancels the job, and a
 * second one leaves it alone. */

#include "ctl.h"
#include "job-line.h"

typedef struct JobWait {
        Ctl *ctl;           /* borrowed */
        bool no_wait;       /* the job's path is all that is wanted */
        JobLine line;       /* set its `quiet` */
        char *path;         /* the job's object */
        char *object;       /* what it works on, or has made; NULL while that isn't known */
        char *result;       /* NULL: it has not ended */
        sd_bus_error error; /* why it failed, or the call did */
        int sig;            /* the signal that ended the wait; 0: none */
        bool lost;          /* the service went away meanwhile */
        sd_bus_slot *removed, *changed, *asked;
} JobWait;

/* Calls and waits. 0: the job is done (or has begun, with no_wait); else a negative errno, for
 * job_wait_report(). */
int job_wait_run(JobWait *w, sd_bus_message *call, uint64_t call_timeout_usec);
void job_wait_done(JobWait *w);

/* Says why it is not done, "vmctl: WHAT: MESSAGE", or that it was interrupted, with what the user may want
 * to know then (`kept` may be NULL). Returns the exit status, or a negative errno. */
int job_wait_report(JobWait *w, int r, const char *kept, const char *format, ...) _printf_(4, 5);

/* Its outcome as members of a JSON object: Result, Job, and ErrorName and ErrorMessage of what failed. */
void job_wait_write(const JobWait *w, int r, JsonWriter *json);

/* Takes from a job's properties, or those that have changed, how far it is and why it failed. -ENOMEM. */
int job_take_properties(const Json *properties, JobLine *line, sd_bus_error *error);

/* The end of a job as an error that the user is told; one that it told of itself comes first. `result` NULL:
 * the service was lost before. 0 when it is done, else a negative errno with `error` set. */
int job_judge(const char *result, sd_bus_error *error);
