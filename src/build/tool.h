/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Running the programs that do a part of the work. They end with us. */

#include "util/error.h"

#define TOOL_FDS_MAX 4

typedef struct ToolRun {
        const char *const *argv;  /* argv[0] is looked for in PATH and where system programs are */
        const char *environment;  /* one more variable, or NULL */
        bool inherit_environment; /* all of ours, for programs with settings of the user's */
        const char *package;      /* Debian's that has it */
        int stdin_fd;             /* negative: nothing */
        int stdout_fd;            /* negative: our standard error, as theirs */
        int fds[TOOL_FDS_MAX];    /* become 3, 4, ...; borrowed */
        size_t n_fds;
        uint64_t address_space; /* for those that read what is not to be trusted; 0: no limit */
        uint64_t cpu_seconds;
} ToolRun;

/* 0: it ended well. ERROR_TOOL_MISSING; ERROR_FAILED with the exit status. */
int tool_run(const ToolRun *run, Error **reterr);

/* Whether there is such a program: its path, the caller's to free, or NULL. */
char *tool_find(const char *name);

/* An unnamed file in $TMPDIR or /var/tmp. */
int tool_temporary_file(int *ret, Error **reterr);
const char *tool_temporary_folder(void);
