/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The guest decides what it calls its files, how many there are, how deep they lie and where its links lead.
 * So nothing is written but below the folder that we were given, each part of a path by a descriptor of its
 * own, following no links; names are checked, depth and number are bounded. Links are made only where they
 * stay inside: see link_is_inside(). */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "ssh-tree.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define DEPTH_MAX 64
#define ENTRIES_MAX 1000000

static int count_entry(SshTree *t, unsigned depth, const char *path, Error **reterr) {
        _cleanup_free_ char *shown = NULL;

        if (depth <= DEPTH_MAX && t->files + t->skipped < ENTRIES_MAX)
                return 0;
        shown = string_escape(path, strlen(path), 200);
        return error_set(reterr, ERROR_FAILED, "'%s…' has more than %i %s", shown ?: "",
                        depth > DEPTH_MAX ? DEPTH_MAX : ENTRIES_MAX,
                        depth > DEPTH_MAX ? "folders in each other" : "files");
}

static int send_entry(
                SshTree *t, int dir_fd, const char *name, const char *path, unsigned depth, Error **reterr);

static char *join(const char *path, const char *name) {
        size_t n = strlen(path);

        return strf("%s%s%s", path, n > 0 && path[n - 1] == '/' ? "" : "/", name);
}

static int send_file(SshTree *t, int fd, const struct stat *st, const char *path, Error **reterr) {
        _cleanup_free_ char *temporary = ssh_sftp_temporary(path);
        mode_t mode = S_ISREG(st->st_mode) ? st->st_mode & 0777 : 0644;
        int r;

        if (!temporary)
                return error_set_errno(reterr, -ENOMEM, "Failed to name a file");
        r = ssh_sftp_put(t->sftp, fd, temporary, mode, &t->progress, reterr);
        if (r < 0)
                return r;
        if (t->copy->preserve && S_ISREG(st->st_mode))
                r = ssh_sftp_set_times(
                                t->sftp, temporary, (uint64_t)st->st_atime, (uint64_t)st->st_mtime, reterr);
        if (r >= 0)
                r = ssh_sftp_replace(t->sftp, temporary, path, reterr);
        if (r < 0)
                ssh_sftp_tidy(t->sftp, NULL, temporary);
        t->files++;
        return r;
}

static int send_folder(SshTree *t, int fd, const struct stat *st, const char *path, unsigned depth,
                Error **reterr) {
        _cleanup_close_ int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = copy >= 0 ? fdopendir(copy) : NULL;
        struct dirent *d;
        int r;

        if (!dir)
                return error_set_errno(reterr, -errno, "Failed to read a folder that is to be sent");
        (void)TAKE_FD(copy);
        /* writable for us until all is in it */
        r = ssh_sftp_mkdir(t->sftp, path, (st->st_mode & 0777) | 0700, reterr);
        t->files++;
        while (r >= 0 && (errno = 0, d = readdir(dir))) {
                _cleanup_free_ char *child = NULL;

                if (streq(d->d_name, ".") || streq(d->d_name, ".."))
                        continue;
                child = join(path, d->d_name);
                r = child ? send_entry(t, dirfd(dir), d->d_name, child, depth + 1, reterr)
                          : error_set_errno(reterr, -ENOMEM, "Failed to send a folder");
        }
        if (r >= 0 && errno != 0)
                r = error_set_errno(reterr, -errno, "Failed to read a folder that is to be sent");
        (void)closedir(dir);
        if (r >= 0 && t->copy->preserve)
                r = ssh_sftp_set_times(
                                t->sftp, path, (uint64_t)st->st_atime, (uint64_t)st->st_mtime, reterr);
        return r;
}

static int send_link(SshTree *t, int dir_fd, const char *name, const char *path, Error **reterr) {
        char target[SSH_LINK_MAX];
        ssize_t n = readlinkat(dir_fd, name, target, sizeof(target) - 1);
        LIBSSH2_SFTP_ATTRIBUTES a;

        if (n < 0)
                return error_set_errno(reterr, -errno, "Failed to read a link that is to be sent");
        target[n] = '\0';
        if (ssh_sftp_stat(t->sftp, path, false, &a, NULL) >= 0 && !ssh_sftp_is(&a, S_IFDIR))
                (void)ssh_sftp_unlink(t->sftp, path, NULL);
        t->files++;
        return ssh_sftp_symlink(t->sftp, target, path, reterr);
}

static int send_entry(
                SshTree *t, int dir_fd, const char *name, const char *path, unsigned depth, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        int r;

        r = count_entry(t, depth, path, reterr);
        if (r < 0)
                return r;
        if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return errno == ENOENT ? 0 : error_set_errno(reterr, -errno, "Failed to look at '%s'", name);
        if (S_ISLNK(st.st_mode))
                return send_link(t, dir_fd, name, path, reterr);
        if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode)) {
                t->skipped++;
                return 0;
        }
        fd = openat(dir_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to open '%s'", name);
        if (S_ISDIR(st.st_mode))
                return send_folder(t, fd, &st, path, depth, reterr);
        return S_ISREG(st.st_mode) ? send_file(t, fd, &st, path, reterr) : 0;
}

/* `folder`: whether PATH is one already. */
static int check_place(const SshTree *t, const struct stat *st, bool folder, Error **reterr) {
        if (t->copy->place == COPY_INSIDE && !folder)
                return error_set(
                                reterr, ERROR_FAILED, "There is no folder '%s' in the guest", t->copy->path);
        if (t->copy->place == COPY_ITSELF && folder && !S_ISDIR(st->st_mode))
                return error_set(reterr, ERROR_FAILED, "'%s' is a folder in the guest", t->copy->path);
        return 0;
}

int ssh_tree_send(SshTree *t, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a;
        _cleanup_free_ char *path = NULL;
        bool folder;
        struct stat st;
        int r;

        if (fstat(t->fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to look at what is to be sent");
        t->progress = (Progress){
                .phase = "uploading",
                .total = S_ISREG(st.st_mode) ? (uint64_t)st.st_size : 0,
        };
        r = ssh_sftp_stat(t->sftp, t->copy->path, true, &a, reterr);
        if (r < 0 && r != -ENOENT)
                return r;
        folder = r >= 0 && ssh_sftp_is(&a, S_IFDIR);
        r = check_place(t, &st, folder, reterr);
        if (r < 0)
                return r;
        path = folder && t->copy->place != COPY_ITSELF ? join(t->copy->path, t->copy->name)
                                                       : strdup(t->copy->path);
        if (!path)
                return error_set_errno(reterr, -ENOMEM, "Failed to send a file");
        if (S_ISDIR(st.st_mode))
                return send_folder(t, t->fd, &st, path, 0, reterr);
        return send_file(t, t->fd, &st, path, reterr);
}

static bool name_is_safe(const char *name, size_t len) {
        return len > 0 && len == strlen(name) && len <= NAME_MAX && !strchr(name, '/') &&
                        !streq(name, ".") && !streq(name, "..");
}

/* From `depth` folders below the top: relative, ".." only as its first parts, and no more of them than lead
 * to the top. All folders on the way up are ones that we have made or opened, so they are no links; and as
 * no ".." follows, a link on the way down, for which the same holds, cannot lead out either. */
static bool link_is_inside(const char *target, unsigned depth) {
        const char *p = target;

        if (*p == '/' || *p == '\0')
                return false;
        while (startswith(p, "..") && (p[2] == '/' || p[2] == '\0')) {
                if (depth-- == 0)
                        return false;
                p += p[2] == '/' ? 3 : 2;
                while (*p == '/')
                        p++;
        }
        for (const char *q = p; (q = strstr(q, "..")); q += 2)
                if ((q == p || q[-1] == '/') && (q[2] == '/' || q[2] == '\0'))
                        return false;
        return true;
}

static int fetch_to(SshTree *t, int dir_fd, const char *temporary, int fd, const char *name,
                const char *path, const LIBSSH2_SFTP_ATTRIBUTES *a, Error **reterr) {
        struct timespec times[] = { { .tv_sec = (time_t)a->atime }, { .tv_sec = (time_t)a->mtime } };
        mode_t mode = a->flags & LIBSSH2_SFTP_ATTR_PERMISSIONS ? a->permissions & 0777 : 0644,
               mask = umask(0);
        int r;

        (void)umask(mask);
        r = ssh_sftp_get(t->sftp, path, fd, &t->progress, reterr);
        if (r < 0)
                return r;
        if (fchmod(fd, mode & ~mask) < 0 ||
                        (t->copy->preserve && (a->flags & LIBSSH2_SFTP_ATTR_ACMODTIME) &&
                                        futimens(fd, times) < 0) ||
                        renameat(dir_fd, temporary, dir_fd, name) < 0)
                return error_set_errno(reterr, -errno, "Failed to write '%s'", name);
        return 0;
}

static int fetch_file(SshTree *t, int dir_fd, const char *name, const char *path,
                const LIBSSH2_SFTP_ATTRIBUTES *a, Error **reterr) {
        _cleanup_free_ char *temporary = ssh_sftp_temporary("");
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!temporary)
                return error_set_errno(reterr, -ENOMEM, "Failed to name a file");
        fd = openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return error_set_errno(reterr, -errno, "Failed to create a file in the folder");
        r = fetch_to(t, dir_fd, temporary, fd, name, path, a, reterr);
        if (r < 0)
                (void)unlinkat(dir_fd, temporary, 0);
        t->files++;
        return r;
}

static int fetch_link(
                SshTree *t, int dir_fd, const char *name, const char *path, unsigned depth, Error **reterr) {
        char target[SSH_LINK_MAX];
        int n;

        n = ssh_sftp_readlink(t->sftp, path, target, reterr);
        if (n < 0)
                return n;
        if (n == 0 || depth == 0 || !link_is_inside(target, depth - 1)) {
                t->skipped++;
                return 0;
        }
        if (symlinkat(target, dir_fd, name) < 0 && errno != EEXIST)
                return error_set_errno(reterr, -errno, "Failed to make the link '%s'", name);
        t->files++;
        return 0;
}

static int fetch_folder(SshTree *t, int dir_fd, const char *name, const char *path,
                const LIBSSH2_SFTP_ATTRIBUTES *a, unsigned depth, Error **reterr);

/* `depth` is 0 for what was asked for, 1 for what lies in that, ... */
static int fetch_entry(SshTree *t, int dir_fd, const char *name, const char *path,
                const LIBSSH2_SFTP_ATTRIBUTES *a, unsigned depth, Error **reterr) {
        int r;

        r = count_entry(t, depth, path, reterr);
        if (r < 0)
                return r;
        if (ssh_sftp_is(a, S_IFDIR))
                return fetch_folder(t, dir_fd, name, path, a, depth, reterr);
        if (ssh_sftp_is(a, S_IFREG))
                return fetch_file(t, dir_fd, name, path, a, reterr);
        if (ssh_sftp_is(a, S_IFLNK))
                return fetch_link(t, dir_fd, name, path, depth, reterr);
        t->skipped++;
        return 0;
}

static int fetch_children(SshTree *t, int fd, const char *path, LIBSSH2_SFTP_HANDLE *folder, unsigned depth,
                Error **reterr) {
        char name[NAME_MAX * 4];
        LIBSSH2_SFTP_ATTRIBUTES a;
        int r;

        while ((r = ssh_sftp_next(t->sftp, folder, path, name, sizeof(name), &a, reterr)) > 0) {
                _cleanup_free_ char *child = NULL;

                if (streq(name, ".") || streq(name, ".."))
                        continue;
                if (!name_is_safe(name, strlen(name))) {
                        _cleanup_free_ char *shown = string_escape(name, strlen(name), NAME_MAX);

                        return error_set(reterr, ERROR_FAILED,
                                        "The guest lists a file '%s', which is no name", shown ?: "");
                }
                child = join(path, name);
                if (!child)
                        return error_set_errno(reterr, -ENOMEM, "Failed to receive a folder");
                r = fetch_entry(t, fd, name, child, &a, depth + 1, reterr);
                if (r < 0)
                        return r;
        }
        return r;
}

static int fetch_folder(SshTree *t, int dir_fd, const char *name, const char *path,
                const LIBSSH2_SFTP_ATTRIBUTES *a, unsigned depth, Error **reterr) {
        struct timespec times[] = { { .tv_sec = (time_t)a->atime }, { .tv_sec = (time_t)a->mtime } };
        LIBSSH2_SFTP_HANDLE *folder;
        _cleanup_close_ int fd = -EBADF;
        bool made;
        int r;

        made = mkdirat(dir_fd, name, 0700) >= 0;
        if (!made && errno != EEXIST)
                return error_set_errno(reterr, -errno, "Failed to make the folder '%s'", name);
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0)
                return error_set_errno(reterr, -errno, "Failed to open the folder '%s'", name);
        r = ssh_sftp_open_folder(t->sftp, path, &folder, reterr);
        if (r < 0)
                return r;
        t->files++;
        r = fetch_children(t, fd, path, folder, depth, reterr);
        ssh_sftp_close(t->sftp, folder);
        if (r >= 0 && made) {
                mode_t mask = umask(0);

                (void)umask(mask);
                if (fchmod(fd, a->permissions & 0777 & ~mask) < 0)
                        r = error_set_errno(reterr, -errno, "Failed to set the mode of '%s'", name);
        }
        if (r >= 0 && t->copy->preserve && (a->flags & LIBSSH2_SFTP_ATTR_ACMODTIME) &&
                        futimens(fd, times) < 0)
                r = error_set_errno(reterr, -errno, "Failed to set the times of '%s'", name);
        return r;
}

int ssh_tree_fetch(SshTree *t, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a;
        struct stat st;
        int r;

        if (fstat(t->fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Failed to look at where to copy to");
        r = ssh_sftp_stat(t->sftp, t->copy->path, true, &a, reterr);
        if (r == -ENOENT)
                return error_set(reterr, ERROR_FAILED, "There is no '%s' in the guest", t->copy->path);
        if (r < 0)
                return r;
        if (ssh_sftp_is(&a, S_IFDIR) && !t->copy->recursive)
                return error_set(reterr, ERROR_FAILED, "'%s' is a folder in the guest", t->copy->path);
        t->progress = (Progress){
                .phase = "downloading",
                .total = ssh_sftp_is(&a, S_IFREG) && (a.flags & LIBSSH2_SFTP_ATTR_SIZE) ? a.filesize : 0,
        };
        if (S_ISDIR(st.st_mode))
                return fetch_entry(t, t->fd, t->copy->name, t->copy->path, &a, 0, reterr);
        if (ssh_sftp_is(&a, S_IFDIR))
                return error_set(reterr, ERROR_FAILED, "'%s' is a folder in the guest, which is no stream",
                                t->copy->path);
        t->files++;
        return ssh_sftp_get(t->sftp, t->copy->path, t->fd, &t->progress, reterr);
}
