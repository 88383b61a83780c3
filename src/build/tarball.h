/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Tars by libarchive, plain or compressed: what they have goes into a tree, and in a second pass the content
 * of the files that count goes into the file system. Of libarchive no more is turned on than tar and the
 * compressions that are read in process: no other program is ever run for an archive. */

#include "ext4.h"
#include "worker/progress.h"

#define SHA256_HEX 64

/* A tar, which may be a part of a file. Nothing else moves fd's offset, which is not used either. */
typedef struct Tarball {
        int fd; /* owned */
        uint64_t offset;
        uint64_t size;
        char digest[SHA256_HEX + 1]; /* lower case; "": not known */
} Tarball;

/* The whole of a regular file (taken). */
int tarball_from_fd(int fd, Tarball *ret, Error **reterr);

typedef enum TarballFlags {
        TARBALL_WHITEOUTS = 1 << 0, /* it is a layer, so names with .wh. hide what is below */
} TarballFlags;

/* The first pass. With a digest it is compared. ret_compressed may be NULL. */
int tarball_read_tree(const Tarball *a, uint32_t layer, TarballFlags flags, Tree *t, Progress *progress,
                bool *ret_compressed, Error **reterr);

/* The second pass: files are sorted by entry and all of this layer. */
int tarball_read_contents(const Tarball *a, Node *const *files, size_t n_files, Ext4 *e, Progress *progress,
                Error **reterr);

/* What is left when the compression is taken away, in a file of its own. */
int tarball_decompress(const Tarball *a, Tarball *ret, Error **reterr);
