/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Descriptors and small files. Every descriptor made here is close-on-exec. */

#include "macro.h"

/* Closes fd if it is one, keeps errno, returns -EBADF: `fd = safe_close(fd)`. */
int safe_close(int fd);
static inline void closep(int *fd) {
        safe_close(*fd);
}
#define _cleanup_close_ _cleanup_(closep)

static inline void close_pairp(int (*pair)[2]) {
        safe_close((*pair)[0]);
        safe_close((*pair)[1]);
}
#define _cleanup_close_pair_ _cleanup_(close_pairp)

int fd_set_nonblock(int fd, bool nonblock);
int fd_set_cloexec(int fd, bool cloexec);

/* Writes all of it to a blocking descriptor, resuming after short writes. */
int write_all(int fd, const void *data, size_t len);

/* Reads to the end of file, at most max bytes: -EFBIG beyond. *ret is NUL-terminated behind *ret_len bytes
 * and the caller's to free. */
int read_all(int fd, size_t max, char **ret, size_t *ret_len);

/* Opens a regular file, below dir_fd (AT_FDCWD allowed), without waiting for anybody, whatever was put there
 * in its place: a symbolic link as last part is -ELOOP, a folder -EISDIR, what is neither -EINVAL. `mode` is
 * for O_CREAT. */
int open_file_at(int dir_fd, const char *name, int flags, mode_t mode);

/* read_all() of such a file. */
int read_file_at(int dir_fd, const char *name, size_t max, char **ret, size_t *ret_len);

/* Replaces dir_fd/name by a file of this content: written beside it, made durable if asked, renamed over it.
 */
typedef enum WriteFileFlags {
        WRITE_FILE_SYNC = 1 << 0, /* fsync the file and the folder: survives a power cut */
} WriteFileFlags;
int write_file_at(int dir_fd, const char *name, const void *data, size_t len, mode_t mode,
                WriteFileFlags flags);

/* An anonymous file with this content, offset 0: input for a child that may read at any time. */
int memfd_with(const char *name, const void *data, size_t len);

/* Removes name below dir_fd with everything in it; follows no symbolic link. 0 also when it is not there. */
int remove_tree_at(int dir_fd, const char *name);

/* Creates and opens a folder below dir_fd (an existing one is opened). The mode is exact, whatever the
 * umask. */
int make_dir_at(int dir_fd, const char *name, mode_t mode);
