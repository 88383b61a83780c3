/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A folder of this machine as the source of an image: all of its file system below it. What is mounted in it
 * is left out, its mount point an empty folder. */

#include "ext4.h"
#include "worker/progress.h"

typedef enum FolderFlags {
        FOLDER_ROOT_OWNED = 1 << 0, /* all files become root's */
} FolderFlags;

int folder_read_tree(int fd, FolderFlags flags, Tree *t, Progress *progress, Error **reterr);

/* Opens a file below a folder, following no symbolic link and into no other file system. */
int folder_open_below(int folder, const char *path);

/* Refuses a file that is another one by now, or has another size or time. */
int folder_read_contents(
                int fd, Node *const *files, size_t n_files, Ext4 *e, Progress *progress, Error **reterr);
