/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A call that the service answers with a job, and the wait for the job's end. Ctrl-C cancels the job, and a
 * second one leaves it alone. */

#include "client/jobs.h"
#include "ctl.h"
#include "job-line.h"

typedef struct JobWait {
        Ctl *ctl;         /* borrowed */
        bool no_wait;     /* the job's path is all that is wanted */
        JobLine line;     /* set its `quiet` */
        char *path;       /* the job's object, once it is known */
        Error *error;     /* why it failed, or the call did */
        int sig;          /* the signal that interrupted the wait; 0: none */
        bool over, left;  /* it has ended; a second signal has ended the wait */
        ClientJobs *jobs; /* these as long as it is waited for */
        ClientJob *job;
} JobWait;

/* Calls and waits. 0: the job is done (or has begun, with no_wait); else a negative errno, for
 * job_wait_report(). */
int job_wait_run(JobWait *w, sd_bus_message *call, uint64_t call_timeout_usec);
void job_wait_done(JobWait *w);

/* What it worked on, or has made; NULL while that isn't known. */
const char *job_wait_object(const JobWait *w);

/* Says why it is not done, "vmctl: WHAT: MESSAGE", or that it was interrupted, with what the user may want
 * to know then (`kept` may be NULL). Returns the exit status, or a negative errno. */
int job_wait_report(JobWait *w, int r, const char *kept, const char *format, ...) _printf_(4, 5);

/* Its outcome as members of a JSON object: Result, Job, and ErrorName and ErrorMessage of what failed. */
void job_wait_write(const JobWait *w, int r, JsonWriter *json);
