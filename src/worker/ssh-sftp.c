/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <sys/random.h>
#include <unistd.h>

#include "ssh-command.h"
#include "ssh-sftp.h"
#include "util/string-util.h"

/* libssh2 sends all it is given before it looks for the first answer, so this is what may be on its way. */
#define WRITE_WINDOW (2 * MIB)
#define READ_SIZE (2 * MIB) /* asked for ahead four times over; with 256 KiB half as fast */

/* Of a file that states no size, as those in /proc. */
#define UNSIZED_MAX (16 * MIB)

#define MOVE_USEC (30 * USEC_PER_SEC)
#define INIT_USEC (30 * USEC_PER_SEC) /* a server that ends at once is only seen by its silence */
#define TIDY_USEC (2 * USEC_PER_SEC)

static const char *sftp_reason(unsigned long code) {
        switch (code) {
        case LIBSSH2_FX_NO_SUCH_FILE:
        case LIBSSH2_FX_NO_SUCH_PATH:
                return "there is no such file or folder in the guest";
        case LIBSSH2_FX_PERMISSION_DENIED:
        case LIBSSH2_FX_WRITE_PROTECT:
                return "the guest denies its user access";
        case LIBSSH2_FX_NO_SPACE_ON_FILESYSTEM:
        case LIBSSH2_FX_QUOTA_EXCEEDED:
                return "no space is left in the guest";
        case LIBSSH2_FX_OP_UNSUPPORTED:
                return "the guest's SFTP server cannot do that";
        default:
                return "the guest's SFTP server failed";
        }
}

/* `shown` is the path, of which the guest may have a part. */
static int fail(SshSftp *f, int wait, Error **reterr, const char *what, const char *path) {
        _cleanup_free_ char *shown = string_escape(path, strlen(path), PROVISION_PATH_MAX),
                            *text = strf("Failed to %s '%s'", what, shown ?: "");
        int r;

        if (wait >= 0 && libssh2_session_last_errno(f->session->session) == LIBSSH2_ERROR_SFTP_PROTOCOL) {
                unsigned long code = libssh2_sftp_last_error(f->sftp);

                (void)error_set(reterr, ERROR_FAILED, "%s: %s", text ?: what, sftp_reason(code));
                return code == LIBSSH2_FX_PERMISSION_DENIED ? -EACCES
                                : code == LIBSSH2_FX_NO_SUCH_FILE || code == LIBSSH2_FX_NO_SUCH_PATH
                                ? -ENOENT
                                : -EIO;
        }
        r = ssh_session_fail(f->session, wait, reterr, text ?: what);
        return wait == -ETIMEDOUT ? -ETIMEDOUT : r;
}

int ssh_sftp_init(SshSftp *f, SshSession *s, Error **reterr) {
        uint64_t deadline = s->deadline;
        int wait;

        *f = (SshSftp){ .session = s };
        s->deadline = MIN(deadline, ssh_later(now_usec(), INIT_USEC));
        f->sftp = ssh_call_object(s, &wait, libssh2_sftp_init(s->session));
        s->deadline = deadline;
        if (f->sftp) {
                s->watched = libssh2_sftp_get_channel(f->sftp);
                return 0;
        }
        if (wait < 0)
                return ssh_session_fail(s, wait, reterr, "Failed to begin SFTP");
        return error_set(reterr, ERROR_SSH_FAILED,
                        "The guest's sshd does not offer SFTP, by which files travel: a line 'Subsystem "
                        "sftp "
                        "internal-sftp' in its sshd_config does");
}

void ssh_sftp_done(SshSftp *f) {
        int wait;

        if (!f->sftp)
                return;
        f->session->watched = NULL;
        (void)ssh_call(f->session, &wait, libssh2_sftp_shutdown(f->sftp));
        f->sftp = NULL;
}

void ssh_sftp_close(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle) {
        int wait;

        if (handle)
                (void)ssh_call(f->session, &wait, libssh2_sftp_close_handle(handle));
}

static int open_handle(SshSftp *f, const char *path, unsigned long flags, mode_t mode, int type,
                LIBSSH2_SFTP_HANDLE **ret, Error **reterr) {
        int wait;

        *ret = ssh_call_object(f->session, &wait,
                        libssh2_sftp_open_ex(
                                        f->sftp, path, (unsigned)strlen(path), flags, (long)mode, type));
        if (*ret)
                return 0;
        return fail(f, wait, reterr, flags & LIBSSH2_FXF_WRITE ? "create" : "open", path);
}

int ssh_sftp_open_folder(SshSftp *f, const char *path, LIBSSH2_SFTP_HANDLE **ret, Error **reterr) {
        return open_handle(f, path, 0, 0, LIBSSH2_SFTP_OPENDIR, ret, reterr);
}

int ssh_sftp_next(SshSftp *f, LIBSSH2_SFTP_HANDLE *folder, const char *path, char *name, size_t size,
                LIBSSH2_SFTP_ATTRIBUTES *ret, Error **reterr) {
        int n, wait;

        n = ssh_call(f->session, &wait, libssh2_sftp_readdir_ex(folder, name, size - 1, NULL, 0, ret));
        if (n < 0)
                return fail(f, wait, reterr, "list the folder", path);
        name[n] = '\0';
        return n > 0;
}

int ssh_sftp_stat(SshSftp *f, const char *path, bool follow, LIBSSH2_SFTP_ATTRIBUTES *ret, Error **reterr) {
        int r, wait;

        r = ssh_call(f->session, &wait,
                        libssh2_sftp_stat_ex(f->sftp, path, (unsigned)strlen(path),
                                        follow ? LIBSSH2_SFTP_STAT : LIBSSH2_SFTP_LSTAT, ret));
        if (r >= 0)
                return 0;
        if (wait >= 0 && r == LIBSSH2_ERROR_SFTP_PROTOCOL &&
                        libssh2_sftp_last_error(f->sftp) == LIBSSH2_FX_NO_SUCH_FILE)
                return -ENOENT;
        return fail(f, wait, reterr, "look at", path);
}

int ssh_sftp_mkdir(SshSftp *f, const char *path, mode_t mode, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a;
        int r, wait;

        r = ssh_call(f->session, &wait,
                        libssh2_sftp_mkdir_ex(f->sftp, path, (unsigned)strlen(path), (long)mode));
        if (r >= 0)
                return 0;
        r = fail(f, wait, reterr, "make the folder", path);
        if (r == -EIO && ssh_sftp_stat(f, path, true, &a, NULL) >= 0 && ssh_sftp_is(&a, S_IFDIR))
                return 0;
        return r;
}

int ssh_sftp_unlink(SshSftp *f, const char *path, Error **reterr) {
        int r, wait;

        r = ssh_call(f->session, &wait, libssh2_sftp_unlink_ex(f->sftp, path, (unsigned)strlen(path)));
        return r < 0 ? fail(f, wait, reterr, "remove", path) : 0;
}

int ssh_sftp_readlink(SshSftp *f, const char *path, char ret[SSH_LINK_MAX], Error **reterr) {
        int n, wait;

        n = ssh_call(f->session, &wait,
                        libssh2_sftp_symlink_ex(f->sftp, path, (unsigned)strlen(path), ret, SSH_LINK_MAX - 1,
                                        LIBSSH2_SFTP_READLINK));
        if (wait < 0 || (n < 0 && n != LIBSSH2_ERROR_SFTP_PROTOCOL))
                return fail(f, wait, reterr, "read the link", path);
        n = MAX(n, 0);
        ret[n] = '\0';
        return strlen(ret) == (size_t)n ? n : 0;
}

/* OpenSSH takes target and path in the other order than the protocol says, and all others follow it. libssh2
 * (1.10 and 1.11) takes the answer's number for its status, so only a look tells whether the link is there.
 */
int ssh_sftp_symlink(SshSftp *f, const char *target, const char *path, Error **reterr) {
        char made[SSH_LINK_MAX];
        int r, wait;

        r = ssh_call(f->session, &wait,
                        libssh2_sftp_symlink_ex(f->sftp, target, (unsigned)strlen(target), (char *)path,
                                        (unsigned)strlen(path), LIBSSH2_SFTP_SYMLINK));
        if (wait < 0 || (r < 0 && r != LIBSSH2_ERROR_SFTP_PROTOCOL))
                return fail(f, wait, reterr, "make the link", path);
        r = ssh_sftp_readlink(f, path, made, reterr);
        if (r >= 0 && !streq(made, target))
                r = error_set(reterr, ERROR_FAILED, "Failed to make the link '%s' in the guest", path);
        return r < 0 ? r : 0;
}

static int set_attributes(SshSftp *f, const char *path, LIBSSH2_SFTP_ATTRIBUTES *a, Error **reterr) {
        int r, wait;

        r = ssh_call(f->session, &wait,
                        libssh2_sftp_stat_ex(
                                        f->sftp, path, (unsigned)strlen(path), LIBSSH2_SFTP_SETSTAT, a));
        return r < 0 ? fail(f, wait, reterr, "set the attributes of", path) : 0;
}

int ssh_sftp_set_times(SshSftp *f, const char *path, uint64_t atime, uint64_t mtime, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a = {
                .flags = LIBSSH2_SFTP_ATTR_ACMODTIME,
                .atime = (unsigned long)atime,
                .mtime = (unsigned long)mtime,
        };

        return set_attributes(f, path, &a, reterr);
}

int ssh_random(char ret[17]) {
        uint64_t v;

        if (getrandom(&v, sizeof(v), 0) != (ssize_t)sizeof(v))
                return -errno;
        (void)snprintf(ret, 17, "%016" PRIx64, v);
        return 0;
}

char *ssh_sftp_temporary(const char *path) {
        const char *slash = strrchr(path, '/');
        char random[17];

        if (ssh_random(random) < 0)
                return NULL;
        return strf("%.*s.vmctl-%s", slash ? (int)(slash - path + 1) : 0, path, random);
}

/* Protocol version 3 knows no "no space", so a failure to write is followed by a look at the file system. */
static bool is_full(SshSftp *f, const char *path) {
        LIBSSH2_SFTP_STATVFS v;
        int r, wait;

        r = ssh_call(f->session, &wait, libssh2_sftp_statvfs(f->sftp, path, strlen(path), &v));
        return r >= 0 && (v.f_bavail == 0 || (v.f_files > 0 && v.f_favail == 0));
}

static int fail_write(SshSftp *f, int wait, const char *path, Error **reterr) {
        int r = fail(f, wait, reterr, "write", path);

        if (r != -EIO || !is_full(f, path))
                return r;
        (void)error_set(reterr, ERROR_FAILED, "Failed to write '%s': no space is left in the guest", path);
        return -ENOSPC;
}

/* What was read and not yet been taken: buffer + at, len bytes. */
typedef struct Window {
        char *buffer;
        size_t at, len;
        bool end;
} Window;

static int window_fill(Window *w, SshSession *s, int fd) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n;

        if (w->end || w->at + w->len == WRITE_WINDOW)
                return 0;
        if (poll(&p, 1, 0) <= 0) { /* a stream that has nothing yet */
                s->extra_fd = fd;
                return w->len > 0 ? 0 : ssh_session_wait(s);
        }
        s->extra_fd = -EBADF;
        n = read(fd, w->buffer + w->at + w->len, WRITE_WINDOW - w->at - w->len);
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        w->len += (size_t)n;
        w->end = n == 0;
        return 0;
}

static void window_take(Window *w, size_t n) {
        w->at += n;
        w->len -= n;
        if (w->len == 0 || w->at > WRITE_WINDOW / 2) {
                memmove(w->buffer, w->buffer + w->at, w->len);
                w->at = 0;
        }
}

static int fail_read(SshSftp *f, int r, Error **reterr) {
        if (r == -ECANCELED || r == -ETIMEDOUT || r == -EHOSTUNREACH) {
                (void)ssh_session_fail(f->session, r, reterr, "Failed to send a file");
                return r == -EHOSTUNREACH ? -EAGAIN : r;
        }
        return error_set_errno(reterr, r, "Failed to read the file that is to be sent");
}

static int send_data(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle, int fd, const char *path, Progress *progress,
                Error **reterr) {
        _cleanup_free_ char *buffer = malloc(WRITE_WINDOW);
        Window w = { .buffer = buffer };
        ssize_t n;
        int r, wait;

        if (!buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to send a file");
        for (;;) {
                r = window_fill(&w, f->session, fd);
                if (r < 0)
                        return fail_read(f, r, reterr);
                if (w.len == 0 && w.end)
                        return 0;
                if (w.len == 0)
                        continue;
                n = libssh2_sftp_write(handle, w.buffer + w.at, w.len);
                wait = n == LIBSSH2_ERROR_EAGAIN ? ssh_session_wait(f->session) : 0;
                if (wait < 0 || (n < 0 && n != LIBSSH2_ERROR_EAGAIN))
                        return fail_write(f, wait, path, reterr);
                if (n > 0) {
                        window_take(&w, (size_t)n);
                        progress_add(progress, (uint64_t)n);
                }
        }
}

void ssh_sftp_tidy(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle, const char *path) {
        SshSession *s = f->session;
        uint64_t deadline = s->deadline;
        bool closing = s->closing;

        s->closing = true;
        s->deadline = ssh_later(now_usec(), TIDY_USEC);
        ssh_sftp_close(f, handle);
        (void)ssh_sftp_unlink(f, path, NULL);
        s->closing = closing;
        s->deadline = deadline;
}

int ssh_sftp_put(SshSftp *f, int fd, const char *path, mode_t mode, Progress *progress, Error **reterr) {
        /* the mode in the request to create it is subject to the guest's umask */
        LIBSSH2_SFTP_ATTRIBUTES a = { .flags = LIBSSH2_SFTP_ATTR_PERMISSIONS, .permissions = mode };
        LIBSSH2_SFTP_HANDLE *handle;
        int r, wait;

        r = open_handle(f, path, LIBSSH2_FXF_WRITE | LIBSSH2_FXF_CREAT | LIBSSH2_FXF_EXCL, mode & 0700,
                        LIBSSH2_SFTP_OPENFILE, &handle, reterr);
        if (r < 0)
                return r;
        r = send_data(f, handle, fd, path, progress, reterr);
        f->session->extra_fd = -EBADF;
        if (r >= 0 && ssh_call(f->session, &wait, libssh2_sftp_fstat_ex(handle, &a, 1)) < 0)
                r = fail(f, wait, reterr, "set the mode of", path);
        if (r < 0)
                ssh_sftp_tidy(f, handle, path);
        else
                ssh_sftp_close(f, handle);
        return r;
}

static int write_out(SshSession *s, int fd, const char *data, size_t len) {
        while (len > 0) {
                struct pollfd p[] = { { .fd = fd, .events = POLLOUT },
                        { .fd = s->cancel_fd, .events = POLLIN } };
                ssize_t n;

                if (poll(p, ELEMENTSOF(p), -1) < 0 && errno != EINTR)
                        return -errno;
                if (p[1].revents != 0)
                        return -ECANCELED;
                n = write(fd, data, len);
                if (n < 0 && errno != EINTR && errno != EAGAIN)
                        return -errno;
                if (n > 0) {
                        data += n;
                        len -= (size_t)n;
                }
        }
        return 0;
}

static int receive_data(SshSftp *f, LIBSSH2_SFTP_HANDLE *handle, const char *path, uint64_t max, int fd,
                Progress *progress, Error **reterr) {
        _cleanup_free_ char *buffer = malloc(READ_SIZE);
        uint64_t left = max;

        if (!buffer)
                return error_set_errno(reterr, -ENOMEM, "Failed to receive a file");
        while (left > 0) {
                int r, wait;
                ssize_t n = ssh_call(f->session, &wait, libssh2_sftp_read(handle, buffer, READ_SIZE));

                if (n < 0)
                        return fail(f, wait, reterr, "read", path);
                if (n == 0)
                        return 0;
                n = (ssize_t)MIN((uint64_t)n, left);
                r = write_out(f->session, fd, buffer, (size_t)n);
                ssh_session_was_busy(f->session);
                if (r == -ECANCELED)
                        return ssh_session_fail(f->session, r, reterr, "Failed to receive a file");
                if (r < 0)
                        return error_set_errno(reterr, r, "Failed to write what the guest sends");
                left -= (uint64_t)n;
                progress_add(progress, (uint64_t)n);
        }
        return 0;
}

int ssh_sftp_get(SshSftp *f, const char *path, int fd, Progress *progress, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a = {};
        LIBSSH2_SFTP_HANDLE *handle;
        uint64_t max = UNSIZED_MAX;
        int r, wait;

        r = open_handle(f, path, LIBSSH2_FXF_READ, 0, LIBSSH2_SFTP_OPENFILE, &handle, reterr);
        if (r < 0)
                return r;
        if (ssh_call(f->session, &wait, libssh2_sftp_fstat_ex(handle, &a, 0)) < 0)
                r = fail(f, wait, reterr, "look at", path);
        if (r >= 0 && (a.flags & LIBSSH2_SFTP_ATTR_SIZE) && a.filesize > 0)
                max = a.filesize;
        if (r >= 0)
                r = receive_data(f, handle, path, max, fd, progress, reterr);
        ssh_sftp_close(f, handle);
        return r;
}

/* Version 3 of the protocol renames over nothing, and libssh2 1.10 lacks OpenSSH's extension that does. */
static int move_by_command(SshSftp *f, const char *from, const char *to, Error **reterr) {
        _cleanup_free_ char *a = ssh_quote(from), *b = ssh_quote(to),
                            *script = a && b ? strf("exec mv -f -- %s %s </dev/null 2>&1", a, b) : NULL;
        uint64_t deadline = f->session->deadline;
        SshOutput output;
        SshExit ended;
        int r;

        if (!script)
                return error_set_errno(reterr, -ENOMEM, "Failed to move a file");
        r = ssh_command_ask(f->session, script, MIN(deadline, ssh_later(now_usec(), MOVE_USEC)), &output,
                        &ended, reterr);
        f->session->deadline = deadline;
        if (r >= 0 && (ended.status != 0 || *ended.signal)) {
                _cleanup_free_ char *tail = ssh_output_tail(&output, " ");

                (void)error_set(reterr, ERROR_FAILED, "Failed to replace '%s':%s", to, tail ?: "");
                return -EIO;
        }
        return r;
}

int ssh_sftp_replace(SshSftp *f, const char *from, const char *to, Error **reterr) {
        LIBSSH2_SFTP_ATTRIBUTES a;
        int r, wait;

        r = ssh_call(f->session, &wait,
                        libssh2_sftp_rename_ex(f->sftp, from, (unsigned)strlen(from), to,
                                        (unsigned)strlen(to),
                                        LIBSSH2_SFTP_RENAME_ATOMIC | LIBSSH2_SFTP_RENAME_NATIVE));
        if (r >= 0)
                return 0;
        r = fail(f, wait, reterr, "create", to);
        if (r != -EIO || ssh_sftp_stat(f, to, true, &a, NULL) < 0)
                return r;
        if (ssh_sftp_is(&a, S_IFDIR)) {
                (void)error_set(reterr, ERROR_FAILED, "Failed to replace '%s': it is a folder in the guest",
                                to);
                return -EISDIR;
        }
        return move_by_command(f, from, to, reterr);
}
