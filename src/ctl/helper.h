/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Running one of our own programs, which tells in JSON lines how far it is and how it ended. */

#include "ctl.h"
#include "job-line.h"
#include "util/child.h"

#define HELPER_FDS_MAX 16

typedef struct Helper {
        Ctl *ctl;
        const char *name; /* the program's, for messages */
        bool can_cancel;  /* SIGINT and SIGTERM have it end in order; else they end us, and so it */
        bool canceled;    /* that happened */
        JobLine line;     /* shown meanwhile */
        Json *result;     /* what it told in the end, or this error */
        Error *error;
        void (*line_read)(const Json *line, void *userdata); /* or NULL: called for each */
        void *userdata;
} Helper;

/* The helper has these descriptors and our standard error; its standard output is read here. Returns 0 with
 * a result, else reports "Failed to <what>: ..."; 128 and the
 * signal that canceled it. */
int helper_run(Helper *h, char *const *argv, const ChildFd *fds, size_t n_fds, const char *what);
void helper_done(Helper *h);
