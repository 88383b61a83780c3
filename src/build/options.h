/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* vmctl-build's command line. */

#include "util/error.h"

typedef struct BuildOptions {
        int output; /* descriptors are inherited and borrowed; -EBADF: not given */
        int kernel_output;
        int initrd_output;
        int kernel;
        int initrd;
        uint64_t size; /* bytes; 0: what is needed */
        bool bootable;
        bool root_owned;
        const char *label;
        const char *uuid;
        const char *append;
        const char *file;
        const char *source;
} BuildOptions;

int build_options_parse(int argc, char *argv[], BuildOptions *ret, Error **reterr);
