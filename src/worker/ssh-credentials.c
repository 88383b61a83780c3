/* SPDX-License-Identifier: GPL-2.0-or-later */
/* OpenSSH's own format (PROTOCOL.key): base64 of a magic string, cipher, KDF and its options, the number of
 * keys and the public key, whose first string is its type. What follows, the private part, is not looked at.
 */
#include <endian.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "ssh-credentials.h"
#include "ssh-key.h"
#include "util/string-util.h"

#define OPENSSH_BEGIN "-----BEGIN OPENSSH PRIVATE KEY-----"
#define OPENSSH_END "-----END OPENSSH PRIVATE KEY-----"
#define OPENSSH_MAGIC "openssh-key-v1" /* and a NUL */

static int refuse(Error **reterr, const char *why) {
        return error_set(reterr, ERROR_INVALID_KEY, "The private key %s", why);
}

static int refuse_rsa(Error **reterr) {
        return refuse(reterr,
                        "is an RSA key, with which we cannot sign as today's sshd demands it: use an "
                        "Ed25519 or "
                        "ECDSA key");
}

static int refuse_encrypted(Error **reterr) {
        return refuse(reterr, "is protected by a passphrase, which there is nobody to ask for");
}

typedef struct Reader {
        const unsigned char *data;
        size_t len;
} Reader;

static bool take_string(Reader *r, Reader *ret) {
        uint32_t n;

        if (r->len < sizeof(n))
                return false;
        memcpy(&n, r->data, sizeof(n));
        n = be32toh(n);
        if (n > r->len - sizeof(n))
                return false;
        *ret = (Reader){ r->data + sizeof(n), n };
        r->data += sizeof(n) + n;
        r->len -= sizeof(n) + n;
        return true;
}

static bool reader_is(const Reader *r, const char *s) {
        return r->len == strlen(s) && memcmp(r->data, s, r->len) == 0;
}

static int check_openssh(Reader r, Error **reterr) {
        static const char *const usable[] = {
                "ssh-ed25519",
                "ecdsa-sha2-nistp256",
                "ecdsa-sha2-nistp384",
                "ecdsa-sha2-nistp521",
        };
        Reader cipher, kdf, options, key, type;

        if (r.len < sizeof(OPENSSH_MAGIC) || memcmp(r.data, OPENSSH_MAGIC, sizeof(OPENSSH_MAGIC)) != 0)
                return refuse(reterr, "is damaged");
        r.data += sizeof(OPENSSH_MAGIC);
        r.len -= sizeof(OPENSSH_MAGIC);
        if (!take_string(&r, &cipher) || !take_string(&r, &kdf) || !take_string(&r, &options) || r.len < 4)
                return refuse(reterr, "is damaged");
        r.data += 4; /* the number of keys: always 1 */
        r.len -= 4;
        if (!take_string(&r, &key) || !take_string(&key, &type))
                return refuse(reterr, "is damaged");
        if (reader_is(&type, "ssh-rsa"))
                return refuse_rsa(reterr);
        if (!reader_is(&cipher, "none"))
                return refuse_encrypted(reterr);
        for (size_t i = 0; i < ELEMENTSOF(usable); i++)
                if (reader_is(&type, usable[i]))
                        return 0;
        return refuse(reterr, "is of a kind that cannot be used: use an Ed25519 or ECDSA key");
}

static void encode_ctx_freep(EVP_ENCODE_CTX **c) {
        EVP_ENCODE_CTX_free(*c);
}

static int decode_openssh(const char *body, size_t len, Error **reterr) {
        _cleanup_(encode_ctx_freep) EVP_ENCODE_CTX *c = EVP_ENCODE_CTX_new();
        unsigned char *data = malloc(len + 1);
        int n = 0, rest = 0, r;

        if (!c || !data) {
                free(data);
                return error_set_errno(reterr, -ENOMEM, "Failed to read the private key");
        }
        EVP_DecodeInit(c);
        if (EVP_DecodeUpdate(c, data, &n, (const unsigned char *)body, (int)len) < 0 ||
                        EVP_DecodeFinal(c, data + n, &rest) < 0)
                r = refuse(reterr, "is damaged");
        else
                r = check_openssh((Reader){ data, (size_t)(n + rest) }, reterr);
        OPENSSL_cleanse(data, len + 1);
        free(data);
        return r;
}

static int no_passphrase(char *buffer, int size, int rwflag, void *userdata) {
        return -1;
}

static int check_pem(const char *text, size_t len, Error **reterr) {
        BIO *bio = BIO_new_mem_buf(text, (int)len);
        EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
        int type = key ? EVP_PKEY_get_base_id(key) : EVP_PKEY_NONE;

        EVP_PKEY_free(key);
        BIO_free(bio);
        if (type == EVP_PKEY_RSA)
                return refuse_rsa(reterr);
        if (type == EVP_PKEY_ED25519 || type == EVP_PKEY_EC)
                return 0;
        if (key)
                return refuse(reterr, "is of a kind that cannot be used: use an Ed25519 or ECDSA key");
        return strstr(text, "ENCRYPTED") ? refuse_encrypted(reterr)
                                         : refuse(reterr, "is in no format that we know");
}

int ssh_private_key_check(const char *text, size_t len, Error **reterr) {
        const char *begin = strstr(text, OPENSSH_BEGIN), *end = begin ? strstr(begin, OPENSSH_END) : NULL;

        if (strlen(text) != len)
                return refuse(reterr, "is damaged");
        if (!begin)
                return check_pem(text, len, reterr);
        if (!end)
                return refuse(reterr, "is damaged");
        begin += strlen(OPENSSH_BEGIN);
        return decode_openssh(begin, (size_t)(end - begin), reterr);
}

/* Where in a line the key begins: behind the host names, if there are any. Its comment is left out. */
static char *find_key(const char *line) {
        const char *p = line;

        while (*p) {
                size_t word = strcspn(p, " \t"), space = strspn(p + word, " \t"),
                       next = strcspn(p + word + space, " \t");

                if ((startswith(p, "ssh-") || startswith(p, "ecdsa-") || startswith(p, "sk-")) && next > 0)
                        return strf("%.*s %.*s", (int)word, p, (int)next, p + word + space);
                p += word + space;
        }
        return NULL;
}

int ssh_known_host_parse(const char *text, char ***ret, Error **reterr) {
        _cleanup_strv_ char **keys = NULL;
        _cleanup_free_ char *copy = strdup(text);
        bool blank = true;
        char *save = NULL;

        if (!copy)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the known host keys");
        for (char *line = strtok_r(copy, "\r\n", &save); line; line = strtok_r(NULL, "\r\n", &save)) {
                _cleanup_free_ char *key = NULL;
                _cleanup_strv_ char **parsed = NULL;

                line += strspn(line, " \t");
                if (*line == '#' || *line == '\0')
                        continue;
                blank = false;
                if (*line == '@') /* revoked, or of an authority: no host's key */
                        continue;
                key = find_key(line);
                if (!key || ssh_key_parse(key, &parsed, NULL) < 0)
                        continue;
                if (strv_extend(&keys, parsed[0]) < 0)
                        return error_set_errno(reterr, -ENOMEM, "Failed to read the known host keys");
        }
        if (!keys && !blank)
                return error_set(reterr, ERROR_INVALID_KEY,
                                "The known host keys hold no key that can be read");
        *ret = TAKE_PTR(keys);
        return 0;
}
