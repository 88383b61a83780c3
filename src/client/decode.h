/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* D-Bus values as a tree: a dictionary is an object, structs and arrays are arrays, variants are what is in
 * them. Of a descriptor, and of a number that is none, nothing is left but null. */

#include <systemd/sd-bus.h>

#include "json/json.h"

/* Reads the next complete value of the message; *ret is the caller's, for json_free(). -ENXIO at the end of
 * the message, else what sd-bus or json_builder_finish() says. */
int client_decode(sd_bus_message *m, Json **ret);
