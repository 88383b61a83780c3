/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "folder-stream.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define TAR "/usr/bin/tar"
#define PIECE (64 * KIB)

/* Writes the tar to `out`; its complaints are the user's to see. */
static int start_tar(const char *path, bool timeless, int out, pid_t *ret, Error **reterr) {
        const char *argv[] = { TAR, "--create", "--format=gnu", "--sort=name", "--owner=0", "--group=0",
                "--numeric-owner", "--directory", path, timeless ? "--mtime=@0" : "--no-same-owner", ".",
                NULL };
        const ChildFd fds[] = { { out, STDOUT_FILENO }, { STDERR_FILENO, STDERR_FILENO } };
        const ChildSpec spec = {
                .argv = (char *const *)argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT,
        };
        int r;

        r = child_spawn(&spec, ret);
        if (r == -ENOENT)
                return error_set(reterr, ERROR_TOOL_MISSING, "There is no " TAR ", which packs folders");
        return r < 0 ? error_set_errno(reterr, r, "Cannot run " TAR) : 0;
}

static int end_tar(pid_t pid, const char *path, Error **reterr) {
        int status;

        while (waitpid(pid, &status, 0) < 0)
                if (errno != EINTR)
                        return error_set_errno(reterr, -errno, "Cannot wait for " TAR);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
                return 0;
        return error_set(reterr, ERROR_IO, "Folder '%s' could not be read as a whole", path);
}

/* Where large files may lie; in memory as a last resort. */
static int unnamed_file(void) {
        const char *folder = getenv("TMPDIR");
        int fd;

        fd = open(isempty(folder) ? "/var/tmp" : folder, O_RDWR | O_TMPFILE | O_EXCL | O_CLOEXEC, 0600);
        if (fd < 0)
                fd = memfd_create("folder", MFD_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

int folder_stream_open(const char *path, int *ret_fd, Error **reterr) {
        _cleanup_close_ int fd = unnamed_file();
        pid_t pid;
        int r;

        if (fd < 0)
                return error_set_errno(reterr, fd, "Cannot pack folder '%s'", path);
        r = start_tar(path, false, fd, &pid, reterr);
        if (r >= 0)
                r = end_tar(pid, path, reterr);
        if (r < 0)
                return r;
        if (lseek(fd, 0, SEEK_SET) < 0)
                return error_set_errno(reterr, -errno, "Cannot pack folder '%s'", path);
        *ret_fd = TAKE_FD(fd);
        return 0;
}

int folder_stream_read(const char *path, void (*piece)(void *userdata, const void *data, size_t len),
                void *userdata, Error **reterr) {
        _cleanup_close_pair_ int ends[2] = { -EBADF, -EBADF };
        _cleanup_free_ char *data = malloc(PIECE);
        ssize_t n;
        pid_t pid;
        int r;

        if (!data || pipe2(ends, O_CLOEXEC) < 0)
                return error_set_errno(reterr, data ? -errno : -ENOMEM, "Cannot read folder '%s'", path);
        r = start_tar(path, true, ends[1], &pid, reterr);
        if (r < 0)
                return r;
        ends[1] = safe_close(ends[1]);
        while ((n = read(ends[0], data, PIECE)) > 0 || (n < 0 && errno == EINTR))
                if (n > 0)
                        piece(userdata, data, (size_t)n);
        r = n < 0 ? -errno : 0;
        ends[0] = safe_close(ends[0]); /* lets tar end, however this did */
        if (r < 0) {
                (void)waitpid(pid, NULL, 0);
                return error_set_errno(reterr, r, "Cannot read folder '%s'", path);
        }
        return end_tar(pid, path, reterr);
}
