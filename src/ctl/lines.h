/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a guest or a program prints, line by line as it comes, without what a terminal would obey. */

#include <systemd/sd-event.h>

#include "util/macro.h"

typedef struct Lines Lines;

/* Each line that isn't empty, without its end; NULL once, when all was read. Lines that are longer than
 * LINES_MAX come in pieces. The handler may free the Lines when it gets NULL, not before. */
typedef void (*lines_t)(void *userdata, const char *line);

#define LINES_MAX 16384 /* below what journald takes for one (LineMax=) */

/* Takes fd, also on failure. */
int lines_new(sd_event *event, int fd, lines_t handler, void *userdata, Lines **ret);
Lines *lines_free(Lines *l);
