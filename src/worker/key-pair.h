/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A new Ed25519 key pair in OpenSSH's formats. */

#include "util/error.h"

#define KEY_PAIR_COMMENT_MAX 128

typedef struct KeyPair {
        char public_line[256];   /* "ssh-ed25519 AAAA... comment", no newline */
        char private_file[1024]; /* the whole file, without passphrase */
} KeyPair;

/* The comment has no newline and at most KEY_PAIR_COMMENT_MAX bytes (-EINVAL). */
int key_pair_generate(const char *comment, KeyPair *ret, Error **reterr);

/* Wipes it from memory. */
void key_pair_done(KeyPair *p);
#define _cleanup_key_pair_ _cleanup_(key_pair_done)
