/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Connecting to an sshd that may not be there yet. */

#include <netinet/in.h>

#include "util/error.h"

typedef union SshAddress {
        struct sockaddr any;
        struct sockaddr_in ip4;
        struct sockaddr_in6 ip6;
} SshAddress;

/* `host` is an address. -EINVAL if it is none. */
int ssh_address_parse(const char *host, uint16_t port, SshAddress *ret);

/* A connection on which an sshd greets; the greeting is yet to be read. Tries until the deadline
 * (CLOCK_MONOTONIC): -ETIMEDOUT then, -ECANCELED when cancel_fd becomes readable. *ret_why, a static string,
 * says in all cases what the last attempt came to. */
int ssh_greet(const SshAddress *address, int cancel_fd, uint64_t deadline, int *ret_fd,
                const char **ret_why);
