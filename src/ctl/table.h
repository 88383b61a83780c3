/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Rows of text in aligned columns. */

#include "term.h"

typedef struct Column {
        const char *title;
        bool right;  /* aligned to the right, as numbers are */
        bool shrink; /* may be cut, with an ellipsis, when the table is too wide */
} Column;

typedef struct Table Table;

/* `columns` is borrowed. A table has a fixed number of rows at most. */
Table *table_new(const Column *columns, size_t n_columns, size_t max_rows);
Table *table_free(Table *t);
DEFINE_CLEANUP(Table *, table_free);

/* Fills the cells from left to right, row by row. `text` is copied; NULL and "" show as "-", and
 * control characters as term_print() shows them. */
int table_add(Table *t, const char *text, Style style);
int table_addf(Table *t, const char *format, ...) _printf_(2, 3);

/* Prints a heading and the rows, at most max_width columns wide where shrinking allows. */
void table_print(const Table *t, FILE *stream, size_t max_width);
