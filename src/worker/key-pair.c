/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The private key's format is OpenSSH's PROTOCOL.key: a blob of length-prefixed strings, in base64 between
 * two lines of dashes. Everything is of a bounded size, so all of it lives in arrays that are wiped at the
 * end. */
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>

#include "key-pair.h"

#define KEY_TYPE "ssh-ed25519"
#define ED25519_SIZE 32
#define BASE64_COLUMNS 70
#define CIPHER_BLOCK 8 /* what the cipher "none" counts as */

typedef struct Blob {
        uint8_t data[512];
        size_t len;
} Blob;

static void blob_done(Blob *b) {
        OPENSSL_cleanse(b, sizeof(*b));
}
#define _cleanup_blob_ _cleanup_(blob_done)

void key_pair_done(KeyPair *p) {
        OPENSSL_cleanse(p, sizeof(*p));
}

static void put(Blob *b, const void *data, size_t len) {
        assert(len <= sizeof(b->data) - b->len); /* nothing here depends on input but the bounded comment */
        memcpy(b->data + b->len, data, len);
        b->len += len;
}

static void put_u32(Blob *b, uint32_t v) {
        v = htobe32(v);
        put(b, &v, sizeof(v));
}

static void put_string(Blob *b, const void *data, size_t len) {
        put_u32(b, (uint32_t)len);
        put(b, data, len);
}

static void put_public(Blob *b, const uint8_t public[ED25519_SIZE]) {
        put_string(b, KEY_TYPE, strlen(KEY_TYPE));
        put_string(b, public, ED25519_SIZE);
}

/* The part that a passphrase would encrypt; the number that stands twice would tell whether it was right. */
static void put_secret_part(Blob *b, uint32_t check, const uint8_t public[ED25519_SIZE],
                const uint8_t secret[ED25519_SIZE], const char *comment) {
        put_u32(b, check);
        put_u32(b, check);
        put_public(b, public);
        put_u32(b, 2 * ED25519_SIZE);
        put(b, secret, ED25519_SIZE);
        put(b, public, ED25519_SIZE);
        put_string(b, comment, strlen(comment));
        for (uint8_t i = 1; b->len % CIPHER_BLOCK != 0; i++)
                put(b, &i, 1);
}

static void put_private(Blob *b, const Blob *public_blob, const Blob *secret_part) {
        static const char magic[] = "openssh-key-v1"; /* with its NUL */

        put(b, magic, sizeof(magic));
        put_string(b, "none", 4); /* cipher */
        put_string(b, "none", 4); /* key derivation, and its options */
        put_string(b, "", 0);
        put_u32(b, 1); /* keys */
        put_string(b, public_blob->data, public_blob->len);
        put_string(b, secret_part->data, secret_part->len);
}

static void write_private_file(const Blob *b, char *out, size_t size) {
        char base64[sizeof(b->data) / 3 * 4 + 8];
        size_t n = (size_t)EVP_EncodeBlock((unsigned char *)base64, b->data, (int)b->len), o;

        o = (size_t)snprintf(out, size, "-----BEGIN OPENSSH PRIVATE KEY-----\n");
        for (size_t i = 0; i < n; i += BASE64_COLUMNS)
                o += (size_t)snprintf(out + o, size - o, "%.*s\n", BASE64_COLUMNS, base64 + i);
        o += (size_t)snprintf(out + o, size - o, "-----END OPENSSH PRIVATE KEY-----\n");
        assert(o < size);
        OPENSSL_cleanse(base64, sizeof(base64));
}

static void write_public_line(const Blob *b, const char *comment, char *out, size_t size) {
        char base64[128];

        EVP_EncodeBlock((unsigned char *)base64, b->data, (int)b->len); /* 51 bytes */
        (void)snprintf(out, size, KEY_TYPE " %s %s", base64, comment);
}

static void format_pair(uint32_t check, const uint8_t public[ED25519_SIZE],
                const uint8_t secret[ED25519_SIZE], const char *comment, KeyPair *ret) {
        _cleanup_blob_ Blob public_blob = {}, secret_part = {}, file = {};

        put_public(&public_blob, public);
        put_secret_part(&secret_part, check, public, secret, comment);
        put_private(&file, &public_blob, &secret_part);
        write_public_line(&public_blob, comment, ret->public_line, sizeof(ret->public_line));
        write_private_file(&file, ret->private_file, sizeof(ret->private_file));
}

int key_pair_generate(const char *comment, KeyPair *ret, Error **reterr) {
        uint8_t public[ED25519_SIZE], secret[ED25519_SIZE];
        size_t public_len = sizeof(public);
        EVP_PKEY *key = NULL;
        uint32_t check;
        bool ok;

        if (strlen(comment) > KEY_PAIR_COMMENT_MAX || strchr(comment, '\n'))
                return error_set_errno(reterr, -EINVAL, "Failed to name the SSH key");
        /* An Ed25519 secret key is 32 random bytes. libcrypto's configuration file, which could load
         * anything, and its cleaning up at exit cost time and serve nothing here. */
        ok = OPENSSL_init_crypto(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL) == 1 &&
                        RAND_priv_bytes(secret, sizeof(secret)) == 1 &&
                        RAND_bytes((unsigned char *)&check, sizeof(check)) == 1;
        if (ok)
                key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));
        ok = key && EVP_PKEY_get_raw_public_key(key, public, &public_len) == 1 &&
                        public_len == sizeof(public);
        EVP_PKEY_free(key);
        if (ok)
                format_pair(check, public, secret, comment, ret);
        OPENSSL_cleanse(secret, sizeof(secret));
        return ok ? 0 : error_set(reterr, ERROR_FAILED, "libcrypto failed to make an SSH key");
}
