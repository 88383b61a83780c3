/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A folder as a tar, made by tar(1). The owners of its files are left out: they mean nothing elsewhere. */

#include "util/error.h"

/* A file without a name that holds the tar, at its beginning. */
int folder_stream_open(const char *path, int *ret_fd, Error **reterr);

/* Hands over the tar in pieces, without the times of the files: what stays the same as long as the content
 * does. */
int folder_stream_read(const char *path, void (*piece)(void *userdata, const void *data, size_t len),
                void *userdata, Error **reterr);
