/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The kept console output of a VM. */

#include "ctl.h"

/* A descriptor to read it from: the last `tail` lines (0: all), then on with what comes if `follow`. */
int console_log_open(Ctl *c, const char *name, uint32_t tail, bool follow, Error **reterr);

/* All that comes up to the end, or until usec have passed: then -ETIMEDOUT, with what has come by then. The
 * other side of the descriptor has the rights of the VM's QEMU, which may see to it that nothing comes. */
int console_log_read(int fd, uint64_t usec, char **ret, size_t *ret_len);
