/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a process's control group has used, on cgroup v2 and, where a controller is still there, v1. */

#include "util/macro.h"

typedef struct CgroupUsage {
        uint64_t cpu_nsec;
        uint64_t memory_current; /* bytes */
        uint64_t memory_peak;    /* bytes; 0 where the kernel (before 5.19, v2) does not keep it */
} CgroupUsage;

/* Reads the group of this process; what cannot be read is 0. The files are the kernel's own: reading never
 * waits. */
void cgroup_usage(pid_t pid, CgroupUsage *ret);

/* From the text of /proc/PID/cgroup: the path in the hierarchy of `controller` (version 1), or in the
 * unified one (version 2: NULL). The caller frees it. NULL where there is none. */
char *cgroup_path_in(const char *table, const char *controller);

/* The name of the unit (its last path component) in systemd's hierarchy, as "vmctl-web.scope". The caller
 * frees it. -ESRCH when there is no such process. */
int cgroup_unit_of_pid(pid_t pid, char **ret);
