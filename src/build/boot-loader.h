/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A disk that boots by itself, by BIOS as well as by UEFI: a GPT of a BIOS boot partition, which holds
 * GRUB's core image, an EFI system partition, which holds the same GRUB as an EFI program, and the root
 * partition. Both find the root file system by its UUID, and go on with /boot/grub/grub.cfg in it. The core
 * image has all that our own grub.cfg needs; other modules are put beside that. */

#include "boot-files.h"
#include "ext4.h"

#define BOOT_LOADER_ROOT_OFFSET (66 * MIB) /* of the root file system in the disk */
#define BOOT_LOADER_TAIL MIB               /* behind it, for the GPT's copy of itself */
#define BOOT_LOADER_RESERVE (24 * MIB)     /* for GRUB's modules, in the root file system */

/* UUIDs as text. All but the file system's follow from it. */
typedef struct BootUuids {
        char root[37]; /* the file system's */
        char root_partition[37];
        char disk[37];
        char bios[37];
        char esp[37];
} BootUuids;

/* given: a UUID, or NULL for a random one. ERROR_INVALID_SPEC. */
int boot_uuids_make(const char *given, BootUuids *ret, Error **reterr);

/* Whether this machine has the programs that are needed, before anything is done. */
int boot_loader_check_tools(Error **reterr);

/* Whether a command line can be passed on by GRUB as it is. */
int boot_loader_check_append(const char *append, Error **reterr);

int boot_loader_partition(int fd, uint64_t size, const BootUuids *uuids, Error **reterr);

typedef struct BootLoader BootLoader;

/* Takes GRUB from the tree, whose files have been written, or else from this machine, and adds its modules
 * to the tree's /boot/grub, unless that has some. */
int boot_loader_prepare(Ext4 *e, Tree *t, const BootUuids *uuids, BootLoader **ret, Error **reterr);
BootLoader *boot_loader_free(BootLoader *b);
DEFINE_CLEANUP(BootLoader *, boot_loader_free);

/* grub.cfg for these files: the caller's to free, or NULL when memory is short. */
char *boot_loader_config(const BootFiles *files, const BootUuids *uuids, const char *append);

/* Writes the boot sector, the core image and the EFI system partition. */
int boot_loader_install(const BootLoader *b, int fd, Error **reterr);
