/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The checksum of a document on disk. The document stays plain JSON, whose last line but one is
 *     "checksum": "crc32:0123abcd"
 * over all bytes before that line. What was changed by hand is taken when it says "checksum": "none", which
 * no flipped bit can make of the other; the next write puts a checksum there again. */

#include "json/json.h"

/* text: a JSON object that is not empty and has no "checksum", as json_writer_finish() gives it. *ret is the
 * caller's to free. -EINVAL: no such object. */
int record_seal(const char *text, size_t len, char **ret, size_t *ret_len);

/* Parses a document and checks that it is whole. It must have a "version"; those below `sealed_since` may be
 * without a checksum. -EBADMSG, -EFBIG, -ENOMEM; the error says what is wrong, and what to do about a
 * checksum that does not match. */
int record_unseal(const char *text, size_t len, size_t size_max, unsigned sealed_since, Json **ret,
                Error **reterr);
