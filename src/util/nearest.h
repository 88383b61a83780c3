/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Which of the known words a wrong one was meant to be. */

#include "macro.h"

/* Edits (insert, delete, replace, swap neighbours) from a to b; SIZE_MAX for words too long to be names. */
size_t word_distance(const char *a, const char *b);

/* If `candidate` is near enough to `word` to be meant, and nearer than *best, makes it *found. */
void word_nearer(const char *word, const char *candidate, size_t *best, const char **found);
