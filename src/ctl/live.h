/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How far several things are that go on at the same time: on a terminal a line for each of them, written
 * anew below all other output; else a line for each phase. All on standard error. */

#include <systemd/sd-event.h>

#include "job-line.h"

typedef struct Live Live;

typedef struct LiveLine {
        const char *name; /* borrowed */
        JobLine job;      /* set what is known of it, then live_show() */
        char *text;       /* in place of the job's numbers; or NULL */
        char *shown;      /* the phase that was told, where lines cannot be written anew */
        uint64_t since;   /* of this phase, CLOCK_MONOTONIC */
        bool active;
} LiveLine;

/* `quiet`: nothing is shown. The event loop keeps the seconds running. */
int live_new(sd_event *event, size_t n, bool quiet, Live **ret);
Live *live_free(Live *l);
DEFINE_CLEANUP(Live *, live_free);

/* The line of that number, for its first use: `name` borrowed. */
LiveLine *live_line(Live *l, size_t i);

/* A new phase begins; `text` is shown in place of the job's. */
void live_phase(Live *l, LiveLine *line, const char *text);
/* Something of the job has changed. */
void live_show(Live *l, LiveLine *line);
/* It has ended: its line goes, and that is told in another one, unless `text` is NULL. */
void live_end(Live *l, LiveLine *line, const char *text);

/* Takes the lines away for other output, and puts them back. */
void live_hide(Live *l);
void live_draw(Live *l);
