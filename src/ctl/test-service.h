/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by the files of the service for tests. */

#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

/* A line for a call: its member, the name of its object, its arguments. */
void print_call(sd_bus_message *m, const char *name);

/* Methods of images, to be added to the manager's object, and the images' own objects. */
int images_serve(sd_bus *bus, sd_event *event);

/* The next job's number. */
uint32_t new_job(void);
