/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How a worker is called: "vmctl-X [--uid N --gid N] [--ROLE FD]...", with the request on standard input. */

#include "confine.h"

/* An option that gives a descriptor, which is inherited and stays borrowed. It may be given as often as
 * there are `fds`, which are filled from the first on; all are -EBADF before, and those not given stay so.
 */
typedef struct WorkerOption {
        const char *name; /* "--output" */
        int *fds;
        size_t n_fds;
} WorkerOption;

/* Reads the arguments from argv[first] on. ERROR_FAILED, in the program's name: only the service calls it.
 */
int worker_parse_options(int argc, char *argv[], int first, const WorkerOption *table, size_t n,
                Identity *ret, Error **reterr);

/* The text of the request; the caller's to free. */
int worker_read_request(size_t max, char **ret, size_t *ret_len, Error **reterr);
