/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The names that files in /etc/vmctl have for VMs of the machine: they are root's, whether the VMs are there
 * yet or not. Otherwise whoever made a VM of such a name first would have root's. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct MachineNames MachineNames;

/* conf_dir is borrowed. The files are read when somebody asks, and again after they have changed. Of those
 * that cannot be read for want of rights the log tells. */
int machine_names_new(sd_event *event, const char *conf_dir, MachineNames **ret);
MachineNames *machine_names_free(MachineNames *n);
void machine_names_read(MachineNames *n);
DEFINE_CLEANUP(MachineNames *, machine_names_free);

/* The file that defines a VM of this name, borrowed until the next call; NULL: none. */
const char *machine_names_find(MachineNames *n, const char *name);
