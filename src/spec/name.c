/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "name.h"
#include "util/string-util.h"

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"

bool vm_name_is_valid(const char *name) {
        size_t n = strlen(name);

        return n >= 1 && n <= VM_NAME_MAX && name[0] != '.' && name[0] != '-' &&
                        strspn(name, LETTERS "0123456789-_.") == n;
}

int vm_name_check(const char *name, Error **reterr) {
        _cleanup_free_ char *shown = NULL;

        if (vm_name_is_valid(name))
                return 0;
        shown = string_escape(name, strlen(name), VM_NAME_MAX + 16);
        return error_set(reterr, ERROR_INVALID_NAME, "'%s' is not a valid VM name", shown ?: "");
}
