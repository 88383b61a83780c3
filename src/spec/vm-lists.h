/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Values of a definition that are lists in one string, with commas between the items. */

#include "util/error.h"

#define VM_FORWARDS_MAX 256
#define VM_DISKS_MAX 16 /* that many addresses are kept for them on the PCI bus */
#define VM_DISK_MAX (64 * 1024 * GIB)
#define VM_DISK_NAME_MAX 20 /* bytes of a virtio-blk device's serial number, by which a guest knows it */
#define VM_PORT_MIN 1024    /* QEMU may not listen below */

typedef struct VmForward {
        uint16_t host, guest; /* TCP ports */
} VmForward;

typedef struct VmDisk {
        char name[VM_DISK_NAME_MAX + 1];
        uint64_t size; /* bytes */
} VmDisk;

/* Take the next item from *list, which starts at the string (NULL: the empty list) and moves on. Return 1, 0
 * at the end, or -EINVAL. */
int vm_forward_next(const char **list, VmForward *ret);
int vm_disk_next(const char **list, VmDisk *ret);

/* The whole list: syntax, bounds, nothing twice. ERROR_INVALID_SPEC names the item. */
int vm_forwards_check(const char *list, Error **reterr);
int vm_disks_check(const char *list, Error **reterr);
