/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.Manager on the bus. */

#include "bus-face.h"

extern const ManagerHooks manager_bus_hooks;

/* Registers all objects. `face` must live as long as the connection. */
int manager_bus_add(BusFace *face);
