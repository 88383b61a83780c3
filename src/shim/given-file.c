/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <linux/openat2.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "given-file.h"
#include "util/fd-util.h"

#define COPY_CHUNK (16 * MIB)
#define REPLY_MESSAGE_MAX (PATH_MAX + 256)
#define GID_NOBODY 65534

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

typedef struct Reply {
        int r; /* 0: a descriptor comes with it */
        bool modified;
        ErrorCode code;
        char message[REPLY_MESSAGE_MAX];
} Reply;

/* A user who is not in the database any more has no groups. */
static int become(uid_t uid) {
        const struct passwd *pw = getpwuid(uid);
        gid_t gid = pw ? pw->pw_gid : GID_NOBODY;

        if ((pw ? initgroups(pw->pw_name, gid) : setgroups(0, NULL)) < 0 || setresgid(gid, gid, gid) < 0 ||
                        setresuid(uid, uid, uid) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
                return -errno;
        return 0;
}

static int send_reply(int socket, Reply *reply, int fd) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control = { .header = { .cmsg_len = CMSG_LEN(sizeof(int)),
                                      .cmsg_level = SOL_SOCKET,
                                      .cmsg_type = SCM_RIGHTS } };
        struct iovec iov = { reply, sizeof(*reply) };
        struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };

        if (fd >= 0) {
                memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
                m.msg_control = &control;
                m.msg_controllen = sizeof(control);
        }
        return sendmsg(socket, &m, MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int receive_reply(int socket, Reply *ret) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        struct iovec iov = { ret, sizeof(*ret) };
        struct msghdr m = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        const struct cmsghdr *c;
        ssize_t n;
        int fd;

        do
                n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return -errno;
        c = CMSG_FIRSTHDR(&m);
        if (!c) /* so much for a child that was killed */
                return n == sizeof(*ret) && ret->r < 0 ? -ENODATA : -ECHILD;
        memcpy(&fd, CMSG_DATA(c), sizeof(fd));
        return fd;
}

static void serve(const GivenFile *f, int socket) {
        _cleanup_error_ Error *error = NULL;
        Reply reply = {};
        int fd = -EBADF, r;

        r = become(f->owner);
        if (r < 0)
                r = error_set_errno(&error, r, "Failed to take the rights of user %u", (unsigned)f->owner);
        else
                r = fd = given_file_open(f, &reply.modified, &error);
        if (r < 0) {
                reply.r = r;
                reply.code = error_code(error);
                (void)snprintf(reply.message, sizeof(reply.message), "%s", error_message(error));
        }
        (void)send_reply(socket, &reply, fd);
}

/* In a process of its own: so no way leads back to rights that a failure could leave us without, or with,
 * and what looks up users and groups (NSS), and may take its time, is not loaded into what QEMU could reach.
 */
int given_file_open_as_owner(const GivenFile *f, bool *ret_modified, Error **reterr_error) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        Reply reply = {};
        pid_t pid;
        int r;

        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
                return open_error(f, -errno, reterr_error);
        pid = fork();
        if (pid < 0)
                return open_error(f, -errno, reterr_error);
        if (pid == 0) {
                serve(f, pair[1]);
                _exit(0);
        }
        pair[1] = safe_close(pair[1]);
        r = receive_reply(pair[0], &reply);
        (void)waitpid(pid, NULL, 0);
        if (r == -ENODATA) {
                reply.message[sizeof(reply.message) - 1] = '\0';
                error_set(reterr_error, reply.code, "%s", reply.message);
                return reply.r;
        }
        if (r < 0)
                return open_error(f, r, reterr_error);
        *ret_modified = reply.modified;
        return r;
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
