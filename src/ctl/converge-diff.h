/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What differs between a VM and its definition in a VMFile. */

#include "converge.h"

/* Adds to the plan's changes. -ENOMEM. */
int converge_diff(const ConvergeWant *w, const ConvergeHave *h, bool runs, ConvergePlan *p);
