/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The VMFile that a command works on: found, read and told about. */

#include "spec/vmfile.h"

typedef struct Project {
        char *path;   /* as the user calls it */
        char *folder; /* absolute, links resolved: what relative paths start from */
        char *text;
        size_t len;
        KdlDiagnostics *d; /* of this text */
        Vmfile *file;      /* NULL: not read, or wrong */
} Project;

void project_done(Project *p);
#define _cleanup_project_ _cleanup_(project_done)

/* Reads the text; `path` NULL: VMFile.kdl of the current folder. Reports failure. */
int project_open(const char *path, Project *ret);

/* Reads the definitions. What is wrong with them is in p->d, and p->file is NULL then. `check_files`: what
 * they name on this host must be there. 0 also when they are wrong; reports other failures. */
int project_parse(Project *p, bool check_files);

/* Both; check_files: also what it names on this host. */
int project_read(const char *path, bool check_files, Project *ret);

/* And all errors and warnings on stderr: for verbs that need a right file. -EBADMSG when it is wrong.
 */
int project_load(const char *path, bool check_files, Project *ret);
