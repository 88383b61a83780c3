/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>

#include "checksums.h"
#include "util/string-util.h"

/* A piece of the list: lengths rather than ends, since the difference of two pointers may be negative for
 * all that a compiler knows. */
typedef struct Piece {
        const char *s;
        size_t n;
} Piece;

/* One line, cut up. */
typedef struct Entry {
        Piece hex;
        Piece name; /* NULL: none stands there */
} Entry;

bool checksum_parse_hex(const char *s, size_t digits, char *ret) {
        for (size_t i = 0; i < digits; i++) {
                if (!isxdigit((unsigned char)s[i]))
                        return false;
                ret[i] = (char)tolower((unsigned char)s[i]);
        }
        ret[digits] = '\0';
        return true;
}

static Piece piece_cut(Piece p, size_t n) {
        return (Piece){ p.s + n, p.n - n };
}

static bool is_digit(char c) {
        return isxdigit((unsigned char)c);
}

static bool is_blank(char c) {
        return c == ' ' || c == '\t';
}

static bool is_blank_or_equals(char c) {
        return is_blank(c) || c == '=';
}

static bool is_space(char c) {
        return isspace((unsigned char)c);
}

/* How many characters of a kind it begins with. */
static size_t count(Piece p, bool (*is_kind)(char c)) {
        size_t n = 0;

        while (n < p.n && is_kind(p.s[n]))
                n++;
        return n;
}

/* ... and ends with. */
static size_t count_last(Piece p, bool (*is_kind)(char c)) {
        size_t n = 0;

        while (n < p.n && is_kind(p.s[p.n - 1 - n]))
                n++;
        return n;
}

/* HEX, HEX  NAME, HEX *NAME */
static bool parse_gnu(Piece line, Entry *ret) {
        size_t digits = count(line, is_digit), blanks = count(piece_cut(line, digits), is_blank);
        Piece name = piece_cut(line, digits + blanks);

        if (digits == 0 || (blanks == 0 && name.n > 0))
                return false;
        if (name.n > 0 && name.s[0] == '*')
                name = piece_cut(name, 1);
        *ret = (Entry){ .hex = { line.s, digits } };
        if (name.n > 0)
                ret->name = name;
        return true;
}

/* ALGORITHM (NAME) = HEX; the name may hold parentheses. */
static bool parse_bsd(Piece line, Entry *ret) {
        size_t digits = count_last(line, is_digit), gap;
        Piece name, hex = piece_cut(line, line.n - digits);
        const char *open;

        line.n -= digits;
        gap = count_last(line, is_blank_or_equals);
        line.n -= gap;
        open = memchr(line.s, '(', line.n);
        if (!open || !memchr(line.s + line.n, '=', gap))
                return false;
        name = piece_cut(line, (size_t)(open - line.s) + 1);
        if (name.n == 0 || name.s[name.n - 1] != ')')
                return false;
        name.n--;
        *ret = (Entry){ .hex = hex, .name = name };
        return true;
}

static bool is_named(const Entry *e, const char *name) {
        Piece p = e->name;

        if (p.n > 2 && memcmp(p.s, "./", 2) == 0)
                p = piece_cut(p, 2);
        return p.n == strlen(name) && memcmp(p.s, name, p.n) == 0;
}

static int set_conflict(const char *name, Error **reterr) {
        return error_set(reterr, ERROR_DIGEST_MISMATCH,
                        "The list of checksums has two different ones for '%s'", name);
}

static int take(const Entry *e, const char *name, Checksums *c, Error **reterr) {
        char hex[SHA512_HEX_SIZE + 1];
        char *field = e->hex.n == SHA256_HEX_SIZE     ? c->sha256
                        : e->hex.n == SHA512_HEX_SIZE ? c->sha512
                                                      : NULL;

        if (!field || !checksum_parse_hex(e->hex.s, e->hex.n, hex))
                return 0; /* of an algorithm that proves nothing, as MD5 */
        if (!isempty(field) && !streq(field, hex))
                return set_conflict(name, reterr);
        memcpy(field, hex, e->hex.n + 1);
        return 0;
}

/* The next line, without blanks around it. */
static Piece take_line(Piece *text) {
        const char *newline = memchr(text->s, '\n', text->n);
        size_t n = newline ? (size_t)(newline - text->s) : text->n;
        Piece line = { text->s, n };

        *text = piece_cut(*text, newline ? n + 1 : n);
        line.n -= count_last(line, is_space);
        return piece_cut(line, count(line, is_blank));
}

int checksums_find(const char *text, size_t len, const char *name, Checksums *ret, Error **reterr) {
        Piece rest = { text, len };
        Checksums found = {}, bare = {};
        size_t named = 0;
        int r = 0;

        while (r >= 0 && rest.n > 0) {
                Piece line = take_line(&rest);
                Entry e;

                if (!parse_gnu(line, &e) && !parse_bsd(line, &e))
                        continue;
                named += e.name.s && (e.hex.n == SHA256_HEX_SIZE || e.hex.n == SHA512_HEX_SIZE);
                if (!e.name.s)
                        r = take(&e, name, &bare, reterr);
                else if (is_named(&e, name))
                        r = take(&e, name, &found, reterr);
        }
        if (r < 0)
                return r;
        if (named == 0) /* the file beside the image, with a digest and nothing else */
                found = bare;
        if (isempty(found.sha256) && isempty(found.sha512))
                return error_set(reterr, ERROR_DIGEST_MISMATCH,
                                "The list of checksums has no SHA-256 or SHA-512 for '%s'", name);
        *ret = found;
        return 0;
}
