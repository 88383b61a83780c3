/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kdl-diagnostic.h"

/* A line longer than this is shown around the place only. */
#define SHOWN_MAX 160
#define SHOWN_BEFORE 60

#define MESSAGE_MAX 512

#define REPLACEMENT "\xef\xbf\xbd"

static const char *const kdl_level_table[] = {
        [KDL_LEVEL_ERROR] = "error",
        [KDL_LEVEL_WARNING] = "warning",
        [KDL_LEVEL_NOTE] = "note",
};
DEFINE_STRING_TABLE(kdl_level, KdlLevel, _KDL_LEVEL_MAX);

struct KdlDiagnostics {
        char *file;
        const char *text; /* borrowed */
        size_t len;
        KdlDiagnostic entries[KDL_ERRORS_MAX];
        size_t n_entries;
        size_t n_errors;
        size_t n_dropped;
        size_t known_offset; /* where lines were counted to */
        unsigned known_line;
        bool last_dropped; /* a hint now belongs to nobody */
};

int kdl_diagnostics_new(const char *file, const char *text, size_t len, KdlDiagnostics **ret) {
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = calloc(1, sizeof(KdlDiagnostics));

        if (!d)
                return -ENOMEM;
        d->text = text;
        d->len = len;
        d->file = string_escape(file, strlen(file), SIZE_MAX);
        if (!d->file)
                return -ENOMEM;
        *ret = TAKE_PTR(d);
        return 0;
}

KdlDiagnostics *kdl_diagnostics_free(KdlDiagnostics *d) {
        if (!d)
                return NULL;
        for (size_t i = 0; i < d->n_entries; i++) {
                free(d->entries[i].message);
                free(d->entries[i].hint);
        }
        free(d->file);
        free(d);
        return NULL;
}

/* Messages quote what stands in the text, so they are made fit for a terminal, too. */
__attribute__((format(printf, 1, 0))) static char *message_new(const char *format, va_list ap) {
        _cleanup_free_ char *raw = NULL;

        if (vasprintf(&raw, format, ap) < 0) {
                raw = NULL;
                return NULL;
        }
        return string_escape(raw, strlen(raw), MESSAGE_MAX);
}

int kdl_diagnostics_add(KdlDiagnostics *d, KdlLevel level, KdlSpan span, const char *format, ...) {
        char *message = NULL;
        va_list ap;

        if (!d)
                return -EBADMSG;
        d->n_errors += level == KDL_LEVEL_ERROR;
        d->last_dropped = true;
        if (d->n_entries < KDL_ERRORS_MAX) {
                va_start(ap, format);
                message = message_new(format, ap);
                va_end(ap);
        }
        if (!message) {
                d->n_dropped++;
                return -EBADMSG;
        }
        d->entries[d->n_entries++] = (KdlDiagnostic){ .level = level, .span = span, .message = message };
        d->last_dropped = false;
        return -EBADMSG;
}

int kdl_diagnostics_hint(KdlDiagnostics *d, const char *format, ...) {
        KdlDiagnostic *last;
        va_list ap;

        if (!d || d->last_dropped || d->n_entries == 0)
                return -EBADMSG;
        last = &d->entries[d->n_entries - 1];
        free(TAKE_PTR(last->hint));
        va_start(ap, format);
        last->hint = message_new(format, ap);
        va_end(ap);
        return -EBADMSG;
}

void kdl_diagnostics_take(KdlDiagnostics *d, KdlDiagnostics *from) {
        if (!d || !from)
                return;
        for (size_t i = 0; i < from->n_entries; i++) {
                if (d->n_entries < KDL_ERRORS_MAX) {
                        d->entries[d->n_entries++] = from->entries[i];
                } else {
                        free(from->entries[i].message);
                        free(from->entries[i].hint);
                        d->n_dropped++;
                }
        }
        d->n_errors += from->n_errors;
        d->n_dropped += from->n_dropped;
        from->n_entries = from->n_errors = from->n_dropped = 0;
}

size_t kdl_diagnostics_errors(const KdlDiagnostics *d) {
        return d->n_errors;
}

size_t kdl_diagnostics_count(const KdlDiagnostics *d) {
        return d->n_entries;
}

const KdlDiagnostic *kdl_diagnostics_get(const KdlDiagnostics *d, size_t i) {
        return i < d->n_entries ? &d->entries[i] : NULL;
}

/* A byte that is no UTF-8 counts as one character. */
static size_t next_char(const KdlDiagnostics *d, size_t at, uint32_t *ret) {
        size_t n = utf8_decode(d->text + at, d->len - at, ret);

        if (n > 0)
                return n;
        *ret = UINT32_MAX;
        return 1;
}

static bool is_line_end(const KdlDiagnostics *d, size_t at) {
        return d->text[at] == '\n' || d->text[at] == '\r';
}

static size_t line_start(const KdlDiagnostics *d, size_t offset) {
        while (offset > 0 && !is_line_end(d, offset - 1))
                offset--;
        return offset;
}

static size_t line_end(const KdlDiagnostics *d, size_t offset) {
        while (offset < d->len && !is_line_end(d, offset))
                offset++;
        return offset;
}

unsigned kdl_diagnostics_line(KdlDiagnostics *d, uint32_t offset) {
        size_t end = MIN((size_t)offset, d->len);

        if (d->known_line == 0 || end < d->known_offset) {
                d->known_offset = 0;
                d->known_line = 1;
        }
        for (size_t i = d->known_offset; i < end; i++) {
                bool crlf = d->text[i] == '\r' && i + 1 < d->len && d->text[i + 1] == '\n';

                d->known_line += is_line_end(d, i) && !crlf;
        }
        d->known_offset = end;
        return d->known_line;
}

unsigned kdl_diagnostics_column(const KdlDiagnostics *d, uint32_t offset) {
        size_t end = MIN((size_t)offset, d->len);
        unsigned column = 1;
        uint32_t c;

        for (size_t i = line_start(d, end); i < end; i += next_char(d, i, &c))
                column++;
        return column;
}

/* What a terminal would obey instead of showing it, or what would put text in another order. */
static bool is_printable(uint32_t c) {
        return c >= ' ' && !(c >= 0x7f && c < 0xa0) && !(c >= 0x200b && c <= 0x200f) &&
                        !(c >= 0x2028 && c <= 0x202e) && !(c >= 0x2066 && c <= 0x2069) && c != 0xfeff &&
                        c <= 0x10ffff;
}

typedef struct Excerpt {
        size_t from, to; /* bytes of the text */
        bool cut_before, cut_after;
} Excerpt;

static size_t chars_between(const KdlDiagnostics *d, size_t from, size_t to) {
        size_t n = 0;
        uint32_t c;

        for (size_t i = from; i < to; i += next_char(d, i, &c))
                n++;
        return n;
}

static size_t skip_chars(const KdlDiagnostics *d, size_t from, size_t to, size_t n) {
        uint32_t c;

        for (; n > 0 && from < to; n--)
                from += next_char(d, from, &c);
        return MIN(from, to);
}

static Excerpt excerpt_around(const KdlDiagnostics *d, size_t place) {
        Excerpt e = { line_start(d, place), line_end(d, place) };
        size_t before = chars_between(d, e.from, place);

        if (before > SHOWN_MAX / 2) {
                e.from = skip_chars(d, e.from, place, before - SHOWN_BEFORE);
                e.cut_before = true;
        }
        if (chars_between(d, e.from, e.to) > SHOWN_MAX) {
                e.to = skip_chars(d, e.from, e.to, SHOWN_MAX);
                e.cut_after = true;
        }
        return e;
}

static void write_excerpt(const KdlDiagnostics *d, const Excerpt *e, FILE *f) {
        uint32_t c;

        if (e->cut_before)
                fputs("...", f);
        for (size_t i = e->from, n; i < e->to; i += n) {
                n = next_char(d, i, &c);
                if (c == '\t' || is_printable(c))
                        fwrite(d->text + i, 1, n, f);
                else
                        fputs(REPLACEMENT, f);
        }
        fputs(e->cut_after ? "...\n" : "\n", f);
}

/* Tabs are repeated so that the caret stands below its character whatever their width. */
static void write_caret(const KdlDiagnostics *d, const Excerpt *e, KdlSpan span, FILE *f) {
        size_t wanted = MAX((size_t)span.end, (size_t)span.start + 1), end = MIN(wanted, e->to);
        uint32_t c;

        if (e->cut_before)
                fputs("   ", f);
        for (size_t i = e->from, n; i < span.start; i += n) {
                n = next_char(d, i, &c);
                fputc(c == '\t' ? '\t' : ' ', f);
        }
        fputc('^', f);
        for (size_t n = chars_between(d, MIN((size_t)span.start, end), end); n > 1; n--)
                fputc('^', f);
        fputc('\n', f);
}

static void write_entry(KdlDiagnostics *d, const KdlDiagnostic *entry, FILE *f) {
        KdlSpan span = entry->span;
        unsigned line, column;
        Excerpt e;

        span.start = (uint32_t)MIN((size_t)span.start, d->len);
        span.end = (uint32_t)MIN((size_t)span.end, d->len);
        e = excerpt_around(d, span.start);
        line = kdl_diagnostics_line(d, span.start);
        column = kdl_diagnostics_column(d, span.start);
        fprintf(f, "%s:%u:%u: %s: %s\n", d->file, line, column, kdl_level_to_string(entry->level),
                        entry->message);
        fprintf(f, "%5u | ", line);
        write_excerpt(d, &e, f);
        fputs("      | ", f);
        write_caret(d, &e, span, f);
        if (entry->hint)
                fprintf(f, "      = hint: %s\n", entry->hint);
}

/* Insertion: twenty at most, and those of one place stay in their order. */
static void sort_entries(KdlDiagnostics *d) {
        for (size_t i = 1; i < d->n_entries; i++) {
                KdlDiagnostic entry = d->entries[i];
                size_t j = i;

                for (; j > 0 && d->entries[j - 1].span.start > entry.span.start; j--)
                        d->entries[j] = d->entries[j - 1];
                d->entries[j] = entry;
        }
        d->last_dropped = true;
}

void kdl_diagnostics_write(KdlDiagnostics *d, FILE *f) {
        sort_entries(d);
        for (size_t i = 0; i < d->n_entries; i++)
                write_entry(d, &d->entries[i], f);
        if (d->n_dropped > 0)
                fprintf(f, "%s: and %zu more\n", d->file, d->n_dropped);
}
