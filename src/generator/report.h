/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a generator has to say. The manager waits for its generators, and may be what would have to start
 * journald meanwhile: so nothing here ever waits. Where journald doesn't listen yet, it reads the kernel's
 * log later. */

#include "util/macro.h"

void report(int priority, const char *format, ...) _printf_(2, 3);
