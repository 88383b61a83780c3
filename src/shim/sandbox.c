/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sandbox.h"
#include "util/fd-util.h"
#include "util/string-util.h"

/* Our mount points and QEMU's temporary files share one tmpfs, whose pages are charged to the VM. */
#define TMPFS_SIZE "4m"
#define TMPFS_INODES "512"

/* The working directory is the new root while it is being built: "etc/x" is inside, "/etc/x" outside. */
static const char *inside(const char *path) {
        return path + 1;
}

static int make_parents(const char *path) {
        char part[PATH_MAX];

        if (strlen(path) >= sizeof(part))
                return -ENAMETOOLONG;
        for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                size_t n = (size_t)(slash - path);

                memcpy(part, path, n);
                part[n] = '\0';
                if (mkdir(inside(part), 0755) < 0 && errno != EEXIST)
                        return -errno;
        }
        return 0;
}

static int make_mount_point(const char *path, bool directory) {
        int r;

        r = make_parents(path);
        if (r < 0)
                return r;
        r = directory ? mkdir(inside(path), 0755) : mknod(inside(path), S_IFREG | 0444, 0);
        return r < 0 && errno != EEXIST ? -errno : 0;
}

/* Recursive, since a part of the tree that something is mounted on may not be uncovered by a user. */
static int bind_as(const char *source, const char *path) {
        struct stat st;
        int r;

        if (stat(source, &st) < 0)
                return -errno;
        r = make_mount_point(path, S_ISDIR(st.st_mode));
        if (r < 0)
                return r;
        return mount(source, inside(path), NULL, MS_BIND | MS_REC, NULL) < 0 ? -errno : 0;
}

static int bind_same(const char *path, Error **reterr_error) {
        int r;

        r = bind_as(path, path);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to show '%s' to QEMU", path) : 0;
}

static int bind_if_there(const char *path, Error **reterr_error) {
        return access(path, F_OK) < 0 ? 0 : bind_same(path, reterr_error);
}

/* /bin and the like: a link into /usr on a merged system, else a directory. */
static int copy_link_or_bind(const char *path, Error **reterr_error) {
        char target[PATH_MAX];
        ssize_t n;

        n = readlink(path, target, sizeof(target) - 1);
        if (n < 0)
                return bind_if_there(path, reterr_error);
        target[n] = '\0';
        if (symlink(target, inside(path)) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to make the link '%s'", path);
        return 0;
}

/* QEMU's own user-mode network reads resolv.conf again and again. Services that maintain it under /run
 * replace the file, so there the folder is shown and not only the file of this moment. */
static int show_resolv_conf(Error **reterr_error) {
        _cleanup_free_ char *real = realpath("/etc/resolv.conf", NULL), *dir = NULL;
        const char *slash;
        int r;

        if (!real)
                return 0;
        slash = strrchr(real, '/');
        if (!startswith(real, "/run/") || slash == real + strlen("/run"))
                r = bind_as(real, "/etc/resolv.conf");
        else {
                dir = strndup(real, (size_t)(slash - real));
                if (!dir)
                        return -ENOMEM;
                r = bind_as(dir, dir);
                if (r >= 0 && symlink(real, "etc/resolv.conf") < 0)
                        r = -errno;
        }
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to show '%s' to QEMU", real) : 0;
}

static int show_device(const char *path, Error **reterr_error) {
        struct stat st;

        if (stat(path, &st) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to look at '%s'", path);
        if (!S_ISCHR(st.st_mode) && !S_ISBLK(st.st_mode))
                return error_set(reterr_error, ERROR_INVALID_SPEC, "'%s' is not a device", path);
        return bind_same(path, reterr_error);
}

static int show_devices(const Options *o, Error **reterr_error) {
        static const char *const always[] = { "/dev/null", "/dev/zero", "/dev/full", "/dev/random",
                "/dev/urandom" };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(always); i++)
                r = bind_same(always[i], reterr_error);
        for (size_t i = 0; r >= 0 && i < o->devices.n; i++)
                r = show_device(o->devices.path[i], reterr_error);
        return r;
}

/* Only processes that QEMU may trace are in it, which is itself: the shim is not dumpable. A user may not
 * mount /proc without a PID namespace (nor may root in some containers), and then shows the one there is. */
static int show_proc(Error **reterr_error) {
        int r;

        if (mount("proc", "proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC,
                            "hidepid=ptraceable,subset=pid") >= 0)
                return 0;
        r = bind_as("/proc", "/proc");
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to show '/proc' to QEMU") : 0;
}

/* A part of the root's own file system, but writable. What is shown below it stays. */
static int show_tmp(Error **reterr_error) {
        struct mount_attr writable = { .attr_clr = MOUNT_ATTR_RDONLY };

        if (mount("tmp", "tmp", NULL, MS_BIND | MS_REC, NULL) < 0 ||
                        mount_setattr(AT_FDCWD, "tmp", 0, &writable, sizeof(writable)) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to mount QEMU's /tmp");
        return 0;
}

static int make_directories(const Options *o, Error **reterr_error) {
        static const char *const directories[] = { "dev", "etc", "proc", "tmp" };

        for (size_t i = 0; i < ELEMENTSOF(directories); i++)
                if (mkdir(directories[i], 0755) < 0)
                        return error_set_errno(reterr_error, -errno, "Failed to make '/%s'", directories[i]);
        if (chmod("tmp", 0700) < 0 || (o->has_identity && chown("tmp", o->uid, o->gid) < 0))
                return error_set_errno(reterr_error, -errno, "Failed to prepare QEMU's /tmp");
        return 0;
}

static int show_files(const Options *o, Error **reterr_error) {
        static const char *const links[] = { "/bin", "/lib", "/lib64", "/sbin" };
        static const char *const optional[] = { "/etc/ld.so.cache", "/etc/alternatives" };
        int r;

        r = bind_same("/usr", reterr_error);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(links); i++)
                r = copy_link_or_bind(links[i], reterr_error);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(optional); i++)
                r = bind_if_there(optional[i], reterr_error);
        for (size_t i = 0; r >= 0 && i < o->bind_ro.n; i++)
                r = bind_same(o->bind_ro.path[i], reterr_error);
        if (r >= 0 && !o->private_network) /* the folder may hold the resolver's socket: a way to the outside
                                            */
                r = show_resolv_conf(reterr_error);
        return r;
}

static int restrict_mounts(uint64_t attributes, Error **reterr_error) {
        struct mount_attr attr = { .attr_set = attributes };

        if (mount_setattr(AT_FDCWD, "", AT_EMPTY_PATH | AT_RECURSIVE, &attr, sizeof(attr)) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to restrict QEMU's mounts");
        return 0;
}

static int write_proc(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        return fd < 0 ? -errno : write_all(fd, text, strlen(text));
}

/* We stay who we are, and setgroups() is denied for ever: the kernel's price for letting a user do this. */
static int map_identity(uid_t uid, gid_t gid) {
        char map[64];
        int r;

        r = write_proc("/proc/self/setgroups", "deny");
        if (r < 0)
                return r;
        (void)snprintf(map, sizeof(map), "%u %u 1", gid, gid);
        r = write_proc("/proc/self/gid_map", map);
        if (r < 0)
                return r;
        (void)snprintf(map, sizeof(map), "%u %u 1", uid, uid);
        return write_proc("/proc/self/uid_map", map);
}

static int enter_namespaces(const Options *o, Error **reterr_error) {
        bool user = geteuid() != 0;
        int flags = CLONE_NEWNS | CLONE_NEWIPC, r = 0;
        uid_t uid = geteuid();
        gid_t gid = getegid();

        if (user)
                flags |= CLONE_NEWUSER;
        if (o->private_network)
                flags |= CLONE_NEWNET;
        if (unshare(flags) < 0)
                r = -errno;
        if (r >= 0 && user)
                r = map_identity(uid, gid);
        if (r < 0)
                return error_set_errno(reterr_error, r, "Failed to make namespaces");
        /* Nothing that is mounted here may show up outside. */
        if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to make mounts private");
        return 0;
}

static int make_tmpfs(void) {
        _cleanup_close_ int fs = fsopen("tmpfs", FSOPEN_CLOEXEC);
        int fd;

        if (fs < 0 || fsconfig(fs, FSCONFIG_SET_STRING, "size", TMPFS_SIZE, 0) < 0 ||
                        fsconfig(fs, FSCONFIG_SET_STRING, "nr_inodes", TMPFS_INODES, 0) < 0 ||
                        fsconfig(fs, FSCONFIG_SET_STRING, "mode", "0755", 0) < 0 ||
                        fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return -errno;
        fd = fsmount(fs, FSMOUNT_CLOEXEC, MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC);
        return fd < 0 ? -errno : fd;
}

/* It is mounted over "/", where it is out of the way: our root directory is what lies beneath. */
static int mount_root(Error **reterr_error) {
        _cleanup_close_ int fd = make_tmpfs();

        if (fd < 0)
                return error_set_errno(reterr_error, fd, "Failed to make a tmpfs");
        if (move_mount(fd, "", AT_FDCWD, "/", MOVE_MOUNT_F_EMPTY_PATH) < 0 || fchdir(fd) < 0)
                return error_set_errno(reterr_error, -errno, "Failed to mount QEMU's root");
        return 0;
}

static int fill_root(const Options *o, Error **reterr_error) {
        int r;

        r = make_directories(o, reterr_error);
        if (r >= 0)
                r = show_files(o, reterr_error);
        if (r >= 0)
                r = restrict_mounts(MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, reterr_error);
        if (r >= 0)
                r = show_devices(o, reterr_error);
        if (r >= 0)
                r = restrict_mounts(MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID, reterr_error);
        if (r >= 0)
                r = show_proc(reterr_error);
        if (r >= 0)
                r = show_tmp(reterr_error);
        return r;
}

int sandbox_build(const Options *o, Error **reterr_error) {
        mode_t mask = umask(022);
        int r;

        r = enter_namespaces(o, reterr_error);
        if (r >= 0)
                r = mount_root(reterr_error);
        if (r >= 0)
                r = fill_root(o, reterr_error);
        (void)umask(mask);
        return r;
}

int sandbox_enter(Error **reterr_error) {
        /* With both arguments the same, the old root ends up mounted over the new one, until it is detached.
         */
        if (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0)
                return error_set_errno(reterr_error, -errno, "Failed to enter QEMU's root");
        return 0;
}
