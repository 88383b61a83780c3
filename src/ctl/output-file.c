/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "output-file.h"
#include "util/fd-util.h"
#include "util/string-util.h"

static int exists(const char *name, Error **reterr) {
        (void)error_set(reterr, ERROR_IO, "'%s' is there already", name);
        return -EEXIST;
}

static int make_temporary(OutputFile *f) {
        const char *slash = strrchr(f->name, '/');
        int folder = slash ? (int)(slash - f->name) + 1 : 0;
        mode_t mask;

        f->temporary = strf("%.*s.%s.XXXXXX", folder, f->name, f->name + folder);
        if (!f->temporary)
                return -ENOMEM;
        f->fd = mkostemp(f->temporary, O_CLOEXEC);
        if (f->fd < 0) {
                int r = -errno;

                free(f->temporary);
                f->temporary = NULL;
                return r;
        }
        mask = umask(0);
        (void)umask(mask);
        return fchmod(f->fd, 0666 & ~mask) < 0 ? -errno : 0;
}

int output_file_open(OutputFile *f, const char *name, bool replace, Error **reterr) {
        struct stat st;
        int r;

        r = lstat(name, &st) < 0 ? -errno : 0;
        if (r >= 0 && !replace)
                return exists(name, reterr);
        if (r >= 0 && !S_ISREG(st.st_mode))
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is not a regular file", name);
        f->replace = replace;
        f->name = strdup(name);
        r = f->name ? make_temporary(f) : -ENOMEM;
        return r < 0 ? error_set_errno(reterr, r, "Cannot make '%s'", name) : 0;
}

int output_file_commit(OutputFile *f, Error **reterr) {
        int r;

        r = renameat2(AT_FDCWD, f->temporary, AT_FDCWD, f->name, f->replace ? 0 : RENAME_NOREPLACE) < 0
                        ? -errno
                        : 0;
        /* Not every file system has the flag; a hard link replaces nothing, either. */
        if (r == -EINVAL && !f->replace)
                r = link(f->temporary, f->name) < 0 || unlink(f->temporary) < 0 ? -errno : 0;
        if (r == -EEXIST)
                return exists(f->name, reterr);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot make '%s'", f->name);
        free(f->temporary);
        f->temporary = NULL;
        return 0;
}

void output_file_done(OutputFile *f) {
        if (f->temporary)
                (void)unlink(f->temporary);
        free(f->temporary);
        free(f->name);
        safe_close(f->fd);
        *f = OUTPUT_FILE_INIT;
}

int output_file_unnamed(int *ret_fd, Error **reterr) {
        const char *folder = getenv("TMPDIR");
        _cleanup_free_ char *path = NULL;
        int fd;

        folder = isempty(folder) ? "/var/tmp" : folder;
        fd = open(folder, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
                path = strf("%s/vmctl-XXXXXX", folder);
                if (!path)
                        return error_set_errno(reterr, -ENOMEM, "Cannot make a file in '%s'", folder);
                fd = mkostemp(path, O_CLOEXEC);
                if (fd >= 0)
                        (void)unlink(path);
        }
        if (fd < 0)
                return error_set_errno(reterr, -errno, "Cannot make a file in '%s'", folder);
        *ret_fd = fd;
        return 0;
}
