/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* D-Bus values as JSON: a dictionary is an object, structs and arrays are arrays, variants are what is in
 * them. */

#include <systemd/sd-bus.h>

#include "json/json.h"

/* Writes the next complete value of the message. Negative when the message ends or cannot be read. */
int json_write_message(JsonWriter *w, sd_bus_message *m);

/* The next value as a tree. */
int message_to_json(sd_bus_message *m, Json **ret);

/* Ends the document and prints it with a line break. Returns 0, or reports the failure. */
int json_print(JsonWriter *w);

/* What became of a call about a VM, as one object: its name, "done" or "failed", and the error if that is
 * set. */
void json_write_result(JsonWriter *w, const char *name, const sd_bus_error *error);
