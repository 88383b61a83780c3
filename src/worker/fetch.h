/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A small file from a URL, as a whole: the list of checksums. */

#include "progress.h"
#include "pull-request.h"

/* source_fd: a file URL's file, which is open already. Of more than max bytes, or a connection that is worse
 * than that of the URL asked for, ERROR_DOWNLOAD_REFUSED. The caller frees the text. */
int fetch(const PullRequest *request, const Url *url, int source_fd, size_t max, Progress *progress,
                char **ret, size_t *ret_len, Error **reterr);
