/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.Manager on the bus, and what all bus faces have in common. */

#include "access.h"

typedef struct BusFace {
        Manager *manager; /* borrowed */
        Access *access;   /* borrowed */
} BusFace;

extern const ManagerHooks manager_bus_hooks;

/* Registers all objects. `face` must live as long as the connection. */
int manager_bus_add(BusFace *face);
