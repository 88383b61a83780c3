/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>

#include "string-util.h"

char *strf(const char *format, ...) {
        char *s = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&s, format, ap);
        va_end(ap);
        return r < 0 ? NULL : s;
}

int free_and_strdup(char **p, const char *s) {
        char *copy = NULL;

        if (s) {
                copy = strdup(s);
                if (!copy)
                        return -ENOMEM;
        }
        free(*p);
        *p = copy;
        return 0;
}

/* strtoull() takes signs and leading space, which no number here may have. */
static int parse_digits(const char *s, char **ret_end, uint64_t *ret) {
        unsigned long long v;

        if (*s < '0' || *s > '9')
                return -EINVAL;
        errno = 0;
        v = strtoull(s, ret_end, 10);
        if (errno != 0)
                return -errno;
        *ret = v;
        return 0;
}

int parse_u64(const char *s, uint64_t *ret) {
        uint64_t v;
        char *end;
        int r;

        r = parse_digits(s, &end, &v);
        if (r < 0)
                return r;
        if (*end != '\0')
                return -EINVAL;
        *ret = v;
        return 0;
}

int parse_u32(const char *s, uint32_t *ret) {
        uint64_t v;
        int r;

        r = parse_u64(s, &v);
        if (r < 0)
                return r;
        if (v > UINT32_MAX)
                return -ERANGE;
        *ret = (uint32_t)v;
        return 0;
}

int parse_size(const char *s, uint64_t unit, uint64_t *ret) {
        static const char suffixes[] = "KMGT";
        uint64_t v, factor = unit;
        const char *suffix;
        char *end;
        int r;

        r = parse_digits(s, &end, &v);
        if (r < 0)
                return r;

        suffix = memchr(suffixes, *end & ~0x20, sizeof(suffixes) - 1);
        if (suffix) {
                factor = UINT64_C(1) << (10 * (suffix - suffixes + 1));
                end++;
                if (streq(end, "iB") || streq(end, "B"))
                        end = strchr(end, '\0');
        } else if (streq(end, "B")) {
                factor = 1;
                end++;
        }
        if (*end != '\0')
                return -EINVAL;
        if (__builtin_mul_overflow(v, factor, &v))
                return -ERANGE;
        *ret = v;
        return 0;
}

const char *format_size(uint64_t bytes, char buf[static FORMAT_SIZE_MAX]) {
        static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB" };
        size_t i = 0;

        for (; bytes > 0 && bytes % KIB == 0; i++)
                bytes /= KIB;
        (void)snprintf(buf, FORMAT_SIZE_MAX, "%" PRIu64 " %s", bytes,
                        i == 0 && bytes == 1 ? "byte" : units[i]);
        return buf;
}

size_t utf8_decode(const char *s, size_t len, uint32_t *ret) {
        static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
        uint32_t c = len > 0 ? (unsigned char)s[0] : 0;
        size_t n = c < 0x80                  ? 1
                        : (c & 0xe0) == 0xc0 ? 2
                        : (c & 0xf0) == 0xe0 ? 3
                        : (c & 0xf8) == 0xf0 ? 4
                                             : 0;

        if (n == 0 || n > len)
                return 0;
        if (n > 1)
                c &= 0x7f >> n;
        for (size_t i = 1; i < n; i++) {
                if (((unsigned char)s[i] & 0xc0) != 0x80)
                        return 0;
                c = c << 6 | ((unsigned char)s[i] & 0x3f);
        }
        if (c < smallest[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff))
                return 0;
        *ret = c;
        return n;
}

size_t utf8_encode(uint32_t c, char *s) {
        static const uint8_t lead[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
        size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;

        for (size_t i = n; i > 1; i--) {
                s[i - 1] = (char)(0x80 | (c & 0x3f));
                c >>= 6;
        }
        s[0] = (char)(lead[n] | c);
        return n;
}

bool utf8_is_valid(const char *s, size_t len) {
        uint32_t c;

        for (size_t i = 0, n; i < len; i += n) {
                n = utf8_decode(s + i, len - i, &c);
                if (n == 0)
                        return false;
        }
        return true;
}

/* Compares it with itself, shifted: as fast as the C library can compare. */
bool is_zero(const void *data, size_t len) {
        const unsigned char *p = data;

        return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

static const char hex[] = "0123456789abcdef";

void hex_encode(const void *data, size_t len, char *ret) {
        const unsigned char *p = data;

        for (size_t i = 0; i < len; i++) {
                ret[2 * i] = hex[p[i] >> 4];
                ret[2 * i + 1] = hex[p[i] & 15];
        }
        ret[2 * len] = '\0';
}

char *string_escape(const char *s, size_t len, size_t max) {
        size_t end = MIN(len, max), o = 0;
        char *out = malloc(end * 4 + 1);

        if (!out)
                return NULL;
        for (size_t i = 0, n; i < end; i += n) {
                uint32_t c = 0;

                n = utf8_decode(s + i, end - i, &c);
                if (n > 1 && c >= 0xa0) { /* not a C1 control */
                        memcpy(out + o, s + i, n);
                        o += n;
                } else if (n == 1 && c >= ' ' && c != 0x7f) {
                        out[o++] = (char)c;
                } else {
                        unsigned char byte = (unsigned char)s[i];

                        n = 1;
                        out[o++] = '\\';
                        out[o++] = 'x';
                        out[o++] = hex[byte >> 4];
                        out[o++] = hex[byte & 15];
                }
        }
        out[o] = '\0';
        return out;
}

char **strv_free(char **v) {
        for (char **s = v; s && *s; s++)
                free(*s);
        free(v);
        return NULL;
}

size_t strv_length(char *const *v) {
        size_t n = 0;

        while (v && v[n])
                n++;
        return n;
}

bool strv_contains(char *const *v, const char *s) {
        STRV_FOREACH(i, v)
                if (streq(*i, s))
                        return true;
        return false;
}

int strv_push(char ***v, char *s) {
        size_t n = strv_length(*v);
        char **grown;

        if (!s)
                return -ENOMEM;
        grown = reallocarray(*v, n + 2, sizeof(char *));
        if (!grown) {
                free(s);
                return -ENOMEM;
        }
        grown[n] = s;
        grown[n + 1] = NULL;
        *v = grown;
        return 0;
}

int strv_extend(char ***v, const char *s) {
        return strv_push(v, strdup(s));
}

int strv_extendf(char ***v, const char *format, ...) {
        char *s = NULL;
        va_list ap;
        int r;

        va_start(ap, format);
        r = vasprintf(&s, format, ap);
        va_end(ap);
        return strv_push(v, r < 0 ? NULL : s);
}

size_t sorted_position(const void *vector, size_t n, const char *(*name_of)(const void *element),
                const char *name) {
        size_t low = 0, high = n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;
                const void *element;

                memcpy(&element, (const char *)vector + middle * sizeof(element), sizeof(element));
                if (strcmp(name_of(element), name) < 0)
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}
