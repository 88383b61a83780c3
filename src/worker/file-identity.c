/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "file-identity.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define NSEC_PER_SEC INT64_C(1000000000)

void file_identity_done(FileIdentity *f) {
        safe_close(f->fd);
        free(f->path);
        free(f->label);
        *f = FILE_IDENTITY_NULL;
}

static const char *file_kind(mode_t mode) {
        switch (mode & S_IFMT) {
        case S_IFDIR:
                return "a directory";
        case S_IFBLK:
                return "a block device";
        case S_IFCHR:
                return "a character device";
        case S_IFIFO:
                return "a FIFO";
        case S_IFSOCK:
                return "a socket";
        case S_IFLNK:
                return "a symbolic link";
        default:
                return "no file of a known kind"; /* an epoll, a timer and their like */
        }
}

static bool is_stream(mode_t mode) {
        return S_ISFIFO(mode) || S_ISSOCK(mode);
}

static int check_kind(int fd, const char *what, bool stream, ErrorCode code, Error **reterr) {
        struct stat st;

        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", what);
        if (!S_ISREG(st.st_mode) && !(stream && is_stream(st.st_mode)))
                return error_set(reterr, code, "%s is %s, where a regular file%s is needed", what,
                                file_kind(st.st_mode), stream ? " or a pipe" : "");
        return 0;
}

static int check_readable(int fd, const char *what, bool stream, ErrorCode code, Error **reterr) {
        int flags = fcntl(fd, F_GETFL), r;

        if (flags < 0)
                return error_set_errno(reterr, -errno, "%s: no usable descriptor", what);
        r = check_kind(fd, what, stream, code, reterr);
        if (r < 0)
                return r;
        /* Anybody can make an O_PATH or a write-only descriptor of a file that he may not read, and the rest
         * is done with the rights of the service. */
        if ((flags & O_PATH) || ((flags & O_ACCMODE) != O_RDONLY && (flags & O_ACCMODE) != O_RDWR))
                return error_set(reterr, code, "%s was not opened for reading", what);
        return 0;
}

int file_check_readable(int fd, const char *what, ErrorCode code, Error **reterr) {
        return check_readable(fd, what, false, code, reterr);
}

int file_check_source(int fd, const char *what, ErrorCode code, Error **reterr) {
        return check_readable(fd, what, true, code, reterr);
}

int file_check_sink(int fd, const char *what, ErrorCode code, Error **reterr) {
        int flags = fcntl(fd, F_GETFL), r;

        if (flags < 0)
                return error_set_errno(reterr, -errno, "%s: no usable descriptor", what);
        r = check_kind(fd, what, true, code, reterr);
        if (r < 0)
                return r;
        if ((flags & O_PATH) || ((flags & O_ACCMODE) != O_WRONLY && (flags & O_ACCMODE) != O_RDWR))
                return error_set(reterr, code, "%s was not opened for writing", what);
        if (flags & O_APPEND) /* then it would not matter where something is written to */
                return error_set(reterr, code, "%s was opened for appending", what);
        return 0;
}

/* The kernel's own name of an open file: absolute, no symbolic link in it. */
static int get_path(int fd, const char *what, char **ret, Error **reterr) {
        char link[32], path[PATH_MAX + 1];
        ssize_t n;

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%i", fd);
        n = readlink(link, path, sizeof(path));
        if (n < 0)
                return error_set_errno(reterr, -errno, "%s: its path cannot be read", what);
        if ((size_t)n == sizeof(path))
                return error_set_errno(reterr, -ENAMETOOLONG, "%s", what);
        path[n] = '\0';
        *ret = strdup(path);
        return *ret ? 0 : error_set_errno(reterr, -ENOMEM, "%s", what);
}

static int get_label(const char *what, const char *path, char **ret) {
        _cleanup_free_ char *escaped = string_escape(path, strlen(path), PATH_MAX);

        *ret = escaped ? strf("%s '%s'", what, escaped) : NULL;
        return *ret ? 0 : -ENOMEM;
}

int file_label(int fd, const char *what, char **ret) {
        _cleanup_free_ char *path = NULL;
        int r;

        r = get_path(fd, what, &path, NULL);
        if (r < 0)
                return r;
        if (path[0] == '/')
                return get_label(what, path, ret);
        *ret = strdup(what);
        return *ret ? 0 : -ENOMEM;
}

/* `error` is what opening the path failed with, 0 if it led to another file. */
static int set_unreachable(const FileIdentity *f, nlink_t nlink, int error, Error **reterr) {
        static const char suffix[] = " (deleted)";
        size_t n = strlen(f->path), m = strlen(suffix);

        if (nlink == 0 || (n > m && streq(f->path + n - m, suffix)))
                return error_set(reterr, ERROR_IMAGE_MISSING, "%s is a deleted file", f->label);
        return error_set(reterr, ERROR_IMAGE_MISSING,
                        "%s is not what the service finds at that path (%s): keep it where the service can "
                        "reach it, not in a private /tmp, a container or a mount of your own",
                        f->label, error > 0 ? strerror(error) : "but another file");
}

static int fill_times(FileIdentity *f, Error **reterr) {
        struct statx sx;

        if (statx(f->fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &sx) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", f->label);
        f->ino = sx.stx_ino;
        f->size = sx.stx_size;
        f->ctime = sx.stx_ctime.tv_sec * NSEC_PER_SEC + sx.stx_ctime.tv_nsec;
        f->mtime = sx.stx_mtime.tv_sec * NSEC_PER_SEC + sx.stx_mtime.tv_nsec;
        if (sx.stx_mask & STATX_BTIME)
                f->btime = sx.stx_btime.tv_sec * NSEC_PER_SEC + sx.stx_btime.tv_nsec;
        return 0;
}

/* Opened as a mere path first: what stands there by now could be a device, whose opening does things. */
static int open_same(int fd, const FileIdentity *f, Error **reterr) {
        struct open_how how = { .flags = O_PATH | O_CLOEXEC, .resolve = RESOLVE_NO_SYMLINKS };
        _cleanup_close_ int path_fd = -EBADF;
        struct stat theirs, ours;
        char link[32];
        int r;

        if (fstat(fd, &theirs) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", f->label);
        if (f->path[0] != '/') /* on no mount at all */
                return set_unreachable(f, theirs.st_nlink, ENOENT, reterr);
        path_fd = (int)syscall(SYS_openat2, AT_FDCWD, f->path, &how, sizeof(how));
        if (path_fd < 0 || fstat(path_fd, &ours) < 0)
                return set_unreachable(f, theirs.st_nlink, errno, reterr);
        if (ours.st_dev != theirs.st_dev || ours.st_ino != theirs.st_ino)
                return set_unreachable(f, theirs.st_nlink, 0, reterr);

        (void)snprintf(link, sizeof(link), "/proc/self/fd/%i", path_fd);
        r = open(link, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (r < 0)
                return error_set(reterr, ERROR_IMAGE_MISSING, "%s cannot be opened by the service: %s",
                                f->label, strerror(errno));
        return r;
}

int file_identify(int fd, const char *what, FileIdentity *ret, Error **reterr) {
        _cleanup_file_identity_ FileIdentity f = FILE_IDENTITY_NULL;
        int r;

        r = file_check_readable(fd, what, ERROR_INVALID_IMAGE, reterr);
        if (r < 0)
                return r;
        r = get_path(fd, what, &f.path, reterr);
        if (r < 0)
                return r;
        r = get_label(what, f.path, &f.label);
        if (r < 0)
                return error_set_errno(reterr, r, "%s", what);
        /* The path has to go through JSON and D-Bus. */
        if (!utf8_is_valid(f.path, strlen(f.path)))
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s has a path that is not UTF-8: rename it",
                                f.label);
        r = f.fd = open_same(fd, &f, reterr);
        if (r < 0)
                return r;
        r = fill_times(&f, reterr);
        if (r < 0)
                return r;
        *ret = f;
        f = FILE_IDENTITY_NULL;
        return 0;
}
