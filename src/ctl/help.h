/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* --help, from the tables. */

#include "args.h"

/* About vmctl as a whole when verb is NULL. */
void help_print(const Verb *verb);
