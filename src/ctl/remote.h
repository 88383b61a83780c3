/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* With -H, what needs descriptors or ports of the other host is done by vmctl there, in an ssh session. */

#include "ctl.h"

/* Takes "[user@]host[:port]" apart, "[...]" around an IPv6 address included. -EINVAL for anything that ssh
 * could take for an option, and for the machines that systemd's bus addresses may name. */
int remote_parse_host(const char *host, char **ret_destination, char **ret_port);

/* The arguments of vmctl on the other host, as one line for its shell. */
char *remote_command(const Args *args);

/* Becomes ssh. Returns only on failure, which it reports. */
int remote_exec(Ctl *c, const Args *args);
