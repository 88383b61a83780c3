/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Single files of the guest, over SFTP. Paths are the guest's.
 *
 * Functions return -EAGAIN (connection lost), -ECANCELED and -ETIMEDOUT as those of the session do, and set
 * the error in all cases of failure. */

#include <libssh2_sftp.h>
#include <sys/stat.h>

#include "progress.h"
#include "ssh-session.h"

typedef struct SshSftp {
        SshSession *session; /* borrowed */
        LIBSSH2_SFTP *sftp;
} SshSftp;

int ssh_sftp_init(SshSftp *f, SshSession *s, Error **reterr);
void ssh_sftp_done(SshSftp *f);
#define _cleanup_ssh_sftp_ _cleanup_(ssh_sftp_done)

/* Makes a new file from all that fd has. Nothing is left of it on failure. */
int ssh_sftp_put(SshSftp *f, int fd, const char *path, mode_t mode, Progress *progress, Error **reterr);

/* Appends the file to fd, a file or stream. Of a file that states its size no more than that is read. */
int ssh_sftp_get(SshSftp *f, const char *path, int fd, Progress *progress, Error **reterr);

/* -ENOENT, without an error set, if there is none. */
int ssh_sftp_stat(SshSftp *f, const char *path, bool follow, LIBSSH2_SFTP_ATTRIBUTES *ret, Error **reterr);

/* Moves a file, also over another one, in one step. */
int ssh_sftp_replace(SshSftp *f, const char *from, const char *to, Error **reterr);

int ssh_sftp_mkdir(SshSftp *f, const char *path, mode_t mode, Error **reterr); /* 0 also if it is there */
int ssh_sftp_unlink(SshSftp *f, const char *path, Error **reterr);
/* Its length; 0 for what is no link, or an impossible one. */
#define SSH_LINK_MAX 4096
int ssh_sftp_readlink(SshSftp *f, const char *path, char ret[SSH_LINK_MAX], Error **reterr);
int ssh_sftp_symlink(SshSftp *f, const char *target, const char *path, Error **reterr);
int ssh_sftp_set_times(SshSftp *f, const char *path, uint64_t atime, uint64_t mtime, Error **reterr);

/* For the next entry: 1, 0 at the end. The name is as the guest gives it. */
int ssh_sftp_open_folder(SshSftp *f, const char *path, LIBSSH2_SFTP_HANDLE **ret, Error **reterr);
int ssh_sftp_next(SshSftp *f, LIBSSH2_SFTP_HANDLE *folder, const char *path, char *name, size_t size,
                LIBSSH2_SFTP_ATTRIBUTES *ret, Error **reterr);
void ssh_sftp_close(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle);

/* Closes and deletes what is of no use any more, and spends a moment on it even when all is to end. */
void ssh_sftp_tidy(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle, const char *path);

/* A name beside `path` that nobody else uses: ".vmctl-…" in the same folder. */
char *ssh_sftp_temporary(const char *path);

/* 16 random hexadecimal digits. */
int ssh_random(char ret[17]);

static inline bool ssh_sftp_is(const LIBSSH2_SFTP_ATTRIBUTES *a, mode_t type) {
        return (a->flags & LIBSSH2_SFTP_ATTR_PERMISSIONS) && (a->permissions & S_IFMT) == type;
}
