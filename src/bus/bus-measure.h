/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How large a message is, which sd-bus does not tell. */

#include <systemd/sd-bus.h>

#include "util/macro.h"

#define BUS_MESSAGE_OVERHEAD 256 /* header fields and what a daemon needs for a message, roughly */

typedef struct BusMeasure {
        uint64_t bytes;
        uint64_t descriptors;
} BusMeasure;

/* Adds up what a sealed message holds, which it leaves rewound. -E2BIG as soon as it is more than max bytes:
 * how much more is not looked at. */
int bus_measure(sd_bus_message *m, uint64_t max, BusMeasure *ret);
