/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A child process that does slow work for us: input on its stdin, an answer on its stdout, a deadline. It
 * dies with us; the start-up of the next service clears what it left half done. */

#include <systemd/sd-event.h>

#include "util/child.h"
#include "util/error.h"

#define TASK_NO_DEADLINE USEC_INFINITY
#define TASK_OUTPUT_MAX (256 * KIB) /* answers are small JSON documents */

typedef struct Task Task;

/* status: the exit status, or a negative errno: -ETIMEDOUT (deadline; it was killed), -EINTR (died by a
 * signal), -EFBIG (too much output). output is borrowed and NUL-terminated. The owner frees the task in this
 * callback or later. */
typedef void (*task_done_t)(void *userdata, int status, const char *output, size_t len);

/* The program gets `input` as stdin, and spec's other descriptors; spec->fds must not name 0, 1 or 2. */
int task_run(sd_event *event, const ChildSpec *spec, const void *input, size_t len, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret);

/* From now on each line of output goes to `line` as it comes, without its end, and only what stands behind
 * the last of them to `done`. A line longer than TASK_OUTPUT_MAX ends the task. `line` must not free it. */
typedef void (*task_line_t)(void *userdata, char *line, size_t len);
void task_set_line_handler(Task *t, task_line_t line);

/* Runs a function of ours in a forked child instead: for work that needs no other program, as fsync(). Its
 * return value, 0 to 255, becomes the status. It may use nothing but its argument and must not return to the
 * loop. */
int task_call(sd_event *event, int (*function)(void *argument), void *argument, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret);

/* Kills it if it runs; no callback. Returns NULL. */
Task *task_free(Task *t);
DEFINE_CLEANUP(Task *, task_free);
