/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The content of files. Blocks are taken in long runs, one after another, so that files lie in one piece. */
#include <unistd.h>

#include "ext4-internal.h"
#include "util/fd-util.h"

#define EXTENT_LENGTH_MAX (1 << 15) /* of an initialized extent, blocks */

static errcode_t insert_extent(Ext4 *e) {
        errcode_t code;

        if (e->extent.e_len == 0)
                return 0;
        code = ext2fs_extent_insert(e->extents, EXT2_EXTENT_INSERT_AFTER, &e->extent);
        if (code == 0)
                code = ext2fs_extent_fix_parents(e->extents);
        e->extent.e_len = 0;
        return code;
}

errcode_t ext4_map(Ext4 *e, blk64_t logical, blk64_t physical, blk64_t n) {
        struct ext2fs_extent *x = &e->extent;
        errcode_t code;

        code = ext2fs_iblk_add_blocks(e->fs, &e->inode, n);
        if (code != 0)
                return code;
        if (x->e_len > 0 && x->e_lblk + x->e_len == logical && x->e_pblk + x->e_len == physical &&
                        x->e_len + n <= EXTENT_LENGTH_MAX) {
                x->e_len += (uint32_t)n;
                return 0;
        }
        code = insert_extent(e);
        *x = (struct ext2fs_extent){ .e_lblk = logical, .e_pblk = physical, .e_len = (uint32_t)n };
        return code;
}

static errcode_t write_run(Ext4 *e, size_t from, size_t to) {
        while (from < to) {
                blk64_t physical, n;
                errcode_t code = ext4_allocate(e, (to - from) / EXT4_BLOCK, &physical, &n);

                if (code == 0)
                        code = ext4_map(e, (e->start + from) / EXT4_BLOCK, physical, n);
                if (code == 0)
                        code = io_channel_write_blk64(e->fs->io, physical, (int)n, e->buffer + from);
                if (code != 0)
                        return code;
                from += n * EXT4_BLOCK;
        }
        return 0;
}

static bool is_zero(const uint8_t *block) {
        return block[0] == 0 && memcmp(block, block + 1, EXT4_BLOCK - 1) == 0;
}

/* Writes what the buffer has, in whole blocks. */
static errcode_t flush(Ext4 *e) {
        size_t end = (e->len + EXT4_BLOCK - 1) / EXT4_BLOCK * EXT4_BLOCK;

        memset(e->buffer + e->len, 0, end - e->len);
        for (size_t from = 0, to; from < end; from = to) {
                errcode_t code;

                to = from + EXT4_BLOCK;
                if (is_zero(e->buffer + from))
                        continue;
                while (to < end && !is_zero(e->buffer + to))
                        to += EXT4_BLOCK;
                code = write_run(e, from, to);
                if (code != 0)
                        return code;
        }
        e->start += end;
        e->len = 0;
        return 0;
}

int ext4_file_begin(Ext4 *e, const Node *n, Error **reterr) {
        ext2_ino_t ino = node_inode(n)->ino;
        errcode_t code;

        e->node = n;
        e->start = e->len = 0;
        e->extent.e_len = 0;
        code = ext2fs_read_inode(e->fs, ino, &e->inode);
        if (code == 0)
                code = ext2fs_extent_open2(e->fs, ino, &e->inode, &e->extents);
        return code != 0 ? ext4_error(e, code, n, reterr) : 0;
}

/* Makes the buffer go on at offset, which is not before its end. */
static errcode_t skip_to(Ext4 *e, uint64_t offset) {
        if (offset - e->start >= EXT4_BUFFER) {
                errcode_t code = flush(e);

                if (code != 0)
                        return code;
                e->start = offset / EXT4_BLOCK * EXT4_BLOCK;
        }
        memset(e->buffer + e->len, 0, offset - e->start - e->len);
        e->len = offset - e->start;
        return 0;
}

int ext4_file_write(Ext4 *e, const void *data, size_t len, uint64_t offset, Error **reterr) {
        const uint8_t *p = data;
        uint64_t size = node_inode(e->node)->size;
        errcode_t code;

        if (offset < e->start + e->len || offset > size || len > size - offset)
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The pieces of the file '%s' do not fit together", node_name(e->node));
        code = skip_to(e, offset);
        while (code == 0 && len > 0) {
                size_t n = MIN(len, (size_t)EXT4_BUFFER - e->len);

                memcpy(e->buffer + e->len, p, n);
                e->len += n;
                p += n;
                len -= n;
                if (e->len == EXT4_BUFFER)
                        code = flush(e);
        }
        return code != 0 ? ext4_error(e, code, e->node, reterr) : 0;
}

int ext4_file_end(Ext4 *e, Error **reterr) {
        const Inode *i = node_inode(e->node);
        errcode_t code = flush(e);

        if (code == 0)
                code = insert_extent(e);
        ext2fs_extent_free(e->extents);
        e->extents = NULL;
        if (code == 0)
                code = ext2fs_inode_size_set(e->fs, &e->inode, i->size);
        if (code == 0)
                code = ext2fs_write_inode(e->fs, i->ino, &e->inode);
        return code != 0 ? ext4_error(e, code, e->node, reterr) : 0;
}

int ext4_read(Ext4 *e, const Node *n, uint64_t max, void **ret, size_t *ret_len, Error **reterr) {
        const Inode *i = node_inode(n);
        _cleanup_free_ void *data = NULL;
        ext2_file_t file;
        errcode_t code;
        unsigned got = 0;

        if (i->size > max)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "The file '%s' is too large", node_name(n));
        data = malloc(i->size + 1);
        if (!data)
                return error_set_errno(reterr, -ENOMEM, "Failed to read a file");
        code = ext2fs_file_open(e->fs, i->ino, 0, &file);
        if (code == 0) {
                code = ext2fs_file_read(file, data, (unsigned)i->size, &got);
                (void)ext2fs_file_close(file);
        }
        if (code == 0 && got != i->size)
                code = EXT2_ET_SHORT_READ;
        if (code != 0)
                return ext4_error(e, code, n, reterr);
        *ret = TAKE_PTR(data);
        *ret_len = got;
        return 0;
}

int ext4_copy_to(Ext4 *e, const Node *n, int fd, Error **reterr) {
        ext2_file_t file;
        errcode_t code = ext2fs_file_open(e->fs, node_inode(n)->ino, 0, &file);
        unsigned got = 0;
        int r = 0;

        if (code != 0)
                return ext4_error(e, code, n, reterr);
        do {
                code = ext2fs_file_read(file, e->buffer, EXT4_BUFFER, &got);
                if (code != 0)
                        r = ext4_error(e, code, n, reterr);
                else if ((r = write_all(fd, e->buffer, got)) < 0)
                        (void)error_set_errno(reterr, r, "Failed to write '%s'", node_name(n));
        } while (r >= 0 && got > 0);
        (void)ext2fs_file_close(file);
        return r;
}
