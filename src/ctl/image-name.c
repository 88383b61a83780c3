/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>

#include "image-name.h"
#include "spec/image-record.h"
#include "util/string-util.h"

char *image_name_of(const char *path) {
        size_t len = strlen(path);
        _cleanup_free_ char *copy = NULL;

        while (len > 1 && path[len - 1] == '/')
                len--;
        copy = strndup(path, len);
        return copy ? image_name_from_path(copy) : NULL;
}

static int hex(char c) {
        return c >= '0' && c <= '9'                  ? c - '0'
                        : isxdigit((unsigned char)c) ? tolower((unsigned char)c) - 'a' + 10
                                                     : -1;
}

/* In place. A NUL that was escaped would end the path early, for us alone. */
static bool unescape(char *s) {
        char *o = s;

        for (; *s; s++) {
                int high, low;

                if (*s != '%') {
                        *o++ = *s;
                        continue;
                }
                high = hex(s[1]);
                low = high < 0 ? -1 : hex(s[2]);
                if (low < 0 || high + low == 0)
                        return false;
                *o++ = (char)(high * 16 + low);
                s += 2;
        }
        *o = '\0';
        return true;
}

char *image_url_path(const char *url) {
        const char *rest = startswith(url, "file://"), *here = rest ? startswith(rest, "localhost") : NULL;
        char *path;

        rest = here ?: rest;
        if (!rest || *rest != '/')
                return NULL;
        path = strdup(rest);
        if (path && unescape(path))
                return path;
        free(path);
        return NULL;
}
