/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The kept console output of a VM. */

#include "ctl.h"

/* A descriptor to read it from: the last `tail` lines (0: all), then on with what comes if `follow`. */
int console_log_open(Ctl *c, const char *name, uint32_t tail, bool follow, sd_bus_error *reterr);

/* Copies to standard output, up to the end; harmless to a terminal unless raw. */
int console_log_copy(int fd, bool raw);
