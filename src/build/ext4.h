/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Writes a tree into an empty ext4 file system in a file, without the kernel's help.
 *
 * mkfs.ext4 makes the file system, and libext2fs puts in what the tree has. mkfs.ext4 -d would do both, but
 * up to e2fsprogs 1.47.0, which Debian 12 has, it takes a folder alone: for the files of an archive to have
 * their owners, devices and attributes there, somebody would have to unpack it as root, or under a fakeroot.
 * This way nothing of an archive ever becomes a path on this machine, and any user can do it.
 *
 * The order is: ext4_make(), ext4_open(), ext4_add_tree(), the content of files, ext4_write_folders(),
 * ext4_close(). In between the tree may grow, and ext4_add_tree() is called again; nothing in it may go.
 */

#include "tree.h"

#define EXT4_BLOCK 4096
#define EXT4_SIZE_MAX (UINT64_C(16) * 1024 * GIB) /* the image grows later, so there is no need for more */

typedef struct Ext4Layout {
        int fd;          /* borrowed */
        uint64_t offset; /* of the file system in the file, bytes */
        uint64_t size;   /* of it, bytes */
        const char *uuid;
        const char *label; /* or NULL */
        int64_t now;       /* the time that it is made at */
} Ext4Layout;

/* What a tree needs. */
typedef struct Ext4Needs {
        uint64_t bytes;   /* in blocks of files and folders */
        uint64_t content; /* of files, without holes */
        uint64_t files;
} Ext4Needs;

int ext4_measure(Tree *t, Ext4Needs *ret, Error **reterr);

/* A size that they fit into, with some space left, in whole MiB; and the least that may do. */
uint64_t ext4_size_for(const Ext4Needs *needs);
uint64_t ext4_size_least(const Ext4Needs *needs);

/* ERROR_IMAGE_TOO_SMALL says what is needed. */
int ext4_make(const Ext4Layout *layout, const Ext4Needs *needs, Error **reterr);

typedef struct Ext4 Ext4;

int ext4_open(const Ext4Layout *layout, const Ext4Needs *needs, Ext4 **ret, Error **reterr);
Ext4 *ext4_free(Ext4 *e); /* what was written so far is no file system */
DEFINE_CLEANUP(Ext4 *, ext4_free);

/* Gives every node that has none an inode, with all but the content of files that is in a source. */
int ext4_add_tree(Ext4 *e, Tree *t, Error **reterr);

/* The content of one file at a time, by rising offset. Blocks of zeros become holes. */
int ext4_file_begin(Ext4 *e, const Node *n, Error **reterr);
int ext4_file_write(Ext4 *e, const void *data, size_t len, uint64_t offset, Error **reterr);
int ext4_file_end(Ext4 *e, Error **reterr);

/* Reads a file back, of which the size is no more than max. *ret is the caller's to free. */
int ext4_read(Ext4 *e, const Node *n, uint64_t max, void **ret, size_t *ret_len, Error **reterr);
/* ... and writes it to a descriptor */
int ext4_copy_to(Ext4 *e, const Node *n, int fd, Error **reterr);

int ext4_write_folders(Ext4 *e, Tree *t, Error **reterr);
int ext4_close(Ext4 **e, Error **reterr); /* frees it, also on failure */
