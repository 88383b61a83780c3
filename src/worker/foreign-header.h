/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Images of other hypervisors, which are converted when they are imported. QEMU reads them then, as its
 * vmdk, vdi, vhdx and vpc drivers do, so here is checked what could lead these to other files or to tables
 * without bound. */

#include "image-header.h"
#include "image-reader.h"

/* By the first `len` bytes, and for a VHD of fixed size, whose only header is its last sector, by that.
 * *ret is _IMAGE_FORMAT_INVALID for all else. */
int foreign_header_detect(
                const ImageReader *reader, const void *buf, size_t len, ImageFormat *ret, Error **reterr);

/* ERROR_FORMAT_REFUSED where it needs other files, ERROR_INVALID_IMAGE where it is broken. */
int foreign_header_parse(const ImageReader *reader, ImageFormat format, ImageHeader *ret, Error **reterr);
