/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A file of a user's that a VM needs again at each start: its canonical path, which the kernel told and no
 * client named, and what identifies the inode. It is only ever opened as the same inode that the client had
 * open when the VM was made: nobody can put another file in its place and have the service read that. */

#include "json/json.h"

typedef struct FileRef {
        char *path; /* owned; NULL: there is no such file */
        uint64_t inode;
        uint64_t btime; /* ns since the epoch; 0 where the file system keeps none, then ctime stands in */
        uint64_t ctime; /* ns */
        uint64_t mtime; /* ns; a change since is worth a warning */
        uint64_t size;  /* bytes */
} FileRef;

void file_ref_done(FileRef *f);
void file_ref_write(const FileRef *f, JsonWriter *w); /* one object */
int file_ref_read(const Json *object, FileRef *ret);  /* -EBADMSG */
