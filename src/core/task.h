/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A child process that does slow work for us: input on its stdin, an answer on its stdout, a deadline. It
 * dies with us; the start-up of the next service clears what it left half done. */

#include <systemd/sd-event.h>

#include "launcher.h"
#include "util/child.h"
#include "util/error.h"

#define TASK_NO_DEADLINE USEC_INFINITY
#define TASK_OUTPUT_MAX (256 * KIB) /* answers are small JSON documents */

typedef struct Task Task;

/* status: the exit status, or a negative errno: -EINTR (died by a signal), -ETIMEDOUT (deadline), -EFBIG
 * (too much output). With the last two it was killed, but may not be gone: see task_kill(). output is
 * borrowed and NUL-terminated. The owner frees the task in this callback or later. */
typedef void (*task_done_t)(void *userdata, int status, const char *output, size_t len);

/* The program gets `input` as stdin, and spec's other descriptors; spec->fds must not name 0, 1 or 2. */
int task_run(sd_event *event, const ChildSpec *spec, const void *input, size_t len, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret);

/* The same for a program that vmctl-launch runs. spec->files must not name 0, 1 or 2. Whether it could be
 * executed is told by `done`, too: with a negative errno. */
int task_launch(sd_event *event, Launcher *launcher, const LaunchSpec *spec, const void *input, size_t len,
                uint64_t timeout_usec, task_done_t done, void *userdata, Task **ret);

/* From now on each line of output goes to `line` as it comes, without its end, and only what stands behind
 * the last of them to `done`. A line longer than TASK_OUTPUT_MAX ends the task. `line` must not free it. */
typedef void (*task_line_t)(void *userdata, char *line, size_t len);
void task_set_line_handler(Task *t, task_line_t line);

/* Runs a function of ours in a forked child instead: for work that needs no other program, as fsync(). Its
 * return value, 0 to 255, becomes the status. It may use nothing but its argument and must not return to the
 * loop. */
int task_call(sd_event *event, int (*function)(void *argument), void *argument, uint64_t timeout_usec,
                task_done_t done, void *userdata, Task **ret);

/* Kills it, with the programs that it runs; `done` is not called any more. For who is to remove or use what
 * it writes on: returns 1, and `gone` is called once, from the loop, when it does nothing any more, unless
 * the task is freed before; or 0, and that is so already. */
typedef void (*task_gone_t)(void *userdata);
int task_kill(Task *t, task_gone_t gone, void *userdata);

/* Kills it if it runs, and waits for nothing; no callback. Returns NULL. */
Task *task_free(Task *t);
DEFINE_CLEANUP(Task *, task_free);
