/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Stands for worker.c: workers without processes, that answer in their second turn of the loop. */

#include "core/worker.h"

typedef struct FakeWorkers {
        const char *content; /* what comes of a URL, or is in a client's file */
        const char *digest;  /* what they say of it; NULL: the truth */
        ErrorCode error;     /* what they end with; _ERROR_CODE_INVALID: nothing goes wrong */
        bool compressed;     /* a client's file is, to the first who looks at it */
        bool not_modified;
        bool hang;      /* they say nothing until they are killed */
        bool undead;    /* those that were killed are not gone before fake_bury() */
        unsigned begun; /* since the start of the test */
        unsigned live;
} FakeWorkers;
extern FakeWorkers fake_workers;

void fake_go_on(void); /* those that hang, and whoever comes, do no longer */
void fake_bury(void);  /* those that were killed are gone */
