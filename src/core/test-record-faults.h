/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The linker puts functions of ours in the place of libc's and the loop's (--wrap, meson.build), so that
 * each call in turn, in us or in a child, can fail; a child waits where a test wants it to, and one that
 * "hangs in the kernel" is deaf to signals. */

#include "util/macro.h"

#define NO_FAULT INT32_MAX

typedef struct Faults {
        int countdown; /* the call that brings it below zero fails; NO_FAULT: none does */
        bool happened;
        bool hung; /* signals do not reach children */
        bool late; /* deadlines are over at once */
        int gate;  /* what children that delete wait at; -1: nothing */
} Faults;
extern Faults *faults; /* shared with children */

void faults_init(void);

/* Whoever waits at `out` goes on when the gate is opened; fewer than 16 do. */
typedef struct Gate {
        int out, in;
} Gate;
Gate gate_new(void);
void gate_open(Gate *g);
void gate_wait(int out); /* negative: goes on */
