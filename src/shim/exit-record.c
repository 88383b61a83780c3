/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <time.h>
#include <unistd.h>

#include "exit-record.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define CGROUP_FILE_MAX (64 * KIB) /* /proc/self/cgroup, or a controller's file: a few hundred bytes */

static int open_hierarchy(const char *path, long type) {
        _cleanup_close_ int fd = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        struct statfs sfs;

        if (fd < 0)
                return -errno;
        if (fstatfs(fd, &sfs) < 0)
                return -errno;
        return sfs.f_type == type ? TAKE_FD(fd) : -ENOENT;
}

void oom_watch_prepare(OomWatch *w) {
        w->hierarchy = open_hierarchy("/sys/fs/cgroup", CGROUP2_SUPER_MAGIC);
        w->unified = w->hierarchy >= 0;
        if (!w->unified)
                w->hierarchy = open_hierarchy("/sys/fs/cgroup/memory", CGROUP_SUPER_MAGIC);
}

/* A line of /proc/self/cgroup is ID:CONTROLLER[,CONTROLLER...]:PATH; the unified hierarchy's is 0::PATH. */
static bool is_memory_line(char *line, bool unified, const char **ret_path) {
        char *controllers = strchr(line, ':'), *path = controllers ? strchr(controllers + 1, ':') : NULL;
        const char *c;

        if (!path)
                return false;
        *controllers++ = '\0';
        *path++ = '\0';
        *ret_path = path;
        if (unified)
                return streq(line, "0");
        while ((c = strsep(&controllers, ",")))
                if (streq(c, "memory"))
                        return true;
        return false;
}

const char *oom_watch_find_cgroup(char *text, bool unified) {
        const char *path;
        char *line;

        while ((line = strsep(&text, "\n")))
                if (is_memory_line(line, unified, &path))
                        return path;
        return NULL;
}

static int open_counter(const OomWatch *w) {
        _cleanup_free_ char *text = NULL, *file = NULL;
        const char *path;
        int fd, r;

        r = read_file_at(AT_FDCWD, "/proc/self/cgroup", CGROUP_FILE_MAX, &text, NULL);
        if (r < 0)
                return r;
        path = oom_watch_find_cgroup(text, w->unified);
        if (!path)
                return -ENOENT;
        file = strf(".%s/%s", path, w->unified ? "memory.events" : "memory.oom_control");
        if (!file)
                return -ENOMEM;
        fd = openat(w->hierarchy, file, O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Both files are lines of KEY VALUE, and both call it oom_kill. */
static uint64_t read_counter(const OomWatch *w) {
        char buf[512];
        ssize_t n;

        if (w->counter < 0)
                return 0;
        n = pread(w->counter, buf, sizeof(buf) - 1, 0);
        if (n < 0)
                return 0;
        buf[n] = '\0';
        for (char *rest = buf, *line; (line = strsep(&rest, "\n"));) {
                const char *value = startswith(line, "oom_kill ");
                uint64_t v;

                if (value && parse_u64(value, &v) >= 0)
                        return v;
        }
        return 0;
}

void oom_watch_begin(OomWatch *w) {
        if (w->hierarchy < 0)
                return;
        w->counter = open_counter(w);
        w->hierarchy = safe_close(w->hierarchy);
        w->before = read_counter(w);
}

bool oom_watch_has_killed(const OomWatch *w) {
        return read_counter(w) > w->before;
}

void oom_watch_done(OomWatch *w) {
        w->hierarchy = safe_close(w->hierarchy);
        w->counter = safe_close(w->counter);
}

size_t exit_record_format(const siginfo_t *si, bool oom, char buf[EXIT_RECORD_MAX]) {
        struct timespec now;
        int n;

        (void)clock_gettime(CLOCK_REALTIME, &now); /* cannot fail for this clock */
        n = snprintf(buf, EXIT_RECORD_MAX, "{\"%s\":%i%s,\"time\":%" PRIu64 "}\n",
                        si->si_code == CLD_EXITED ? "exited" : "signal", si->si_status,
                        oom ? ",\"oom\":true" : "",
                        (uint64_t)now.tv_sec * USEC_PER_SEC + (uint64_t)now.tv_nsec / NSEC_PER_USEC);
        return (size_t)n;
}

int exit_record_write(int fd, const char *record, size_t len) {
        ssize_t n;

        n = pwrite(fd, record, len, 0);
        if (n < 0)
                return -errno;
        if ((size_t)n != len)
                return -ENOSPC;
        return ftruncate(fd, (off_t)len) < 0 ? -errno : 0;
}
