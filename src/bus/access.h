/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Who may do what, and when. On the system bus a filter in front of all objects takes each call in: it is
 * charged to who makes it, bound to its object (bus-call.h), and, if need be, asked about with polkit
 * (policy.h). Then it waits for its turn. Users take turns, one call each, root first: whoever sends more
 * than can be served waits behind himself, not in front of others. So methods neither wait nor ask.
 *
 * On a user's bus everybody is that user, and nothing is asked. */

#include "vm/manager.h"

typedef struct Access Access;

int access_new(sd_bus *bus, Manager *manager, Access **ret);
Access *access_free(Access *a);
DEFINE_CLEANUP(Access *, access_free);

/* Answers all calls that wait for a verdict or for their turn. */
void access_end(Access *a, const Error *why);

/* For the call that is being dispatched now. Outside of one: root, who may see all. */
uid_t access_caller_uid(const Access *a);
bool access_may_see(const Access *a, uid_t owner);

/* Is the object of this UUID (or a job of this number) the one that the call was bound to, and asked about
 * with polkit? Or one that its caller may see, as all may if it is shared, for a call that shows many. */
bool access_may_use(const Access *a, const char *id, uid_t owner, bool shared);
