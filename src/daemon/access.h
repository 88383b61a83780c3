/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Who may do what. A filter in front of all our objects holds each call back until the bus daemon has said
 * who calls and, unless that is root, polkit what they may do; then the call is queued again and reaches its
 * method with a verdict. So the methods themselves never wait and never ask. One table names each method's
 * polkit action.
 *
 * On a user's bus everybody is that user, and nothing is asked. */

#include "manager.h"

typedef struct Access Access;

int access_new(sd_bus *bus, Manager *manager, Access **ret);
Access *access_free(Access *a);
DEFINE_CLEANUP(Access *, access_free);

/* For the call that is being dispatched now. Outside of one: root, who may see all. */
uid_t access_caller_uid(const Access *a);
bool access_may_see(const Access *a, uid_t owner);
bool access_may_use(const Access *a, uid_t owner); /* may see, or polkit allowed this very call */
