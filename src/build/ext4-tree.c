/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Inodes and folders. The blocks of a folder are filled in one go, when all inodes have their numbers:
 * adding names one by one would look through the whole folder for each. */
#include <unistd.h>

#include "ext4-internal.h"
#include "util/string-util.h"

#define LOST_AND_FOUND "lost+found"
#define FAST_SYMLINK_MAX 59 /* a longer target gets a block */

#define TIME_MIN INT64_C(-0x80000000)
#define TIME_MAX INT64_C(0x37fffffff) /* 34 bits, of which the lower 32 are signed */

typedef struct Writer {
        Ext4 *e;
        Tree *t;
} Writer;

/* The bits that do not fit the old field have their place beside the nanoseconds. */
static void set_time(const struct timespec *t, uint32_t *ret, uint32_t *ret_extra) {
        int64_t seconds = MAX((int64_t)t->tv_sec, TIME_MIN);

        seconds = MIN(seconds, TIME_MAX);
        *ret = (uint32_t)seconds;
        *ret_extra = (uint32_t)((seconds - (int32_t)seconds) >> 32 & 3) | (uint32_t)t->tv_nsec << 2;
}

static void set_times(Ext4 *e, const Inode *i, struct ext2_inode_large *inode) {
        struct timespec now = { .tv_sec = e->fs->now };

        set_time(&i->mtime, &inode->i_mtime, &inode->i_mtime_extra);
        set_time(&i->mtime, &inode->i_atime, &inode->i_atime_extra);
        set_time(&now, &inode->i_ctime, &inode->i_ctime_extra);
        set_time(&now, &inode->i_crtime, &inode->i_crtime_extra);
}

static void set_device(const Inode *i, struct ext2_inode_large *inode) {
        if (i->major < 256 && i->minor < 256)
                inode->i_block[0] = i->major << 8 | i->minor;
        else
                inode->i_block[1] = (i->minor & 0xff) | i->major << 8 | (i->minor & ~0xffU) << 12;
}

static void set_metadata(Ext4 *e, const Inode *i, struct ext2_inode_large *inode) {
        inode->i_mode = (uint16_t)i->mode;
        inode->i_uid = (uint16_t)i->uid;
        inode->i_gid = (uint16_t)i->gid;
        ext2fs_set_i_uid_high(*inode, (uint16_t)(i->uid >> 16));
        ext2fs_set_i_gid_high(*inode, (uint16_t)(i->gid >> 16));
        inode->i_extra_isize = sizeof(*inode) - EXT2_GOOD_OLD_INODE_SIZE;
        set_times(e, i, inode);
}

static errcode_t init_extents(Ext4 *e, ext2_ino_t ino, struct ext2_inode_large *inode) {
        ext2_extent_handle_t handle;
        errcode_t code;

        inode->i_flags |= EXT4_EXTENTS_FL;
        code = ext2fs_extent_open2(e->fs, ino, (struct ext2_inode *)inode, &handle);
        if (code == 0)
                ext2fs_extent_free(handle);
        return code;
}

static errcode_t fill_inode(Ext4 *e, const Inode *i, struct ext2_inode_large *inode) {
        set_metadata(e, i, inode);
        inode->i_links_count = (uint16_t)i->n_links;
        if (S_ISCHR(i->mode) || S_ISBLK(i->mode))
                set_device(i, inode);
        if (S_ISLNK(i->mode) && strlen(i->target) <= FAST_SYMLINK_MAX) {
                memcpy(inode->i_block, i->target, strlen(i->target));
                inode->i_size = (uint32_t)strlen(i->target);
                return 0;
        }
        if (S_ISREG(i->mode) && i->size > 0)
                /* Until its content comes, and for good if it is all a hole. */
                (void)ext2fs_inode_size_set(e->fs, (struct ext2_inode *)inode, i->size);
        return S_ISREG(i->mode) || S_ISDIR(i->mode) || S_ISLNK(i->mode) ? init_extents(e, i->ino, inode) : 0;
}

static errcode_t write_xattrs(Ext4 *e, const Inode *i) {
        struct ext2_xattr_handle *handle;
        errcode_t code, q;

        if (!i->xattrs)
                return 0;
        code = ext2fs_xattrs_open(e->fs, i->ino, &handle);
        if (code != 0)
                return code;
        code = ext2fs_xattrs_read(handle);
        for (const Xattr *x = i->xattrs; code == 0 && x; x = x->next)
                code = ext2fs_xattr_set(handle, x->name, x->value, x->len);
        q = ext2fs_xattrs_close(&handle);
        return code != 0 ? code : q;
}

static int write_content(Ext4 *e, const Node *n, const void *data, size_t len, Error **reterr) {
        int r;

        r = ext4_file_begin(e, n, reterr);
        if (r < 0)
                return r;
        r = ext4_file_write(e, data, len, 0, reterr);
        return r < 0 ? r : ext4_file_end(e, reterr);
}

/* A target that does not fit the inode is content like a file's. */
static int write_own_content(Ext4 *e, Node *n, Error **reterr) {
        Inode *i = node_inode(n);

        if (S_ISLNK(i->mode) && strlen(i->target) > FAST_SYMLINK_MAX) {
                i->size = strlen(i->target);
                return write_content(e, n, i->target, i->size, reterr);
        }
        return i->data ? write_content(e, n, i->data, i->size, reterr) : 0;
}

static int add_inode(Ext4 *e, Node *n, Error **reterr) {
        struct ext2_inode_large inode = {};
        Inode *i = node_inode(n);
        ext2_ino_t ino;
        errcode_t code;

        code = ext2fs_new_inode(e->fs, EXT2_ROOT_INO, i->mode, NULL, &ino);
        if (code != 0)
                return ext4_error(e, code, n, reterr);
        ext2fs_inode_alloc_stats2(e->fs, ino, +1, S_ISDIR(i->mode));
        i->ino = ino;
        code = fill_inode(e, i, &inode);
        if (code == 0)
                code = ext2fs_write_inode_full(e->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
        if (code == 0)
                code = write_xattrs(e, i);
        return code != 0 ? ext4_error(e, code, n, reterr) : write_own_content(e, n, reterr);
}

static int visit_inode(Node *n, void *userdata, Error **reterr) {
        return node_inode(n)->ino != 0 ? 0 : add_inode(((Writer *)userdata)->e, n, reterr);
}

/* The root folder and the place for what e2fsck finds are there already, with their blocks. */
static int adopt_folder(Ext4 *e, Node *n, ext2_ino_t ino, Error **reterr) {
        struct ext2_inode_large inode;
        Inode *i = node_inode(n);
        errcode_t code;

        if (i->ino != 0)
                return 0;
        i->ino = ino;
        code = ext2fs_read_inode_full(e->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
        if (code == 0) {
                set_metadata(e, i, &inode);
                code = ext2fs_write_inode_full(e->fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
        }
        if (code == 0)
                code = write_xattrs(e, i);
        return code != 0 ? ext4_error(e, code, n, reterr) : 0;
}

static int add_lost_and_found(Ext4 *e, Tree *t, Error **reterr) {
        Node *n = tree_resolve(t, LOST_AND_FOUND);
        ext2_ino_t ino;
        errcode_t code;
        int r;

        if (!n) {
                Inode *i = inode_new(S_IFDIR | 0700);

                if (!i)
                        return ext4_error(e, ENOMEM, NULL, reterr);
                i->mtime.tv_sec = e->fs->now;
                r = tree_add(t, LOST_AND_FOUND, TREE_LAYER_OURS, i, reterr);
                if (r < 0)
                        return r;
                n = tree_resolve(t, LOST_AND_FOUND);
        }
        if (!S_ISDIR(node_inode(n)->mode) || node_parent(n) != tree_root(t) ||
                        !streq(node_name(n), LOST_AND_FOUND))
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The entry '%s' is refused: in ext4 it is a folder", LOST_AND_FOUND);
        code = ext2fs_lookup(e->fs, EXT2_ROOT_INO, LOST_AND_FOUND, strlen(LOST_AND_FOUND), NULL, &ino);
        return code != 0 ? ext4_error(e, code, n, reterr) : adopt_folder(e, n, ino, reterr);
}

int ext4_add_tree(Ext4 *e, Tree *t, Error **reterr) {
        Writer w = { .e = e, .t = t };
        int r;

        r = adopt_folder(e, tree_root(t), EXT2_ROOT_INO, reterr);
        if (r < 0)
                return r;
        r = add_lost_and_found(e, t, reterr);
        if (r < 0)
                return r;
        return tree_walk(t, visit_inode, &w, reterr);
}

static int file_type(mode_t mode) {
        switch (mode & S_IFMT) {
        case S_IFREG:
                return EXT2_FT_REG_FILE;
        case S_IFDIR:
                return EXT2_FT_DIR;
        case S_IFCHR:
                return EXT2_FT_CHRDEV;
        case S_IFBLK:
                return EXT2_FT_BLKDEV;
        case S_IFIFO:
                return EXT2_FT_FIFO;
        case S_IFSOCK:
                return EXT2_FT_SOCK;
        case S_IFLNK:
                return EXT2_FT_SYMLINK;
        default:
                return EXT2_FT_UNKNOWN;
        }
}

/* A folder's blocks, one after another */
typedef struct FolderWriter {
        Ext4 *e;
        ext2_ino_t ino;
        struct ext2_inode inode;
        char *block;                 /* the one that is being filled; owned by libext2fs */
        struct ext2_dir_entry *last; /* it reaches to the end of the block */
        blk64_t n_blocks;
} FolderWriter;

static errcode_t write_block(FolderWriter *w) {
        int flags = 0;
        blk64_t physical;
        errcode_t code;

        code = ext2fs_bmap2(w->e->fs, w->ino, &w->inode, NULL, BMAP_ALLOC, w->n_blocks, &flags, &physical);
        if (code == 0)
                code = ext2fs_write_dir_block4(w->e->fs, physical, w->block, 0, w->ino);
        ext2fs_free_mem(&w->block);
        w->n_blocks++;
        return code;
}

/* The first block starts with "." and "..", any other with an entry that stands for nothing. */
static errcode_t new_block(FolderWriter *w, ext2_ino_t parent) {
        bool first = w->n_blocks == 0;
        errcode_t code = ext2fs_new_dir_block(w->e->fs, first ? w->ino : 0, parent, &w->block);

        if (code != 0)
                return code;
        w->last = (struct ext2_dir_entry *)w->block;
        if (first)
                w->last = (struct ext2_dir_entry *)(w->block + w->last->rec_len);
        return 0;
}

static errcode_t add_name(FolderWriter *w, const char *name, const Inode *i) {
        unsigned room, used, needed = ext2fs_dir_rec_len((uint8_t)strlen(name), 0);
        struct ext2_dir_entry *entry = w->last;
        errcode_t code;

        (void)ext2fs_get_rec_len(w->e->fs, entry, &room);
        used = entry->inode != 0 ? ext2fs_dir_rec_len((uint8_t)ext2fs_dirent_name_len(entry), 0) : 0;
        if (room - used < needed) {
                code = write_block(w);
                if (code == 0)
                        code = new_block(w, 0);
                return code != 0 ? code : add_name(w, name, i);
        }
        if (used > 0) {
                (void)ext2fs_set_rec_len(w->e->fs, used, entry);
                entry = (struct ext2_dir_entry *)((char *)entry + used);
                (void)ext2fs_set_rec_len(w->e->fs, room - used, entry);
        }
        entry->inode = i->ino;
        ext2fs_dirent_set_name_len(entry, (int)strlen(name));
        ext2fs_dirent_set_file_type(entry, file_type(i->mode));
        memcpy(entry->name, name, strlen(name));
        w->last = entry;
        return 0;
}

static errcode_t fill_folder(FolderWriter *w, Node *const *children, size_t n, ext2_ino_t parent) {
        blk64_t had;
        unsigned links = 2;
        errcode_t code;

        code = ext2fs_read_inode(w->e->fs, w->ino, &w->inode);
        if (code != 0)
                return code;
        had = EXT2_I_SIZE(&w->inode) / EXT4_BLOCK;
        code = new_block(w, parent);
        for (size_t i = 0; code == 0 && i < n; i++) {
                code = add_name(w, node_name(children[i]), node_inode(children[i]));
                links += S_ISDIR(node_inode(children[i])->mode);
        }
        if (code == 0)
                code = write_block(w);
        while (code == 0 && w->n_blocks < had) { /* what lost+found keeps for bad times */
                code = new_block(w, 0);
                if (code == 0)
                        code = write_block(w);
        }
        if (code != 0)
                return code;
        w->inode.i_links_count = links > TREE_LINKS_MAX ? 1 : (uint16_t)links; /* 1: too many to count */
        code = ext2fs_inode_size_set(w->e->fs, &w->inode, w->n_blocks * EXT4_BLOCK);
        return code != 0 ? code : ext2fs_write_inode(w->e->fs, w->ino, &w->inode);
}

static int write_folder(Node *n, void *userdata, Error **reterr) {
        FolderWriter w = { .e = ((Writer *)userdata)->e, .ino = node_inode(n)->ino };
        _cleanup_free_ Node **children = NULL;
        size_t n_children;
        errcode_t code;

        if (!S_ISDIR(node_inode(n)->mode))
                return 0;
        if (node_children(n, &children, &n_children) < 0)
                return ext4_error(w.e, ENOMEM, n, reterr);
        code = fill_folder(&w, children, n_children, node_inode(node_parent(n))->ino);
        ext2fs_free_mem(&w.block);
        return code != 0 ? ext4_error(w.e, code, n, reterr) : 0;
}

int ext4_write_folders(Ext4 *e, Tree *t, Error **reterr) {
        Writer w = { .e = e, .t = t };

        return tree_walk(t, write_folder, &w, reterr);
}
