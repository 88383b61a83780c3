/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The service as a whole: its parts are made, filled from disk, and taken apart. */

#include "vm/manager.h"

/* systemd_bus: a connection for PID 1 alone. */
int service_new(sd_event *event, sd_bus *bus, sd_bus *systemd_bus, Config *config, const ManagerHooks *hooks,
                Manager **ret);
Manager *service_free(Manager *m);
DEFINE_CLEANUP(Manager *, service_free);

/* Reads all VMs and takes over those that run. A VM that cannot be read is reported and left alone. */
int service_load(Manager *m);

extern const RecordType service_vm_records; /* service-load.c */
