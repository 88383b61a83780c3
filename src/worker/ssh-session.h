/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* One SSH connection to a guest that is not trusted, by libssh2 on a non-blocking socket.
 *
 * Nothing here blocks but ssh_session_wait(), which ends at a deadline, at SIGTERM, and when the guest has
 * been silent for too long. libssh2's functions are called through ssh_call(), which waits and calls again.
 */

#include <libssh2.h>

#include "util/clock.h"
#include "util/error.h"

typedef struct SshSession {
        LIBSSH2_SESSION *session;
        int fd;                   /* owned */
        int cancel_fd;            /* borrowed: readable once we are to end */
        int extra_fd;             /* borrowed: whose input also ends a wait, or -EBADF */
        LIBSSH2_CHANNEL *watched; /* whose end also ends a wait: libssh2's SFTP would wait on; or NULL */
        uint64_t deadline;        /* CLOCK_MONOTONIC; USEC_INFINITY: none */
        uint64_t heard;           /* when the guest last sent anything */
        size_t unauthenticated;   /* bytes received before it let us in */
        bool authenticated;
        bool closing;              /* ignore cancel_fd: we end already */
        char host_key[2048];       /* "type base64" */
        char host_key_digest[128]; /* "SHA256:..." */
} SshSession;

/* What identifies a guest and us. All borrowed. */
typedef struct SshPeer {
        const char *user;
        const char *private_key; /* the text of a private key file */
        size_t private_key_len;
        char *const *host_keys; /* accepted, as "type base64"; NULL: any */
} SshPeer;

/* `after` from `from` on, without overflow. */
uint64_t ssh_later(uint64_t from, uint64_t after);

/* Takes the socket, also on failure, and agrees on keys. The host key has to be one of the peer's.
 * Returns -EAGAIN (with an error set) for what may be better next time: a lost connection, or silence. */
int ssh_session_new(int fd, int cancel_fd, uint64_t deadline, const SshPeer *peer, SshSession **ret,
                Error **reterr);

/* Logs in. -EKEYREJECTED (with an error set): the guest refuses us. -EAGAIN as above. */
int ssh_session_authenticate(SshSession *s, const SshPeer *peer, Error **reterr);

SshSession *ssh_session_free(SshSession *s);
DEFINE_CLEANUP(SshSession *, ssh_session_free);
#define _cleanup_ssh_session_ _cleanup_(ssh_session_freep)

/* Until libssh2 can go on: 0, -ETIMEDOUT, -ECANCELED, -EHOSTUNREACH for a guest that is silent, or -EPIPE.
 */
int ssh_session_wait(SshSession *s);

/* Time in which we did not listen is no silence of the guest's. */
void ssh_session_was_busy(SshSession *s);

/* Waits for SIGTERM (-ECANCELED) until then (0). */
int ssh_pause(int cancel_fd, uint64_t until);

/* Evaluates a call of libssh2 until it is not LIBSSH2_ERROR_EAGAIN: its result, or a negative errno of
 * ssh_session_wait() that *ret_wait tells apart. */
#define ssh_call(s, ret_wait, call)                                  \
        ({                                                           \
                typeof(call) _result;                                \
                *(ret_wait) = 0;                                     \
                while ((_result = (call)) == LIBSSH2_ERROR_EAGAIN) { \
                        *(ret_wait) = ssh_session_wait(s);           \
                        if (*(ret_wait) < 0)                         \
                                break;                               \
                }                                                    \
                _result;                                             \
        })

/* The same for those that return an object or NULL. */
#define ssh_call_object(s, ret_wait, call)                                                          \
        ({                                                                                          \
                typeof(call) _object;                                                               \
                *(ret_wait) = 0;                                                                    \
                while (!(_object = (call)) &&                                                       \
                                libssh2_session_last_errno((s)->session) == LIBSSH2_ERROR_EAGAIN) { \
                        *(ret_wait) = ssh_session_wait(s);                                          \
                        if (*(ret_wait) < 0)                                                        \
                                break;                                                              \
                }                                                                                   \
                _object;                                                                            \
        })

/* Sets the error after a failed call: `wait` is what ssh_call() put there. Returns -EAGAIN for what ended
 * the connection or took too long, -ECANCELED, or the errno of ERROR_SSH_FAILED. */
int ssh_session_fail(SshSession *s, int wait, Error **reterr, const char *what);
