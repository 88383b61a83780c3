/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* How QEMU ended, as one line of JSON: {"exited":CODE,"time":USEC} or {"signal":N,"oom":true,"time":USEC}.
 * "oom" stands there only when the cgroup's memory controller has killed something meanwhile. */

#include <signal.h>

#include "util/macro.h"

#define EXIT_RECORD_MAX 128

typedef struct OomWatch {
        int hierarchy; /* the memory controller's file system, found before the mount namespace hides it */
        bool unified;
        int counter; /* the file with the number of kills */
        uint64_t before;
} OomWatch;

#define OOM_WATCH_INIT \
        { .hierarchy = -EBADF, .counter = -EBADF }

/* All three tolerate a system without a memory controller: then nothing is ever seen to be killed. */
void oom_watch_prepare(OomWatch *w);
void oom_watch_begin(OomWatch *w); /* from now on, in the cgroup where we are now */
bool oom_watch_has_killed(const OomWatch *w);
void oom_watch_done(OomWatch *w);

/* Finds the path of our cgroup below the memory controller's hierarchy in the text of /proc/self/cgroup,
 * which is cut up. NULL: it isn't there. */
const char *oom_watch_find_cgroup(char *text, bool unified);

/* Formats what waitid() found, with the time now and a newline at the end. Returns the length. */
size_t exit_record_format(const siginfo_t *si, bool oom, char buf[EXIT_RECORD_MAX]);

/* Replaces a regular file's content by it. */
int exit_record_write(int fd, const char *record, size_t len);
