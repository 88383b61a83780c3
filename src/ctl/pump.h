/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Carries bytes between a user (terminal or pipes) and a console's socket. */

#include "util/macro.h"

#define PUMP_DETACH 0x1d /* Ctrl-] */

typedef enum PumpEnd {
        PUMP_CLOSED,    /* the console ended */
        PUMP_DETACHED,  /* the user pressed Ctrl-] on a terminal */
        PUMP_TIMED_OUT, /* the time after the end of input is over */
} PumpEnd;

typedef struct Pump {
        int in, out; /* borrowed; blocking */
        int socket;  /* borrowed */
        bool detach; /* look for PUMP_DETACH: the input is typed, and what the console can't take is lost */
        uint64_t linger_usec; /* once the input has ended, how long to go on; UINT64_MAX: until the end */
} Pump;

/* At the end of input the socket is half closed and output goes on. Negative errno when reading or writing
 * fails. */
int pump_run(const Pump *p, PumpEnd *ret);

/* Switches a terminal to raw mode, so that every key goes to the guest. It is switched back by
 * raw_terminal_restore() and by every signal that ends a process. One terminal at a time. */
int raw_terminal_set(int fd);
void raw_terminal_restore(void);
