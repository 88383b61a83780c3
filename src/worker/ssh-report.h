/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctl-ssh says on standard output beside progress and its last line: see provision-request.h. */

#include "provision-request.h"

void ssh_report_phase(const char *phase);
void ssh_report_ready(const char *host_key, const char *cloud_init);
void ssh_report_step(size_t step, size_t n_steps, const ProvisionStep *s);
void ssh_report_step_done(size_t step, uint64_t usec);
