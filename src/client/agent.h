/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* polkit's text agent, which asks for a password on the terminal in the name of this process. */

#include <sys/types.h>

#include "util/macro.h"

typedef struct Agent {
        pid_t pid; /* 0: none runs */
        bool tried;
} Agent;

/* Starts the agent and waits until it is ready, once in a run, where it makes sense: a caller without rights
 * on a terminal. Without one, or when it fails, a desktop's agent may still ask. */
void agent_start(Agent *a);
void agent_stop(Agent *a);
