/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A client hands its files in as descriptors, but the service finds them again by path at every start: this
 * is where a descriptor is turned into a path and into what tells later whether the file is still the same.
 */

#include "util/error.h"

typedef struct FileIdentity {
        int fd; /* owned: the file opened anew by its path, for reading; shares nothing with the client */
        char *path;
        char *label; /* subject of messages: "The disk image '/srv/a.qcow2'", control characters escaped */
        uint64_t ino;
        uint64_t size;
        int64_t btime; /* all three in ns since 1970; 0 where the file system keeps no time of birth */
        int64_t ctime;
        int64_t mtime;
} FileIdentity;

#define FILE_IDENTITY_NULL ((FileIdentity){ .fd = -EBADF })

void file_identity_done(FileIdentity *f);
#define _cleanup_file_identity_ _cleanup_(file_identity_done)

/* Checks that fd, a descriptor from a client (borrowed), was opened for reading and is a regular file; if
 * not, the error has this code. `what` begins the message, as "The disk image". */
int file_check_readable(int fd, const char *what, ErrorCode code, Error **reterr);

/* The same, but a pipe or a socket will do. */
int file_check_source(int fd, const char *what, ErrorCode code, Error **reterr);

/* And for writing: O_APPEND is refused. */
int file_check_sink(int fd, const char *what, ErrorCode code, Error **reterr);

/* The beginning of messages, as "The image '/srv/a.qcow2'", or `what` alone for what has no path. */
int file_label(int fd, const char *what, char **ret);

/* Checks as file_check_readable() (ERROR_INVALID_IMAGE), then finds the file by its path and opens it there.
 * Runs with the identity of the service, since the question is whether the service will find the file:
 * ERROR_IMAGE_MISSING if not.
 */
int file_identify(int fd, const char *what, FileIdentity *ret, Error **reterr);
