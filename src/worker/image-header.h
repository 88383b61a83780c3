/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the first bytes of a disk image say: pure functions over a buffer, for bytes that nobody vouches for.
 *
 * The rule behind them: QEMU is told the format and never guesses, so it has to be known for sure here, and
 * an image stands alone: a qcow2 header may name further files, which QEMU would open with its own rights.
 */

#include "image-format.h"
#include "util/error.h"

/* Reaches the superblock that lies farthest in, btrfs's. A shorter file gives a shorter buffer. */
#define IMAGE_HEADER_SIZE (68 * KIB)

typedef enum ImageHeaderFlags {
        IMAGE_HEADER_ANY_CONTENT = 1 << 0, /* a raw disk needs neither partition table nor file system */
        IMAGE_HEADER_CONVERTIBLE = 1 << 1, /* foreign formats are wanted, too: image_inspect() alone */
} ImageHeaderFlags;

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
