/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.Manager on the bus. */

#include "bus-face.h"

extern const ManagerHooks manager_bus_hooks;

/* Registers all objects. `face` must live as long as the connection. */
int manager_bus_add(BusFace *face);

/* The service ends: it loses its name, and all calls that were made of it until then are answered. The loop
 * must not go on after this. */
void manager_bus_end(BusFace *face);
