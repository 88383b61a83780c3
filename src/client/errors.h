/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the bus, systemd, polkit and the service say went wrong, as an Error: the name that it came under, a
 * message for people, and a hint where there is one. */

#include <systemd/sd-bus.h>

#include "util/error.h"

/* Whom was spoken to; borrowed. */
typedef struct ErrorSource {
        const char *host; /* another one, behind ssh; or NULL */
        bool is_user;     /* a user's own service */
} ErrorSource;

/* `path` is the object that was called, or NULL: what is not there is told by it. `e` may be NULL or unset,
 * then the negative errno `r` is what is known. Returns a negative errno. */
int client_error_set(
                Error **reterr, const ErrorSource *source, const char *path, const sd_bus_error *e, int r);

/* Whether the service went away under a call, or was away: what it asked for may be done or not. */
bool client_is_cut_off(const Error *e);
