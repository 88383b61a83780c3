/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Keys as they lie in files: whether we can log in with a private one, and which host keys are pinned. */

#include "util/error.h"

#define SSH_PRIVATE_KEY_MAX (64 * KIB)
#define SSH_KNOWN_HOST_MAX (64 * KIB)

/* ERROR_INVALID_KEY says why libssh2 could not use it, which else would only be a refusal by the guest. */
int ssh_private_key_check(const char *text, size_t len, Error **reterr);

/* All keys in a known_hosts file or a list of public keys, as "type base64". *ret is NULL if it is blank. */
int ssh_known_host_parse(const char *text, char ***ret, Error **reterr);
