/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* passt, a program of its own that is the network of a guest: whether it can be used here, and its command
 * line. It is tried once for each binary, as it would be run for a VM. What a release from before November
 * 2024 lacks is more than options: a guest could reach the host's loopback through it, and a forwarded port
 * was silent until the client spoke. */

#include <systemd/sd-event.h>

#include "util/error.h"

#define PASST_PATH "/usr/bin/passt"

typedef struct Passt Passt;

/* path: borrowed */
int passt_new(sd_event *event, const char *path, Passt **ret);
Passt *passt_free(Passt *p);
DEFINE_CLEANUP(Passt *, passt_free);

/* Makes sure that what is known holds for the passt that is installed now. 1: it does; 0: it is being tried,
 * and `done` is called when that is over. There is one who asks. */
typedef void (*passt_done_t)(void *userdata);
int passt_ensure(Passt *p, passt_done_t done, void *userdata);
bool passt_is_tried(const Passt *p); /* `done` is still to be called */

/* If not, *ret_reason (borrowed, may be NULL) says why. */
bool passt_works(const Passt *p, const char **ret_reason);

/* How it is run (the caller frees the list). fd: its end of the socket pair to QEMU; ports: what is
 * forwarded, HOST:GUEST,..., or NULL; resolver: the address of the host's name server, or NULL. Writes its
 * PID to its standard output when it is ready, and ends with QEMU. */
int passt_command(const char *path, int fd, const char *ports, const char *resolver, char ***ret);

/* The first name server of the host, if that has an IPv4 address. The caller frees it; NULL: there is none.
 */
char *passt_find_resolver(const char *resolv_conf);
