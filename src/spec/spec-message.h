/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Definitions on the bus. */

#include <systemd/sd-bus.h>

#include "vm-spec.h"

/* Appends the key's entry {sv}, with its value in `s`; nothing for a file, which travels as a descriptor. */
int spec_message_append(sd_bus_message *m, const SpecKey *k, const VmSpec *s);
