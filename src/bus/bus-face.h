/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the objects on the bus (the *-bus files) have in common. */

#include "access.h"

typedef struct BusFace {
        Manager *manager; /* borrowed */
        Access *access;   /* borrowed */

        sd_bus_message **asking; /* owned: calls that wait for what QEMU says of itself */
        size_t n_asking;
} BusFace;

/* Who made the call that is being dispatched. For methods of a VM or image: their slot is that of all of
 * them, and userdata the object that find() found. */
uid_t bus_face_caller(sd_bus_message *m);
