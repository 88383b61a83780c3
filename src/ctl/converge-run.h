/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Does what plans say, for several VMs at the same time, on one event loop. A VM begins when those are done
 * that it waits for, and is left alone when one of them has failed. Interrupted, it cancels what can be,
 * lets end what can't, and begins nothing new. */

#include "converge.h"
#include "ctl.h"

typedef enum ConvergeResult {
        CONVERGE_DONE,
        CONVERGE_FAILED,
        CONVERGE_TIMED_OUT, /* waited in vain */
        CONVERGE_CANCELED,
        CONVERGE_LEFT, /* what it waits for is not done */
        _CONVERGE_RESULT_MAX,
        _CONVERGE_RESULT_INVALID = -EINVAL,
} ConvergeResult;
DECLARE_STRING_TABLE(converge_result, ConvergeResult);

/* A VM, what is to be done to it, and what became of that. */
typedef struct ConvergeItem {
        const VmfileVm *vm; /* borrowed */
        ConvergeWant want;
        Json *properties;               /* owned; NULL: it isn't there */
        char *image_url, *image_sha256; /* of its image, or NULL */
        bool origin_gone;
        uid_t user; /* who we are to the service */
        ConvergePlan plan;
        size_t *after; /* items of the run that have to be done before */
        size_t n_after;
        ConvergeResult result;
        Error *error;
} ConvergeItem;

void converge_item_done(ConvergeItem *i);

typedef struct ConvergeOptions {
        uint64_t timeout_usec;      /* for a guest to get ready; 0: the default */
        uint64_t stop_timeout_usec; /* for a guest to shut down */
        bool quiet;                 /* nothing is shown, failures apart */
} ConvergeOptions;

/* Failures of items are reported. Returns 0 when it came to an end, whatever became of the items; the number
 * of the signal that interrupted it; or a negative errno, reported. */
int converge_run(Ctl *c, ConvergeItem *items, size_t n, const ConvergeOptions *options);
