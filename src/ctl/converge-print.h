/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Plans, and what became of them, for people and programs. */

#include "converge-run.h"

/* What would be done, on standard output. */
void converge_print_plan(const ConvergeItem *items, size_t n);

/* What differs from the file and stays as it is, on standard error. */
void converge_print_left(const ConvergeItem *items, size_t n);

/* All of that as JSON; `done`: with results. Returns 0, or reports the failure. */
int converge_print_json(const ConvergeItem *items, size_t n, bool done);
