/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A line is "type base64 comment"; the base64 part is a blob of length-prefixed strings (RFC 4251), of which
 * the first is the type again and the rest depend on it. */
#include <endian.h>
#include <openssl/evp.h>

#include "ssh-key.h"
#include "util/string-util.h"

#define RSA_BITS_MIN 1024 /* sshd's own */
#define RSA_BITS_MAX 16384

typedef struct Blob {
        const uint8_t *data;
        size_t len;
} Blob;

typedef struct KeyType {
        const char *name;
        const char *curve; /* second string of the blob */
        size_t key_size;   /* bytes of the string after it; 0: this is RSA */
        bool has_application;
} KeyType;

static const KeyType key_types[] = {
        { "ssh-ed25519", NULL, 32, false },
        { "ecdsa-sha2-nistp256", "nistp256", 65, false },
        { "ecdsa-sha2-nistp384", "nistp384", 97, false },
        { "ecdsa-sha2-nistp521", "nistp521", 133, false },
        { "ssh-rsa", NULL, 0, false },
        { "sk-ssh-ed25519@openssh.com", NULL, 32, true },
        { "sk-ecdsa-sha2-nistp256@openssh.com", "nistp256", 65, true },
};

static const KeyType *find_type(const char *name, size_t len) {
        for (size_t i = 0; i < ELEMENTSOF(key_types); i++)
                if (strlen(key_types[i].name) == len && memcmp(key_types[i].name, name, len) == 0)
                        return key_types + i;
        return NULL;
}

static bool blob_take(Blob *b, Blob *ret) {
        uint32_t n;

        if (b->len < sizeof(n))
                return false;
        memcpy(&n, b->data, sizeof(n));
        n = be32toh(n);
        if (n > b->len - sizeof(n))
                return false;
        *ret = (Blob){ b->data + sizeof(n), n };
        b->data += sizeof(n) + n;
        b->len -= sizeof(n) + n;
        return true;
}

static bool blob_is(const Blob *b, const char *s) {
        return b->len == strlen(s) && memcmp(b->data, s, b->len) == 0;
}

/* Of a positive number in the shortest form, else 0. */
static size_t mpint_bits(const Blob *b) {
        size_t skip = b->len > 0 && b->data[0] == 0;

        if (b->len == skip || (skip ? !(b->data[1] & 0x80) : b->data[0] & 0x80))
                return 0;
        return (b->len - skip) * 8 - (size_t)(__builtin_clz(b->data[skip]) - 24);
}

/* Returns what is wrong with it, NULL if nothing. */
static const char *check_rsa(Blob *blob) {
        Blob e, n;
        size_t bits;

        if (!blob_take(blob, &e) || !blob_take(blob, &n) || blob->len > 0)
                return "is damaged";
        bits = mpint_bits(&n);
        if (bits == 0 || mpint_bits(&e) == 0)
                return "is damaged";
        if (bits < RSA_BITS_MIN)
                return "is an RSA key of fewer than 1024 bits, which no current sshd takes";
        return bits > RSA_BITS_MAX ? "is an RSA key of more than 16384 bits" : NULL;
}

static const char *check_blob(const KeyType *type, Blob blob) {
        Blob s;

        if (!blob_take(&blob, &s))
                return "is damaged";
        if (!blob_is(&s, type->name))
                return "has a key of another type than its first word says";
        if (type->key_size == 0)
                return check_rsa(&blob);
        if (type->curve && (!blob_take(&blob, &s) || !blob_is(&s, type->curve)))
                return "is damaged";
        if (!blob_take(&blob, &s) || s.len != type->key_size || (type->curve && s.data[0] != 4))
                return "is damaged"; /* 4: an uncompressed point, the only form in use */
        if (type->has_application && !blob_take(&blob, &s))
                return "is damaged";
        return blob.len > 0 ? "is damaged" : NULL;
}

/* Encoding it again finds everything that EVP_DecodeBlock() overlooks: white space, stray bits. */
static uint8_t *decode_base64(const char *text, size_t len, size_t *ret_len) {
        _cleanup_free_ uint8_t *data = malloc(len / 4 * 3 + 1);
        _cleanup_free_ char *again = malloc(len + 1);
        int n;

        if (!data || !again || len == 0 || len % 4 != 0 || len > SSH_KEY_TEXT_MAX)
                return NULL;
        n = EVP_DecodeBlock(data, (const unsigned char *)text, (int)len);
        if (n < 0)
                return NULL;
        n -= (text[len - 1] == '=') + (text[len - 2] == '=');
        if (EVP_EncodeBlock((unsigned char *)again, data, n) != (int)len || memcmp(again, text, len) != 0)
                return NULL;
        *ret_len = (size_t)n;
        return TAKE_PTR(data);
}

static const char *check_first_word(const char *line, size_t len) {
        if (memmem(line, len, "-cert-v0", 8))
                return "is a certificate, not a key";
        if (len == strlen("ssh-dss") && memcmp(line, "ssh-dss", len) == 0)
                return "is a DSA key, which no current sshd takes";
        for (size_t i = 0; i < ELEMENTSOF(key_types); i++)
                if (strstr(line, key_types[i].name))
                        return "has options before the key, which are not taken: begin with the key's type";
        return "does not begin with a type of key, as 'ssh-ed25519'";
}

static int check_line(const char *line, char ***keys, const char **ret_problem) {
        size_t type_len = strcspn(line, " \t"), start, len, blob_len;
        _cleanup_free_ uint8_t *blob = NULL;
        const KeyType *type = find_type(line, type_len);
        const char *comment;

        if (!type) {
                *ret_problem = check_first_word(line, type_len);
                return 0;
        }
        start = type_len + strspn(line + type_len, " \t");
        len = strcspn(line + start, " \t");
        blob = decode_base64(line + start, len, &blob_len);
        *ret_problem = blob ? check_blob(type, (Blob){ blob, blob_len })
                            : "is damaged: its key is no base64";
        if (*ret_problem)
                return 0;
        comment = line + start + len + strspn(line + start + len, " \t");
        return strv_extendf(keys, "%s %.*s%s%s", type->name, (int)len, line + start, *comment ? " " : "",
                        comment);
}

/* Said before anything else, since it is the mistake that matters. */
static const char *find_wrong_file(const char *text) {
        static const struct {
                const char *mark;
                const char *problem;
        } table[] = {
                { "PRIVATE KEY-----",
                                "This is a private key, which must never leave its owner: give the public "
                                "key beside it, the file that ends in .pub" },
                { "PuTTY-User-Key-File-",
                                "This is a private key of PuTTY's, which must never leave its owner: export "
                                "the public key in OpenSSH's format" },
                { "---- BEGIN SSH2 PUBLIC KEY",
                                "This public key is not in OpenSSH's format: convert it with 'ssh-keygen -i "
                                "-f FILE'" },
                { "-----BEGIN ",
                                "This is a PEM file, not a public key in OpenSSH's format: 'ssh-keygen -i "
                                "-m PKCS8 -f FILE' converts a public key" },
        };

        for (size_t i = 0; i < ELEMENTSOF(table); i++)
                if (strstr(text, table[i].mark))
                        return table[i].problem;
        return NULL;
}

/* Takes \r\n as a line's end, and tabs as white space. C1 controls move a terminal's cursor too. */
static bool has_control(const char *line) {
        for (const unsigned char *p = (const unsigned char *)line; *p; p++)
                if ((*p < ' ' && *p != '\t') || *p == 0x7f || (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0))
                        return true;
        return false;
}

static int parse_line(char *line, unsigned number, char ***keys, Error **reterr) {
        const char *problem = NULL;
        size_t len = strlen(line);
        int r;

        if (len > 0 && line[len - 1] == '\r')
                line[--len] = '\0';
        while (len > 0 && (line[len - 1] == ' ' || line[len - 1] == '\t'))
                line[--len] = '\0';
        line += strspn(line, " \t");
        if (*line == '\0' || *line == '#')
                return 0;
        if (has_control(line))
                return error_set(reterr, ERROR_INVALID_KEY,
                                "Line %u of the public key holds control characters", number);
        r = check_line(line, keys, &problem);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to read the public key");
        if (problem)
                return error_set(reterr, ERROR_INVALID_KEY, "Line %u of the public key %s", number, problem);
        return 0;
}

int ssh_key_parse(const char *text, char ***ret_keys, Error **reterr) {
        const char *problem = find_wrong_file(text);
        _cleanup_strv_ char **keys = NULL;
        _cleanup_free_ char *copy = NULL;
        char *rest;
        int r;

        if (problem)
                return error_set(reterr, ERROR_INVALID_KEY, "%s", problem);
        if (strlen(text) > SSH_KEY_TEXT_MAX)
                return error_set(reterr, ERROR_INVALID_KEY, "The public key is longer than 64 KiB");
        rest = copy = strdup(text);
        if (!copy)
                return error_set_errno(reterr, -ENOMEM, "Failed to read the public key");
        for (unsigned number = 1; rest; number++) {
                r = parse_line(strsep(&rest, "\n"), number, &keys, reterr);
                if (r < 0)
                        return r;
        }
        if (!keys)
                return error_set(reterr, ERROR_INVALID_KEY, "The public key is empty");
        *ret_keys = TAKE_PTR(keys);
        return 0;
}
