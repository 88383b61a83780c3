/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <openssl/sha.h>
#include <stdio.h>
#include <sys/random.h>

#include "boot-loader.h"
#include "util/string-util.h"

#define UUID_SIZE 16

static bool is_hyphen(size_t i) {
        return i == 8 || i == 13 || i == 18 || i == 23;
}

static bool uuid_is_valid(const char *s) {
        if (strlen(s) != 36)
                return false;
        for (size_t i = 0; i < 36; i++)
                if (is_hyphen(i) ? s[i] != '-' : !strchr("0123456789abcdefABCDEF", s[i]))
                        return false;
        return true;
}

static void format_uuid(uint8_t bytes[static UUID_SIZE], char ret[static 37]) {
        char *p = ret;

        bytes[6] = (bytes[6] & 0x0f) | 0x40;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        for (size_t i = 0; i < UUID_SIZE; i++)
                p += sprintf(p, "%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", bytes[i]);
}

static void derive(const char *root, const char *role, char ret[static 37]) {
        uint8_t digest[SHA256_DIGEST_LENGTH];
        char text[64];

        snprintf(text, sizeof(text), "vmctl %s %s", root, role);
        SHA256((const uint8_t *)text, strlen(text), digest);
        format_uuid(digest, ret);
}

int boot_uuids_make(const char *given, BootUuids *ret, Error **reterr) {
        uint8_t random[UUID_SIZE];

        if (given && !uuid_is_valid(given))
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is no UUID", given);
        if (!given && getrandom(random, sizeof(random), 0) != sizeof(random))
                return error_set_errno(reterr, -errno, "Failed to make a UUID");
        if (!given)
                format_uuid(random, ret->root);
        for (size_t i = 0; given && i <= 36; i++) /* lower case, as the kernel and blkid show it */
                ret->root[i] = given[i] >= 'A' && given[i] <= 'F' ? (char)(given[i] + 32) : given[i];
        derive(ret->root, "root", ret->root_partition);
        derive(ret->root, "disk", ret->disk);
        derive(ret->root, "bios", ret->bios);
        derive(ret->root, "esp", ret->esp);
        return 0;
}
