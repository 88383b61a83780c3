/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <linux/posix_acl_xattr.h>
#include <sys/sysmacros.h>

#include "ext4.h"
#include "tarball-entry.h"
#include "util/string-util.h"

#define ACL_ENTRIES_MAX 1024

static int refuse(struct archive_entry *entry, const char *why, Error **reterr) {
        const char *path = archive_entry_pathname(entry) ?: "";
        _cleanup_free_ char *shown = string_escape(path, strlen(path), 512);

        return error_set(reterr, ERROR_INVALID_ARCHIVE, "The entry '%s' is refused: %s", shown ?: "?", why);
}

static int no_memory(Error **reterr) {
        return error_set_errno(reterr, -ENOMEM, "Failed to note an entry");
}

static bool type_is_known(mode_t mode) {
        return S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode) || S_ISCHR(mode) || S_ISBLK(mode) ||
                        S_ISFIFO(mode) || S_ISSOCK(mode);
}

static int add_xattrs(struct archive_entry *entry, Inode *i, Error **reterr) {
        const char *name;
        const void *value;
        size_t len;

        archive_entry_xattr_reset(entry);
        while (archive_entry_xattr_next(entry, &name, &value, &len) == ARCHIVE_OK) {
                if (!name || strlen(name) > TREE_NAME_MAX || len > XATTR_SIZE_MAX)
                        return refuse(entry, "it has an attribute that is too large", reterr);
                if (inode_add_xattr(i, name, value, len) < 0)
                        return no_memory(reterr);
        }
        return 0;
}

/* The kernel's order of entries: by tag, of which the numbers rise in the right order, then by id. */
static int compare_acl_entries(const void *a, const void *b) {
        const struct posix_acl_xattr_entry *x = a, *y = b;
        uint32_t i = le32toh(x->e_id), j = le32toh(y->e_id);

        if (x->e_tag != y->e_tag)
                return le16toh(x->e_tag) < le16toh(y->e_tag) ? -1 : 1;
        return i < j ? -1 : i > j;
}

static int acl_tag(int tag) {
        switch (tag) {
        case ARCHIVE_ENTRY_ACL_USER_OBJ:
                return 0x01;
        case ARCHIVE_ENTRY_ACL_USER:
                return 0x02;
        case ARCHIVE_ENTRY_ACL_GROUP_OBJ:
                return 0x04;
        case ARCHIVE_ENTRY_ACL_GROUP:
                return 0x08;
        case ARCHIVE_ENTRY_ACL_MASK:
                return 0x10;
        case ARCHIVE_ENTRY_ACL_OTHER:
                return 0x20;
        default:
                return -EINVAL;
        }
}

/* libarchive reads the text that tars have; libext2fs takes what the kernel shows as an attribute. */
static int add_acl(struct archive_entry *entry, int which, const char *name, Inode *i, Error **reterr) {
        int n = archive_entry_acl_reset(entry, which), type, permissions, tag, id;
        _cleanup_free_ struct posix_acl_xattr_header *acl = NULL;
        struct posix_acl_xattr_entry *entries;
        size_t count = 0;
        const char *who;

        if (n <= 0 || (which == ARCHIVE_ENTRY_ACL_TYPE_ACCESS && n <= 3)) /* no more than the mode says */
                return 0;
        if (n > ACL_ENTRIES_MAX)
                return refuse(entry, "its access control list is too long", reterr);
        acl = calloc(1, sizeof(*acl) + (size_t)n * sizeof(*entries));
        if (!acl)
                return no_memory(reterr);
        acl->a_version = htole32(POSIX_ACL_XATTR_VERSION);
        entries = (struct posix_acl_xattr_entry *)(acl + 1);
        while (count < (size_t)n &&
                        archive_entry_acl_next(entry, which, &type, &permissions, &tag, &id, &who) ==
                                        ARCHIVE_OK) {
                bool named = tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP;

                if (acl_tag(tag) < 0 || (named && id < 0))
                        return refuse(entry, "its access control list has no numbers of users", reterr);
                entries[count++] = (struct posix_acl_xattr_entry){
                        .e_tag = htole16((uint16_t)acl_tag(tag)),
                        .e_perm = htole16((uint16_t)(permissions & 7)),
                        .e_id = htole32(named ? (uint32_t)id : UINT32_MAX),
                };
        }
        qsort(entries, count, sizeof(*entries), compare_acl_entries);
        return inode_add_xattr(i, name, acl, sizeof(*acl) + count * sizeof(*entries)) < 0 ? no_memory(reterr)
                                                                                          : 0;
}

static uint64_t allocated(struct archive_entry *entry, uint64_t size) {
        la_int64_t offset, len;
        uint64_t sum = 0;

        if (archive_entry_sparse_reset(entry) == 0)
                return size;
        while (archive_entry_sparse_next(entry, &offset, &len) == ARCHIVE_OK)
                sum += len > 0 ? (uint64_t)len + EXT4_BLOCK : 0;
        return MIN(sum, size);
}

static int set_size(struct archive_entry *entry, Inode *i, Error **reterr) {
        la_int64_t size = archive_entry_size(entry);

        if (size < 0 || (uint64_t)size > EXT4_SIZE_MAX - EXT4_BLOCK)
                return refuse(entry, "its size is absurd", reterr);
        i->size = (uint64_t)size;
        i->allocated = allocated(entry, i->size);
        return 0;
}

static int set_owner(struct archive_entry *entry, Inode *i, Error **reterr) {
        la_int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

        if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
                return refuse(entry, "its owner is no valid number", reterr);
        i->uid = (uint32_t)uid;
        i->gid = (uint32_t)gid;
        return 0;
}

static int set_details(struct archive_entry *entry, Inode *i, Error **reterr) {
        int r;

        r = set_owner(entry, i, reterr);
        if (r >= 0 && S_ISREG(i->mode))
                r = set_size(entry, i, reterr);
        if (r < 0)
                return r;
        if (S_ISLNK(i->mode)) {
                i->target = strdup(archive_entry_symlink(entry) ?: "");
                if (!i->target)
                        return no_memory(reterr);
        }
        if (S_ISCHR(i->mode) || S_ISBLK(i->mode)) {
                i->major = (uint32_t)archive_entry_rdevmajor(entry);
                i->minor = (uint32_t)archive_entry_rdevminor(entry);
                if (i->major >= 1 << 12 || i->minor >= 1 << 20)
                        return refuse(entry, "its device number is beyond what Linux has", reterr);
        }
        r = add_xattrs(entry, i, reterr);
        if (r >= 0 && !S_ISLNK(i->mode))
                r = add_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access", i, reterr);
        if (r >= 0 && S_ISDIR(i->mode))
                r = add_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default", i, reterr);
        return r;
}

int tarball_entry_to_inode(struct archive_entry *entry, Inode **ret, Error **reterr) {
        _cleanup_inode_ Inode *i = NULL;
        mode_t mode = archive_entry_mode(entry);
        long nsec = archive_entry_mtime_nsec(entry);
        int r;

        if (!type_is_known(mode))
                return refuse(entry, "it is of a type that no file system has", reterr);
        i = inode_new(S_ISLNK(mode) ? S_IFLNK | 0777 : mode & (S_IFMT | 07777));
        if (!i)
                return no_memory(reterr);
        i->mtime.tv_sec = archive_entry_mtime(entry);
        i->mtime.tv_nsec = nsec >= 0 && nsec < 1000000000 ? nsec : 0;
        r = set_details(entry, i, reterr);
        if (r >= 0)
                *ret = TAKE_PTR(i);
        return r;
}
