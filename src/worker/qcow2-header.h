/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The header of a qcow2 image, its extensions and its table of snapshots: untrusted bytes. */

#include "image-format.h"
#include "image-reader.h"

/* incompatible_features */
#define QCOW2_DIRTY (UINT64_C(1) << 0)
#define QCOW2_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_EXTENDED_L2 (UINT64_C(1) << 4)

/* compatible_features */
#define QCOW2_LAZY_REFCOUNTS (UINT64_C(1) << 0)

#define QCOW2_SNAPSHOTS_MAX 65536 /* QEMU's own bound */

/* In this machine's byte order. */
typedef struct Qcow2Header {
        char magic[4];
        uint32_t version;
        uint64_t backing_file_offset;
        uint32_t backing_file_size;
        uint32_t cluster_bits;
        uint64_t size;
        uint32_t crypt_method;
        uint32_t l1_size;
        uint64_t l1_table_offset;
        uint64_t refcount_table_offset;
        uint32_t refcount_table_clusters;
        uint32_t nb_snapshots;
        uint64_t snapshots_offset;
        /* from version 3 on; else as if they were there */
        uint64_t incompatible_features;
        uint64_t compatible_features;
        uint64_t autoclear_features;
        uint32_t refcount_order;
        uint32_t header_length;
        uint8_t compression_type; /* where header_length reaches it */
} __attribute__((packed)) Qcow2Header;

typedef enum Qcow2ExtensionType {
        QCOW2_EXTENSION_END = 0,
        QCOW2_EXTENSION_BACKING_FORMAT = 0xe2792aca,
        QCOW2_EXTENSION_DATA_FILE = 0x44415441,
} Qcow2ExtensionType;

typedef struct Qcow2Extension {
        uint32_t type;
        uint32_t len;
        const char *data; /* in the caller's buffer; no string */
        size_t next;      /* 0: this is the end */
} Qcow2Extension;

/* An entry of the table of snapshots. id and name are escaped, and cut off after a few hundred bytes. */
typedef struct Qcow2Snapshot {
        const char *id;
        const char *name;
        uint32_t date; /* seconds since 1970 */
        uint64_t vm_state_size;
        uint64_t disk_size; /* 0: not recorded */
} Qcow2Snapshot;

/* Knows magic and version alone to be right; every field can be anything. */
int qcow2_header_read(const void *buf, size_t len, const char *label, Qcow2Header *ret, Error **reterr);

/* Whether it is an image that stands alone and whose tables lie in the file. Fills what is qcow2's in *ret,
 * see image_header_parse(). */
int qcow2_header_check(const Qcow2Header *h, const void *buf, size_t len, uint64_t file_size,
                const char *label, ImageHeader *ret, Error **reterr);

/* The extension at `offset` of the buffer, the first one's being qcow2_first_extension(); false where there
 * is none or it does not lie in the area of extensions, which ends with the first cluster, with the backing
 * file's name, or with the buffer. */
size_t qcow2_first_extension(const Qcow2Header *h);
bool qcow2_read_extension(
                const Qcow2Header *h, const void *buf, size_t len, size_t offset, Qcow2Extension *ret);

/* Reads the whole table and checks it; calls each() (may be NULL) for every entry. An error of each() ends
 * it. */
int qcow2_read_snapshots(const Qcow2Header *h, const ImageReader *reader,
                int (*each)(const Qcow2Snapshot *s, void *userdata), void *userdata, Error **reterr);
