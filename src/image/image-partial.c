/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "core/task.h"
#include "image-partial.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define DELETE_TIMEOUT (10 * 60 * USEC_PER_SEC) /* as for records; the next start-up would finish it */
#define FILE_USER "user"                        /* who began it */
#define UID_INVALID ((uid_t)-1)
#define AGE_MAX (7 * 24 * 3600) /* seconds; as in tmpfiles.d/vmctl.conf */

typedef struct Deletion {
        Partials *partials;
        char *folder;
        Task *task;
        struct Deletion *next;
} Deletion;

struct Partials {
        sd_event *event; /* borrowed */
        int store_fd;    /* borrowed */
        int fd;
        char *path;
        Deletion *deletions; /* owned */
};

static Deletion *deletion_free(Deletion *d) {
        if (!d)
                return NULL;
        task_free(d->task);
        free(d->folder);
        free(d);
        return NULL;
}
DEFINE_CLEANUP(Deletion *, deletion_free);

Partials *partials_free(Partials *p) {
        if (!p)
                return NULL;
        while (p->deletions) {
                Deletion *d = p->deletions;

                p->deletions = d->next;
                deletion_free(d);
        }
        safe_close(p->fd);
        free(p->path);
        free(p);
        return NULL;
}

int partials_new(sd_event *event, int store_fd, const char *path, Partials **ret) {
        _cleanup_(partials_freep) Partials *p = malloc(sizeof(Partials));

        if (!p)
                return -ENOMEM;
        *p = (Partials){ .event = event, .store_fd = store_fd, .fd = -EBADF, .path = strdup(path) };
        if (!p->path)
                return -ENOMEM;
        p->fd = make_dir_at(store_fd, ".partial", 0700);
        if (p->fd < 0)
                return p->fd;
        *ret = TAKE_PTR(p);
        return 0;
}

int partials_fd(const Partials *p) {
        return p->fd;
}

static int delete (void *argument) {
        const Deletion *d = argument;

        return remove_tree_at(d->partials->store_fd, d->folder) < 0;
}

static void on_deleted(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(deletion_freep) Deletion *d = userdata;

        for (Deletion **p = &d->partials->deletions; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        if (status != 0)
                log_warning("'%s/%s' could not be deleted", d->partials->path, d->folder);
}

static int hide(const Partials *p, const char *folder, char **ret) {
        _cleanup_free_ char *hidden = NULL;
        char uuid[SD_ID128_UUID_STRING_MAX];
        sd_id128_t id;
        int r;

        r = sd_id128_randomize(&id);
        if (r < 0)
                return r;
        hidden = strf(".old-%s", sd_id128_to_uuid_string(id, uuid));
        if (!hidden)
                return -ENOMEM;
        if (renameat(p->fd, folder, p->store_fd, hidden) < 0)
                return -errno;
        *ret = TAKE_PTR(hidden);
        return 0;
}

void partials_delete(Partials *p, const char *folder) {
        _cleanup_(deletion_freep) Deletion *d = malloc(sizeof(Deletion));
        int r = -ENOMEM;

        if (d) {
                *d = (Deletion){ .partials = p, .next = p->deletions };
                r = hide(p, folder, &d->folder);
        }
        if (r >= 0)
                r = task_call(p->event, delete, d, DELETE_TIMEOUT, on_deleted, d, &d->task);
        if (r < 0)
                log_warning_errno(r, "Cannot delete the download '%s', ignoring: %m", folder);
        else
                p->deletions = TAKE_PTR(d);
}

/* As what a link leads to, which is made and read in one go. */
static int note_user(int folder_fd, uid_t user) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%u", (unsigned)user);
        if (unlinkat(folder_fd, FILE_USER, 0) < 0 && errno != ENOENT)
                return -errno;
        return symlinkat(text, folder_fd, FILE_USER) < 0 ? -errno : 0;
}

static uid_t user_of(int folder_fd) {
        char text[16] = "";
        uint32_t user;

        if (readlinkat(folder_fd, FILE_USER, text, sizeof(text) - 1) < 0 || parse_u32(text, &user) < 0)
                return UID_INVALID;
        return user;
}

int partials_open(const Partials *p, const char *folder, uid_t user) {
        _cleanup_close_ int fd = make_dir_at(p->fd, folder, 0700);
        int r;

        if (fd < 0)
                return fd;
        r = note_user(fd, user);
        if (r < 0)
                return r;
        /* systemd-tmpfiles leaves alone what is locked. */
        (void)flock(fd, LOCK_EX | LOCK_NB);
        return TAKE_FD(fd);
}

/* Of that user, and since when; it does not where somebody works in it. */
static bool waits(const Partials *p, const char *folder, uid_t user, struct stat *ret) {
        _cleanup_close_ int fd = openat(p->fd, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

        return fd >= 0 && user_of(fd) == user && flock(fd, LOCK_EX | LOCK_NB) >= 0 && fstat(fd, ret) >= 0;
}

static bool is_older(const struct timespec *a, const struct timespec *b) {
        return a->tv_sec < b->tv_sec || (a->tv_sec == b->tv_sec && a->tv_nsec < b->tv_nsec);
}

/* Returns how many of a user's wait, and which does for the longest time. */
static unsigned find_oldest(const Partials *p, uid_t user, char **ret) {
        int fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        struct timespec oldest = {};
        unsigned n = 0;

        for (struct dirent *de; dir && (de = readdir(dir));) {
                struct stat st;

                if (de->d_name[0] == '.' || !waits(p, de->d_name, user, &st))
                        continue;
                if ((n++ == 0 || is_older(&st.st_mtim, &oldest)) && free_and_strdup(ret, de->d_name) >= 0)
                        oldest = st.st_mtim;
        }
        if (dir)
                closedir(dir);
        else
                safe_close(fd);
        return n;
}

/* One at a time comes, so one at a time goes. Its age counts from now on. */
void partials_keep(Partials *p, int folder_fd) {
        _cleanup_free_ char *oldest = NULL;

        (void)futimens(folder_fd, NULL);
        if (find_oldest(p, user_of(folder_fd), &oldest) >= PARTIALS_PER_USER && oldest)
                partials_delete(p, oldest);
}

static bool is_stale(const Partials *p, const char *folder) {
        struct stat st;

        return fstatat(p->fd, folder, &st, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        st.st_mtim.tv_sec + AGE_MAX < time(NULL);
}

void partials_hide_stale(const Partials *p) {
        int fd = openat(p->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        _cleanup_strv_ char **stale = NULL;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;

        for (struct dirent *de; dir && (de = readdir(dir));)
                if (de->d_name[0] != '.' && is_stale(p, de->d_name))
                        (void)strv_extend(&stale, de->d_name);
        if (dir)
                closedir(dir);
        STRV_FOREACH(folder, stale) {
                _cleanup_free_ char *hidden = NULL;
                int r = hide(p, *folder, &hidden);

                if (r < 0)
                        log_warning_errno(r, "Cannot delete the download '%s', ignoring: %m", *folder);
        }
}
