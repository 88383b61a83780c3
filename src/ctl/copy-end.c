/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "copy-end.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* The guest's sftp-server knows no "~", and begins in the home. */
static const char *without_home(const char *path) {
        const char *rest = startswith(path, "~");

        if (!rest || (*rest != '/' && *rest != '\0'))
                return path;
        return rest + strspn(rest, "/");
}

static char *without_slashes(const char *path) {
        size_t n = strlen(path);

        while (n > 1 && path[n - 1] == '/')
                n--;
        return strndup(path, n);
}

int copy_end_parse(const char *text, CopyEnd *ret) {
        const char *colon = strchr(text, ':'), *slash = strchr(text, '/');
        bool guest = colon && colon > text && (!slash || colon < slash);
        const char *path = guest ? without_home(colon + 1) : text;

        *ret = (CopyEnd){
                .text = text,
                .vm = guest ? strndup(text, (size_t)(colon - text)) : NULL,
                .path = without_slashes(guest && isempty(path) ? "." : path),
                .slash = endswith(path, "/"),
        };
        if (ret->path && (ret->vm || !guest))
                return 0;
        copy_end_done(ret);
        return -ENOMEM;
}

void copy_end_done(CopyEnd *e) {
        free(e->vm);
        free(e->path);
        *e = (CopyEnd){};
}

bool copy_end_is_stream(const CopyEnd *e) {
        return !e->vm && streq(e->text, "-");
}

/* The last part of a path without slashes at its end; NULL where that is no name. */
static const char *last_part(const char *path) {
        const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;

        return *name == '\0' || streq(name, ".") || streq(name, "..") ? NULL : name;
}

const char *copy_end_name(const CopyEnd *e) {
        return last_part(e->path);
}

void copy_file_done(CopyFile *f) {
        safe_close(f->fd);
        free(f->name);
        *f = COPY_FILE_INIT;
}

static int open_stream(int standard, CopyFile *ret, Error **reterr) {
        int fd = fcntl(standard, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

        if (fd < 0)
                return error_set_errno(reterr, -errno, "Standard %s cannot be used",
                                standard == STDIN_FILENO ? "input" : "output");
        ret->fd = fd;
        return 0;
}

int copy_open_source(const CopyEnd *e, bool recursive, CopyFile *ret, Error **reterr) {
        _cleanup_(copy_file_done) CopyFile f = COPY_FILE_INIT;
        struct stat st;

        if (copy_end_is_stream(e))
                return open_stream(STDIN_FILENO, ret, reterr);
        f.fd = open(e->text, O_RDONLY | O_NOCTTY | O_CLOEXEC);
        if (f.fd < 0 || fstat(f.fd, &st) < 0)
                return error_set_errno(reterr, -errno, "It cannot be read");
        f.folder = S_ISDIR(st.st_mode);
        if (f.folder && !recursive)
                return error_set(reterr, ERROR_FAILED, "It is a folder, which '-r' copies");
        *ret = f;
        f = COPY_FILE_INIT;
        return 0;
}

/* In the folder that it lies in, as it appears there only when it is complete. */
static int open_parent(const char *path, CopyFile *ret, Error **reterr) {
        const char *slash = strrchr(path, '/'), *name = last_part(path);
        _cleanup_free_ char *folder = slash ? strndup(path, (size_t)(slash - path) + 1) : strdup(".");
        _cleanup_(copy_file_done) CopyFile f = COPY_FILE_INIT;

        if (!name)
                return error_set(reterr, ERROR_FAILED, "'%s' names no file", path);
        f.name = strdup(name);
        if (!folder || !f.name)
                return error_set_errno(reterr, -ENOMEM, "No memory");
        f.fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (f.fd < 0)
                return error_set_errno(reterr, -errno, "The folder '%s' cannot be opened", folder);
        f.folder = true;
        *ret = f;
        f = COPY_FILE_INIT;
        return 0;
}

/* A link is followed to what it leads to. */
static int open_resolved_parent(const char *path, CopyFile *ret, Error **reterr) {
        _cleanup_free_ char *resolved = realpath(path, NULL);

        return open_parent(resolved ?: path, ret, reterr);
}

static int open_inside(const char *path, const char *name, CopyFile *ret, Error **reterr) {
        _cleanup_(copy_file_done) CopyFile f = {
                .fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC), .name = strdup(name), .folder = true
        };

        if (f.fd < 0)
                return error_set_errno(reterr, -errno, "The folder '%s' cannot be opened", path);
        if (!f.name)
                return error_set_errno(reterr, -ENOMEM, "No memory");
        *ret = f;
        f = COPY_FILE_INIT;
        return 0;
}

int copy_open_target(const CopyEnd *e, const char *name, bool inside, CopyFile *ret, Error **reterr) {
        struct stat st = {};
        int fd;

        if (copy_end_is_stream(e))
                return open_stream(STDOUT_FILENO, ret, reterr);
        if (stat(e->path, &st) < 0 && errno != ENOENT)
                return error_set_errno(reterr, -errno, "'%s' cannot be looked at", e->path);
        if (inside && !S_ISDIR(st.st_mode))
                return error_set(reterr, ERROR_FAILED, "There is no folder '%s'", e->path);
        if (S_ISDIR(st.st_mode) && name)
                return open_inside(e->path, name, ret, reterr);
        if (st.st_mode == 0 || S_ISREG(st.st_mode) || S_ISDIR(st.st_mode))
                return open_resolved_parent(e->path, ret, reterr);
        fd = open(e->path, O_WRONLY | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return error_set_errno(reterr, -errno, "'%s' cannot be written", e->path);
        ret->fd = fd;
        return 0;
}
