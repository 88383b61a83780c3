/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <strings.h>

#include "image-name.h"
#include "util/string-util.h"

#define NAME_MAX_LEN 64

static const char *const compressions[] = { ".zst", ".zstd", ".gz", ".xz", ".bz2", ".tgz" };
static const char *const formats[] = { ".qcow2", ".img", ".raw", ".vmdk", ".vdi", ".vhdx", ".vhd", ".tar",
        ".oci" };

/* How much is left of a name without one of these endings, which must not be all of it. */
static size_t without(const char *name, size_t len, const char *const *endings, size_t n) {
        for (size_t i = 0; i < n; i++) {
                size_t ending = strlen(endings[i]);

                if (ending < len && strncasecmp(name + len - ending, endings[i], ending) == 0)
                        return len - ending;
        }
        return len;
}

static bool is_allowed(char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
                        c == '_' || c == '.';
}

char *image_name_of(const char *path) {
        size_t end = strlen(path), begin, len;
        char *name;

        while (end > 1 && path[end - 1] == '/')
                end--;
        for (begin = end; begin > 0 && path[begin - 1] != '/';)
                begin--;
        len = without(path + begin, end - begin, compressions, ELEMENTSOF(compressions));
        len = without(path + begin, len, formats, ELEMENTSOF(formats));
        while (len > 0 && (path[begin] == '.' || path[begin] == '-' || !is_allowed(path[begin]))) {
                begin++;
                len--;
        }
        len = MIN(len, (size_t)NAME_MAX_LEN);
        name = len > 0 ? strndup(path + begin, len) : strdup("image");
        for (char *c = name; c && *c; c++)
                if (!is_allowed(*c))
                        *c = '-';
        return name;
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
