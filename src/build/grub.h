/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* GRUB's modules, and the images that grub-mkimage makes of them. They have to be of one version with those
 * that the guest loads later, so that they are taken from the tree where it has them. */

#include "ext4.h"

typedef enum GrubPlatform {
        GRUB_BIOS,
        GRUB_EFI,
        _GRUB_PLATFORM_MAX,
} GrubPlatform;

typedef struct GrubFile {
        char *name; /* owned, as data is */
        void *data;
        size_t len;
} GrubFile;

typedef struct GrubFiles {
        GrubFile *files; /* owned */
        size_t n;
} GrubFiles;

typedef struct GrubImage {
        char *data; /* owned */
        size_t len;
} GrubImage;

int grub_files_read(GrubPlatform platform, Ext4 *e, Tree *t, GrubFiles *ret, Error **reterr);
const GrubFile *grub_files_get(const GrubFiles *files, const char *name); /* or NULL */
void grub_files_done(GrubFiles *files);

/* Puts the modules into /boot/grub, unless that has some. */
int grub_files_add_to(GrubPlatform platform, const GrubFiles *files, Tree *t, Error **reterr);

/* Adds a file of root, 0644, with this content. */
int grub_add_file(Tree *t, const char *path, const void *data, size_t len, Error **reterr);

/* An image that runs config first. */
int grub_make_image(GrubPlatform platform, const GrubFiles *files, const char *config, GrubImage *ret,
                Error **reterr);
void grub_image_done(GrubImage *image);
