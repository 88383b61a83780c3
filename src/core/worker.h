/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* One of the unprivileged programs that touch untrusted bytes, at work: it is given descriptors and a
 * request (one JSON object), tells how far it is in lines of JSON, and at last a result or an error. On a
 * system's service it runs under another user ID than ours. It dies with us. */

#include "core.h"
#include "json/json.h"

typedef struct Worker Worker;

typedef struct WorkerFile {
        const char *option; /* "--output" */
        int fd;             /* borrowed; -EBADF: not given */
        bool share;         /* the worker's user may open the file anew, as programs do that it runs */
} WorkerFile;

#define WORKER_FILES_MAX (PACKET_FDS_MAX - 2) /* a file for each step of a provisioning, and a few */

typedef struct WorkerSpec {
        LaunchProgram program;
        const char *verb;        /* its first argument, or NULL */
        const WorkerFile *files; /* up to WORKER_FILES_MAX */
        size_t n_files;
        uid_t requester; /* who is charged for it */
        Charge *paid;    /* that was done already: the worker's from now on; or NULL */
        uid_t uid;    /* 0: one that is nobody else's for as long; of no account in a user's own service */
        bool network; /* hand on what our environment says of proxies */
        uint64_t timeout_usec;
        const char *late; /* static: what the error says when the time is over, or NULL */
} WorkerSpec;

typedef struct WorkerHandlers {
        /* What comes before the end, as progress or as the line itself. May be NULL; must not free the
         * worker. */
        void (*progress)(void *userdata, const JobProgress *p);
        void (*line)(void *userdata, const Json *line); /* it has a string "phase" */

        /* It has ended, and with it all that it ran. Exactly one is not NULL; both are borrowed. The owner
         * frees the worker in this callback or later. */
        void (*done)(void *userdata, const Json *result, const Error *error);
} WorkerHandlers;

/* `handlers` is borrowed and must outlive the worker. ERROR_QUOTA_EXCEEDED: the requester has too many. */
int worker_run(Core *core, const WorkerSpec *spec, const char *request, size_t len,
                const WorkerHandlers *handlers, void *userdata, Worker **ret, Error **reterr);

/* Somebody else pays for it from now on. ERROR_QUOTA_EXCEEDED, and nothing changes. */
int worker_charge(Worker *w, uid_t requester, Error **reterr);

/* Kills it with all that it runs; no handler is called any more. Returns 1, and `gone` is called once, from
 * the loop, when none of them does anything any more, unless it is freed before; or 0, and that is so
 * already. Until then it is charged for, and its files belong to it. */
typedef void (*worker_gone_t)(void *userdata);
int worker_kill(Worker *w, worker_gone_t gone, void *userdata);

/* Kills it if it runs, and waits for nothing; no callback. Returns NULL. */
Worker *worker_free(Worker *w);
DEFINE_CLEANUP(Worker *, worker_free);
