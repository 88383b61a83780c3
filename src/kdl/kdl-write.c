/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "kdl-write.h"

void kdl_write_indent(KdlWriter *w, unsigned depth) {
        for (unsigned i = 0; i < depth; i++)
                fputs("    ", w->f);
}

/* Ends a line, in one version at least. */
static bool is_newline(uint32_t c) {
        return (c >= '\n' && c <= '\r') || c == 0x85 || c == 0x2028 || c == 0x2029;
}

static char escape_letter(uint32_t c) {
        static const char letters[] = {
                ['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['\b'] = 'b', ['\f'] = 'f'
        };

        return c == '"' || c == '\\' ? (char)c : c < sizeof(letters) ? letters[c] : 0;
}

static void write_escape(KdlWriter *w, uint32_t c) {
        if (escape_letter(c))
                fprintf(w->f, "\\%c", escape_letter(c));
        else
                fprintf(w->f, "\\u{%x}", c);
}

static void write_quoted(KdlWriter *w, const KdlString *s) {
        uint32_t c;

        fputc('"', w->f);
        for (size_t i = 0, n; i < s->len; i += n) {
                n = utf8_decode(s->text + i, s->len - i, &c);
                if (escape_letter(c) || kdl_is_disallowed(c) || is_newline(c))
                        write_escape(w, c);
                else
                        fwrite(s->text + i, 1, n, w->f);
        }
        fputc('"', w->f);
}

/* The longest run of '#' behind `quotes`, plus one where there are such quotes. */
static unsigned hashes_needed(const KdlString *s, const char *quotes) {
        size_t n_quotes = strlen(quotes);
        unsigned needed = 0;

        for (size_t i = 0; i + n_quotes <= s->len; i++) {
                unsigned n = 0;

                if (memcmp(s->text + i, quotes, n_quotes) != 0)
                        continue;
                while (i + n_quotes + n < s->len && s->text[i + n_quotes + n] == '#')
                        n++;
                needed = MAX(needed, n + 1);
        }
        return needed;
}

static void write_hashes(KdlWriter *w, unsigned n) {
        while (n-- > 0)
                fputc('#', w->f);
}

static bool can_be_raw(const KdlString *s, bool multiline) {
        uint32_t c;

        for (size_t i = 0, n; i < s->len; i += n) {
                n = utf8_decode(s->text + i, s->len - i, &c);
                if (kdl_is_disallowed(c) || (is_newline(c) && !(multiline && c == '\n')))
                        return false;
        }
        return true;
}

/* A string of one line. Where it begins with quotes, KDL 2 would see three of them. */
static void write_raw(KdlWriter *w, const KdlString *s) {
        unsigned n = hashes_needed(s, "\"");

        if (w->version == KDL_VERSION_2 &&
                        (!can_be_raw(s, false) || (s->len >= 2 && memcmp(s->text, "\"\"", 2) == 0))) {
                write_quoted(w, s);
                return;
        }
        if (w->version == KDL_VERSION_1)
                fputc('r', w->f);
        else
                n = MAX(n, 1U);
        write_hashes(w, n);
        fputc('"', w->f);
        fwrite(s->text, 1, s->len, w->f);
        fputc('"', w->f);
        write_hashes(w, n);
}

static bool is_blank(KdlVersion version, const char *s, size_t len) {
        for (size_t i = 0, n; i < len; i += n) {
                n = kdl_space_length(version, s + i, len - i);
                if (n == 0)
                        return false;
        }
        return true;
}

/* One line of a multi-line string. White space alone would be taken for an empty line. */
static void write_line(KdlWriter *w, const char *line, size_t len) {
        unsigned quotes = 0;
        bool blank = is_blank(KDL_VERSION_2, line, len);
        uint32_t c;

        for (size_t i = 0, n; i < len; i += n) {
                n = utf8_decode(line + i, len - i, &c);
                quotes = c == '"' ? quotes + 1 : 0;
                if (blank && i == 0) {
                        fprintf(w->f, c == ' ' ? "\\s" : c == '\t' ? "\\t" : "\\u{%x}", c);
                } else if (c == '\\' || kdl_is_disallowed(c) || is_newline(c) || quotes == 3) {
                        write_escape(w, c);
                        quotes = 0;
                } else {
                        fwrite(line + i, 1, n, w->f);
                }
        }
}

static bool has_blank_line(const KdlString *s) {
        for (const char *line = s->text, *end = s->text + s->len, *next; line < end; line = next + 1) {
                next = memchr(line, '\n', (size_t)(end - line)) ?: end;
                if (next > line && is_blank(KDL_VERSION_2, line, (size_t)(next - line)))
                        return true;
        }
        return false;
}

static void write_multiline(KdlWriter *w, const KdlString *s, bool raw, unsigned depth) {
        const char *end = s->text + s->len;
        unsigned n;

        raw = raw && can_be_raw(s, true) && !has_blank_line(s);
        n = raw ? MAX(hashes_needed(s, "\"\"\""), 1U) : 0;
        write_hashes(w, n);
        fputs("\"\"\"\n", w->f);
        for (const char *line = s->text, *next; s->len > 0 && line <= end; line = next + 1) {
                next = memchr(line, '\n', (size_t)(end - line)) ?: end;
                if (next > line) {
                        kdl_write_indent(w, depth);
                        if (raw)
                                fwrite(line, 1, (size_t)(next - line), w->f);
                        else
                                write_line(w, line, (size_t)(next - line));
                }
                fputc('\n', w->f);
        }
        kdl_write_indent(w, depth);
        fputs("\"\"\"", w->f);
        write_hashes(w, n);
}

static bool source_has_newline(const KdlDocument *doc, const KdlString *s) {
        return memchr(doc->text + s->span.start, '\n', s->span.end - s->span.start);
}

static void write_by_style(
                KdlWriter *w, const KdlDocument *doc, const KdlString *s, bool is_name, unsigned depth) {
        bool raw = s->style == KDL_STYLE_RAW || s->style == KDL_STYLE_RAW_MULTILINE;
        bool multiline = s->style == KDL_STYLE_MULTILINE || s->style == KDL_STYLE_RAW_MULTILINE ||
                        (w->source_version == KDL_VERSION_1 && source_has_newline(doc, s));

        if (multiline && w->version == KDL_VERSION_2)
                write_multiline(w, s, raw, depth);
        else if (raw && !multiline)
                write_raw(w, s);
        else if (s->style == KDL_STYLE_BARE && (is_name || w->version == KDL_VERSION_2) &&
                        kdl_is_identifier(w->version, s->text, s->len))
                fwrite(s->text, 1, s->len, w->f);
        else
                write_quoted(w, s);
}

void kdl_write_string(
                KdlWriter *w, const KdlDocument *doc, const KdlString *s, bool is_name, unsigned depth) {
        bool one_line = s->style != KDL_STYLE_MULTILINE && s->style != KDL_STYLE_RAW_MULTILINE;

        if (w->flags & KDL_FORMAT_CANONICAL) {
                if ((is_name || w->version == KDL_VERSION_2) &&
                                kdl_is_identifier(w->version, s->text, s->len))
                        fwrite(s->text, 1, s->len, w->f);
                else
                        write_quoted(w, s);
        } else if (one_line && w->version == w->source_version) {
                fwrite(doc->text + s->span.start, 1, s->span.end - s->span.start, w->f);
        } else {
                write_by_style(w, doc, s, is_name, depth);
        }
}

void kdl_write_comment(KdlWriter *w, const char *text, size_t len) {
        bool convert = w->source_version == KDL_VERSION_1 && w->version == KDL_VERSION_2;
        uint32_t c;

        for (size_t i = 0, n; i < len; i += n) {
                n = utf8_decode(text + i, len - i, &c);
                if (convert && (kdl_is_disallowed(c) || c == '\v'))
                        fputs("\xef\xbf\xbd", w->f);
                else
                        fwrite(text + i, 1, n, w->f);
        }
}
