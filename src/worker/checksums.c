/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>

#include "checksums.h"
#include "util/string-util.h"

/* One line, cut up. */
typedef struct Entry {
        const char *hex;
        size_t digits;
        const char *name; /* NULL: none stands there */
        size_t name_len;
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

static size_t count_digits(const char *s, const char *end) {
        const char *p = s;

        while (p < end && isxdigit((unsigned char)*p))
                p++;
        return (size_t)(p - s);
}

static const char *skip_blanks(const char *p, const char *end) {
        while (p < end && (*p == ' ' || *p == '\t'))
                p++;
        return p;
}

/* HEX, HEX  NAME, HEX *NAME */
static bool parse_gnu(const char *line, const char *end, Entry *ret) {
        const char *p = line + count_digits(line, end), *name = skip_blanks(p, end);

        if (p == line || (name == p && p < end))
                return false;
        if (name < end && *name == '*')
                name++;
        *ret = (Entry){
                .hex = line,
                .digits = (size_t)(p - line),
                .name = name < end ? name : NULL,
                .name_len = (size_t)(end - name),
        };
        return true;
}

/* ALGORITHM (NAME) = HEX; the name may hold parentheses. */
static bool parse_bsd(const char *line, const char *end, Entry *ret) {
        const char *open = memchr(line, '(', (size_t)(end - line)), *hex = end, *close;

        while (hex > line && isxdigit((unsigned char)hex[-1]))
                hex--;
        for (close = hex; close > line && strchr(" \t=", close[-1]); close--)
                ;
        if (!open || close <= open + 1 || close[-1] != ')' || !memchr(close, '=', (size_t)(hex - close)))
                return false;
        *ret = (Entry){
                .hex = hex,
                .digits = (size_t)(end - hex),
                .name = open + 1,
                .name_len = (size_t)(close - 1 - (open + 1)),
        };
        return true;
}

static bool is_named(const Entry *e, const char *name) {
        const char *p = e->name;
        size_t n = e->name_len;

        if (n > 2 && memcmp(p, "./", 2) == 0) {
                p += 2;
                n -= 2;
        }
        return n == strlen(name) && memcmp(p, name, n) == 0;
}

static int set_conflict(const char *name, Error **reterr) {
        return error_set(reterr, ERROR_DIGEST_MISMATCH,
                        "The list of checksums has two different ones for '%s'", name);
}

static int take(const Entry *e, const char *name, Checksums *c, Error **reterr) {
        char hex[SHA512_HEX_SIZE + 1];
        char *field = e->digits == SHA256_HEX_SIZE     ? c->sha256
                        : e->digits == SHA512_HEX_SIZE ? c->sha512
                                                       : NULL;

        if (!field || !checksum_parse_hex(e->hex, e->digits, hex))
                return 0; /* of an algorithm that proves nothing, as MD5 */
        if (!isempty(field) && !streq(field, hex))
                return set_conflict(name, reterr);
        memcpy(field, hex, e->digits + 1);
        return 0;
}

int checksums_find(const char *text, size_t len, const char *name, Checksums *ret, Error **reterr) {
        const char *p = text, *end = text + len;
        Checksums found = {}, bare = {};
        size_t named = 0;
        int r = 0;

        while (r >= 0 && p < end) {
                const char *newline = memchr(p, '\n', (size_t)(end - p)) ?: end, *stop = newline;
                Entry e;

                while (stop > p && isspace((unsigned char)stop[-1]))
                        stop--;
                p = skip_blanks(p, stop);
                if (parse_gnu(p, stop, &e) || parse_bsd(p, stop, &e)) {
                        named += e.name && (e.digits == SHA256_HEX_SIZE || e.digits == SHA512_HEX_SIZE);
                        if (!e.name)
                                r = take(&e, name, &bare, reterr);
                        else if (is_named(&e, name))
                                r = take(&e, name, &found, reterr);
                }
                p = newline < end ? newline + 1 : end;
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
