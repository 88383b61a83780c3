/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* polkit's text agent, which asks for a password on the terminal in the name of this process. */

#include "ctl.h"

/* Starts the agent and waits until it is ready, once in a run, where it makes sense: a caller without rights
 * on a terminal, and the local system bus. Without one, or when it fails, a desktop's agent may still ask.
 */
void agent_start(Ctl *c);
void agent_stop(Ctl *c);
