/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a provisioning prints, shown while it goes on. Whoever may not look at the log sees nothing
 * meanwhile; that is no failure. */

#include "live.h"
#include "log-reader.h"

typedef struct LogFollow {
        Ctl *ctl;         /* borrowed, as live and path */
        Live *live;       /* makes way for the output */
        const char *path; /* of the VM */
        LogReader log;
        LogLines lines;
        sd_event_source *notices, *more;
} LogFollow;

/* Before the provisioning: what is in the log now is an earlier one's. */
void log_follow_prepare(LogFollow *f);
/* When it has begun; again: nothing happens. */
void log_follow_begin(LogFollow *f, sd_event *event);
/* When it has ended: what was printed is shown to the end. */
void log_follow_end(LogFollow *f);
