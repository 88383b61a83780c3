/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What standard output and standard error are, and how to treat them accordingly. */

#include <stdio.h>

#include "util/macro.h"

typedef enum Style {
        STYLE_NONE,
        STYLE_BOLD,
        STYLE_DIM,
        STYLE_GREEN,
        STYLE_YELLOW,
        STYLE_RED,
        _STYLE_MAX,
} Style;

/* Whether stream is a terminal that shows colours (TERM is not "dumb", NO_COLOR is not set). */
bool term_has_colors(FILE *stream);

/* The sequence that begins the style on this stream, and the one that ends any; "" where there are no
 * colours. */
const char *term_style(FILE *stream, Style style);
const char *term_normal(FILE *stream);

/* Columns of the stream; SIZE_MAX when it isn't a terminal, so that nothing is cut in a pipe. */
size_t term_columns_of(FILE *stream);
static inline size_t term_columns(void) {
        return term_columns_of(stdout);
}

bool term_is_tty(FILE *stream);
/* Whether a line on it can be written anew. */
bool term_can_redraw(FILE *stream);

/* The style of a VM's state. */
Style style_of_state(const char *state);

/* Text from elsewhere: control characters and what is not UTF-8 are shown as \xNN. */
void term_print(FILE *stream, const char *s);

/* "      Label: " on standard output, for blocks of lines with their colons in one column. An empty label
 * goes on with the one before. */
void term_label(const char *label);

/* One line on standard error that says what is being waited for, with the seconds so far; nothing at all
 * unless standard error is a terminal, nor in the first second. */
typedef struct Progress {
        const char *text; /* borrowed; NULL: nothing is shown */
        uint64_t since;
        bool shown;
} Progress;

void progress_begin(Progress *p, const char *text);
void progress_update(Progress *p);
void progress_end(Progress *p); /* removes the line; also as cleanup */

/* When the line wants its next update, as CLOCK_MONOTONIC; UINT64_MAX: never. */
uint64_t progress_next(const Progress *p);

uint64_t now_monotonic(void);
uint64_t now_realtime(void);
