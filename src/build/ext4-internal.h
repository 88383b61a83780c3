/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Shared by the files of ext4.h. */

#include "ext4.h"

/* com_err.h has an error_message() of its own. */
#define error_message com_err_message
#include <ext2fs/ext2fs.h>
#undef error_message

#define EXT4_BUFFER MIB

struct Ext4 {
        ext2_filsys fs; /* owned */
        Ext4Needs needs;
        uint64_t size;
        blk64_t goal; /* where the next block is looked for */

        /* The file that is being written */
        const Node *node;
        struct ext2_inode inode;
        ext2_extent_handle_t extents;
        struct ext2fs_extent extent; /* not in the inode yet; empty if its e_len is 0 */
        uint8_t *buffer;             /* owned; content from `start` on */
        uint64_t start;              /* a multiple of the block size */
        size_t len;
};

/* What failed and in which file (NULL: the file system itself), with libext2fs's reason. Out of room is
 * ERROR_IMAGE_TOO_SMALL. */
int ext4_error(Ext4 *e, errcode_t code, const Node *n, Error **reterr);

/* Contiguous blocks that are free, at most n; they are taken. */
errcode_t ext4_allocate(Ext4 *e, blk64_t n, blk64_t *ret, blk64_t *ret_n);

/* Maps n blocks, which were allocated, behind all that the file has so far. */
errcode_t ext4_map(Ext4 *e, blk64_t logical, blk64_t physical, blk64_t n);
