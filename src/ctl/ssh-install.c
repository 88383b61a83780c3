/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Two files in ~/.ssh/vmctl are included by ~/.ssh/config. ssh reads one after the other: the first has it
 * run 'vmctl ssh-config --update' if it is to reach a VM, which writes the second. So entries are as new as
 * the connection, with nobody who would have to watch the service; and as they lie in a file, without
 * wildcards and outside of any block, programs that only list hosts find them, too. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ssh-config.h"
#include "ssh-install.h"
#include "ssh-target.h"
#include "util/fd-util.h"

#define FOLDER "vmctl"
#define UPDATE_FILE "update.conf"
#define HOSTS_FILE "hosts.conf"
#define CONFIG_MAX (1 * MIB)

#define COMMENT "# By 'vmctl ssh-config --install'; '--uninstall' takes these lines away"

typedef struct Install {
        char *ssh_folder; /* ~/.ssh */
        char *config;     /* what ~/.ssh/config leads to, or that itself */
        char *lines[3];   /* ours in there */
        char *old;        /* its content, or NULL */
        mode_t config_mode;
        int fd; /* the folder of our files, locked */
} Install;

static void install_done(Install *i) {
        free(i->ssh_folder);
        free(i->config);
        for (size_t k = 0; k < ELEMENTSOF(i->lines); k++)
                free(i->lines[k]);
        free(i->old);
        safe_close(i->fd);
}

static char *include_line(const char *folder, const char *name) {
        _cleanup_free_ char *path = strf("%s/" FOLDER "/%s", folder, name),
                            *word = path ? ssh_config_word(path) : NULL;

        return word ? strf("Include %s", word) : NULL;
}

/* A configuration may be a link to where somebody keeps all of his. */
static int read_config(Install *i) {
        _cleanup_free_ char *path = strf("%s/config", i->ssh_folder);
        _cleanup_close_ int fd = -EBADF;
        struct stat st;
        size_t len;
        int r;

        if (!path)
                return -ENOMEM;
        i->config_mode = 0600;
        i->config = realpath(path, NULL);
        if (!i->config) {
                i->config = errno == ENOENT ? TAKE_PTR(path) : NULL;
                return i->config ? 0 : -errno;
        }
        fd = open(i->config, O_RDONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        i->config_mode = st.st_mode & 07777;
        r = read_all(fd, CONFIG_MAX, &i->old, &len);
        if (r < 0)
                return r;
        return strlen(i->old) == len ? 0 : -EINVAL; /* no text */
}

static int install_init(Install *i) {
        i->ssh_folder = ssh_user_folder();
        if (!i->ssh_folder)
                return -ENOMEM;
        i->lines[0] = strdup(COMMENT);
        i->lines[1] = include_line(i->ssh_folder, UPDATE_FILE);
        i->lines[2] = include_line(i->ssh_folder, HOSTS_FILE);
        if (!i->lines[0] || !i->lines[1] || !i->lines[2])
                return -ENOMEM;
        return read_config(i);
}

/* Many instances of ssh may start at once, and the entries of the last are to be the newest. */
static int lock_folder(int parent_fd, int *ret_fd) {
        _cleanup_close_ int fd = openat(parent_fd, FOLDER, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

        if (fd < 0)
                return -errno;
        while (flock(fd, LOCK_EX) < 0)
                if (errno != EINTR)
                        return -errno;
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int make_folder(Install *i) {
        _cleanup_close_ int parent_fd = -EBADF, fd = -EBADF;

        if (mkdir(i->ssh_folder, 0700) < 0 && errno != EEXIST)
                return -errno;
        parent_fd = open(i->ssh_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (parent_fd < 0)
                return -errno;
        fd = make_dir_at(parent_fd, FOLDER, 0700);
        return fd < 0 ? fd : lock_folder(parent_fd, &i->fd);
}

/* Nothing is asked of the user: it is not his terminal that ssh runs this on. */
static char *update_text(const Ctl *c) {
        const char *bus = c->choice == CLIENT_BUS_USER   ? "--user "
                        : c->choice == CLIENT_BUS_SYSTEM ? "--system "
                                                         : "";

        return strf("# By 'vmctl ssh-config --install'\n"
                    "Match originalhost vm/*,*.vm exec \"vmctl %s--no-ask-password ssh-config --update\"\n",
                        bus);
}

/* A file that stays as it is, is not written: editors watch it. */
static int replace_file(int fd, const char *name, const char *text) {
        _cleanup_free_ char *old = NULL;
        int r;

        r = read_file_at(fd, name, CONFIG_MAX, &old, NULL);
        if (r >= 0 && streq(old, text))
                return 0;
        return write_file_at(fd, name, text, strlen(text), 0600, 0);
}

static int write_update_file(const Ctl *c, int fd) {
        _cleanup_free_ char *text = update_text(c);

        return text ? replace_file(fd, UPDATE_FILE, text) : -ENOMEM;
}

/* Reports failure. */
static int write_hosts(Ctl *c, int fd) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = ssh_config_text(c, NULL, 0, &text);
        if (r != 0)
                return r;
        r = replace_file(fd, HOSTS_FILE, text);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to write ssh's configuration") : 0;
}

static bool is_ours(const Install *i, const char *line, size_t len) {
        for (size_t k = 0; k < ELEMENTSOF(i->lines); k++)
                if (strlen(i->lines[k]) == len && strncmp(i->lines[k], line, len) == 0)
                        return true;
        return false;
}

/* All but our lines, which stand before it if wanted: what stands first holds, and nothing else is in effect
 * there. */
static char *edit_config(const Install *i, bool wanted) {
        const char *old = i->old ?: "";
        size_t size = strlen(old) + 1, o = 0;
        char *text;

        for (size_t k = 0; k < ELEMENTSOF(i->lines); k++)
                size += strlen(i->lines[k]) + 1;
        text = malloc(size);
        if (!text)
                return NULL;
        for (size_t k = 0; wanted && k < ELEMENTSOF(i->lines); k++)
                o += (size_t)sprintf(text + o, "%s\n", i->lines[k]);
        for (const char *line = old; *line;) {
                size_t len = strcspn(line, "\n"), all = len + (line[len] == '\n');

                if (!is_ours(i, line, len)) {
                        memcpy(text + o, line, all);
                        o += all;
                }
                line += all;
        }
        text[o] = '\0';
        return text;
}

static int write_config(const Install *i, bool wanted) {
        _cleanup_free_ char *text = edit_config(i, wanted), *folder = NULL;
        const char *name = strrchr(i->config, '/') + 1;
        _cleanup_close_ int fd = -EBADF;

        folder = strndup(i->config, (size_t)(name - i->config));
        if (!text || !folder)
                return -ENOMEM;
        if (streq(text, i->old ?: ""))
                return 0;
        fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        return fd < 0 ? -errno
                      : write_file_at(fd, name, text, strlen(text), i->config_mode, WRITE_FILE_SYNC);
}

int ssh_install(Ctl *c) {
        _cleanup_(install_done) Install i = { .fd = -EBADF };
        int r;

        r = install_init(&i);
        if (r >= 0)
                r = make_folder(&i);
        if (r >= 0)
                r = write_update_file(c, i.fd);
        if (r >= 0) {
                r = write_hosts(c, i.fd);
                if (r != 0)
                        return r;
                r = write_config(&i, true);
        }
        return r < 0 ? ctl_report(c, NULL, r, "Failed to change ssh's configuration") : 0;
}

static int remove_files(const Install *i) {
        _cleanup_free_ char *path = strf("%s/" FOLDER, i->ssh_folder);

        if (!path)
                return -ENOMEM;
        if (unlinkat(i->fd, UPDATE_FILE, 0) < 0 && errno != ENOENT)
                return -errno;
        if (unlinkat(i->fd, HOSTS_FILE, 0) < 0 && errno != ENOENT)
                return -errno;
        return rmdir(path) < 0 && errno != ENOTEMPTY ? -errno : 0;
}

/* Reports nothing. -ENOENT: there is none. */
static int open_folder(const char *ssh_folder, int *ret_fd) {
        _cleanup_close_ int fd = open(ssh_folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        return fd < 0 ? -errno : lock_folder(fd, ret_fd);
}

int ssh_uninstall(Ctl *c) {
        _cleanup_(install_done) Install i = { .fd = -EBADF };
        int r;

        r = install_init(&i);
        if (r >= 0 && i.old)
                r = write_config(&i, false);
        if (r >= 0) {
                r = open_folder(i.ssh_folder, &i.fd);
                r = r == -ENOENT ? 0 : r < 0 ? r : remove_files(&i);
        }
        return r < 0 ? ctl_report(c, NULL, r, "Failed to change ssh's configuration") : 0;
}

int ssh_update(Ctl *c) {
        _cleanup_free_ char *folder = ssh_user_folder();
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = folder ? open_folder(folder, &fd) : -ENOMEM;
        if (r == -ENOENT)
                return r;
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to change ssh's configuration");
        return write_hosts(c, fd);
}

void ssh_refresh(Ctl *c) {
        _cleanup_free_ char *folder = ssh_user_folder(), *wanted = update_text(c), *there = NULL,
                            *text = NULL;
        _cleanup_close_ int fd = -EBADF;

        if (c->host || !folder || !wanted || open_folder(folder, &fd) < 0)
                return;
        if (read_file_at(fd, UPDATE_FILE, CONFIG_MAX, &there, NULL) < 0 || !streq(there, wanted))
                return;
        if (ssh_config_text(c, NULL, 0, &text) == 0)
                (void)replace_file(fd, HOSTS_FILE, text);
}
