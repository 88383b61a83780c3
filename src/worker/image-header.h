/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the first bytes of a disk image say: pure functions over a buffer, for bytes that nobody vouches for.
 *
 * The rule behind them: QEMU is told the format and never guesses, so it has to be known for sure here, and
 * an image stands alone: a qcow2 header may name further files, which QEMU would open with its own rights.
 */

#include "util/error.h"
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

/* Reaches the superblock that lies farthest in, btrfs's. A shorter file gives a shorter buffer. */
#define IMAGE_HEADER_SIZE (68 * KIB)

/* 1 PiB. With QEMU's default cluster size the tables of a qcow2 file end at 2 PiB. */
#define IMAGE_VIRTUAL_SIZE_MAX (UINT64_C(1) << 50)

typedef enum ImageHeaderFlags {
        IMAGE_HEADER_ANY_CONTENT = 1 << 0, /* a raw disk needs neither partition table nor file system */
        IMAGE_HEADER_CONVERTIBLE = 1 << 1, /* foreign formats are wanted, too: image_inspect() alone */
} ImageHeaderFlags;

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

/* The magic alone, of a version that could be taken. */
bool image_header_is_qcow2(const void *buf, size_t len);

/* Knows raw and qcow2 and refuses all else. `stated` is the format that the client says it is,
 * _IMAGE_FORMAT_INVALID if it says nothing; `label` begins messages, as "The disk image '/srv/a.qcow2'".
 * Returns 0, or the errno of ERROR_FORMAT_REFUSED (an image, but of a kind that is not taken) or
 * ERROR_INVALID_IMAGE (broken, or none at all). */
int image_header_parse(const void *buf, size_t len, uint64_t file_size, ImageFormat stated,
                ImageHeaderFlags flags, const char *label, ImageHeader *ret, Error **reterr);

/* Checks a piece of a qcow2 file's first or second table: whether all that it points to lies inside the
 * file, as in a file of which an end is missing it does not. *highest is raised to the highest offset seen.
 */
int image_header_check_l1(const ImageHeader *h, const void *table, size_t len, const char *label,
                uint64_t *highest, Error **reterr);
int image_header_check_l2(
                const ImageHeader *h, const void *table, size_t len, const char *label, Error **reterr);
