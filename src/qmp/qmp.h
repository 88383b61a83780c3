/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A QMP client on sd-event (QEMU's docs/interop/qmp-spec): one monitor connection, calls with deadlines,
 * events.
 *
 * The peer counts as hostile: size and depth of what it says are bounded, and whatever breaks a bound or the
 * protocol ends the connection with one clear reason. One that talks without end is read slowly instead, and
 * what it says too much waits on its own side. Nothing here blocks. Callbacks run from the event loop, never
 * from inside a call into this client, and may free the client. */

#include <systemd/sd-event.h>

#include "util/error.h"
#include "json/json.h"

/* QEMU itself takes no more commands ahead than this. */
#define QMP_IN_FLIGHT_MAX 8

/* Calls that wait behind these. A VM's start makes some dozens; more means that QEMU does not answer. */
#define QMP_QUEUE_MAX 256

typedef struct Qmp Qmp;
typedef struct QmpCall QmpCall;

/* The reply to a call. On success r is 0 and `result` is the value of "return", borrowed for the callback's
 * time. Otherwise r is negative and `error` says why: -EPROTO with ERROR_QMP_FAILED (QEMU's "desc", to be
 * shown or logged, never branched on), -ETIMEDOUT with ERROR_QMP_TIMEOUT, -ECONNRESET with ERROR_QMP_FAILED
 * (the connection ended), or the errno of a descriptor that could not be sent. */
typedef void (*qmp_reply_t)(void *userdata, int r, const Json *result, const Error *error);

/* Each may be NULL. */
typedef struct QmpHandlers {
        /* Capabilities are negotiated. Once per connection. Calls made earlier may have gone out already. */
        void (*ready)(Qmp *q, void *userdata);
        /* An asynchronous event. `data` may be NULL. All borrowed. usec: CLOCK_REALTIME as QEMU says, 0
         * unknown. */
        void (*event)(Qmp *q, const char *name, const Json *data, uint64_t usec, void *userdata);
        /* The connection ended; every pending call was answered before. `error` is NULL for a plain end of
         * file on a message boundary. The last callback that this client makes. */
        void (*closed)(Qmp *q, const Error *error, void *userdata);
} QmpHandlers;

typedef enum QmpFlags {
        /* The connection is an old one, taken over in the middle of its life: a first line that is the rest
         * of a message is skipped, no greeting is needed, half a command that was sent before is undone, and
         * capabilities are negotiated if they were not. Events that come before that are passed on; replies
         * with ids that are not ours are ignored. */
        QMP_REATTACH = 1 << 0,
} QmpFlags;

/* fd: a connected stream socket, made non-blocking here; taken over (also when this fails).
 * deadline_usec: how long the handshake may take, from now; a missed one ends the connection with
 * ERROR_QMP_TIMEOUT. */
int qmp_new(sd_event *event, int fd, QmpFlags flags, uint64_t deadline_usec, const QmpHandlers *handlers,
                void *userdata, Qmp **ret);

/* Drops all calls without calling back, closes the descriptor. Allowed inside callbacks. Returns NULL. */
Qmp *qmp_free(Qmp *q);
DEFINE_CLEANUP(Qmp *, qmp_free);

bool qmp_is_ready(const Qmp *q);
int qmp_fd(const Qmp *q); /* borrowed, for a descriptor store; the client must be told nothing of it */

/* Queues a command. `arguments` is the JSON text of an object, or NULL; it is checked for nothing but must
 * be what a JsonWriter made. At most QMP_IN_FLIGHT_MAX commands are with QEMU at once, the rest wait here;
 * the deadline counts from now, and includes the wait. When it passes, the caller gets -ETIMEDOUT and a late
 * reply is ignored. The callback may be NULL. ret_call (may be NULL) lends a handle for qmp_cancel(), valid
 * until the callback. -ENOBUFS when QMP_QUEUE_MAX calls wait already, -ENOTCONN when the connection has
 * ended. */
int qmp_call(Qmp *q, const char *command, const char *arguments, uint64_t timeout_usec, qmp_reply_t callback,
                void *userdata, QmpCall **ret_call);

/* The same, with a descriptor sent along (SCM_RIGHTS), as "getfd" and "add-fd" want it. fd is taken over
 * (also on failure). */
int qmp_call_fd(Qmp *q, const char *command, const char *arguments, int fd, uint64_t timeout_usec,
                qmp_reply_t callback, void *userdata, QmpCall **ret_call);

/* Passes a whole command object through, as text ({"execute": …, "arguments": …}; its "id" is replaced by
 * ours), for people who debug. `reply` text is handed back unparsed in a JSON document of the same form
 * ("return" or "error", the caller's own "id" if there was one) via `callback`: r is 0 also when QEMU
 * answered with an error; text is borrowed. -EBADMSG when the text is not such an object, -EFBIG when it is
 * beyond json_parse()'s default limits, else as qmp_call(); *reterr says what is wrong. */
typedef void (*qmp_raw_reply_t)(void *userdata, int r, const char *text, const Error *error);
int qmp_call_raw(Qmp *q, const char *text, uint64_t timeout_usec, qmp_raw_reply_t callback, void *userdata,
                QmpCall **ret_call, Error **reterr);

/* The enumeration word that `object` has at `key`, borrowed: "" where it has none. QEMU's words are shown to
 * people and sent on, and a QEMU that a guest has taken over may say anything: what is no word of lower-case
 * letters, digits and hyphens, or longer than any of QEMU's, is "unknown". */
#define QMP_WORD_MAX 64
const char *qmp_word(const Json *object, const char *key);

/* Nobody waits any more: the callback will not come. The command itself may still run in QEMU. Returns NULL.
 */
QmpCall *qmp_cancel(QmpCall *call);
