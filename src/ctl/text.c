/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>

#include "text.h"
#include "util/string-util.h"

/* A thousand years: what is added to a clock stays a time. */
#define TIMESPAN_MAX_USEC (UINT64_C(1000) * 365 * 24 * 3600 * USEC_PER_SEC)

static const struct {
        const char *name;
        uint64_t usec;
} units[] = {
        { "day", 24 * 3600 * USEC_PER_SEC },
        { "h", 3600 * USEC_PER_SEC },
        { "min", 60 * USEC_PER_SEC },
        { "s", USEC_PER_SEC },
        { "ms", USEC_PER_MSEC },
};

char *text_duration(uint64_t usec) {
        for (size_t i = 0; i < ELEMENTSOF(units); i++) {
                uint64_t n = usec / units[i].usec, rest;

                if (n == 0)
                        continue;
                rest = i + 1 < ELEMENTSOF(units) ? usec % units[i].usec / units[i + 1].usec : 0;
                /* Nobody wants the milliseconds of what took seconds. */
                if (rest == 0 || i + 2 >= ELEMENTSOF(units))
                        return strf("%" PRIu64 "%s", n, units[i].name);
                return strf("%" PRIu64 "%s %" PRIu64 "%s", n, units[i].name, rest, units[i + 1].name);
        }
        return strf("0s");
}

char *text_size(uint64_t bytes) {
        static const char suffixes[] = "KMGTPE";
        uint64_t unit = KIB;
        size_t i = 0;

        if (bytes < KIB)
                return strf("%" PRIu64 "B", bytes);
        while (i + 2 < sizeof(suffixes) && bytes / KIB >= unit) {
                unit *= KIB;
                i++;
        }
        /* The quotient first: a tenth of an exbibyte times ten would overflow. */
        if (bytes % unit / (unit / 10) == 0)
                return strf("%" PRIu64 "%c", bytes / unit, suffixes[i]);
        return strf("%" PRIu64 ".%" PRIu64 "%c", bytes / unit, MIN(bytes % unit / (unit / 10), UINT64_C(9)),
                        suffixes[i]);
}

char *text_timestamp(uint64_t usec) {
        time_t t = (time_t)(usec / USEC_PER_SEC);
        char buf[64];
        struct tm tm;

        if (usec == 0 || !localtime_r(&t, &tm) ||
                        strftime(buf, sizeof(buf), "%a %Y-%m-%d %H:%M:%S %Z", &tm) == 0)
                return strf("-");
        return strf("%s", buf);
}

int parse_timespan(const char *s, uint64_t *ret_usec) {
        static const struct {
                const char *suffix;
                uint64_t usec;
        } known[] = {
                { "", USEC_PER_SEC },
                { "s", USEC_PER_SEC },
                { "sec", USEC_PER_SEC },
                { "ms", USEC_PER_MSEC },
                { "m", 60 * USEC_PER_SEC },
                { "min", 60 * USEC_PER_SEC },
                { "h", 3600 * USEC_PER_SEC },
                { "d", 24 * 3600 * USEC_PER_SEC },
                { "day", 24 * 3600 * USEC_PER_SEC },
                { "days", 24 * 3600 * USEC_PER_SEC },
                { "w", 7 * 24 * 3600 * USEC_PER_SEC },
                { "week", 7 * 24 * 3600 * USEC_PER_SEC },
                { "weeks", 7 * 24 * 3600 * USEC_PER_SEC },
        };
        size_t digits = strspn(s, "0123456789");
        _cleanup_free_ char *number = strndup(s, digits);
        uint64_t v;
        int r;

        if (!number)
                return -ENOMEM;
        r = parse_u64(number, &v);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ELEMENTSOF(known); i++)
                if (streq(s + digits, known[i].suffix)) {
                        if (v > TIMESPAN_MAX_USEC / known[i].usec)
                                return -ERANGE;
                        *ret_usec = v * known[i].usec;
                        return 0;
                }
        return -EINVAL;
}

int parse_percent(const char *s, uint32_t *ret) {
        size_t len = strlen(s);
        _cleanup_free_ char *number = strndup(s, len > 0 && s[len - 1] == '%' ? len - 1 : len);

        return number ? parse_u32(number, ret) : -ENOMEM;
}

char *shell_quote(const char *s) {
        static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                    "_-./:=@%+,";
        size_t n = strlen(s), o = 0;
        char *out;

        if (n > 0 && strspn(s, plain) == n)
                return strdup(s);
        out = malloc(n * 4 + 3);
        if (!out)
                return NULL;
        out[o++] = '\'';
        for (size_t i = 0; i < n; i++) {
                if (s[i] == '\'') {
                        memcpy(out + o, "'\\''", 4);
                        o += 4;
                } else
                        out[o++] = s[i];
        }
        out[o++] = '\'';
        out[o] = '\0';
        return out;
}

size_t text_width(const char *s) {
        size_t n = 0;

        for (; *s; s++)
                n += (*s & 0xc0) != 0x80;
        return n;
}
