/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a worker says to whoever started it: lines on standard output, each of one JSON object. Any number
 * with a "phase", then one with the result or with the error. */

#include "util/error.h"
#include "json/json.h"

/* An object that has this phase, for more members. NULL when memory is short: who cannot tell of a phase
 * goes on, and tells of the failure at the end. */
JsonWriter *reply_begin(const char *phase);

/* Closes the object and writes it in one piece, so that a line is whole or not there when the worker is
 * killed. Frees the writer. */
int reply_end(JsonWriter *w);

/* Works, writes the members of the result. */
typedef int (*reply_work_t)(void *userdata, JsonWriter *w, Error **reterr);

/* Writes further members of an error. */
typedef void (*reply_describe_t)(const void *userdata, JsonWriter *w);

/* Works, and writes the last line: {"result": {...}}, or "error", "message" and what describe() adds, which
 * may be NULL. Returns the exit status. */
int reply_run(reply_work_t work, reply_describe_t describe, void *userdata);
