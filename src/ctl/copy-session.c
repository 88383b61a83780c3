/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "copy-session.h"
#include "util/fd-util.h"

/* For tests, which run one that is not installed. */
#ifndef COPY_HELPER
#        define COPY_HELPER VMCTL_HELPER_DIR "/vmctl-ssh"
#endif

#define KNOWN_HOSTS_MAX (64 * KIB)

enum {
        FD_KEY = 3,
        FD_KNOWN_HOST,
        FD_FILE,
};

typedef struct CopySession {
        const SshTarget *target;
        const CopyRequest *request;
        int key_fd, known_fd, request_fd;
        char *alias;
        char *known_hosts; /* the file where the host key is, or will be, pinned */
        bool pin;
} CopySession;

static void session_done(CopySession *s) {
        safe_close(s->key_fd);
        safe_close(s->known_fd);
        safe_close(s->request_fd);
        free(s->alias);
        free(s->known_hosts);
}

/* Of the keys that ssh would offer the first: vmctl-ssh takes one. That which was named is meant. */
static int open_key(CopySession *s, Error **reterr) {
        static const char *const usual[] = { SSH_USUAL_KEYS };
        const char *chosen = s->request->key ?: ssh_target_key(s->target);
        _cleanup_free_ char *folder = ssh_user_folder();

        if (chosen) {
                s->key_fd = open(chosen, O_RDONLY | O_NOCTTY | O_CLOEXEC);
                return s->key_fd < 0 ? error_set_errno(reterr, -errno, "The key '%s' cannot be read", chosen)
                                     : 0;
        }
        for (size_t i = 0; folder && s->key_fd < 0 && i < ELEMENTSOF(usual); i++) {
                _cleanup_free_ char *path = strf("%s/%s", folder, usual[i]);

                s->key_fd = path ? open(path, O_RDONLY | O_NOCTTY | O_CLOEXEC) : -EBADF;
        }
        if (s->key_fd >= 0)
                return 0;
        return error_set(reterr, ERROR_INVALID_KEY, "There is no private key to log in with");
}

/* Names in the user's own file may be hashed, which ssh-keygen knows to look up. Nothing is found as long as
 * there is no such file. */
static int find_in_own(const CopySession *s, char **ret) {
        char *argv[] = { (char *)"/usr/bin/ssh-keygen", (char *)"-F", s->alias, (char *)"-f", s->known_hosts,
                NULL };
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        ChildFd fds[] = { { -EBADF, STDOUT_FILENO } };
        ChildSpec spec = { .argv = argv, .fds = fds, .n_fds = 1, .flags = CHILD_DIE_WITH_PARENT };
        pid_t pid;
        int r;

        if (pipe2(out, O_CLOEXEC) < 0)
                return -errno;
        fds[0].fd = out[1];
        r = child_spawn(&spec, &pid);
        if (r < 0)
                return r;
        out[1] = safe_close(out[1]);
        r = read_all(out[0], KNOWN_HOSTS_MAX, ret, NULL);
        out[0] = safe_close(out[0]);
        while (waitpid(pid, NULL, 0) < 0)
                if (errno != EINTR)
                        return -errno;
        return r;
}

static bool is_blank(const char *text) {
        for (const char *line = text; *line;) {
                line += strspn(line, " \t\r\n");
                if (*line != '#' && *line != '\0')
                        return false;
                line += strcspn(line, "\n");
        }
        return true;
}

static int open_known_hosts(CopySession *s, Error **reterr) {
        _cleanup_free_ char *text = NULL, *folder = ssh_user_folder();
        const char *vms_own;
        int r;

        r = ssh_target_host_key(s->target, &s->alias, &vms_own);
        if (r >= 0) {
                s->known_hosts = vms_own ? strdup(vms_own) : folder ? strf("%s/known_hosts", folder) : NULL;
                r = s->known_hosts ? 0 : -ENOMEM;
        }
        if (r >= 0)
                r = vms_own ? read_file_at(AT_FDCWD, vms_own, KNOWN_HOSTS_MAX, &text, NULL)
                            : find_in_own(s, &text);
        if (r >= 0) {
                s->pin = is_blank(text);
                r = s->known_fd = memfd_with("known-host", text, strlen(text));
        }
        return r < 0 ? error_set_errno(reterr, r, "The known host keys cannot be read") : 0;
}

static int write_request(CopySession *s, Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        const char *user = json_get_string(s->target->vm, "SSHUser");
        const CopyRequest *q = s->request;
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return error_set_errno(reterr, r, "No memory");
        json_write_object(w);
        json_put_unsigned(w, "port", s->target->port);
        json_put_string(w, "user", isempty(user) ? "vm" : user);
        json_put_unsigned(w, "wait-usec", q->wait_usec);
        /* A guest may listen before cloud-init has made its user. */
        json_put_unsigned(w, "auth-retry-usec", ssh_target_is_fresh(s->target) ? q->wait_usec : 0);
        json_put_boolean(w, "cloud-init", false);
        json_write_key(w, "copy");
        json_write_object(w);
        json_put_string(w, "direction", q->from ? "from" : "to");
        json_put_unsigned(w, "file", 0);
        json_put_string(w, "path", q->path);
        json_put_string(w, "name", q->name);
        if (!q->from)
                json_put_string(w, "place", q->place);
        json_put_boolean(w, "recursive", q->recursive);
        json_put_boolean(w, "preserve", q->preserve);
        json_write_end(w);
        json_write_end(w);
        r = json_writer_finish(w, &text, &len);
        if (r == -EINVAL)
                return error_set(reterr, ERROR_FAILED, "Its name is not UTF-8");
        if (r >= 0)
                r = s->request_fd = memfd_with("request", text, len);
        return r < 0 ? error_set_errno(reterr, r, "No memory") : 0;
}

static int pin_host_key(const CopySession *s, const char *key) {
        _cleanup_close_ int fd = open(
                        s->known_hosts, O_WRONLY | O_APPEND | O_CREAT | O_NOCTTY | O_CLOEXEC, 0600);
        _cleanup_free_ char *line = strf("%s %s\n", s->alias, key);

        if (fd < 0)
                return -errno;
        return line ? write_all(fd, line, strlen(line)) : -ENOMEM;
}

static void on_line(const Json *line, void *userdata) {
        const char *phase = json_get_string(line, "phase"), *key = json_get_string(line, "host-key");
        CopySession *s = userdata;

        if (!s->pin || !key || !streq_ptr(phase, "ready") || strpbrk(key, "\r\n"))
                return;
        s->pin = false;
        if (pin_host_key(s, key) < 0)
                (void)fprintf(stderr, "vmctl: The guest's host key could not be written to '%s'\n",
                                s->known_hosts);
}

static int run(Helper *h, CopySession *s, const char *what) {
        char *argv[] = { (char *)COPY_HELPER, (char *)"--private-key", (char *)"3", (char *)"--known-host",
                (char *)"4", (char *)"--file", (char *)"5", NULL };
        const ChildFd fds[] = { { s->request_fd, STDIN_FILENO }, { s->key_fd, FD_KEY },
                { s->known_fd, FD_KNOWN_HOST }, { s->request->fd, FD_FILE } };

        h->line_read = on_line;
        h->userdata = s;
        return helper_run(h, argv, fds, ELEMENTSOF(fds), what);
}

int copy_session_run(Helper *h, const SshTarget *t, const CopyRequest *q, const char *what) {
        _cleanup_(session_done) CopySession s = {
                .target = t,
                .request = q,
                .key_fd = -EBADF,
                .known_fd = -EBADF,
                .request_fd = -EBADF,
        };
        _cleanup_error_ Error *e = NULL;
        int r;

        r = open_key(&s, &e);
        if (r >= 0)
                r = open_known_hosts(&s, &e);
        if (r >= 0)
                r = write_request(&s, &e);
        if (r >= 0)
                return run(h, &s, what);
        return ctl_complain(error_code(e) == ERROR_INVALID_KEY ? "Name one with '--key FILE'." : NULL,
                        "Failed to %s: %s", what, error_message(e));
}
