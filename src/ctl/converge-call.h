/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The call to the service that an action of a plan is. */

#include "converge-run.h"

/* Descriptors that one message of a bus can carry: 16 by default, of which one may be the private key. */
#define CONVERGE_FILES_MAX 15

/* Whether the reply is a job's path. */
bool converge_call_is_job(const ConvergeItem *i, ConvergeAction a);

/* How long to wait for a reply; the service's own deadlines are below. */
#define CONVERGE_CALL_TIMEOUT_USEC (120 * USEC_PER_SEC)

/* Makes the call; files are opened. A provisioning may take several calls: `first` is the step with which
 * this one begins, and *ret_next that of the next one, or the number of steps. */
int converge_call_new(Ctl *c, const ConvergeItem *i, ConvergeAction a, const ConvergeOptions *o,
                size_t first, sd_bus_message **ret, size_t *ret_next, Error **reterr);
