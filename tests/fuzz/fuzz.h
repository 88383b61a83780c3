/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What every fuzz target defines, and what libFuzzer or replay.c calls. */

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
