/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's Documentation/filesystems/fsverity.rst: every block of the file is hashed, its last one
 * padded with zeros; the hashes, packed into blocks, are hashed the same way, until one hash is left. The
 * file's digest is the hash of a descriptor with that root hash and the file's size.
 *
 * levels[0] collects data, levels[i] the hashes of levels[i - 1]. A full block stays where it is until
 * something follows it, since the only block of a level is the top of the tree. */
#include <endian.h>
#include <openssl/evp.h>

#include "content-digest.h"
#include "util/string-util.h"

#define HASHES_PER_BLOCK (CONTENT_DIGEST_BLOCK / CONTENT_DIGEST_SIZE)
#define LEVELS \
        10 /* INT64_MAX bytes are 2^51 blocks, and each level has 2^7 times fewer than the one below */

typedef struct Level {
        uint8_t block[CONTENT_DIGEST_BLOCK];
        size_t fill;
        uint8_t zero_hash[CONTENT_DIGEST_SIZE]; /* of a block here below which there are zeros alone */
} Level;

struct ContentDigest {
        EVP_MD_CTX *context;
        uint64_t size;
        Level levels[LEVELS];
};

/* struct fsverity_descriptor, without a signature. */
typedef struct Descriptor {
        uint8_t version;
        uint8_t hash_algorithm;
        uint8_t log_blocksize;
        uint8_t salt_size;
        uint32_t signature_size;
        uint64_t data_size; /* little endian */
        uint8_t root_hash[64];
        uint8_t salt[32];
        uint8_t reserved[144];
} Descriptor;
_Static_assert(sizeof(Descriptor) == 256, "the descriptor has 256 bytes");

static int hash(ContentDigest *d, const void *data, size_t len, uint8_t ret[static CONTENT_DIGEST_SIZE]) {
        /* Without a type: as last time, which spares OpenSSL all preparations. */
        if (EVP_DigestInit_ex2(d->context, NULL, NULL) != 1 ||
                        EVP_DigestUpdate(d->context, data, len) != 1 ||
                        EVP_DigestFinal_ex(d->context, ret, NULL) != 1)
                return -ENOMEM; /* nothing else can fail in a hash */
        return 0;
}

static int prepare_zero_hashes(ContentDigest *d) {
        uint8_t block[CONTENT_DIGEST_BLOCK] = {};

        for (size_t i = 0; i < LEVELS; i++) {
                uint8_t *h = d->levels[i].zero_hash;
                int r;

                r = hash(d, block, sizeof(block), h);
                if (r < 0)
                        return r;
                for (size_t j = 0; j < HASHES_PER_BLOCK; j++)
                        memcpy(block + j * CONTENT_DIGEST_SIZE, h, CONTENT_DIGEST_SIZE);
        }
        return 0;
}

int content_digest_new(ContentDigest **ret) {
        _cleanup_content_digest_ ContentDigest *d = calloc(1, sizeof(ContentDigest));
        int r;

        if (!d)
                return -ENOMEM;
        d->context = EVP_MD_CTX_new();
        if (!d->context || EVP_DigestInit_ex2(d->context, EVP_sha256(), NULL) != 1)
                return -ENOMEM;
        r = prepare_zero_hashes(d);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

ContentDigest *content_digest_free(ContentDigest *d) {
        if (d)
                EVP_MD_CTX_free(d->context);
        free(d);
        return NULL;
}

static int push(ContentDigest *d, size_t level, const uint8_t h[static CONTENT_DIGEST_SIZE]);

/* Pads the block and hands its hash on. */
static int flush(ContentDigest *d, size_t level) {
        Level *l = &d->levels[level];
        uint8_t h[CONTENT_DIGEST_SIZE];
        int r;

        memset(l->block + l->fill, 0, sizeof(l->block) - l->fill);
        l->fill = 0;
        r = hash(d, l->block, sizeof(l->block), h);
        return r < 0 ? r : push(d, level + 1, h);
}

static int push(ContentDigest *d, size_t level, const uint8_t h[static CONTENT_DIGEST_SIZE]) {
        Level *l = &d->levels[level];
        int r;

        if (l->fill == sizeof(l->block)) {
                r = flush(d, level);
                if (r < 0)
                        return r;
        }
        memcpy(l->block + l->fill, h, CONTENT_DIGEST_SIZE);
        l->fill += CONTENT_DIGEST_SIZE;
        return 0;
}

static int add_size(ContentDigest *d, uint64_t len) {
        if (len > INT64_MAX - d->size)
                return -EFBIG;
        d->size += len;
        return 0;
}

/* Less than what is missing from the block stays in it. */
static int update_partial(ContentDigest *d, const void *data, size_t len) {
        Level *l = &d->levels[0];

        if (data)
                memcpy(l->block + l->fill, data, len);
        else
                memset(l->block + l->fill, 0, len);
        l->fill += len;
        return l->fill == sizeof(l->block) ? flush(d, 0) : 0;
}

int content_digest_update(ContentDigest *d, const void *data, size_t len) {
        const uint8_t *p = data;
        int r;

        r = add_size(d, len);
        while (r >= 0 && len > 0) {
                size_t n = MIN(len, CONTENT_DIGEST_BLOCK - d->levels[0].fill);
                uint8_t h[CONTENT_DIGEST_SIZE];

                if (n < CONTENT_DIGEST_BLOCK) {
                        r = update_partial(d, p, n);
                } else {
                        r = hash(d, p, n, h);
                        if (r >= 0)
                                r = push(d, 1, h);
                }
                p += n;
                len -= n;
        }
        return r;
}

/* The highest level at which a whole block of zeros can be added, with the number of file blocks below it:
 * everything beneath has to be empty, or full and then handed on. */
static int find_zero_level(ContentDigest *d, uint64_t n_blocks, size_t *ret_level, uint64_t *ret_span) {
        uint64_t span = 1;
        size_t level = 0;

        while (span * HASHES_PER_BLOCK <= n_blocks) {
                Level *below = &d->levels[level + 1];

                if (below->fill == sizeof(below->block)) {
                        int r = flush(d, level + 1);

                        if (r < 0)
                                return r;
                }
                if (below->fill > 0)
                        break;
                span *= HASHES_PER_BLOCK;
                level++;
        }
        *ret_level = level;
        *ret_span = span;
        return 0;
}

int content_digest_update_zeros(ContentDigest *d, uint64_t len) {
        size_t gap = d->levels[0].fill > 0 ? CONTENT_DIGEST_BLOCK - d->levels[0].fill : 0;
        int r;

        r = add_size(d, len);
        if (r < 0)
                return r;
        if (gap > 0) {
                size_t n = (size_t)MIN(len, (uint64_t)gap);

                r = update_partial(d, NULL, n);
                len -= n;
        }
        while (r >= 0 && len >= CONTENT_DIGEST_BLOCK) {
                size_t level;
                uint64_t span;

                r = find_zero_level(d, len / CONTENT_DIGEST_BLOCK, &level, &span);
                if (r >= 0)
                        r = push(d, level + 1, d->levels[level].zero_hash);
                if (r >= 0)
                        len -= span * CONTENT_DIGEST_BLOCK;
        }
        return r < 0 || len == 0 ? r : update_partial(d, NULL, (size_t)len);
}

static bool is_root(const ContentDigest *d, size_t level) {
        if (d->levels[level].fill != CONTENT_DIGEST_SIZE)
                return false;
        for (size_t i = level + 1; i < LEVELS; i++)
                if (d->levels[i].fill > 0)
                        return false;
        return true;
}

/* An empty file's root hash is all zeros. */
static int find_root(ContentDigest *d, uint8_t ret[static CONTENT_DIGEST_SIZE]) {
        memset(ret, 0, CONTENT_DIGEST_SIZE);
        for (size_t i = 0; i < LEVELS; i++) {
                int r;

                if (i > 0 && is_root(d, i)) {
                        memcpy(ret, d->levels[i].block, CONTENT_DIGEST_SIZE);
                        return 0;
                }
                r = d->levels[i].fill > 0 ? flush(d, i) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

int content_digest_finish(ContentDigest *d, char ret[static CONTENT_DIGEST_TEXT_MAX]) {
        Descriptor descriptor = {
                .version = 1,
                .hash_algorithm = 1, /* FS_VERITY_HASH_ALG_SHA256 */
                .log_blocksize = 12,
                .data_size = htole64(d->size),
        };
        uint8_t h[CONTENT_DIGEST_SIZE];
        int r;

        r = find_root(d, descriptor.root_hash);
        if (r >= 0)
                r = hash(d, &descriptor, sizeof(descriptor), h);
        if (r < 0)
                return r;
        memcpy(ret, "sha256:", 7);
        hex_encode(h, sizeof(h), ret + 7);
        return 0;
}
