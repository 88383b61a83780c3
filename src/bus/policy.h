/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Which polkit action stands before which method, and what polkit is told. */

#include "bus-call.h"
#include "vm/manager.h"

AccessRule policy_rule(sd_bus_message *call);

/* What the call is about, of what is there now. -ENOMEM. */
int policy_find_target(const Manager *m, const BusCall *c, CallTarget *ret);

/* The action that the caller needs for it; NULL: none. */
const char *policy_action(const Manager *m, const BusCall *c);

/* Asks polkit for it, by its own connection to the bus. */
int policy_ask(sd_bus *polkit, BusCall *c, const char *action, sd_bus_message_handler_t answered);

/* How many bytes the answer to it may have, roughly and rather too many. */
uint64_t policy_answer_size(const Manager *m, const BusCall *c);
