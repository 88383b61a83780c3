/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "xdg.h"
#include "string-util.h"

/* An unset, empty or relative variable counts as its default. */
char *xdg_folder(const char *variable, const char *fallback) {
        const char *v = getenv(variable), *home = getenv("HOME");

        if (v && v[0] == '/')
                return strf("%s/vmctl", v);
        return home && fallback ? strf("%s/%s/vmctl", home, fallback) : NULL;
}
