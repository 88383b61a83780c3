/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a verb works with: the options that hold for all verbs, and the service on its bus.
 *
 * vmctl blocks on its calls; only where it waits for something that can take long does it also listen. */

#include "args.h"
#include "client/client.h"
#include "util/string-util.h"

#define EXIT_USAGE 2
#define EXIT_TIMED_OUT 124
#define EXIT_SIGNALED 128 /* and the number of the signal that interrupted it */

struct Ctl {
        ClientBus choice;
        const char *host; /* -H; borrowed from argv */
        bool json;
        bool ask_password;

        Client *client; /* NULL: not connected */
};

/* Connects; reports failure. */
int ctl_connect(Ctl *c);
void ctl_done(Ctl *c);

/* A call to a VM or the manager, to be filled with arguments. Connects before if need be; reports failure.
 */
int ctl_new_call(Ctl *c, const char *path, const char *interface, const char *member, sd_bus_message **ret);

/* Prints "vmctl: WHAT: MESSAGE", or the message alone where it names the same object, and a hint on a second
 * line where there is one. Returns a negative errno, or EXIT_TIMED_OUT where waiting was what failed. `e`
 * may be NULL, then r tells the error. */
int ctl_report(const Ctl *c, const Error *e, int r, const char *format, ...) _printf_(4, 5);

/* The same for an error that isn't the bus's; hint may be NULL. Returns -EIO. */
int ctl_complain(const char *hint, const char *format, ...) _printf_(2, 3);

/* On standard error. `name` is the VM's, where there are several; NULL: there is one. */
void ctl_print_warning(const char *warning, const char *name);

/* The same with all that the user should know of a VM that was started. */
void ctl_print_warnings(Ctl *c, const char *path, const char *name);

static inline int ctl_oom(void) {
        return ctl_complain(NULL, "Out of memory");
}

struct Progress;

/* Handles what the bus has, or waits for it until `deadline` (CLOCK_MONOTONIC; UINT64_MAX: for ever). 0 when
 * something may have happened; -ETIMEDOUT at the deadline; another error when the bus is gone. */
int ctl_step(Ctl *c, uint64_t deadline, struct Progress *progress);
