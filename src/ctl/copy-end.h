/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The two ends of a copy: NAME:PATH in a guest; a file, folder or stream of this host. */

#include "util/error.h"

typedef struct CopyEnd {
        const char *text; /* as it was given; borrowed */
        char *vm;         /* NULL: here; owned */
        char *path;       /* owned; in a guest relative to the user's home */
        bool slash;       /* it ended with one: a folder is meant */
} CopyEnd;

int copy_end_parse(const char *text, CopyEnd *ret);
void copy_end_done(CopyEnd *e);
bool copy_end_is_stream(const CopyEnd *e); /* "-" */

/* The last part of the path, by which it is known in another folder; NULL where that is no name: "/", "..".
 */
const char *copy_end_name(const CopyEnd *e);

/* A descriptor here, and what it leads to. */
typedef struct CopyFile {
        int fd;
        char *name; /* to be made in the folder `fd`; NULL: it is the file itself, or a stream */
        bool folder;
} CopyFile;
#define COPY_FILE_INIT ((CopyFile){ .fd = -EBADF })
void copy_file_done(CopyFile *f);

/* What is to be sent. Folders only if `recursive`. */
int copy_open_source(const CopyEnd *e, bool recursive, CopyFile *ret, Error **reterr);

/* What receives a file known as `name` (NULL: it has none, so that it becomes the folder itself). `inside`:
 * it has to be a folder. */
int copy_open_target(const CopyEnd *e, const char *name, bool inside, CopyFile *ret, Error **reterr);
