/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The kernel of a tree and its initial RAM disk. */

#include "tree.h"

typedef struct BootFiles {
        Node *kernel; /* regular files; borrowed; NULL: there is none */
        Node *initrd;
} BootFiles;

/* The newest kernel by version number, of /boot/vmlinuz-VERSION and /usr/lib/modules/VERSION/vmlinuz;
 * without one of these /boot/vmlinuz or /vmlinuz. 0 or -ENOMEM. */
int boot_files_find(Tree *t, BootFiles *ret);
