/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The last step into the store. All is made in ".new-UUID", by a child, and then gets its name in one
 * rename: whatever dies before leaves a folder that the next start-up removes. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "image-transfer.h"
#include "manager.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"

#define COMMIT_TIMEOUT (60 * USEC_PER_SEC) /* the file itself has reached the disk before */

struct ImageCommit {
        ImageStore *store; /* borrowed */
        ImageRecord record;
        char *folder;         /* ".new-UUID" */
        int dir_fd;           /* owned */
        char *file;           /* below dir_fd */
        char *shared_content; /* below the store: the same content, or NULL */
        char *replaces;
        char *text;
        size_t len;
        image_commit_done_t done;
        void *userdata;
        Task *task;
        ImageCommit *next; /* in store->killed_commits */
};

static void destroy(ImageCommit *c) {
        task_free(c->task);
        image_record_done(&c->record);
        safe_close(c->dir_fd);
        free(c->folder);
        free(c->file);
        free(c->shared_content);
        free(c->replaces);
        free(c->text);
        free(c);
}

/* It has got this far or that. */
static void discard(ImageCommit *c) {
        image_store_delete(c->store, c->folder);
        image_store_delete(c->store, c->record.uuid);
        destroy(c);
}

static void on_gone(void *userdata) {
        ImageCommit *c = userdata;

        for (ImageCommit **p = &c->store->killed_commits; *p; p = &(*p)->next)
                if (*p == c) {
                        *p = c->next;
                        break;
                }
        discard(c);
}

/* A child that is killed in the middle of its rename still makes it: what it has made is removed when it is
 * gone. */
ImageCommit *image_commit_free(ImageCommit *c) {
        if (!c)
                return NULL;
        if (!c->task)
                destroy(c);
        else if (task_kill(c->task, on_gone, c) == 0)
                discard(c);
        else {
                c->next = c->store->killed_commits;
                c->store->killed_commits = c;
        }
        return NULL;
}
DEFINE_CLEANUP(ImageCommit *, image_commit_free);

void image_store_forget_commits(ImageStore *s) {
        while (s->killed_commits) {
                ImageCommit *c = s->killed_commits;

                s->killed_commits = c->next;
                destroy(c);
        }
}

char *image_displaced_name(const ImageRecord *rec) {
        return strf("%.*s-%.8s", VM_NAME_MAX - 9, rec->name, rec->uuid);
}

/* A file system may have no links, or no more of them for this file: then content is not shared. */
static int link_content(const ImageCommit *c, int folder_fd) {
        if (c->shared_content && linkat(c->store->fd, c->shared_content, folder_fd, IMAGE_DISK, 0) >= 0)
                return 0;
        return linkat(c->dir_fd, c->file, folder_fd, IMAGE_DISK, 0) < 0 ? -errno : 0;
}

/* Nobody writes to it from now on. All may read it who get to it, as qemu-img does that opens it anew by its
 * descriptor; nobody else gets into the folder. */
static int seal_content(int folder_fd) {
        _cleanup_close_ int fd = openat(folder_fd, IMAGE_DISK, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);

        if (fd < 0 || fchmod(fd, 0444) < 0 || (geteuid() == 0 && fchown(fd, 0, 0) < 0))
                return -errno;
        return 0;
}

static int commit(void *argument) {
        const ImageCommit *c = argument;
        _cleanup_close_ int fd = make_dir_at(c->store->fd, c->folder, 0700);
        int r;

        r = fd < 0 ? fd : link_content(c, fd);
        if (r >= 0)
                r = seal_content(fd);
        if (r >= 0)
                r = write_file_at(fd, IMAGE_RECORD_FILE, c->text, c->len, 0600, WRITE_FILE_SYNC);
        if (r >= 0 && renameat(c->store->fd, c->folder, c->store->fd, c->record.uuid) < 0)
                r = -errno;
        if (r >= 0 && fsync(c->store->fd) < 0)
                r = -errno;
        return r < 0 ? MIN(-r, 254) : 0;
}

/* VMs that need the old one keep it, under another name; that reaches the disk by itself, and if it does
 * not, the next start-up finds two of a name and does the same. */
static void displace(ImageStore *s, Image *old) {
        _cleanup_free_ char *name = image_displaced_name(&old->record);
        _cleanup_error_ Error *e = NULL;

        if (!image_is_in_use(old) && image_remove(old, &e) >= 0)
                return;
        if (!name)
                return;
        image_store_take_out(s, old);
        free(old->record.name);
        old->record.name = TAKE_PTR(name);
        if (image_store_add(s, old) < 0)
                return;
        log_info("VMs need the earlier content of an image: it is called '%s' now", image_name(old));
        if (image_set_shared(old, old->record.shared, NULL, NULL, &e) < 0)
                log_warning("The record of image '%s' was not written: %s", image_name(old),
                                error_message(e));
}

static int enter(ImageCommit *c, Image **ret) {
        Image *old = c->replaces ? image_find(c->store, c->replaces) : NULL;
        uint64_t created = c->record.created;
        int r;

        if (old)
                displace(c->store, old);
        r = image_new(c->store->manager, &c->record, created, ret);
        return r < 0 ? r : image_store_add(c->store, *ret);
}

static void on_committed(void *userdata, int status, const char *output, size_t len) {
        _cleanup_(image_commit_freep) ImageCommit *c = userdata;
        int r = status > 0 ? -status : status;
        _cleanup_error_ Error *e = NULL;
        Image *image = NULL;

        if (r >= 0) {
                c->task = task_free(c->task);
                r = enter(c, &image);
        }
        if (r < 0)
                (void)error_set_errno(&e, r, "The image cannot be put into the store");
        c->done(c->userdata, r < 0 ? NULL : image, e);
}

static int set_up(ImageCommit *c, const char *file, const char *replaces) {
        char uuid[SD_ID128_UUID_STRING_MAX];
        const Image *same;
        struct timespec ts;
        struct stat st;
        sd_id128_t id;
        int r;

        clock_gettime(CLOCK_REALTIME, &ts);
        c->record.created = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
        if (fstatat(c->dir_fd, file, &st, AT_SYMLINK_NOFOLLOW) < 0)
                return -errno;
        c->record.allocated = (uint64_t)st.st_blocks * 512;
        r = sd_id128_randomize(&id);
        if (r >= 0)
                r = free_and_strdup(&c->record.uuid, sd_id128_to_uuid_string(id, uuid));
        if (r >= 0)
                r = free_and_strdup(&c->file, file);
        if (r >= 0)
                r = free_and_strdup(&c->replaces, replaces);
        if (r < 0)
                return r;
        same = image_find_by_content(c->store, &c->record);
        if (same) {
                c->shared_content = strf("%s/" IMAGE_DISK, same->record.uuid);
                c->record.allocated = same->record.allocated;
        }
        c->folder = strf(".new-%s", uuid);
        if (!c->folder || (same && !c->shared_content))
                return -ENOMEM;
        return image_record_format(&c->record, &c->text, &c->len);
}

int image_commit(ImageStore *s, ImageRecord *record, int dir_fd, const char *file, const char *replaces,
                image_commit_done_t done, void *userdata, ImageCommit **ret) {
        _cleanup_(image_commit_freep) ImageCommit *c = malloc(sizeof(ImageCommit));
        int r;

        if (!c) {
                image_record_done(record);
                return -ENOMEM;
        }
        *c = (ImageCommit){
                .store = s,
                .record = *record,
                .dir_fd = fcntl(dir_fd, F_DUPFD_CLOEXEC, 3),
                .done = done,
                .userdata = userdata,
        };
        *record = (ImageRecord){};
        r = c->dir_fd < 0 ? -errno : set_up(c, file, replaces);
        if (r >= 0)
                r = task_call(s->manager->event, commit, c, COMMIT_TIMEOUT, on_committed, c, &c->task);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}
