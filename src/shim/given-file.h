/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A file that was handed over as a descriptor once, and is opened by its path again: only if it is the same.
 */

#include "options.h"

/* Opens f->path for reading; no part of it may be a symbolic link. Returns the descriptor, or -errno and
 * ERROR_IMAGE_MISSING, ERROR_IMAGE_CHANGED, ERROR_ACCESS_DENIED or another error. *ret_modified: it is the
 * same file, but was written to since. */
int given_file_open(const GivenFile *f, bool *ret_modified, Error **reterr_error);

/* The same with the rights of f->owner, as the user database has them now. */
int given_file_open_as_owner(const GivenFile *f, bool *ret_modified, Error **reterr_error);

/* Lets the identity that we have now, and QEMU will have, open /proc/self/fd/TARGET, where the file is in
 * place: puts a copy there if it may not read the file itself. */
int given_file_share(const GivenFile *f, Error **reterr_error);
