/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Strings of both versions, from their quotes to their values.
 *
 * The end of a string is found first, then its escapes are checked where they stand, then its value is made
 * by passes over one buffer, each of which can only shorten it. */
#include "kdl-internal.h"

char *kdl_arena_text(KdlParser *p, size_t len) {
        char *s = arena_alloc(&p->doc->arena, len + 1, 1);

        if (!s)
                kdl_fail(p, -ENOMEM);
        return s;
}

static bool keep(KdlParser *p, uint32_t from, uint32_t to, KdlString *s) {
        char *copy = kdl_arena_text(p, to - from);

        if (!copy)
                return false;
        memcpy(copy, p->text + from, to - from);
        copy[to - from] = '\0';
        s->text = copy;
        s->len = to - from;
        return true;
}

/* White space that a backslash before it takes out of a string, in KDL 2. */
static uint32_t blank_end(const KdlParser *p, uint32_t at, uint32_t end) {
        size_t n;

        while (at < end && ((n = kdl_space(p, at)) > 0 || (n = kdl_newline(p, at)) > 0))
                at += (uint32_t)n;
        return MIN(at, end);
}

static int hex_digit(char c) {
        if (c >= '0' && c <= '9')
                return c - '0';
        c |= 0x20;
        return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "u{...}" at s: its length and code point, or 0. */
static size_t unicode_escape(const char *s, size_t len, uint32_t *ret) {
        uint32_t c = 0;
        size_t i = 2;

        if (len < 4 || s[0] != 'u' || s[1] != '{')
                return 0;
        for (; i < len && i < 8 && hex_digit(s[i]) >= 0; i++)
                c = c << 4 | (uint32_t)hex_digit(s[i]);
        if (i == 2 || i >= len || s[i] != '}')
                return 0;
        *ret = c;
        return i + 1;
}

static const char *const simple_escapes[] = {
        [KDL_VERSION_1] = "\"\\/bfnrt",
        [KDL_VERSION_2] = "\"\\bfnrts",
};

static bool is_simple_escape(KdlVersion version, char c) {
        return c != '\0' && strchr(simple_escapes[version], c);
}

/* What the character behind a backslash stands for. */
static char simple_escape(char c) {
        switch (c) {
        case 'b':
                return '\b';
        case 'f':
                return '\f';
        case 'n':
                return '\n';
        case 'r':
                return '\r';
        case 't':
                return '\t';
        case 's':
                return ' ';
        default:
                return c;
        }
}

/* An escape that cannot be: `at` is its backslash. */
static void complain_escape(KdlParser *p, uint32_t at) {
        uint32_t end = at + 1 + (uint32_t)kdl_char_length(p, at + 1);
        KdlVersion other = p->version == KDL_VERSION_1 ? KDL_VERSION_2 : KDL_VERSION_1;
        char c = p->text[at + 1];

        if (c == 'u') {
                kdl_complain(p, kdl_span(at, end), "this is not a Unicode escape");
                kdl_hint(p,
                                "write the number of a code point with 1 to 6 hexadecimal digits, as in "
                                "\\u{1F600}");
                return;
        }
        kdl_complain(p, kdl_span(at, end), "there is no escape '%.*s'", (int)(end - at), p->text + at);
        if (is_simple_escape(other, c) ||
                        (p->version == KDL_VERSION_1 && blank_end(p, at + 1, p->len) > at + 1))
                kdl_foreign(p, kdl_span(at, end));
        if (c == '/')
                kdl_hint(p, "a slash needs no backslash");
        else
                kdl_hint(p, "write '\\\\' for a backslash, or use a raw string: %s",
                                p->version == KDL_VERSION_1 ? "r\"...\"" : "#\"...\"#");
}

/* Says all that is wrong with the escapes between `from` and `to`. */
static void check_escapes(KdlParser *p, uint32_t from, uint32_t to) {
        for (uint32_t i = from, c; i < to; i++) {
                size_t n;

                if (p->text[i] != '\\')
                        continue;
                n = unicode_escape(p->text + i + 1, to - i - 1, &c);
                if (n > 0) {
                        if (c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                                kdl_complain(p, kdl_span(i, i + 1 + (uint32_t)n),
                                                "U+%04X is not a Unicode character", c);
                        i += (uint32_t)n;
                } else if (is_simple_escape(p->version, p->text[i + 1])) {
                        i++;
                } else if (p->version == KDL_VERSION_2 && blank_end(p, i + 1, to) > i + 1) {
                        i = blank_end(p, i + 1, to) - 1;
                } else {
                        complain_escape(p, i);
                        i++;
                }
        }
}

/* Resolves escapes, checked ones, in place; white space escapes are gone already. Returns the length. */
static size_t unescape(char *s, size_t len) {
        size_t o = 0, n;
        uint32_t c;

        for (size_t i = 0; i < len; i++) {
                if (s[i] != '\\' || i + 1 >= len) {
                        s[o++] = s[i];
                        continue;
                }
                n = unicode_escape(s + i + 1, len - i - 1, &c);
                if (n > 0) {
                        o += c <= 0x10ffff ? utf8_encode(c, s + o) : 0;
                        i += n;
                } else {
                        s[o++] = simple_escape(s[++i]);
                }
        }
        s[o] = '\0';
        return o;
}

/* Copies without escaped white space, and with newlines as LF if asked. */
static size_t copy_body(KdlParser *p, uint32_t from, uint32_t to, bool raw, bool normalize, char *out) {
        size_t o = 0, n;

        for (uint32_t i = from; i < to;) {
                uint32_t blank = !raw && p->text[i] == '\\' && p->version == KDL_VERSION_2
                                ? blank_end(p, i + 1, to)
                                : i + 1;

                if (blank > i + 1) {
                        i = blank;
                } else if (!raw && p->text[i] == '\\' && i + 1 < to) {
                        out[o++] = p->text[i++];
                        out[o++] = p->text[i++];
                } else if (normalize && (n = kdl_newline(p, i)) > 0) {
                        out[o++] = '\n';
                        i += (uint32_t)n;
                } else {
                        out[o++] = p->text[i++];
                }
        }
        return o;
}

static bool is_blank(KdlVersion version, const char *s, size_t len) {
        for (size_t i = 0, n; i < len; i += n) {
                n = kdl_space_length(version, s + i, len - i);
                if (n == 0)
                        return false;
        }
        return true;
}

/* The place in the source of line `line`, from 0, of the body. */
static uint32_t body_line(const KdlParser *p, uint32_t from, uint32_t to, bool raw, size_t line) {
        uint32_t i = from;

        while (line > 0 && i < to) {
                size_t n = kdl_newline(p, i);

                if (n > 0)
                        line--;
                if (n == 0 && !raw && p->text[i] == '\\') {
                        i = MAX(blank_end(p, i + 1, to), i + 2);
                        continue;
                }
                i += n > 0 ? (uint32_t)n : 1;
        }
        return MIN(i, to);
}

/* Takes the last line's white space from the front of all lines. `body` holds the source's lines from
 * `from` on; the result, its length, or SIZE_MAX after a complaint. */
static size_t dedent(KdlParser *p, char *body, size_t len, uint32_t from, uint32_t to, bool raw) {
        char *last = memrchr(body, '\n', len);
        const char *prefix = last ? last + 1 : body;
        size_t n_prefix = len - (size_t)(prefix - body), o = 0, line = 0;
        _cleanup_free_ char *wanted = malloc(n_prefix + 1); /* what follows writes over it */

        if (!wanted) {
                kdl_fail(p, -ENOMEM);
                return SIZE_MAX;
        }
        memcpy(wanted, prefix, n_prefix);
        if (!is_blank(p->version, wanted, n_prefix)) {
                kdl_complain(p, kdl_span(to, to + 3),
                                "the closing quotes of a multi-line string stand on a line of their own");
                return SIZE_MAX;
        }
        for (char *s = body, *end; last && s <= last; s = end + 1, line++) {
                end = memchr(s, '\n', (size_t)(last - s) + 1);
                if (line > 0)
                        body[o++] = '\n';
                if (is_blank(p->version, s, (size_t)(end - s)))
                        continue;
                if ((size_t)(end - s) < n_prefix || memcmp(s, wanted, n_prefix) != 0) {
                        uint32_t at = body_line(p, from, to, raw, line);

                        kdl_complain(p, kdl_span(at, at + 1),
                                        "this line does not begin with the white space before the closing "
                                        "quotes");
                        kdl_hint(p, "indent it as far as the closing quotes, with the same tabs and spaces");
                        return SIZE_MAX;
                }
                memmove(body + o, s + n_prefix, (size_t)(end - s) - n_prefix);
                o += (size_t)(end - s) - n_prefix;
        }
        return o;
}

/* The body stands between `from` and `to`. */
static bool make_value(KdlParser *p, uint32_t from, uint32_t to, KdlString *s) {
        bool multiline = s->style == KDL_STYLE_MULTILINE || s->style == KDL_STYLE_RAW_MULTILINE;
        bool raw = s->style == KDL_STYLE_RAW || s->style == KDL_STYLE_RAW_MULTILINE;
        char *out = kdl_arena_text(p, to - from);
        size_t n;

        if (!out)
                return false;
        if (!raw)
                check_escapes(p, from, to);
        n = copy_body(p, from, to, raw, multiline, out);
        if (multiline)
                n = dedent(p, out, n, from, to, raw);
        if (p->r < 0)
                return false;
        if (n == SIZE_MAX)
                n = 0;
        s->len = (uint32_t)(raw ? n : unescape(out, n));
        out[s->len] = '\0';
        s->text = out;
        return true;
}

static bool complain_unclosed(
                KdlParser *p, uint32_t start, uint32_t end, const char *closing, uint32_t n_hashes) {
        kdl_complain(p, kdl_span(start, end), "this string is not closed");
        kdl_hint(p, "it ends with %s%.*s", closing, (int)MIN(n_hashes, 32U),
                        "################################");
        return kdl_stop(p);
}

/* In KDL 2 a string without three quotes ends on the line where it began. */
static bool complain_newline(KdlParser *p, uint32_t start) {
        kdl_complain(p, kdl_span(start, p->pos), "this string is not closed on its line");
        kdl_hint(p, "close it with '\"'; a text of several lines stands between lines of '\"\"\"'");
        return kdl_stop(p);
}

/* Moves to the closing quote of a string of one line, or of KDL 1. */
static bool find_quote(KdlParser *p, uint32_t start) {
        while (!kdl_at(p, '"')) {
                if (kdl_at_end(p))
                        return complain_unclosed(p, start, start + 1, "'\"'", 0);
                if (kdl_at(p, '\\')) {
                        uint32_t blank = p->version == KDL_VERSION_2 ? blank_end(p, p->pos + 1, p->len) : 0;

                        p->pos = MIN(p->pos + 2, p->len);
                        p->pos = MAX(p->pos, blank);
                } else if (p->version == KDL_VERSION_2 && kdl_newline(p, p->pos) > 0) {
                        return complain_newline(p, start);
                } else {
                        p->pos++;
                }
        }
        return true;
}

static bool find_triple_quote(KdlParser *p, uint32_t start) {
        while (!kdl_at_text(p, "\"\"\"")) {
                if (kdl_at_end(p))
                        return complain_unclosed(p, start, start + 3, "'\"\"\"'", 0);
                p->pos = MIN(p->pos + (kdl_at(p, '\\') ? 2 : 1), p->len);
        }
        return true;
}

/* Moves to the quotes that `n_hashes` of '#' follow. */
static bool find_raw_end(
                KdlParser *p, uint32_t start, const char *quotes, uint32_t n_hashes, bool one_line) {
        uint32_t n_quotes = (uint32_t)strlen(quotes);

        for (; !kdl_at_end(p); p->pos++) {
                uint32_t n = 0;

                if (one_line && kdl_newline(p, p->pos) > 0)
                        return complain_newline(p, start);
                if (!kdl_at_text(p, quotes))
                        continue;
                while (n < n_hashes && p->pos + n_quotes + n < p->len &&
                                p->text[p->pos + n_quotes + n] == '#')
                        n++;
                if (n == n_hashes)
                        return true;
        }
        return complain_unclosed(p, start, start + n_hashes + n_quotes, quotes, n_hashes);
}

/* Behind the opening quotes of a multi-line string: its newline. */
static void scan_opening_newline(KdlParser *p, uint32_t start) {
        size_t n = kdl_newline(p, p->pos);

        if (n == 0) {
                kdl_complain(p, kdl_span(start, p->pos),
                                "a multi-line string begins on the line below its quotes");
                kdl_hint(p, "put a new line behind '\"\"\"', or use '\"' for a text of one line");
        }
        p->pos += (uint32_t)n;
}

static bool scan_multiline(KdlParser *p, KdlString *s, bool raw, uint32_t n_hashes) {
        uint32_t start = p->pos - n_hashes, from;
        unsigned errors = p->n_errors;

        s->style = raw ? KDL_STYLE_RAW_MULTILINE : KDL_STYLE_MULTILINE;
        p->pos += 3;
        if (p->version == KDL_VERSION_1) {
                kdl_foreign(p, kdl_span(start, p->pos));
                kdl_complain(p, kdl_span(start, p->pos), "KDL 1 has no strings with three quotes");
        } else {
                scan_opening_newline(p, start);
        }
        from = p->pos;
        if (raw ? !find_raw_end(p, start, "\"\"\"", n_hashes, false) : !find_triple_quote(p, start))
                return false;
        if (p->n_errors > errors) {
                s->text = ""; /* what is in it follows no rules any more */
        } else if (!make_value(p, from, p->pos, s)) {
                return false;
        }
        p->pos += 3 + n_hashes;
        return true;
}

static bool scan_quoted(KdlParser *p, KdlString *s) {
        uint32_t start = p->pos;

        if (kdl_at_text(p, "\"\"\""))
                return scan_multiline(p, s, false, 0);
        s->style = KDL_STYLE_QUOTED;
        p->pos++;
        if (!find_quote(p, start) || !make_value(p, start + 1, p->pos, s))
                return false;
        p->pos++;
        return true;
}

/* The number of '#' at `at` if a quote follows them, else UINT32_MAX. */
static uint32_t hashes_before_quote(const KdlParser *p, uint32_t at) {
        uint32_t n = 0;

        while (at + n < p->len && p->text[at + n] == '#')
                n++;
        return at + n < p->len && p->text[at + n] == '"' ? n : UINT32_MAX;
}

/* From the quote on; `start` is where the string began. */
static bool scan_raw(KdlParser *p, KdlString *s, uint32_t start, uint32_t n_hashes, bool one_line) {
        uint32_t from = ++p->pos;

        s->style = KDL_STYLE_RAW;
        if (!find_raw_end(p, start, "\"", n_hashes, one_line) || !make_value(p, from, p->pos, s))
                return false;
        p->pos += 1 + n_hashes;
        return true;
}

/* r"..." of KDL 1; the cursor stands on the r. */
static bool scan_raw_1(KdlParser *p, KdlString *s, uint32_t n_hashes) {
        uint32_t start = p->pos;

        p->pos += 1 + n_hashes;
        if (p->version == KDL_VERSION_2) {
                kdl_foreign(p, kdl_span(start, p->pos + 1));
                kdl_complain(p, kdl_span(start, p->pos + 1), "a raw string of KDL 1");
                kdl_hint(p, "KDL 2 has no r: write #\"...\"#");
        }
        return scan_raw(p, s, start, n_hashes, false);
}

/* #"..."# of KDL 2; the cursor stands on the first '#'. */
static bool scan_raw_2(KdlParser *p, KdlString *s, uint32_t n_hashes) {
        uint32_t start = p->pos;

        p->pos += n_hashes;
        if (kdl_at_text(p, "\"\"\""))
                return scan_multiline(p, s, true, n_hashes);
        if (p->version == KDL_VERSION_1) {
                kdl_foreign(p, kdl_span(start, p->pos + 1));
                kdl_complain(p, kdl_span(start, p->pos + 1), "a raw string of KDL 2");
                kdl_hint(p, "KDL 1 writes r\"...\" or r#\"...\"#");
        }
        return scan_raw(p, s, start, n_hashes, p->version == KDL_VERSION_2);
}

static void check_identifier(KdlParser *p, const KdlString *s) {
        if (kdl_is_keyword(p->version, s->text, s->len)) {
                kdl_complain(p, s->span, "'%s' cannot stand here without quotes", s->text);
                if (p->version == KDL_VERSION_1)
                        kdl_hint(p, "write \"%s\" to use it as a name", s->text);
                else
                        kdl_hint(p, "write #%s, or \"%s\" for the text", s->text, s->text);
                if (p->version == KDL_VERSION_2 && kdl_is_keyword(KDL_VERSION_1, s->text, s->len))
                        kdl_foreign(p, s->span);
        } else if (kdl_looks_numeric(p->version, s->text, s->len)) {
                kdl_complain(p, s->span, "expected a name, found a number");
                kdl_hint(p, "a name that begins like a number needs quotes");
        }
}

static bool scan_identifier(KdlParser *p, KdlString *s) {
        uint32_t start = p->pos, end = kdl_identifier_end(p, start);

        if (end == start) {
                kdl_complain(p, kdl_span(start, start + 1), "expected a name");
                return kdl_hint(p, "keywords and symbols are names only in quotes");
        }
        s->style = KDL_STYLE_BARE;
        s->span = kdl_span(start, end);
        if (!keep(p, start, end, s))
                return false;
        check_identifier(p, s);
        p->pos = end;
        return true;
}

bool kdl_at_quotes(const KdlParser *p) {
        return kdl_at(p, '"') || (kdl_at(p, '#') && hashes_before_quote(p, p->pos) != UINT32_MAX);
}

bool kdl_scan_string(KdlParser *p, KdlString *ret) {
        uint32_t start = p->pos, n_hashes;
        bool ok;

        *ret = (KdlString){ 0 };
        if (kdl_at(p, '"'))
                ok = scan_quoted(p, ret);
        else if (kdl_at(p, 'r') && (n_hashes = hashes_before_quote(p, start + 1)) != UINT32_MAX)
                ok = scan_raw_1(p, ret, n_hashes);
        else if (kdl_at(p, '#') && (n_hashes = hashes_before_quote(p, start)) != UINT32_MAX)
                ok = scan_raw_2(p, ret, n_hashes);
        else
                ok = scan_identifier(p, ret);
        ret->span = kdl_span(start, p->pos);
        return ok;
}
