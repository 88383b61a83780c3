/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Those who wait for one thing and are told all at once. */

#include "util/error.h"

typedef void (*waiter_t)(void *userdata, int r, const Error *error);
typedef struct Waiters Waiters;

/* *w starts as NULL and is NULL again when all were told. A NULL `done` is nobody. */
int waiters_add(Waiters **w, waiter_t done, void *userdata);

/* Tells all, in order. They may add new waiters to the same list meanwhile; those are not told. */
void waiters_fire(Waiters **w, int r, const Error *error);
