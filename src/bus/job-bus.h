/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.Job on the bus. */

#include "bus-face.h"

int job_bus_add(BusFace *face);
bool job_bus_may_see(const BusFace *face, const Job *job);
char *job_bus_target_path(const Job *job);            /* ditto */
int job_bus_reply(sd_bus_message *call, uint32_t id); /* what a method handler is to return */

/* For JobHooks, with the Manager as userdata */
void job_bus_new(void *userdata, Job *job);
void job_bus_changed(void *userdata, Job *job);
void job_bus_finished(void *userdata, Job *job);
