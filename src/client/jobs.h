/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Calls that the service answers with a job, and what becomes of these: any number at a time, none of which
 * blocks. A job's end is seen however early it comes, also before the reply; that the service or the
 * connection is gone is seen, too. */

#include "call.h"

typedef struct ClientJobs ClientJobs; /* what looks out for signals, for all jobs of a client */
typedef struct ClientJob ClientJob;

/* Subscribes; before the calls, not after them. Negative errno. The caller frees it, after its jobs and
 * before the client. */
int client_jobs_new(Client *c, ClientJobs **ret);
ClientJobs *client_jobs_free(ClientJobs *jobs);
DEFINE_CLEANUP(ClientJobs *, client_jobs_free);

typedef struct ClientJobHandlers {
        /* The job has begun, or is further. May be NULL; must not free the job. */
        void (*changed)(void *userdata, const ClientJob *job);
        /* It has ended, once: NULL if it is done, else why not. May free the job, and begin others. */
        void (*done)(void *userdata, const ClientJob *job, const Error *error);
} ClientJobHandlers;

/* Makes the call, which refers to the message; its timeout is as for client_call_begin(). Neither handler
 * (borrowed) is called before this returns. The caller frees *ret: the job itself goes on then. Negative
 * errno. */
int client_job_begin(ClientJobs *jobs, sd_bus_message *call, uint64_t timeout_usec,
                const ClientJobHandlers *handlers, void *userdata, ClientJob **ret);
ClientJob *client_job_free(ClientJob *job);
DEFINE_CLEANUP(ClientJob *, client_job_free);

/* Asks the service to end it, as soon as it is known; its end is told as any other. One that the service has
 * not begun, as its call still waits to be sent or to ask for a password, ends at once, within this call. */
void client_job_cancel(ClientJob *job);

/* How far it is: in bytes, or steps; 0 where that isn't known. `phase` is lent, or NULL. */
typedef struct ClientJobProgress {
        const char *phase;
        uint64_t done, total, speed;
} ClientJobProgress;

ClientJobProgress client_job_progress(const ClientJob *job);
const char *client_job_path(const ClientJob *job);   /* its object; NULL: the call has not been answered */
const char *client_job_object(const ClientJob *job); /* what it was about or has made; NULL before its end */
const char *client_job_result(
                const ClientJob *job); /* NULL: it has not ended, or nobody has heard of that */
/* Whether it began and then the service was gone, or what it told was lost, so that nobody knows how it
 * ended. */
bool client_job_is_lost(const ClientJob *job);
