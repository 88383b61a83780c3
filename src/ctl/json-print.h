/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* JSON on standard output. */

#include "json/json.h"

/* Ends the document and prints it with a line break. Returns 0, or reports the failure. */
int json_print(JsonWriter *w);

/* Members ErrorName and ErrorMessage of an object. */
void json_put_error(JsonWriter *w, const Error *error);

/* What became of a call about a VM, as one object: its name, "done" or "failed", and the error if there is
 * one. */
void json_write_result(JsonWriter *w, const char *name, const Error *error);
