/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The last lines of what a guest has printed, for a message that tells how far it came. */

#include "vm.h"

typedef struct ConsoleTail ConsoleTail;

/* Each line begins with "\n  " and is fit for a terminal; "" when there is nothing, or it was not to be had
 * in time. The text is borrowed. The owner frees the tail in this callback or later. */
typedef void (*console_tail_t)(void *userdata, const char *text);

int console_tail_new(Vm *vm, unsigned lines, console_tail_t done, void *userdata, ConsoleTail **ret);
ConsoleTail *console_tail_free(ConsoleTail *t);
DEFINE_CLEANUP(ConsoleTail *, console_tail_free);
