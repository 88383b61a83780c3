/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "ext4-internal.h"
#include "tool.h"
#include "util/string-util.h"

#define FREE_SPACE (64 * MIB) /* what an image has at least for a first boot */

/* A journal has a fixed size, and the image grows later. */
#define JOURNAL_SMALL_MIB 16 /* what mkfs.ext4 gives file systems of up to 1 GiB */
#define JOURNAL_LARGE_MIB 64 /* and up to 16 GiB */
#define JOURNAL_LIMIT GIB

#define BYTES_PER_INODE 16384 /* what mkfs.ext4 does for ordinary file systems */
#define INODE_SIZE 256

/* Stated, so that the image depends neither on this machine's mke2fs.conf nor on what newer versions turn
 * on: what boot loaders and kernels of the last ten years can read. */
#define FEATURES                                                                                       \
        "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super," \
        "large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

static uint64_t journal_mib(uint64_t size) {
        return size < JOURNAL_LIMIT ? JOURNAL_SMALL_MIB : JOURNAL_LARGE_MIB;
}

static uint64_t round_up(uint64_t n, uint64_t unit) {
        return (n + unit - 1) / unit * unit;
}

/* Inodes beyond those that are needed now: a quarter, and some for an empty image. */
static uint64_t inodes_for(uint64_t files) {
        return files + files / 4 + 1024;
}

static int measure(Node *n, void *userdata, Error **reterr) {
        const Inode *i = node_inode(n);
        Ext4Needs *needs = userdata;

        needs->files++; /* a file of several names counts several times, which does no harm */
        if (S_ISDIR(i->mode))
                needs->bytes += EXT4_BLOCK;
        if (S_ISREG(i->mode)) {
                needs->content += i->allocated / i->n_links;
                needs->bytes += round_up(i->allocated, EXT4_BLOCK) / i->n_links;
        }
        if (S_ISLNK(i->mode) || i->xattrs)
                needs->bytes += EXT4_BLOCK;
        needs->bytes += strlen(node_name(n)) +
                        12; /* with the reserve on top for what does not fit exactly */
        if (needs->bytes > EXT4_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "Its files are larger than 16 TiB together");
        return 0;
}

int ext4_measure(Tree *t, Ext4Needs *ret, Error **reterr) {
        Ext4Needs needs = {};
        int r = tree_walk(t, measure, &needs, reterr);

        if (r >= 0)
                *ret = needs;
        return r;
}

uint64_t ext4_size_least(const Ext4Needs *needs) {
        uint64_t size = needs->bytes + inodes_for(needs->files) * INODE_SIZE;

        /* Group descriptors, those that are kept for growing, and the trees of extents */
        size += size / 50 + 2 * MIB;
        size += journal_mib(size) * MIB;
        return round_up(size, MIB);
}

uint64_t ext4_size_for(const Ext4Needs *needs) {
        uint64_t least = ext4_size_least(needs);

        return round_up(least + MAX(least / 5, FREE_SPACE), MIB);
}

static int too_small(uint64_t size, const Ext4Needs *needs, Error **reterr) {
        uint64_t least = ext4_size_least(needs);

        return error_set(reterr, ERROR_IMAGE_TOO_SMALL,
                        "A file system of %" PRIu64 " MiB is too small for the files, which need %" PRIu64
                        " MiB",
                        size / MIB, (least > size ? least : ext4_size_for(needs)) / MIB);
}

int ext4_make(const Ext4Layout *layout, const Ext4Needs *needs, Error **reterr) {
        uint64_t inodes = inodes_for(needs->files);
        uint64_t bytes = MAX(layout->size / inodes, (uint64_t)1024); /* mkfs.ext4 takes no fewer */
        uint64_t ratio = MIN(bytes, (uint64_t)BYTES_PER_INODE);
        _cleanup_free_ char *extended = strf("offset=%" PRIu64 ",hash_seed=%s,lazy_itable_init=1,"
                                             "lazy_journal_init=1,nodiscard",
                        layout->offset, layout->uuid);
        _cleanup_free_ char *ratio_text = strf("%" PRIu64, ratio);
        _cleanup_free_ char *journal = strf("size=%" PRIu64, journal_mib(layout->size));
        _cleanup_free_ char *size = strf("%" PRIu64 "k", layout->size / KIB);
        _cleanup_free_ char *now = strf("E2FSPROGS_FAKE_TIME=%" PRId64, layout->now);
        const char *const argv[] = { "mkfs.ext4", "-q", "-F", "-t", "ext4", "-O", FEATURES, "-b", "4096",
                "-I", "256", "-i", ratio_text, "-J", journal, "-m", "1", "-U", layout->uuid, "-L",
                layout->label ?: "", "-E", extended, "/proc/self/fd/3", size, NULL };

        if (layout->size < ext4_size_least(needs))
                return too_small(layout->size, needs, reterr);
        if (!extended || !ratio_text || !journal || !size || !now)
                return error_set_errno(reterr, -ENOMEM, "Failed to make the file system");
        return tool_run(
                        &(ToolRun){
                                        .argv = argv,
                                        .environment = now,
                                        .package = "e2fsprogs",
                                        .stdin_fd = -EBADF,
                                        .stdout_fd = -EBADF,
                                        .fds = { layout->fd },
                                        .n_fds = 1,
                        },
                        reterr);
}

static const char *code_text(errcode_t code) {
        long number = (long)code - et_ext2_error_table.base;

        if (code > 0 && code < 4096)
                return strerror((int)code);
        return number >= 0 && number < et_ext2_error_table.n_msgs ? et_ext2_error_table.msgs[number]
                                                                  : "unknown error";
}

int ext4_error(Ext4 *e, errcode_t code, const Node *n, Error **reterr) {
        _cleanup_free_ char *path = NULL, *shown = NULL;

        if (code == EXT2_ET_BLOCK_ALLOC_FAIL || code == EXT2_ET_INODE_ALLOC_FAIL)
                return too_small(e->size, &e->needs, reterr);
        if (n && node_path(n, &path) >= 0)
                shown = string_escape(path, strlen(path), 512);
        if (code == EXT2_ET_SHORT_WRITE) /* what writing to a file comes to when the disk fills up */
                code = ENOSPC;
        if (code == EXT2_ET_EA_NO_SPACE)
                return error_set(reterr, ERROR_INVALID_ARCHIVE,
                                "The entry '%s' is refused: its attributes are larger than ext4 can keep",
                                shown ?: "?");
        return error_set(reterr,
                        code == ENOSPC || code == EDQUOT                              ? ERROR_NO_SPACE
                                        : code == ENOMEM || code == EXT2_ET_NO_MEMORY ? ERROR_NO_MEMORY
                                                                                      : ERROR_IO,
                        "Failed to write %s%s into the image: %s", n ? "/" : "the file system",
                        n ? shown ?: "?" : "", code_text(code));
}

int ext4_open(const Ext4Layout *layout, const Ext4Needs *needs, Ext4 **ret, Error **reterr) {
        _cleanup_free_ char *path = strf("/proc/self/fd/%d", layout->fd);
        _cleanup_free_ char *options = strf("offset=%" PRIu64, layout->offset);
        _cleanup_(ext4_freep) Ext4 *e = calloc(1, sizeof(Ext4));
        errcode_t code;

        if (e)
                e->buffer = malloc(EXT4_BUFFER);
        if (!path || !options || !e || !e->buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to open the file system");
        e->needs = *needs;
        e->size = layout->size;
        code = ext2fs_open2(path, options, EXT2_FLAG_RW | EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &e->fs);
        if (code == 0)
                code = ext2fs_read_bitmaps(e->fs);
        if (code != 0)
                return ext4_error(e, code, NULL, reterr);
        e->fs->now = layout->now;
        *ret = TAKE_PTR(e);
        return 0;
}

Ext4 *ext4_free(Ext4 *e) {
        if (!e)
                return NULL;
        if (e->extents)
                ext2fs_extent_free(e->extents);
        if (e->fs)
                ext2fs_free(e->fs);
        free(e->buffer);
        free(e);
        return NULL;
}

int ext4_close(Ext4 **e, Error **reterr) {
        _cleanup_(ext4_freep) Ext4 *owned = TAKE_PTR(*e);
        errcode_t code = ext2fs_close_free(&owned->fs);

        return code != 0 ? ext4_error(owned, code, NULL, reterr) : 0;
}

errcode_t ext4_allocate(Ext4 *e, blk64_t n, blk64_t *ret, blk64_t *ret_n) {
        errcode_t code = ext2fs_new_range(e->fs, 0, e->goal, n, NULL, ret, ret_n);

        if (code != 0)
                return code;
        ext2fs_block_alloc_stats_range(e->fs, *ret, *ret_n, +1);
        e->goal = *ret + *ret_n;
        return 0;
}
