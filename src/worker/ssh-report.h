/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What vmctl-ssh says on standard output, but for its last line: see provision-request.h. */

#include "provision-request.h"

void ssh_report_phase(const char *phase);
void ssh_report_ready(const char *host_key, const char *cloud_init);
void ssh_report_step(size_t step, size_t n_steps, const ProvisionStep *s);
void ssh_report_step_done(size_t step, uint64_t usec);

/* Bytes moved, told at most four times a second. Begin with {} and the first two fields. */
typedef struct SshMeter {
        const char *phase;
        uint64_t total; /* 0: unknown */
        uint64_t done;
        uint64_t started;
        uint64_t told;
} SshMeter;

void ssh_meter_add(SshMeter *m, uint64_t bytes);

/* One JSON object and a newline. Frees the writer. */
int ssh_report_line(JsonWriter *w);
