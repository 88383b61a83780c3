/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "nearest.h"
#include "string-util.h"

/* Longer than any name we know, so that a hostile word costs nothing. */
#define WORD_MAX 32

size_t word_distance(const char *a, const char *b) {
        size_t rows[3][WORD_MAX + 1], *before = rows[0], *above = rows[1], *row = rows[2];
        size_t n = strlen(a), m = strlen(b);

        if (n > WORD_MAX || m > WORD_MAX)
                return SIZE_MAX;
        for (size_t j = 0; j <= m; j++)
                above[j] = j;
        for (size_t i = 1; i <= n; i++) {
                size_t *recycled = before;

                row[0] = i;
                for (size_t j = 1; j <= m; j++) {
                        size_t edit = MIN(above[j], row[j - 1]) + 1;

                        row[j] = MIN(edit, above[j - 1] + (a[i - 1] != b[j - 1]));
                        if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
                                row[j] = MIN(row[j], before[j - 2] + 1);
                }
                before = above;
                above = row;
                row = recycled;
        }
        return above[m];
}

void word_nearer(const char *word, const char *candidate, size_t *best, const char **found) {
        size_t distance = word_distance(word, candidate);
        /* One slip in a short word, two in a longer one; and something must be left of it. */
        size_t slips = strlen(candidate) <= 4 ? 1 : 2;
        const char *rest = startswith(candidate, word);

        if (rest && strlen(word) >= 3)
                distance = 0;
        if (distance <= slips && distance < strlen(candidate) && distance < *best) {
                *best = distance;
                *found = candidate;
        }
}
