/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM as something to reach by ssh: where its sshd is, who logs in, with which key, and by what its host
 * key is known. */

#include "ctl.h"

typedef struct SshTarget {
        const char *name; /* borrowed */
        char *path;       /* its object */
        Json *vm;         /* its properties */
        uint16_t port;
} SshTarget;

/* Asks the service for the VM of that name; reports failure, also of a VM that has no port. */
int ssh_target_find(Ctl *c, const char *name, SshTarget *ret);
/* The same without a report. Returns 0 and no `ret->vm` where it is gone or has no port. */
int ssh_target_load(Ctl *c, const char *name, SshTarget *ret, Error **reterr);
void ssh_target_done(SshTarget *t);

/* How long to wait for its sshd: what --timeout says (NULL: not given), else longer for a guest that was
 * started a moment ago. Returns EXIT_USAGE where `text` is no time. */
int ssh_target_timeout(const SshTarget *t, const char *text, uint64_t *ret_usec);
bool ssh_target_is_fresh(const SshTarget *t);

/* The VM's own private key; NULL where there is none, or it is somebody else's. */
const char *ssh_target_key(const SshTarget *t);

/* The names by which the guest's host key is known, and the file. That is in the VM's folder: a VM that was
 * destroyed and made anew has a new one. Who may use the VM but not write there keeps it among his own,
 * which is NULL, under the VM's UUID. */
int ssh_target_host_key(const SshTarget *t, char **ret_alias, const char **ret_known_hosts);

/* Where the user keeps his own keys, "~/.ssh"; NULL when memory is short. A home that is somebody else's, as
 * sudo may leave it in the environment, is not his. */
char *ssh_user_folder(void);
#define SSH_USUAL_KEYS "id_ed25519", "id_ecdsa", "id_rsa"

/* As one word of ssh_config(5). NULL when memory is short. */
char *ssh_config_word(const char *s);

/* What ssh needs to know beside the address, as "Keyword=value" of ssh_config(5). `user` and `key`, which
 * may be NULL, are those that the user named. -EINVAL: the VM has values that cannot be said there. */
int ssh_target_options(const SshTarget *t, const char *user, const char *key, char ***ret);
