/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A child of ours, from its fork until it has been reaped.
 *
 * Who watches it may go earlier: one that hangs in the kernel, on a file system that does not answer, must
 * not make anybody wait. What is left then stays with this room, and is reaped whenever it ends. */

#include <signal.h>
#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct ChildWatch ChildWatch;

/* It has ended: it does nothing any more, and its PID is free when this returns. The owner frees the watch
 * in this callback or later. */
typedef void (*child_ended_t)(const siginfo_t *si, void *userdata);

/* If the child cannot be watched it is killed and reaped. ended: called once, from the event loop; NULL:
 * nobody is to know. leads_group: the child made a process group (CHILD_NEW_SESSION), which ends with it.
 * ret NULL: the room keeps the watch itself, and userdata must be there as long as the loop runs. */
int child_watch_new(sd_event *event, pid_t pid, bool leads_group, child_ended_t ended, void *userdata,
                ChildWatch **ret);

/* While it is held it is not reaped, and its end is not told: nobody else can have its PID. */
void child_watch_hold(ChildWatch *w, bool hold);

/* SIGKILL to it and its group, if it still runs. Its end is told as any other. */
void child_watch_kill(ChildWatch *w);

bool child_watch_has_ended(const ChildWatch *w);

/* Ends the watch, not the child: nobody is told any more. Returns NULL. */
ChildWatch *child_watch_free(ChildWatch *w);
DEFINE_CLEANUP(ChildWatch *, child_watch_free);
