/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* OpenSSH's public keys, checked before they reach a guest's authorized_keys. */

#include "util/error.h"

#define SSH_KEY_TEXT_MAX (64 * KIB) /* dozens of RSA keys */

/* The keys in the text of a public key file, one line each, blank and comment lines left out; at least one.
 * ERROR_INVALID_KEY says in which line what is wrong, and never quotes anything that could be a secret. */
int ssh_key_parse(const char *text, char ***ret_keys, Error **reterr);
