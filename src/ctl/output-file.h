/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A file that appears under its name only when it is complete. */

#include "util/error.h"

typedef struct OutputFile {
        int fd;                 /* opened for reading and writing */
        char *name, *temporary; /* paths; owned */
        bool replace;
} OutputFile;
#define OUTPUT_FILE_INIT ((OutputFile){ .fd = -EBADF })

/* -EEXIST where there is something of that name that is not to be replaced. */
int output_file_open(OutputFile *f, const char *name, bool replace, Error **reterr);
int output_file_commit(OutputFile *f, Error **reterr);
void output_file_done(OutputFile *f); /* without a commit nothing is left */

/* An unnamed file in $TMPDIR or /var/tmp, the large of the two places for temporary files. */
int output_file_unnamed(int *ret_fd, Error **reterr);
