/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>

#include "table.h"
#include "text.h"
#include "util/string-util.h"

#define COLUMNS_MAX 16
#define GAP 2          /* blanks between columns */
#define SHRUNK_WIDTH 8 /* what a cut column keeps at least */
#define CELL_TEXT 23   /* bytes of a cell without memory of its own: all numbers, most names */

/* Text of a cell. A list of thousands of VMs should not need an allocation for each number. */
typedef struct Cell {
        char *longer; /* owned; NULL: in `text` */
        char text[CELL_TEXT + 1];
        uint8_t style;
} Cell;

struct Table {
        const Column *columns;
        size_t n_columns, n_cells, max_cells;
        Cell cells[];
};

Table *table_new(const Column *columns, size_t n_columns, size_t max_rows) {
        size_t n = n_columns * max_rows;
        Table *t;

        assert(n_columns <= COLUMNS_MAX);
        t = calloc(1, sizeof(Table) + n * sizeof(Cell));
        if (!t)
                return NULL;
        t->columns = columns;
        t->n_columns = n_columns;
        t->max_cells = n;
        return t;
}

Table *table_free(Table *t) {
        for (size_t i = 0; t && i < t->n_cells; i++)
                free(t->cells[i].longer);
        free(t);
        return NULL;
}

static bool is_plain(const char *s) {
        for (; *s; s++)
                if (*s < ' ' || *s > '~')
                        return false;
        return true;
}

int table_add(Table *t, const char *text, Style style) {
        Cell *c = &t->cells[t->n_cells];
        _cleanup_free_ char *safe = NULL;
        size_t len;

        if (t->n_cells >= t->max_cells)
                return -ENOBUFS;
        if (isempty(text))
                text = "-";
        if (!is_plain(text)) {
                safe = string_escape(text, strlen(text), SIZE_MAX / 8);
                if (!safe)
                        return -ENOMEM;
                text = safe;
        }
        len = strlen(text);
        if (len <= CELL_TEXT)
                memcpy(c->text, text, len + 1);
        else {
                c->longer = strdup(text);
                if (!c->longer)
                        return -ENOMEM;
        }
        c->style = (uint8_t)style;
        t->n_cells++;
        return 0;
}

int table_addf(Table *t, const char *format, ...) {
        char buf[64];
        va_list ap;

        va_start(ap, format);
        (void)vsnprintf(buf, sizeof(buf), format, ap);
        va_end(ap);
        return table_add(t, buf, STYLE_NONE);
}

static const char *cell_text(const Cell *c) {
        return c->longer ?: c->text;
}

static void measure(const Table *t, size_t widths[]) {
        for (size_t i = 0; i < t->n_columns; i++)
                widths[i] = text_width(t->columns[i].title);
        for (size_t i = 0; i < t->n_cells; i++) {
                size_t column = i % t->n_columns;

                widths[column] = MAX(widths[column], text_width(cell_text(&t->cells[i])));
        }
}

static void shrink(const Table *t, size_t widths[], size_t max_width) {
        size_t total = GAP * (t->n_columns - 1);

        for (size_t i = 0; i < t->n_columns; i++)
                total += widths[i];
        for (size_t i = 0; i < t->n_columns && total > max_width; i++) {
                size_t least = MIN(widths[i], (size_t)SHRUNK_WIDTH), cut;

                if (!t->columns[i].shrink)
                        continue;
                cut = MIN(widths[i] - least, total - max_width);
                widths[i] -= cut;
                total -= cut;
        }
}

static void pad(FILE *stream, size_t n) {
        for (; n > 0; n--)
                (void)fputc(' ', stream);
}

/* Bytes of the first n code points. */
static size_t prefix_bytes(const char *s, size_t n) {
        size_t i = 0;

        for (; s[i] && (n > 0 || (s[i] & 0xc0) == 0x80); i++)
                if ((s[i] & 0xc0) != 0x80)
                        n--;
        return i;
}

static void print_cell(const Table *t, FILE *stream, size_t column, const char *text, Style style,
                const size_t widths[]) {
        size_t width = text_width(text), shown = MIN(width, widths[column]);
        bool last = column + 1 == t->n_columns;
        const char *begin = style != STYLE_NONE ? term_style(stream, style) : "";

        if (t->columns[column].right)
                pad(stream, widths[column] - shown);
        (void)fputs(begin, stream);
        if (shown < width)
                (void)fprintf(stream, "%.*s…", (int)prefix_bytes(text, shown - 1), text);
        else
                (void)fputs(text, stream);
        if (*begin)
                (void)fputs(term_normal(stream), stream);
        if (!last) {
                if (!t->columns[column].right)
                        pad(stream, widths[column] - shown);
                pad(stream, GAP);
        } else
                (void)fputc('\n', stream);
}

void table_print(const Table *t, FILE *stream, size_t max_width) {
        size_t widths[COLUMNS_MAX];

        measure(t, widths);
        shrink(t, widths, max_width);
        for (size_t i = 0; i < t->n_columns; i++)
                print_cell(t, stream, i, t->columns[i].title, STYLE_BOLD, widths);
        for (size_t i = 0; i < t->n_cells; i++)
                print_cell(t, stream, i % t->n_columns, cell_text(&t->cells[i]), (Style)t->cells[i].style,
                                widths);
}
