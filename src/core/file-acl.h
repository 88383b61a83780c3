/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Files of ours that one other user may open as well, by an access control list (acl(5)): for that we need
 * not be able to give files away. */

#include "util/macro.h"

/* Who owns the file may read and write it, this user what `access` (R_OK, W_OK) says, and nobody else
 * anything. Earlier lists are forgotten. A user's own service has no others: 0. -EOPNOTSUPP: the file system
 * has no lists. */
int file_acl_grant(int fd, uid_t uid, int access);
int file_acl_grant_at(
                int dir_fd, const char *name, uid_t uid, int access); /* a socket, which cannot be opened */

/* The same where there is no list yet: a file that another build had given away, or that a backup brought
 * back. -ENOENT: there is no such file. */
int file_acl_grant_missing_at(int dir_fd, const char *name, uid_t uid, int access);

/* Back to the owner's, and this mode. */
int file_acl_clear(int fd, mode_t mode);
