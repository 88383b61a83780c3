/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>

#include <systemd/sd-login.h>

#include "cgroup.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define CGROUP_FILE_MAX (16 * KIB) /* /proc/PID/cgroup has one line for each of some 13 controllers */

char *cgroup_path_in(const char *table, const char *controller) {
        size_t n = controller ? strlen(controller) : 0;

        for (const char *line = table; line && *line;
                        line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL) {
                const char *list = strchr(line, ':'), *path = list ? strchr(list + 1, ':') : NULL;
                size_t len;

                if (!path)
                        continue;
                len = strcspn(path + 1, "\n");
                list++;
                if (!controller && list == path)
                        return strndup(path + 1, len);
                for (const char *c = list; controller && c < path; c += strcspn(c, ",:") + 1)
                        if (strncmp(c, controller, n) == 0 && (c[n] == ',' || c[n] == ':'))
                                return strndup(path + 1, len);
        }
        return NULL;
}

/* Where systemd has version 2 alone, a hierarchy of version 1 may still be mounted elsewhere, or have been;
 * all processes stay in its root. */
static bool only_version_2(void) {
        struct statfs fs;

        return statfs("/sys/fs/cgroup", &fs) >= 0 && fs.f_type == CGROUP2_SUPER_MAGIC;
}

static int read_table(pid_t pid, char **ret) {
        _cleanup_free_ char *name = strf("/proc/%i/cgroup", (int)pid);
        int r;

        if (!name)
                return -ENOMEM;
        r = read_file_at(AT_FDCWD, name, CGROUP_FILE_MAX, ret, NULL);
        return r == -ENOENT ? -ESRCH : r;
}

static int read_number(const char *path, const char *file, const char *key, uint64_t *ret) {
        _cleanup_free_ char *name = path ? strf("%s/%s", path, file) : NULL, *text = NULL;
        const char *v;
        char *end;
        int r;

        if (!name)
                return -ENOENT;
        r = read_file_at(AT_FDCWD, name, CGROUP_FILE_MAX, &text, NULL);
        if (r < 0)
                return r;
        v = key ? strstr(text, key) : text;
        if (!v)
                return -ENODATA;
        v += key ? strlen(key) : 0;
        errno = 0;
        *ret = strtoull(v, &end, 10);
        return end == v ? -EINVAL : -errno;
}

static char *hierarchy(const char *table, const char *controller) {
        _cleanup_free_ char *path = cgroup_path_in(table, controller);

        if (!path)
                return NULL;
        return controller ? strf("/sys/fs/cgroup/%s%s", controller, path) : strf("/sys/fs/cgroup%s", path);
}

void cgroup_usage(pid_t pid, CgroupUsage *ret) {
        _cleanup_free_ char *table = NULL, *unified = NULL, *memory = NULL, *cpu = NULL;
        uint64_t usec;

        *ret = (CgroupUsage){};
        if (read_table(pid, &table) < 0)
                return;
        if (!only_version_2()) {
                memory = hierarchy(table, "memory");
                cpu = hierarchy(table, "cpuacct");
        }
        unified = hierarchy(table, NULL);

        if (cpu)
                (void)read_number(cpu, "cpuacct.usage", NULL, &ret->cpu_nsec);
        else if (read_number(unified, "cpu.stat", "usage_usec ", &usec) >= 0)
                ret->cpu_nsec = usec * NSEC_PER_USEC;
        (void)read_number(memory ?: unified, memory ? "memory.usage_in_bytes" : "memory.current", NULL,
                        &ret->memory_current);
        (void)read_number(memory ?: unified, memory ? "memory.max_usage_in_bytes" : "memory.peak", NULL,
                        &ret->memory_peak);
}

int cgroup_unit_of_pid(pid_t pid, char **ret) {
        _cleanup_free_ char *path = NULL;
        char *unit;
        int r;

        r = sd_pid_get_cgroup(pid, &path);
        if (r < 0)
                return r;
        unit = strdup(strrchr(path, '/') ? strrchr(path, '/') + 1 : path);
        if (!unit)
                return -ENOMEM;
        *ret = unit;
        return 0;
}
