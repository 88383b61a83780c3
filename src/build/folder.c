/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/limits.h>
#include <linux/openat2.h>
#include <search.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "folder.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define BUFFER_SIZE (256 * KIB)
#define HOLES_FROM (64 * MIB)
#define DEPTH_MAX 1024 /* of folders in folders; each is open while it is read */

/* A file that may turn up under another name again */
typedef struct Known {
        dev_t dev;
        ino_t ino;
        char *path; /* owned; where it was found first */
} Known;

typedef struct Walker {
        Tree *tree;
        FolderFlags flags;
        dev_t dev;
        void *known; /* tsearch tree of Known */
        Progress *progress;
} Walker;

static int compare_known(const void *a, const void *b) {
        const Known *x = a, *y = b;

        if (x->dev != y->dev)
                return x->dev < y->dev ? -1 : 1;
        return x->ino < y->ino ? -1 : x->ino > y->ino;
}

static void known_free(void *p) {
        Known *k = p;

        free(k->path);
        free(k);
}

static int failed(int r, const char *path, Error **reterr) {
        return error_set_errno(reterr, r, "Failed to read '%s'", path);
}

/* Those that mean something in the guest: labels of network or compressing file systems do not. */
static bool xattr_is_wanted(const char *name) {
        return startswith(name, "user.") || startswith(name, "security.") || startswith(name, "trusted.") ||
                        streq(name, "system.posix_acl_access") || streq(name, "system.posix_acl_default");
}

/* By way of /proc, since there is no call for a symbolic link below a folder, and no file is opened. */
static int read_xattr(const char *at, const char *name, Inode *i) {
        _cleanup_free_ char *value = malloc(XATTR_SIZE_MAX);
        ssize_t n;

        if (!value)
                return -ENOMEM;
        n = lgetxattr(at, name, value, XATTR_SIZE_MAX);
        if (n < 0)
                return errno == ENODATA ? 0 : -errno;
        return inode_add_xattr(i, name, value, (size_t)n);
}

static int read_xattrs(int folder, const char *name, Inode *i) {
        _cleanup_free_ char *at = strf("/proc/self/fd/%d/%s", folder, name);
        _cleanup_free_ char *list = malloc(XATTR_LIST_MAX);
        ssize_t len;
        int r = 0;

        if (!at || !list)
                return -ENOMEM;
        len = llistxattr(at, list, XATTR_LIST_MAX);
        if (len < 0)
                return errno == ENOTSUP ? 0 : -errno;
        for (const char *p = list; r >= 0 && p < list + len; p += strlen(p) + 1)
                if (xattr_is_wanted(p))
                        r = read_xattr(at, p, i);
        return r;
}

static int read_target(int folder, const char *name, Inode *i) {
        char target[TREE_PATH_MAX + 1];
        ssize_t n = readlinkat(folder, name, target, sizeof(target));

        if (n < 0)
                return -errno;
        if (n == sizeof(target))
                return -ENAMETOOLONG;
        target[n] = '\0';
        i->target = strdup(target);
        return i->target ? 0 : -ENOMEM;
}

/* Blocks that are said to be fewer may be holes, or compressed, or not written yet: only of a large file
 * with next to none is it taken for holes. */
static uint64_t allocated(const struct stat *st) {
        uint64_t size = (uint64_t)st->st_size, blocks = (uint64_t)st->st_blocks * 512;

        return size >= HOLES_FROM && blocks < size / 16 ? MIN(size, blocks * 16) : size;
}

static int make_inode(Walker *w, int folder, const char *name, const struct stat *st, Inode **ret) {
        _cleanup_inode_ Inode *i = inode_new(st->st_mode);
        int r = 0;

        if (!i)
                return -ENOMEM;
        if (!(w->flags & FOLDER_ROOT_OWNED)) {
                i->uid = st->st_uid;
                i->gid = st->st_gid;
        }
        i->mtime = st->st_mtim;
        i->major = major(st->st_rdev);
        i->minor = minor(st->st_rdev);
        if (S_ISREG(st->st_mode)) {
                i->size = (uint64_t)st->st_size;
                i->allocated = allocated(st);
        }
        if (S_ISLNK(st->st_mode))
                r = read_target(folder, name, i);
        if (r >= 0)
                r = read_xattrs(folder, name, i);
        if (r >= 0)
                *ret = TAKE_PTR(i);
        return r;
}

/* 1: it was known, and is now linked */
static int link_if_known(Walker *w, const char *path, const struct stat *st, Error **reterr) {
        Known key = { .dev = st->st_dev, .ino = st->st_ino }, *k, **found;
        int r;

        if (S_ISDIR(st->st_mode) || st->st_nlink < 2)
                return 0;
        found = tfind(&key, &w->known, compare_known);
        if (found) {
                r = tree_link(w->tree, path, (*found)->path, 0, reterr);
                return r < 0 ? r : 1;
        }
        k = calloc(1, sizeof(Known));
        if (!k)
                return failed(-ENOMEM, path, reterr);
        *k = key;
        k->path = strdup(path);
        if (!k->path || !tsearch(k, &w->known, compare_known)) {
                known_free(k);
                return failed(-ENOMEM, path, reterr);
        }
        return 0;
}

static int read_folder(Walker *w, int fd, const char *path, unsigned depth, Error **reterr);

static int enter_folder(Walker *w, int folder, const char *name, const char *path, const struct stat *st,
                unsigned depth, Error **reterr) {
        int fd;

        if (st->st_dev != w->dev) /* of files an overlay may tell another one */
                return 0;
        fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? failed(-errno, path, reterr) : read_folder(w, fd, path, depth + 1, reterr);
}

static int read_entry(
                Walker *w, int folder, const char *name, const char *path, unsigned depth, Error **reterr) {
        struct stat st;
        Inode *i;
        int r;

        if (fstatat(folder, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return failed(-errno, path, reterr);
        r = link_if_known(w, path, &st, reterr);
        if (r != 0)
                return r < 0 ? r : 0;
        r = make_inode(w, folder, name, &st, &i);
        if (r < 0)
                return failed(r, path, reterr);
        progress_add(w->progress, i->size);
        r = tree_add(w->tree, path, 0, i, reterr);
        if (r < 0 || !S_ISDIR(st.st_mode) || streq(name, "."))
                return r;
        return enter_folder(w, folder, name, path, &st, depth, reterr);
}

/* Takes fd. */
static int read_folder(Walker *w, int fd, const char *path, unsigned depth, Error **reterr) {
        DIR *dir = fdopendir(fd);
        int r = 0;

        if (!dir) {
                r = -errno;
                safe_close(fd);
                return failed(r, path, reterr);
        }
        if (depth > DEPTH_MAX)
                r = failed(-ELOOP, path, reterr);
        while (r >= 0) {
                _cleanup_free_ char *child = NULL;
                struct dirent *de;

                errno = 0;
                de = readdir(dir);
                if (!de) {
                        r = errno != 0 ? failed(-errno, path, reterr) : 0;
                        break;
                }
                if (streq(de->d_name, ".") || streq(de->d_name, ".."))
                        continue;
                child = strf("%s/%s", path, de->d_name);
                r = child ? read_entry(w, dirfd(dir), de->d_name, child, depth, reterr)
                          : failed(-ENOMEM, path, reterr);
        }
        closedir(dir);
        return r;
}

/* In the order of names rather than in that of the folder, so that equal trees become equal images. */
static int number_entry(Node *n, void *userdata, Error **reterr) {
        uint64_t *n_entries = userdata;
        Inode *i = node_inode(n);

        if (i->entry == 0)
                i->entry = ++*n_entries;
        return 0;
}

int folder_read_tree(int fd, FolderFlags flags, Tree *t, Progress *progress, Error **reterr) {
        Walker w = { .tree = t, .flags = flags, .progress = progress };
        _cleanup_close_ int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        uint64_t n_entries = 0;
        struct stat st;
        int r;

        if (copy < 0 || fstat(copy, &st) < 0)
                return failed(-errno, ".", reterr);
        w.dev = st.st_dev;
        r = read_entry(&w, copy, ".", ".", 0, reterr);
        if (r >= 0)
                r = read_folder(&w, TAKE_FD(copy), ".", 0, reterr);
        tdestroy(w.known, known_free);
        return r < 0 ? r : tree_walk(t, number_entry, &n_entries, reterr);
}

int folder_open_below(int folder, const char *path) {
        struct open_how how = {
                .flags = O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY,
                .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
        };
        long fd = syscall(SYS_openat2, folder, path, &how, sizeof(how));

        return fd < 0 ? -errno : (int)fd;
}

static int copy_range(int fd, off_t from, off_t to, uint8_t *buffer, Ext4 *e, Progress *progress,
                const char *path, Error **reterr) {
        while (from < to) {
                ssize_t n = pread(fd, buffer, (size_t)MIN((off_t)BUFFER_SIZE, to - from), from);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return failed(n < 0 ? -errno : -ESTALE, path, reterr);
                r = ext4_file_write(e, buffer, (size_t)n, (uint64_t)from, reterr);
                if (r < 0)
                        return r;
                progress_add(progress, (uint64_t)n);
                from += n;
        }
        return 0;
}

static int copy_data(int fd, off_t size, Ext4 *e, Progress *progress, const char *path, Error **reterr) {
        _cleanup_free_ uint8_t *buffer = malloc(BUFFER_SIZE);
        off_t from, to = 0;
        int r = 0;

        if (!buffer)
                return failed(-ENOMEM, path, reterr);
        while (r >= 0 && to < size) {
                from = lseek(fd, to, SEEK_DATA);
                if (from < 0 && errno == ENXIO) /* a hole up to its end */
                        return 0;
                to = from < 0 ? -1 : lseek(fd, from, SEEK_HOLE);
                if (to < 0)
                        return failed(-errno, path, reterr);
                to = MIN(to, size);
                r = copy_range(fd, from, to, buffer, e, progress, path, reterr);
        }
        return r;
}

static int copy_file(int folder, const Node *n, Ext4 *e, Progress *progress, Error **reterr) {
        _cleanup_free_ char *path = NULL;
        _cleanup_close_ int fd = -EBADF;
        const Inode *i = node_inode(n);
        struct stat st;
        int r;

        if (node_path(n, &path) < 0)
                return failed(-ENOMEM, "?", reterr);
        fd = folder_open_below(folder, path);
        if (fd < 0)
                return failed(fd, path, reterr);
        if (fstat(fd, &st) < 0)
                return failed(-errno, path, reterr);
        if (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != i->size ||
                        st.st_mtim.tv_sec != i->mtime.tv_sec || st.st_mtim.tv_nsec != i->mtime.tv_nsec)
                return error_set(reterr, ERROR_INVALID_ARCHIVE, "'%s' was changed while it was read", path);
        r = ext4_file_begin(e, n, reterr);
        if (r >= 0)
                r = copy_data(fd, st.st_size, e, progress, path, reterr);
        return r < 0 ? r : ext4_file_end(e, reterr);
}

int folder_read_contents(
                int fd, Node *const *files, size_t n_files, Ext4 *e, Progress *progress, Error **reterr) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n_files; i++)
                r = copy_file(fd, files[i], e, progress, reterr);
        return r;
}
