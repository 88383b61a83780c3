/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC-32 finds each flipped bit, each pair of them in a document of this size, and each burst of 32; nobody
 * who means harm can write here. */
#include <inttypes.h>
#include <stdio.h>
#include <zlib.h>

#include "record-seal.h"
#include "util/string-util.h"

#define SEAL_FORMAT "  \"checksum\": \"crc32:%08lx\"\n}\n"
#define SEAL_SIZE (sizeof("  \"checksum\": \"crc32:01234567\"\n}\n") - 1)
#define SEAL_NONE "none"

static unsigned long checksum(const char *text, size_t len) {
        return crc32_z(0, (const unsigned char *)text, len);
}

static size_t trim(const char *text, size_t len) {
        while (len > 0 && memchr(" \t\r\n", text[len - 1], 4))
                len--;
        return len;
}

int record_seal(const char *text, size_t len, char **ret, size_t *ret_len) {
        char *sealed;

        len = trim(text, len);
        if (len == 0 || text[len - 1] != '}')
                return -EINVAL;
        len = trim(text, len - 1);
        if (len <= 1) /* "{" */
                return -EINVAL;
        sealed = malloc(len + strlen(",\n") + SEAL_SIZE + 1);
        if (!sealed)
                return -ENOMEM;
        memcpy(mempcpy(sealed, text, len), ",\n", 2);
        len += 2;
        sprintf(sealed + len, SEAL_FORMAT, checksum(sealed, len));
        *ret = sealed;
        *ret_len = len + SEAL_SIZE;
        return 0;
}

static bool is_sealed(const char *text, size_t len) {
        char seal[SEAL_SIZE + 1];

        if (len < SEAL_SIZE)
                return false;
        snprintf(seal, sizeof(seal), SEAL_FORMAT, checksum(text, len - SEAL_SIZE));
        return memcmp(text + len - SEAL_SIZE, seal, SEAL_SIZE) == 0;
}

static int check_unsealed(const Json *doc, unsigned sealed_since, Error **reterr) {
        const Json *member = json_get(doc, "checksum");
        uint64_t version;

        if (member && streq_ptr(json_string(member), SEAL_NONE))
                return 0;
        if (json_get_unsigned(doc, "version", &version) < 0 || version == 0)
                return error_set(reterr, ERROR_IO, "'version' is missing or not valid"), -EBADMSG;
        /* Of what comes later only that it has a version is known. */
        if (version > sealed_since)
                return error_set(reterr, ERROR_IO,
                                       "It has version %" PRIu64 ", this service knows up to %u: it was "
                                       "written by a later one, or is damaged",
                                       version, sealed_since),
                       -EBADMSG;
        if (member)
                return error_set(reterr, ERROR_IO,
                                       "Its checksum does not match: it is damaged, or was changed by hand. "
                                       "Whoever changed it writes \"checksum\": \"" SEAL_NONE "\" there"),
                       -EBADMSG;
        if (version == sealed_since)
                return error_set(reterr, ERROR_IO, "It has no checksum"), -EBADMSG;
        return 0;
}

int record_unseal(const char *text, size_t len, size_t size_max, unsigned sealed_since, Json **ret,
                Error **reterr) {
        const JsonLimits limits = { .max_size = size_max };
        _cleanup_json_ Json *doc = NULL;
        int r;

        r = json_parse(text, len, &limits, &doc, reterr);
        if (r < 0)
                return r;
        r = is_sealed(text, len) ? 0 : check_unsealed(doc, sealed_since, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(doc);
        return 0;
}
