/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM's own disk: an empty qcow2 file over its base image, made by qemu-img while the caller does the rest.
 */

#include "image-header.h"

typedef struct OverlaySpec {
        int fd;             /* borrowed: the empty file that becomes the disk */
        const char *base;   /* absolute path; NULL: a disk of its own, all zeros */
        ImageFormat format; /* the base's */
        uint64_t size;      /* bytes, a multiple of 512 */
} OverlaySpec;

typedef struct Overlay Overlay;

/* Starts qemu-img. ERROR_QEMU_MISSING, or ERROR_INVALID_IMAGE for a path that does not fit in qcow2. */
int overlay_start(const OverlaySpec *spec, Overlay **ret, Error **reterr);

/* Waits for it; its own words are in the error. */
int overlay_finish(Overlay *o, Error **reterr);

Overlay *overlay_free(Overlay *o); /* kills it where it still runs */
DEFINE_CLEANUP(Overlay *, overlay_free);
