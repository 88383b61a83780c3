/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Monitor connections that systemd keeps for us over a restart or a crash (sd_notify(3), FDSTORE=). Without
 * systemd around us, all of this does nothing. */

#include "util/macro.h"

/* One descriptor for each VM; an older one of the same name is dropped. fd is borrowed. */
void fd_store_push(const char *vm, int fd);
void fd_store_remove(const char *vm);

/* What an earlier instance left. Ownership goes to the caller; -EBADF: there is none. Those that are never
 * taken are dropped, here and in the store, by fd_store_close_rest(). */
void fd_store_open(void);
int fd_store_take(const char *vm);
void fd_store_close_rest(void);
