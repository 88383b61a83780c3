/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The methods of org.vmctl1.VM that reach into the guest. */

#include "bus-face.h"

int vm_guest_bus_wait(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_guest_bus_provision(sd_bus_message *m, void *userdata, sd_bus_error *error);
int vm_guest_bus_open_log(sd_bus_message *m, void *userdata, sd_bus_error *error);
