/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* User IDs for VMs and workers. Whose process was killed may not have been the only one that it had, so none
 * is given again in this boot before all were; then the one that has been nobody's for longest is. How far
 * we are is kept in runtime_dir for the next instance of the service. */

#include <sys/types.h>

#include "util/error.h"

typedef struct UidPool UidPool;

/* `count` 0: a user's own service, where all is done as that user. folder_fd is borrowed. */
int uid_pool_new(uid_t first, uint32_t count, int folder_fd, UidPool **ret);
UidPool *uid_pool_free(UidPool *p);
DEFINE_CLEANUP(UidPool *, uid_pool_free);

bool uid_pool_is_empty(const UidPool *p); /* `count` was 0 */

/* Hands one out, and holds it. ERROR_IDS_EXHAUSTED. */
int uid_pool_pick(UidPool *p, uid_t *ret, Error **reterr);

/* Somebody has it (again), or it is given back. One of another range is nobody's concern. */
void uid_pool_hold(UidPool *p, uid_t uid, bool held);
