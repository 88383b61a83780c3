/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Starting a child with exactly the descriptors, limits and identity that it is to have. */

#include "macro.h"

typedef struct ChildFd {
        int fd;     /* ours; borrowed */
        int target; /* its number in the child, 0 to 1023; each target once */
} ChildFd;

typedef enum ChildFlags {
        CHILD_DIE_WITH_PARENT =
                        1 << 0,     /* SIGKILL when we end: for workers, never for what must outlive us */
        CHILD_NEW_SESSION = 1 << 1, /* setsid(): a signal to our group does not reach it */
        CHILD_NO_NEW_PRIVS = 1 << 2,
} ChildFlags;

typedef struct ChildSpec {
        char *const *argv;  /* argv[0] is the path to execute */
        char *const *envp;  /* NULL: PATH and LANG=C.UTF-8 alone */
        const ChildFd *fds; /* everything else is closed; 0, 1, 2 not named here are /dev/null */
        size_t n_fds;
        ChildFlags flags;
        uint64_t cpu_seconds;          /* RLIMIT_CPU; 0: no limit */
        uint64_t address_space;        /* RLIMIT_AS in bytes; 0: no limit */
        int (*become)(void *userdata); /* called in the child, last of all, to give up rights; NULL: none */
        void *userdata;
} ChildSpec;

/* Forks and executes. The signal mask is empty and all handlers are default in the child. Returns 0 when the
 * program was executed, or the negative errno of what failed, exec included (it is reported over a pipe that
 * closes on exec, so the caller waits for the exec alone). The child must be reaped by the caller. */
int child_spawn(const ChildSpec *spec, pid_t *ret_pid);
