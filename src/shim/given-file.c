/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "given-file.h"
#include "util/fd-util.h"

#define COPY_CHUNK (16 * MIB)

static int open_error(const GivenFile *f, int r, Error **reterr_error) {
        switch (r) {
        case -ENOENT:
        case -ENOTDIR:
                return error_set(reterr_error, ERROR_IMAGE_MISSING, "%s: %s", f->path, strerror(-r));
        case -ELOOP:
                return error_set(reterr_error, ERROR_IMAGE_CHANGED, "%s: a symbolic link is in its path",
                                f->path);
        case -EACCES:
        case -EPERM:
                return error_set(reterr_error, ERROR_ACCESS_DENIED, "%s: %s", f->path, strerror(-r));
        default:
                return error_set_errno(reterr_error, r, "Failed to open '%s'", f->path);
        }
}

static uint64_t nanoseconds(struct statx_timestamp ts) {
        return (uint64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static bool is_same(const GivenFile *f, const struct statx *stx) {
        if (stx->stx_ino != f->ino)
                return false;
        if (f->btime != 0)
                return (stx->stx_mask & STATX_BTIME) && nanoseconds(stx->stx_btime) == f->btime;
        return nanoseconds(stx->stx_ctime) == f->ctime;
}

static bool is_modified(const GivenFile *f, const struct statx *stx) {
        return stx->stx_size != f->size || nanoseconds(stx->stx_mtime) != f->mtime;
}

int given_file_open(const GivenFile *f, bool *ret_modified, Error **reterr_error) {
        const struct open_how how = {
                .flags = O_PATH | O_CLOEXEC, /* no device or FIFO notices */
                .resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS,
        };
        _cleanup_close_ int path_fd = (int)syscall(SYS_openat2, AT_FDCWD, f->path, &how, sizeof(how));
        char self[64];
        struct statx stx;
        int fd;

        if (path_fd < 0)
                return open_error(f, -errno, reterr_error);
        if (statx(path_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS | STATX_BTIME, &stx) < 0)
                return open_error(f, -errno, reterr_error);
        if (!S_ISREG(stx.stx_mode))
                return error_set(reterr_error, ERROR_IMAGE_CHANGED, "%s: not a regular file", f->path);
        if (!is_same(f, &stx))
                return error_set(reterr_error, ERROR_IMAGE_CHANGED, "%s: another file than it was", f->path);
        (void)snprintf(self, sizeof(self), "/proc/self/fd/%i", path_fd);
        fd = open(self, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (fd < 0)
                return open_error(f, -errno, reterr_error);
        *ret_modified = is_modified(f, &stx);
        return fd;
}

/* It cannot be changed any more: what is booted now is what each reset boots, too. */
static int copy(int fd) {
        _cleanup_close_ int memory = memfd_create("file", MFD_CLOEXEC | MFD_ALLOW_SEALING);
        off_t offset = 0;
        ssize_t n;

        if (memory < 0)
                return -errno;
        do
                n = sendfile(memory, fd, &offset, COPY_CHUNK);
        while (n > 0);
        if (n < 0 ||
                        fcntl(memory, F_ADD_SEALS,
                                        F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
                return -errno;
        return TAKE_FD(memory);
}

int given_file_share(const GivenFile *f, Error **reterr_error) {
        _cleanup_close_ int fd = -EBADF, memory = -EBADF;
        char self[64];

        (void)snprintf(self, sizeof(self), "/proc/self/fd/%i", f->target);
        fd = open(self, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd >= 0)
                return 0;
        if (errno != EACCES)
                return open_error(f, -errno, reterr_error);
        memory = copy(f->target);
        if (memory < 0)
                return error_set_errno(reterr_error, memory, "Failed to copy '%s'", f->path);
        if (dup3(memory, f->target, O_CLOEXEC) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to place '%s'", f->path);
        return 0;
}
