/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "key-pair.h"
#include "ssh-key.h"
#include "util/test.h"

#define ED25519 "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOsMYh62/wSGUQ256dqeIYa5AHbcAPzWYH+/cx/jvhtD"
#define NISTP256                                                                           \
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLhrv1Oh" \
        "0W6rcyicoF6BSn/wojnCQ1N4tf/QovK+jcRefy9j42EmIdMm+VOl0625REevmbY6K1fJ9CHc8NwHQtk="
#define NISTP384                                                                           \
        "ecdsa-sha2-nistp384 AAAAE2VjZHNhLXNoYTItbmlzdHAzODQAAAAIbmlzdHAzODQAAABhBBExMggl" \
        "8v9YIwDd+zZ8zFf+iVXP9LIcDY+LDeLVUnH6srQ/vqEei83NIqubsnDEUpDb1ll2lLQf7MrVWOcRvbUJ" \
        "76vwy2YnDVrWU0EWCVHApOK06fiKsMjORnmUSS7NrQ=="
#define NISTP521                                                                           \
        "ecdsa-sha2-nistp521 AAAAE2VjZHNhLXNoYTItbmlzdHA1MjEAAAAIbmlzdHA1MjEAAACFBADsdiYX" \
        "YWy9FhvdS9YEszZucsc9T3EEpoRSiy1cITNxc/LgnMuADIPaNO34yMJJgCf5/SJR+0YNw0Lj51eLN7M+" \
        "PgGhEYmuUciOR2WoDrMd+j1OZmWrmGGvbgwct9WtL9nLsdd8kGX1VV+7PmO0+hQnpnBY5ba4q3Ok//3x" \
        "g+3GlzhbQQ=="
#define RSA_1024                                                                           \
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQDo6fyZbbsY2pUiO80bSOFTLqzep/Uis9EtvilgbuCr" \
        "26kehUwTjUpfv5t1mjzCU3n2L/xdSTRsy9EfGzaEv35EgWrqZGpuTTtinFLwcp73xuqt0ivHkNAqfpg9" \
        "ZcHPsO/Y3/HhnlT6Ngh6nxfZlfSE6UoVxKtlC9KjqdqWYYG9aw=="
#define SK_ED25519                                                                         \
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAABAgMEB" \
        "QYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fAAAABHNzaDo="
#define SK_NISTP256                                                                        \
        "sk-ecdsa-sha2-nistp256@openssh.com AAAAInNrLWVjZHNhLXNoYTItbmlzdHAyNTZAb3BlbnNza" \
        "C5jb20AAAAIbmlzdHAyNTYAAABBBAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJ" \
        "icoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8AAAAEc3NoOg=="
#define RSA_512                                                                            \
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQQCAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAADA5"
#define RSA_NEGATIVE                                                                       \
        "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAQIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" \
        "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAMDk="
#define NISTP256_STRAY_BITS                                                                \
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBLhrv1Oh" \
        "0W6rcyicoF6BSn/wojnCQ1N4tf/QovK+jcRefy9j42EmIdMm+VOl0625REevmbY6K1fJ9CHc8NwHQtl="
#define NISTP256_WRONG_CURVE                                                               \
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAzODQAAABBBAABAgME" \
        "BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
#define NISTP256_COMPRESSED                                                                \
        "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBAgABAgME" \
        "BQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4fICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8="
#define ED25519_SHORT "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAHwABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4="
#define ED25519_TRAILING                                                                   \
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f" \
        "eA=="
#define ED25519_AS_RSA "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
#define ED25519_HUGE_LENGTH \
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5/////wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
#define SK_WITHOUT_APPLICATION                                                             \
        "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIAABAgMEB" \
        "QYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"

static void expect(const char *text, ...) {
        _cleanup_error_ Error *e = NULL;
        _cleanup_strv_ char **keys = NULL;
        const char *key;
        size_t n = 0;
        va_list ap;

        if (ssh_key_parse(text, &keys, &e) < 0)
                TEST_FAIL("refused: %s", error_message(e));
        va_start(ap, text);
        for (; (key = va_arg(ap, const char *)); n++) {
                CHECK(n < strv_length(keys));
                CHECK_STREQ(keys[n], key);
        }
        va_end(ap);
        CHECK_EQ(strv_length(keys), n);
}

static void test_taken(void) {
        expect(ED25519 " me@host\n", ED25519 " me@host", NULL);
        expect(ED25519, ED25519, NULL);
        expect(NISTP256, NISTP256, NULL);
        expect(NISTP384, NISTP384, NULL);
        expect(NISTP521, NISTP521, NULL);
        expect(RSA_1024, RSA_1024, NULL);
        expect(SK_ED25519, SK_ED25519, NULL);
        expect(SK_NISTP256, SK_NISTP256, NULL);
        /* as editors on other systems leave it */
        expect("  \t" ED25519 "  J\xc3\xb6rg's \"laptop\" #2 \r\n\r\n",
                        ED25519 " J\xc3\xb6rg's \"laptop\" #2", NULL);
        expect("# mine\n\n" ED25519 " a\n  # yours\n" NISTP256 " b\n", ED25519 " a", NISTP256 " b", NULL);
}

static void expect_refused(const char *text, const char *words) {
        _cleanup_error_ Error *e = NULL;
        _cleanup_strv_ char **keys = NULL;

        CHECK_EQ(ssh_key_parse(text, &keys, &e), -error_code_errno(ERROR_INVALID_KEY));
        CHECK_EQ(error_code(e), ERROR_INVALID_KEY);
        CHECK(!keys);
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
        CHECK(!strstr(error_message(e), "c2VjcmV0"));
}

static void test_refused(void) {
        expect_refused("", "empty");
        expect_refused("\n# nothing\n\r\n", "empty");
        expect_refused("hello", "Line 1 of the public key does not begin with a type of key");
        expect_refused("ssh-ed25519", "Line 1 of the public key is damaged");
        expect_refused("ssh-ed25519 AAAA", "damaged");
        expect_refused("ssh-ed25519 ====", "damaged");
        expect_refused(ED25519 "\n\nssh-ed25519 !!!!", "Line 3");
        expect_refused(ED25519_SHORT, "damaged");
        expect_refused(ED25519_TRAILING, "damaged");
        expect_refused(ED25519_HUGE_LENGTH, "damaged");
        expect_refused(ED25519_AS_RSA, "another type");
        expect_refused(RSA_512, "fewer than 1024 bits");
        expect_refused(RSA_NEGATIVE, "damaged");
        expect_refused(NISTP256_STRAY_BITS, "no base64");
        expect_refused(NISTP256_WRONG_CURVE, "damaged");
        expect_refused(NISTP256_COMPRESSED, "damaged");
        expect_refused(SK_WITHOUT_APPLICATION, "damaged");
        expect_refused("ssh-dss AAAA", "DSA");
        expect_refused("ssh-ed25519-cert-v01@openssh.com AAAA", "certificate");
        expect_refused("command=\"rm -rf /\" " ED25519, "options");
        expect_refused("restrict,from=\"10.0.0.0/8\" " ED25519, "options");
        expect_refused(ED25519 " a\x1b[31mb", "control characters");
        expect_refused(ED25519 " a\rb", "control characters");
        expect_refused(ED25519 " a\xc2\x9b"
                               "31mb",
                        "control characters");
}

/* Of what could be a secret nothing comes back. */
static void test_wrong_files(void) {
        expect_refused("-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n-----END OPENSSH PRIVATE KEY-----\n",
                        "private key");
        expect_refused("-----BEGIN RSA PRIVATE KEY-----\nc2VjcmV0\n", "private key");
        expect_refused("-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n", "private key");
        expect_refused("\n\n -----BEGIN ENCRYPTED PRIVATE KEY-----\nc2VjcmV0\n", "private key");
        expect_refused(ED25519 "\n-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n", "private key");
        expect_refused("PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\nc2VjcmV0\n", "PuTTY");
        expect_refused("---- BEGIN SSH2 PUBLIC KEY ----\nc2VjcmV0\n", "ssh-keygen -i -f");
        expect_refused("-----BEGIN PUBLIC KEY-----\nc2VjcmV0\n", "ssh-keygen -i -m PKCS8");
        expect_refused("c2VjcmV0\n", "does not begin");
}

static void test_too_long(void) {
        _cleanup_free_ char *text = malloc(SSH_KEY_TEXT_MAX + 2);

        CHECK(text);
        memset(text, '#', SSH_KEY_TEXT_MAX + 1);
        text[SSH_KEY_TEXT_MAX + 1] = '\0';
        expect_refused(text, "64 KiB");
        text[SSH_KEY_TEXT_MAX] = '\0';
        expect_refused(text, "empty");
}

/* ssh-keygen is asked about the private half in test-prepare.py. */
static void test_generate(void) {
        KeyPair one = {}, two = {};
        _cleanup_error_ Error *e = NULL;

        CHECK_EQ(key_pair_generate("vmctl:web", &one, &e), 0);
        CHECK_EQ(key_pair_generate("vmctl:web", &two, &e), 0);
        CHECK(!streq(one.public_line, two.public_line));
        CHECK(!streq(one.private_file, two.private_file));
        expect(one.public_line, one.public_line, NULL);
        CHECK(strstr(one.public_line, " vmctl:web"));
        expect_refused(one.private_file, "private key");
        for (const char *p = one.private_file; *p; p = strchr(p, '\n') + 1)
                CHECK(strcspn(p, "\n") <= 70);
        key_pair_done(&one);
        key_pair_done(&two);
        for (size_t i = 0; i < sizeof(one); i++)
                CHECK_EQ(((const char *)&one)[i], 0);
}

static void test_comment(void) {
        char comment[KEY_PAIR_COMMENT_MAX + 2] = {};
        _cleanup_key_pair_ KeyPair pair = {};

        for (size_t n = 0; n <= KEY_PAIR_COMMENT_MAX; n++) { /* each padding */
                CHECK_EQ(key_pair_generate(comment, &pair, NULL), 0);
                comment[n] = 'x';
        }
        CHECK_EQ(key_pair_generate(comment, &pair, NULL), -EINVAL);
        CHECK_EQ(key_pair_generate("a\nssh-rsa b", &pair, NULL), -EINVAL);
}

int main(void) {
        test_taken();
        test_refused();
        test_wrong_files();
        test_too_long();
        test_generate();
        test_comment();
        return 0;
}
