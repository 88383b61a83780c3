/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Jobs that bring an image into the store. */

#include "job-wait.h"

typedef struct ImageJob {
        JobWait wait;                         /* set its `ctl`, and what else is to hold */
        const char *verb, *done;              /* as "pull", "Pulled" */
        const char *what;                     /* the URL or file */
        const char *kept;                     /* what is to be known when it was interrupted; or NULL */
        const char *kernel, *initrd, *append; /* what it is to be booted with, for JSON; or NULL */
        bool may_refresh;                     /* an image that was there already could be asked for anew */
} ImageJob;

/* Makes the call, waits, and tells about the image. Returns the exit status. */
int image_job_run(ImageJob *j, sd_bus_message *m);

/* The same with ImportImage of the descriptor, which is shared as the options --shared and --private say.
 * `format` may be NULL. */
int image_job_import(ImageJob *j, const Args *args, const char *name, int fd, const char *format);
