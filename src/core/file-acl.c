/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <acl/libacl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "file-acl.h"
#include "util/string-util.h"

static void acl_freep(acl_t *acl) {
        if (*acl)
                (void)acl_free(*acl);
}

static int parse(uid_t uid, int access, acl_t *ret) {
        char text[64];

        (void)snprintf(text, sizeof(text), "u::rw,u:%u:%c%c,g::-,m::rw,o::-", (unsigned)uid,
                        access & R_OK ? 'r' : '-', access & W_OK ? 'w' : '-');
        *ret = acl_from_text(text);
        return *ret ? 0 : -errno;
}

int file_acl_grant(int fd, uid_t uid, int access) {
        _cleanup_(acl_freep) acl_t acl = NULL;
        int r;

        if (uid == geteuid())
                return 0;
        r = parse(uid, access, &acl);
        return r >= 0 && acl_set_fd(fd, acl) < 0 ? -errno : r;
}

int file_acl_grant_at(int dir_fd, const char *name, uid_t uid, int access) {
        _cleanup_free_ char *path = strf("/proc/self/fd/%i/%s", dir_fd, name);
        _cleanup_(acl_freep) acl_t acl = NULL;
        int r;

        if (uid == geteuid())
                return 0;
        r = path ? parse(uid, access, &acl) : -ENOMEM;
        return r >= 0 && acl_set_file(path, ACL_TYPE_ACCESS, acl) < 0 ? -errno : r;
}

int file_acl_grant_missing_at(int dir_fd, const char *name, uid_t uid, int access) {
        _cleanup_free_ char *path = strf("/proc/self/fd/%i/%s", dir_fd, name);
        int r;

        if (uid == geteuid())
                return 0;
        if (!path)
                return -ENOMEM;
        r = acl_extended_file_nofollow(path);
        if (r < 0)
                return -errno;
        return r > 0 ? 0 : file_acl_grant_at(dir_fd, name, uid, access);
}

int file_acl_clear(int fd, mode_t mode) {
        _cleanup_(acl_freep) acl_t acl = acl_from_mode(mode);

        if (!acl)
                return -errno;
        /* A file system without lists never had one. */
        if (acl_set_fd(fd, acl) < 0 && errno != EOPNOTSUPP)
                return -errno;
        return fchmod(fd, mode) < 0 ? -errno : 0;
}
