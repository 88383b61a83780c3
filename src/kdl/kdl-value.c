/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Values: numbers, keywords, and what they are to C. */
#include <inttypes.h>
#include <locale.h>
#include <math.h>

#include "kdl-internal.h"

static bool is_digit(char c, unsigned base) {
        if (base == 16)
                return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
        return c >= '0' && c < '0' + (char)base;
}

static bool is_sign(char c) {
        return c == '+' || c == '-';
}

static unsigned base_of(const char *s, size_t len) {
        if (len < 2 || s[0] != '0')
                return 10;
        return s[1] == 'x' ? 16 : s[1] == 'o' ? 8 : s[1] == 'b' ? 2 : 10;
}

/* digit (digit | '_')*, from `at` on; `at` itself where there is no digit. */
static size_t digits_end(const char *s, size_t len, size_t at, unsigned base) {
        if (at >= len || !is_digit(s[at], base))
                return at;
        while (at < len && (is_digit(s[at], base) || s[at] == '_'))
                at++;
        return at;
}

bool kdl_is_number(const char *s, size_t len, size_t *ret_good) {
        size_t at = len > 0 && is_sign(s[0]);
        unsigned base = base_of(s + at, len - at);

        at += base == 10 ? 0 : 2;
        *ret_good = digits_end(s, len, at, base);
        if (*ret_good == at || base != 10)
                return *ret_good > at && *ret_good == len;
        if (*ret_good < len && s[*ret_good] == '.') {
                at = *ret_good + 1;
                *ret_good = digits_end(s, len, at, 10);
                if (*ret_good == at)
                        return false;
        }
        if (*ret_good < len && (s[*ret_good] | 0x20) == 'e') {
                at = *ret_good + 1;
                at += at < len && is_sign(s[at]);
                *ret_good = digits_end(s, len, at, 10);
                if (*ret_good == at)
                        return false;
        }
        return *ret_good == len;
}

bool kdl_looks_numeric(KdlVersion version, const char *s, size_t len) {
        size_t at = len > 0 && is_sign(s[0]);

        if (version == KDL_VERSION_2 && at < len && s[at] == '.')
                at++;
        return at < len && is_digit(s[at], 10);
}

bool kdl_is_keyword(KdlVersion version, const char *s, size_t len) {
        static const char *const words[] = { "true", "false", "null", "inf", "-inf", "nan" };

        for (size_t i = 0; i < (version == KDL_VERSION_1 ? 3 : ELEMENTSOF(words)); i++)
                if (strlen(words[i]) == len && memcmp(words[i], s, len) == 0)
                        return true;
        return false;
}

bool kdl_is_identifier(KdlVersion version, const char *s, size_t len) {
        KdlParser p = { .text = s, .len = (uint32_t)len, .version = version };
        uint32_t c;

        if (len == 0 || kdl_looks_numeric(version, s, len) || kdl_is_keyword(version, s, len) ||
                        kdl_identifier_end(&p, 0) != len)
                return false;
        for (size_t i = 0; version == KDL_VERSION_2 && i < len; i += utf8_decode(s + i, len - i, &c))
                if (utf8_decode(s + i, len - i, &c) == 0 || kdl_is_disallowed(c))
                        return false;
        return true;
}

/* `run` has the shape of a number's beginning and ends where identifiers end. */
static void complain_number(KdlParser *p, KdlSpan run, size_t good) {
        const char *s = p->text + run.start;
        size_t len = run.end - run.start;

        kdl_complain(p, kdl_span(run.start + (uint32_t)MIN(good, len - 1), run.end),
                        "'%.*s' is not a number", (int)MIN(len, (size_t)64), s);
        if (!is_digit(s[is_sign(s[0])], 10))
                kdl_hint(p, "a number has a digit before its point, as in 0.5");
        else if (good == len || s[good] == '.')
                kdl_hint(p, "a digit is missing at its end");
        else
                kdl_hint(p, "a text that begins like a number needs quotes");
}

static bool scan_number(KdlParser *p, KdlValue *v) {
        KdlSpan run = kdl_span(p->pos, kdl_identifier_end(p, p->pos));
        size_t len = run.end - run.start, good;
        char *copy = kdl_arena_text(p, len);

        if (!copy)
                return false;
        memcpy(copy, p->text + run.start, len);
        copy[len] = '\0';
        v->type = KDL_NUMBER;
        v->string = (KdlString){ .text = copy, .len = (uint32_t)len, .span = run };
        if (!kdl_is_number(copy, len, &good))
                complain_number(p, run, good);
        p->pos = run.end;
        return true;
}

static bool set_keyword(KdlValue *v, const char *s, size_t len) {
        static const struct {
                const char *name;
                KdlType type;
                bool boolean;
        } keywords[] = {
                { "true", KDL_BOOLEAN, true },
                { "false", KDL_BOOLEAN, false },
                { "null", KDL_NULL },
                { "inf", KDL_NUMBER },
                { "-inf", KDL_NUMBER },
                { "nan", KDL_NUMBER },
        };

        for (size_t i = 0; i < ELEMENTSOF(keywords); i++)
                if (strlen(keywords[i].name) == len && memcmp(keywords[i].name, s, len) == 0) {
                        v->type = keywords[i].type;
                        v->boolean = keywords[i].boolean;
                        v->string.text = keywords[i].name;
                        v->string.len = (uint32_t)len;
                        return true;
                }
        return false;
}

/* #true and its like; the cursor stands on '#'. */
static bool scan_keyword(KdlParser *p, KdlValue *v) {
        uint32_t start = p->pos, end = kdl_identifier_end(p, start + 1);

        v->string.span = kdl_span(start, end);
        if (!set_keyword(v, p->text + start + 1, end - start - 1)) {
                kdl_complain(p, v->string.span, "'%.*s' is not a keyword", (int)MIN(end - start, 64U),
                                p->text + start);
                kdl_hint(p, "keywords are #true, #false, #null, #inf, #-inf and #nan");
        }
        p->pos = end;
        return true;
}

bool kdl_starts_value(const KdlParser *p) {
        return kdl_at(p, '"') || (kdl_at(p, '#') && p->version == KDL_VERSION_2) ||
                        kdl_identifier_char(p, p->pos) > 0;
}

static bool scan_string_value(KdlParser *p, KdlValue *v) {
        v->type = KDL_STRING;
        if (!kdl_scan_string(p, &v->string))
                return false;
        if (p->version == KDL_VERSION_1 && v->string.style == KDL_STYLE_BARE) {
                kdl_foreign(p, v->string.span);
                kdl_complain(p, v->string.span, "expected a value, found a bare word");
                if (v->string.text[0] == '#' &&
                                kdl_is_keyword(KDL_VERSION_2, v->string.text + 1, v->string.len - 1))
                        kdl_hint(p, "KDL 1 writes %s", v->string.text + 1);
                else
                        kdl_hint(p, "strings have quotes in KDL 1: \"%s\"", v->string.text);
        }
        return true;
}

bool kdl_scan_value(KdlParser *p, KdlValue *ret) {
        uint32_t start = p->pos, end = kdl_identifier_end(p, start);
        bool ok;

        *ret = (KdlValue){ .type = KDL_NULL };
        if (end > start && kdl_looks_numeric(p->version, p->text + start, end - start)) {
                ok = scan_number(p, ret);
        } else if (p->version == KDL_VERSION_1 &&
                        kdl_is_keyword(KDL_VERSION_1, p->text + start, end - start)) {
                set_keyword(ret, p->text + start, end - start);
                ret->string.span = kdl_span(start, end);
                p->pos = end;
                ok = true;
        } else if (kdl_at(p, '#') && p->version == KDL_VERSION_2) {
                uint32_t quote = start;

                while (quote < p->len && p->text[quote] == '#')
                        quote++;
                ok = quote < p->len && p->text[quote] == '"' ? scan_string_value(p, ret)
                                                             : scan_keyword(p, ret);
        } else {
                ok = scan_string_value(p, ret);
        }
        ret->span = kdl_span(start, p->pos);
        return ok;
}

static int number_parts(const KdlValue *v, const char **ret_digits, unsigned *ret_base, bool *ret_negative) {
        const char *s = v ? v->string.text : NULL;

        if (!s || v->type != KDL_NUMBER)
                return -EINVAL;
        *ret_negative = s[0] == '-';
        s += is_sign(s[0]);
        *ret_base = base_of(s, strlen(s));
        *ret_digits = *ret_base == 10 ? s : s + 2;
        return 0;
}

/* Sign and magnitude of an integer. */
static int magnitude(const KdlValue *v, uint64_t *ret, bool *ret_negative) {
        const char *s;
        uint64_t u = 0;
        unsigned base;
        bool over = false;
        int r;

        r = number_parts(v, &s, &base, ret_negative);
        if (r < 0)
                return r;
        for (; *s; s++) {
                unsigned digit = *s <= '9' ? (unsigned)(*s - '0') : (unsigned)((*s | 0x20) - 'a' + 10);

                if (*s == '_')
                        continue;
                if (!is_digit(*s, base))
                        return -EINVAL;
                over = over || __builtin_mul_overflow(u, base, &u) || __builtin_add_overflow(u, digit, &u);
        }
        if (over)
                return -ERANGE;
        *ret = u;
        return 0;
}

char *kdl_number_canonical(const KdlValue *v) {
        const char *s = v->string.text;
        bool negative;
        uint64_t u;
        char *out;
        size_t o = 0;

        if (magnitude(v, &u, &negative) == 0)
                return strf("%s%" PRIu64, negative ? "-" : "", u);
        out = malloc(v->string.len + 1);
        for (; out && *s; s++)
                if (*s != '_' && *s != '+')
                        out[o++] = *s >= 'A' && *s <= 'Z' ? (char)(*s | 0x20) : *s;
        if (out)
                out[o] = '\0';
        return out;
}

int kdl_value_uint64(const KdlValue *v, uint64_t *ret) {
        bool negative;
        uint64_t u;
        int r;

        r = magnitude(v, &u, &negative);
        if (r < 0)
                return r;
        if (negative && u > 0)
                return -ERANGE;
        *ret = u;
        return 0;
}

int kdl_value_int64(const KdlValue *v, int64_t *ret) {
        bool negative;
        uint64_t u;
        int r;

        r = magnitude(v, &u, &negative);
        if (r < 0)
                return r;
        if (u > (uint64_t)INT64_MAX + negative)
                return -ERANGE;
        *ret = negative ? (int64_t)-u : (int64_t)u;
        return 0;
}

/* The text that strtod() reads: no underscores, and binary and octal as hexadecimal. */
static char *strtod_text(const char *digits, unsigned base, bool negative) {
        size_t len = strlen(digits), o = 0, n = 0;
        unsigned width = base == 2 ? 1 : 3, bits = 0, n_bits = 0;
        char *out = malloc(len + 8);

        if (!out)
                return NULL;
        if (negative)
                out[o++] = '-';
        if (base != 10) {
                out[o++] = '0';
                out[o++] = 'x';
        }
        for (size_t i = 0; i < len; i++)
                n += digits[i] != '_';
        /* Groups of four bits count from the last digit. */
        n_bits = base == 2 || base == 8 ? (unsigned)((4 - n * width % 4) % 4) : 0;
        for (size_t i = 0; i < len; i++) {
                if (digits[i] == '_')
                        continue;
                if (base == 10 || base == 16) {
                        out[o++] = digits[i];
                        continue;
                }
                bits = bits << width | (unsigned)(digits[i] - '0');
                for (n_bits += width; n_bits >= 4; n_bits -= 4)
                        out[o++] = "0123456789abcdef"[bits >> (n_bits - 4) & 15];
        }
        out[o] = '\0';
        return out;
}

int kdl_value_double(const KdlValue *v, double *ret) {
        _cleanup_free_ char *text = NULL;
        locale_t c_locale;
        const char *s;
        unsigned base;
        bool negative;
        double d;
        int r;

        r = number_parts(v, &s, &base, &negative);
        if (r < 0)
                return r;
        text = strtod_text(s, base, negative);
        c_locale = text ? newlocale(LC_ALL_MASK, "C", (locale_t)0) : (locale_t)0;
        if (!c_locale)
                return -ENOMEM;
        d = strtod_l(text, NULL, c_locale);
        freelocale(c_locale);
        if (isinf(d) && *s != 'i')
                return -ERANGE;
        *ret = d;
        return 0;
}
