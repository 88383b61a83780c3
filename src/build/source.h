/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What an image is built from, whatever it is: a folder, a tar, a container image, or a folder with a
 * Containerfile, which is built first. */

#include "ext4.h"
#include "worker/progress.h"

typedef struct SourceOptions {
        const char *path;          /* "-": standard input */
        const char *containerfile; /* or NULL */
        bool root_owned;           /* the files of a folder become root's */
} SourceOptions;

typedef struct Source Source;

/* Finds out what it is, and reads all but contents into a tree. */
int source_read(const SourceOptions *options, Source **ret, Tree **ret_tree, Error **reterr);
Source *source_free(Source *s);
DEFINE_CLEANUP(Source *, source_free);

/* Writes the content of the tree's files. */
int source_write_contents(Source *s, Tree *t, Ext4 *e, uint64_t total, Error **reterr);
