/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The files that a VM is made from: are they what they are given as? Runs without privileges. */

#include "file-identity.h"
#include "image-header.h"
#include "image-reader.h"

/* Lives as long as `file`. */
ImageReader image_reader(const FileIdentity *file);

/* The disk image; see image_header_parse(). Also looks whether an end of a qcow2 file is missing. Of *file
 * only descriptor, label and size are used. */
int image_inspect(const FileIdentity *file, ImageFormat stated, ImageHeaderFlags flags, ImageHeader *ret,
                Error **reterr);

/* A Linux kernel that QEMU can boot by itself (a bzImage, or an ELF file with a PVH entry), and its initial
 * RAM disk, of which only the guest's kernel knows the format. */
int image_inspect_kernel(const FileIdentity *file, Error **reterr);
int image_inspect_initrd(const FileIdentity *file, Error **reterr);
