/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What libarchive says of an entry, as an inode. */

#include <archive.h>
#include <archive_entry.h>

#include "tree.h"

/* Neither a hard link nor refused: ERROR_INVALID_ARCHIVE names the entry. */
int tarball_entry_to_inode(struct archive_entry *entry, Inode **ret, Error **reterr);
