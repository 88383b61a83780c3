/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How far a job is: one line that is written anew on a terminal, else a line for each phase. */

#include "client/jobs.h"

typedef struct JobLine {
        bool quiet; /* nothing is shown */
        bool drawn; /* there is a line to take away */
        char *phase, *shown_phase;
        uint64_t done, total, speed; /* bytes; 0: unknown */
} JobLine;

/* Takes over how far a job is. -ENOMEM. */
int job_line_take(JobLine *l, const ClientJob *job);

/* Shows it on standard error. */
void job_line_show(JobLine *l);
void job_line_clear(JobLine *l);
void job_line_done(JobLine *l); /* also takes the line away */

/* The line for a terminal of that many columns. NULL when memory is short. */
char *job_line_text(const JobLine *l, size_t columns);
