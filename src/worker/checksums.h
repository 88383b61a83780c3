/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Lists of digests as publishers of images write them: "HEX  NAME" or "HEX *NAME" (Debian, Ubuntu),
 * "SHA256 (NAME) = HEX" (Fedora, the BSDs), or a digest alone. A signature around it is passed over: what
 * vouches for the list is the connection over which it came. */

#include "util/error.h"

#define CHECKSUMS_SIZE_MAX MIB
#define SHA256_HEX_SIZE 64
#define SHA512_HEX_SIZE 128

typedef struct Checksums {
        char sha256[SHA256_HEX_SIZE + 1]; /* lower case; empty: not known */
        char sha512[SHA512_HEX_SIZE + 1];
} Checksums;

/* Takes a digest of that many digits at s, in lower case; false if there is none. */
bool checksum_parse_hex(const char *s, size_t digits, char *ret);

/* Finds what the list says about the file `name`. ERROR_DIGEST_MISMATCH: nothing, or different things. */
int checksums_find(const char *text, size_t len, const char *name, Checksums *ret, Error **reterr);
