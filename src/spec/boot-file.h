/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The files that define VMs which are units: those of several folders, of which one that comes earlier hides
 * files of the same names in later ones. */

#include "vmfile.h"

typedef struct BootFile {
        char *name; /* within its folder */
        char *path;
        char *folder; /* absolute, links resolved */
        Vmfile *file; /* NULL: nothing in it, or wrong */
} BootFile;

typedef struct BootFiles {
        BootFile *files; /* by name */
        size_t n;
} BootFiles;

/* Finds and reads them, and reports what is wrong, with syslog's priorities: a wrong file is as one without
 * VMs. Only -ENOMEM fails. */
typedef void (*boot_report_t)(int priority, const char *format, ...) _printf_(2, 3);
int boot_files_read(char *const *folders, boot_report_t report, BootFiles *ret);
void boot_files_done(BootFiles *f);
