/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The two kinds of x86 kernel that QEMU boots without firmware: pure functions over untrusted bytes. */

#include "util/macro.h"

#define KERNEL_HEADER_SIZE \
        (4 * KIB) /* holds a kernel's setup header, or the program headers of an ELF file */

/* Linux' boot protocol: the header that a bzImage has behind its first sector. */
bool kernel_header_is_bzimage(const void *buf, size_t len);

/* Where an x86 ELF file has its i-th segment of notes; false when there is none, or none of a sane size. */
bool kernel_header_find_notes(
                const void *buf, size_t len, unsigned i, uint64_t *ret_offset, uint64_t *ret_size);

/* Whether the PVH entry point is among the notes. */
bool kernel_notes_have_pvh(const void *notes, size_t len);
