/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Getting all bytes of a URL into a pipeline, over as many requests as it takes. */

#include "pipeline.h"
#include "progress.h"
#include "pull-request.h"
#include "pull-state.h"

typedef struct Transfer {
        const PullRequest *request;
        PipelineConfig config;
        int state_fd;  /* -EBADF: none */
        int source_fd; /* a file URL's file; -EBADF: none */
        Progress *progress;
        bool verified; /* a digest is known, so that it matters less who sends the bytes */

        Pipeline *pipeline;
        PullState state; /* of what the pipeline has */
        uint64_t offset; /* bytes that it has */
        bool resumed;    /* some of them from an earlier worker */
        bool not_modified;
        bool mismatch; /* the server sent what was not asked for */

        uint64_t furthest; /* the highest offset that there ever was: beyond it is progress */
        unsigned attempts;
        unsigned failures; /* in a row, without progress */
        bool restarted;    /* since the server found no sense in our range */
} Transfer;

/* ERROR_DOWNLOAD_FAILED and _REFUSED name the URL and tell how often it was tried. Unless not_modified is
 * set in the end, the pipeline has all bytes. */
int transfer_run(Transfer *t, Error **reterr);

/* Then: waits until the image is complete. ERROR_INVALID_IMAGE and the like. */
int transfer_finish(Transfer *t, PipelineResult *ret, Error **reterr);

/* Begins again without what an earlier worker left. */
int transfer_start_over(Transfer *t, Error **reterr);

void transfer_done(Transfer *t);
