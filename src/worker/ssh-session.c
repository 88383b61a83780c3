/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

#include "ssh-session.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* A guest that has died under an open connection is noticed after this. It is long, since one that compiles
 * something in emulation may well answer after a minute. */
#define KEEPALIVE_SECONDS 30
#define SILENCE_USEC (4 * KEEPALIVE_SECONDS * USEC_PER_SEC)

/* The exchange of keys takes some 5 KiB. An sshd may send lines before its greeting, without end. */
#define UNAUTHENTICATED_MAX (256 * KIB)

/* SHA-1 and DSA are left out, and with them, as libssh2 1.10 knows no other signatures by it, RSA. */
static const char *const host_key_algorithms[] = {
        "ssh-ed25519",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
};

uint64_t ssh_later(uint64_t from, uint64_t after) {
        return after > USEC_INFINITY - from ? USEC_INFINITY : from + after;
}

/* Rounded up, so that it is over afterwards. */
static int milliseconds_until(uint64_t when) {
        uint64_t now = now_usec(), left = when > now ? when - now : 0;

        return (int)MIN((left + 999) / USEC_PER_MSEC, UINT64_C(3600000));
}

static bool is_readable(int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

int ssh_pause(int cancel_fd, uint64_t until) {
        while (now_usec() < until) {
                struct pollfd p = { .fd = cancel_fd, .events = POLLIN };
                int n = poll(&p, 1, milliseconds_until(until));

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0)
                        return -ECANCELED;
        }
        return 0;
}

void ssh_session_was_busy(SshSession *s) {
        s->heard = now_usec();
}

static int check_end(SshSession *s) {
        uint64_t now = now_usec();

        if (!s->closing && is_readable(s->cancel_fd))
                return -ECANCELED;
        if (now >= s->deadline)
                return -ETIMEDOUT;
        if (s->watched && libssh2_channel_eof(s->watched) > 0)
                return -EPIPE;
        return now - MIN(s->heard, now) >= SILENCE_USEC ? -EHOSTUNREACH : 0;
}

/* Not in the middle of a packet that is half sent: libssh2 takes nothing else then. */
static uint64_t next_keepalive(SshSession *s) {
        int seconds = KEEPALIVE_SECONDS;

        if (s->authenticated &&
                        !(libssh2_session_block_directions(s->session) & LIBSSH2_SESSION_BLOCK_OUTBOUND))
                (void)libssh2_keepalive_send(s->session, &seconds);
        return now_usec() + (uint64_t)MAX(seconds, 1) * USEC_PER_SEC;
}

int ssh_session_wait(SshSession *s) {
        uint64_t until = MIN(next_keepalive(s), s->deadline);
        int directions = libssh2_session_block_directions(s->session), r;
        struct pollfd p[] = {
                { .fd = s->fd, .events = POLLIN },
                { .fd = s->closing ? -1 : s->cancel_fd, .events = POLLIN },
                { .fd = s->extra_fd, .events = POLLIN },
        };

        if (directions & LIBSSH2_SESSION_BLOCK_OUTBOUND)
                p[0].events |= POLLOUT;
        r = check_end(s);
        if (r < 0)
                return r;
        if (poll(p, ELEMENTSOF(p), milliseconds_until(until)) < 0 && errno != EINTR)
                return -errno;
        return check_end(s);
}

/* libssh2 reads on for as long as there is something to read. A guest that never pauses shall not keep it
 * from coming back to us: -EAGAIN makes it do so. */
static LIBSSH2_RECV_FUNC(receive) {
        SshSession *s = *abstract;
        ssize_t n;

        if (check_end(s) < 0)
                return -EAGAIN;
        if (!s->authenticated && s->unauthenticated > UNAUTHENTICATED_MAX)
                return -EPROTO;
        n = recv(socket, buffer, length, flags | MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0)
                return errno == EINTR ? -EAGAIN : -errno;
        if (n > 0)
                s->heard = now_usec();
        if (!s->authenticated)
                s->unauthenticated += (size_t)n;
        return n;
}

static LIBSSH2_SEND_FUNC(transmit) {
        ssize_t n = send(socket, buffer, length, flags | MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
                return errno == EINTR ? -EAGAIN : -errno;
        return n;
}

static bool is_connection_error(int error) {
        static const int errors[] = {
                LIBSSH2_ERROR_SOCKET_NONE,
                LIBSSH2_ERROR_SOCKET_SEND,
                LIBSSH2_ERROR_SOCKET_RECV,
                LIBSSH2_ERROR_SOCKET_DISCONNECT,
                LIBSSH2_ERROR_SOCKET_TIMEOUT,
                LIBSSH2_ERROR_BANNER_RECV,
                LIBSSH2_ERROR_BANNER_SEND,
                LIBSSH2_ERROR_TIMEOUT,
                LIBSSH2_ERROR_CHANNEL_CLOSED,
        };

        for (size_t i = 0; i < ELEMENTSOF(errors); i++)
                if (errors[i] == error)
                        return true;
        return false;
}

static const char *wait_reason(int wait) {
        switch (wait) {
        case -ETIMEDOUT:
                return "it took too long";
        case -EHOSTUNREACH:
                return "the guest does not answer any more";
        case -EPIPE:
                return "the guest's SFTP server has ended";
        default:
                return strerror(-wait);
        }
}

int ssh_session_fail(SshSession *s, int wait, Error **reterr, const char *what) {
        char *text = NULL;
        int error, len = 0;

        if (wait == -ECANCELED) {
                (void)error_set(reterr, ERROR_CANCELED, "%s: canceled", what);
                return -ECANCELED;
        }
        if (wait < 0) {
                (void)error_set(reterr, wait == -ETIMEDOUT ? ERROR_TIMEOUT : ERROR_SSH_FAILED, "%s: %s",
                                what, wait_reason(wait));
                return -EAGAIN;
        }
        error = libssh2_session_last_error(s->session, &text, &len, 0);
        if (is_connection_error(error)) {
                (void)error_set(reterr, ERROR_SSH_FAILED, "%s: the connection was lost", what);
                return -EAGAIN;
        }
        if (error == LIBSSH2_ERROR_ALLOC)
                return error_set_errno(reterr, -ENOMEM, "%s", what);
        return error_set(reterr, ERROR_SSH_FAILED, "%s: %s", what, isempty(text) ? "unknown error" : text);
}

/* The kinds that are known come first, since the guest takes the first that it has. */
static int prefer_known(SshSession *s, char *const *known) {
        _cleanup_free_ char *list = strdup("");

        for (int wanted = 1; wanted >= 0; wanted--)
                for (size_t i = 0; list && i < ELEMENTSOF(host_key_algorithms); i++) {
                        const char *name = host_key_algorithms[i];
                        bool found = false;
                        char *longer;

                        STRV_FOREACH(k, known) {
                                const char *rest = startswith(*k, name);

                                found = found || (rest && *rest == ' ');
                        }
                        if (found != (bool)wanted)
                                continue;
                        longer = strf("%s%s%s", list, *list ? "," : "", name);
                        free(list);
                        list = longer;
                }
        if (!list)
                return -ENOMEM;
        return libssh2_session_method_pref(s->session, LIBSSH2_METHOD_HOSTKEY, list) < 0 ? -ENOMEM : 0;
}

static int digest_key(const void *key, size_t len, char *ret, size_t size) {
        unsigned char digest[SHA256_DIGEST_LENGTH], text[SHA256_DIGEST_LENGTH * 2];
        int n;

        SHA256(key, len, digest);
        n = EVP_EncodeBlock(text, digest, sizeof(digest));
        while (n > 0 && text[n - 1] == '=')
                n--;
        return snprintf(ret, size, "SHA256:%.*s", n, text) < (int)size ? 0 : -EMSGSIZE;
}

/* Of a line "type base64". */
static char *digest_line(const char *line) {
        const char *space = strchr(line, ' '), *text = space ? space + 1 : line;
        size_t len = strlen(text);
        _cleanup_free_ unsigned char *key = malloc(len + 4);
        char digest[128];
        int n;

        if (!key)
                return NULL;
        n = EVP_DecodeBlock(key, (const unsigned char *)text, (int)len);
        if (n < 3 || len < 4)
                return strdup("?");
        n -= (text[len - 1] == '=') + (text[len - 2] == '=');
        return digest_key(key, (size_t)n, digest, sizeof(digest)) < 0 ? strdup("?") : strdup(digest);
}

/* The first string of the key is its type. */
static int format_host_key(SshSession *s, const char *key, size_t len) {
        unsigned char text[sizeof(s->host_key) - 64];
        size_t n;

        if (len < 4)
                return -EBADMSG;
        n = (size_t)(unsigned char)key[2] << 8 | (unsigned char)key[3];
        if (key[0] != 0 || key[1] != 0 || n > len - 4 || n > 32 || (len + 2) / 3 * 4 >= sizeof(text))
                return -EBADMSG;
        for (size_t i = 0; i < n; i++)
                if (key[4 + i] <= ' ' || key[4 + i] > '~')
                        return -EBADMSG;
        EVP_EncodeBlock(text, (const unsigned char *)key, (int)len);
        (void)snprintf(s->host_key, sizeof(s->host_key), "%.*s %s", (int)n, key + 4, text);
        return digest_key(key, len, s->host_key_digest, sizeof(s->host_key_digest));
}

static int check_host_key(SshSession *s, const SshPeer *peer, Error **reterr) {
        _cleanup_free_ char *expected = strdup("");
        size_t len = 0;
        const char *key = libssh2_session_hostkey(s->session, &len, NULL);

        if (!key || format_host_key(s, key, len) < 0)
                return error_set(reterr, ERROR_SSH_FAILED, "The guest's host key is damaged");
        if (!peer->host_keys || strv_contains(peer->host_keys, s->host_key))
                return 0;
        STRV_FOREACH(k, peer->host_keys) {
                _cleanup_free_ char *digest = digest_line(*k);
                char *longer = expected && digest ? strf("%s%s%s", expected, *expected ? " or " : "", digest)
                                                  : NULL;

                free(expected);
                expected = longer;
        }
        return error_set(reterr, ERROR_HOST_KEY_CHANGED,
                        "The guest has the host key %s, expected was %s: it is another system, or its keys "
                        "were made anew",
                        s->host_key_digest, expected ?: "another");
}

static void set_callbacks(LIBSSH2_SESSION *session) {
#if LIBSSH2_VERSION_NUM >= 0x010b01
        (void)libssh2_session_callback_set2(session, LIBSSH2_CALLBACK_RECV, (libssh2_cb_generic *)receive);
        (void)libssh2_session_callback_set2(session, LIBSSH2_CALLBACK_SEND, (libssh2_cb_generic *)transmit);
#else
        (void)libssh2_session_callback_set(session, LIBSSH2_CALLBACK_RECV, (void *)receive);
        (void)libssh2_session_callback_set(session, LIBSSH2_CALLBACK_SEND, (void *)transmit);
#endif
}

static int agree_on_keys(SshSession *s, const SshPeer *peer, Error **reterr) {
        int r, wait;

        s->session = libssh2_session_init_ex(NULL, NULL, NULL, s);
        if (!s->session || prefer_known(s, peer->host_keys) < 0)
                return error_set_errno(reterr, -ENOMEM, "Failed to connect to the guest");
        libssh2_session_set_blocking(s->session, 0);
        set_callbacks(s->session);
        r = ssh_call(s, &wait, libssh2_session_handshake(s->session, s->fd));
        if (s->unauthenticated > UNAUTHENTICATED_MAX)
                return error_set(reterr, ERROR_SSH_FAILED,
                                "Failed to agree on keys with the guest: it sends and sends");
        if (r == LIBSSH2_ERROR_KEX_FAILURE || r == LIBSSH2_ERROR_METHOD_NONE)
                return error_set(reterr, ERROR_SSH_FAILED,
                                "The guest's sshd has no method in common with us; its host key has to be "
                                "Ed25519 or ECDSA");
        if (r < 0)
                return ssh_session_fail(s, wait, reterr, "Failed to agree on keys with the guest");
        return check_host_key(s, peer, reterr);
}

int ssh_session_new(int fd, int cancel_fd, uint64_t deadline, const SshPeer *peer, SshSession **ret,
                Error **reterr) {
        _cleanup_ssh_session_ SshSession *s = calloc(1, sizeof(SshSession));
        int r;

        if (!s) {
                safe_close(fd);
                return error_set_errno(reterr, -ENOMEM, "Failed to connect to the guest");
        }
        s->fd = fd;
        s->cancel_fd = cancel_fd;
        s->extra_fd = -EBADF;
        s->deadline = deadline;
        s->heard = now_usec();
        r = agree_on_keys(s, peer, reterr);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

int ssh_session_authenticate(SshSession *s, const SshPeer *peer, Error **reterr) {
        int r, wait;

        r = ssh_call(s, &wait,
                        libssh2_userauth_publickey_frommemory(s->session, peer->user, strlen(peer->user),
                                        NULL, 0, peer->private_key, peer->private_key_len, NULL));
        if (r < 0 && wait >= 0 &&
                        (r == LIBSSH2_ERROR_AUTHENTICATION_FAILED ||
                                        r == LIBSSH2_ERROR_PUBLICKEY_UNVERIFIED ||
                                        r == LIBSSH2_ERROR_PASSWORD_EXPIRED))
                return error_set(reterr, ERROR_LOGIN_REFUSED,
                                "The guest refuses to let user '%s' in with the VM's private key",
                                peer->user);
        if (r < 0)
                return ssh_session_fail(s, wait, reterr, "Failed to log in to the guest");
        s->authenticated = true;
        libssh2_keepalive_config(s->session, 1, KEEPALIVE_SECONDS);
        return 0;
}

/* What is under way is not waited for: without its socket, libssh2 can only give up. */
SshSession *ssh_session_free(SshSession *s) {
        if (!s)
                return NULL;
        if (s->session) {
                if (s->authenticated && (s->closing = true))
                        (void)libssh2_session_disconnect(s->session, "Done");
                s->deadline = USEC_INFINITY;
                s->heard = now_usec();
                s->closing = true;
                (void)shutdown(s->fd, SHUT_RDWR);
                for (int i = 0; i < 100 && libssh2_session_free(s->session) == LIBSSH2_ERROR_EAGAIN; i++)
                        ;
        }
        safe_close(s->fd);
        free(s);
        return NULL;
}
