/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The guest's serial console: its output into the log, the log to readers, readers' input to the guest.
 *
 * There are two kinds of clients. One on the console socket gets live output from the moment it connects,
 * and what it sends is typed into the guest. One on the log socket first sends a LogRequest and gets what
 * the log holds, and on demand what follows, until QEMU ends.
 *
 * A client is an offset into the log and a non-blocking socket. Whoever reads slowly falls behind, and skips
 * what the log has dropped; neither the guest nor another client waits for it. */

#include <poll.h>

#include "ring-log.h"
#include "util/log-request.h"

#define CONSOLE_READERS_MAX 64 /* clients of both kinds; one more is turned away */
#define CONSOLE_POLL_MAX (3 + CONSOLE_READERS_MAX)

typedef struct Console Console;

/* `log` is borrowed. The descriptors become the console's, also on failure, and non-blocking; `serial` is
 * our end of QEMU's character device, a listening socket may be -EBADF. */
int console_new(RingLog *log, int serial, int listen_console, int listen_log, Console **ret);
Console *console_free(Console *c);
DEFINE_CLEANUP(Console *, console_free);

/* What to wait for: fills CONSOLE_POLL_MAX entries (those not in use have fd -1). */
void console_prepare(Console *c, struct pollfd *fds);

/* Does a bounded piece of what poll() found. Never blocks. */
void console_dispatch(Console *c, const struct pollfd *fds);

/* QEMU has ended: takes what it still had written. No more clients are accepted. */
void console_drain(Console *c);

/* Gives readers that are still busy with the rest a little time to get it. */
void console_linger(Console *c);
