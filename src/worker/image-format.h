/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Formats of disk images, and what is known of an image from its header. */

#include "util/string-util.h"

typedef enum ImageFormat {
        IMAGE_FORMAT_RAW,
        IMAGE_FORMAT_QCOW2,
        IMAGE_FORMAT_VMDK, /* from here on formats that are converted, never used */
        IMAGE_FORMAT_VDI,
        IMAGE_FORMAT_VHDX,
        IMAGE_FORMAT_VPC, /* QEMU's name of VHD */
        _IMAGE_FORMAT_MAX,
        _IMAGE_FORMAT_INVALID = -EINVAL,
} ImageFormat;

DECLARE_STRING_TABLE(image_format, ImageFormat);

static inline bool image_format_is_foreign(ImageFormat f) {
        return f >= IMAGE_FORMAT_VMDK && f < _IMAGE_FORMAT_MAX;
}

/* 1 PiB. With QEMU's default cluster size the tables of a qcow2 file end at 2 PiB. */
#define IMAGE_VIRTUAL_SIZE_MAX (UINT64_C(1) << 50)

typedef struct ImageHeader {
        ImageFormat format;
        uint64_t virtual_size; /* bytes that a guest sees */
        uint64_t file_size;
        const char *variant; /* of a foreign format, as "streamOptimized"; else NULL */
        /* qcow2 alone */
        unsigned cluster_bits;
        unsigned l2_entry_size; /* bytes */
        uint32_t l1_entries;
        uint64_t l1_offset;
} ImageHeader;
