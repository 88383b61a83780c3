/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2 as QEMU's docs/interop/qcow2.txt has it: a header, big-endian, in the first cluster; a first table
 * (L1) of offsets of second tables (L2), each one cluster of offsets of data clusters; and reference counts,
 * which a reader does not need. */
#include <endian.h>
#include <inttypes.h>

#include "qcow2-header.h"

#define QCOW2_V2_HEADER_SIZE 72
#define QCOW2_V3_HEADER_SIZE 104
#define QCOW2_V2_REFCOUNT_ORDER 4 /* 16 bits */
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_L1_SIZE_MAX (32 * MIB) /* these two are QEMU's own bounds */
#define QCOW2_REFTABLE_SIZE_MAX (8 * MIB)
#define QCOW2_KNOWN (QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2)

_Static_assert(offsetof(Qcow2Header, incompatible_features) == QCOW2_V2_HEADER_SIZE, "qcow2 header");
_Static_assert(offsetof(Qcow2Header, compression_type) == QCOW2_V3_HEADER_SIZE, "qcow2 header");

int qcow2_header_read(const void *buf, size_t len, const char *label, Qcow2Header *ret, Error **reterr) {
        Qcow2Header h = {};

        if (len < QCOW2_V2_HEADER_SIZE)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s ends within its qcow2 header", label);
        memcpy(&h, buf, MIN(len, sizeof(h)));
        h.version = be32toh(h.version);
        if (h.version != 2 && h.version != 3)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is a qcow2 image of version %" PRIu32 ": only 2 and 3 are known", label,
                                h.version);
        if (h.version == 2)
                memset((char *)&h + QCOW2_V2_HEADER_SIZE, 0, sizeof(h) - QCOW2_V2_HEADER_SIZE);
        else if (len < QCOW2_V3_HEADER_SIZE)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s ends within its qcow2 header", label);

        h.backing_file_offset = be64toh(h.backing_file_offset);
        h.backing_file_size = be32toh(h.backing_file_size);
        h.cluster_bits = be32toh(h.cluster_bits);
        h.size = be64toh(h.size);
        h.crypt_method = be32toh(h.crypt_method);
        h.l1_size = be32toh(h.l1_size);
        h.l1_table_offset = be64toh(h.l1_table_offset);
        h.refcount_table_offset = be64toh(h.refcount_table_offset);
        h.refcount_table_clusters = be32toh(h.refcount_table_clusters);
        h.nb_snapshots = be32toh(h.nb_snapshots);
        h.snapshots_offset = be64toh(h.snapshots_offset);
        h.incompatible_features = be64toh(h.incompatible_features);
        h.compatible_features = be64toh(h.compatible_features);
        h.autoclear_features = be64toh(h.autoclear_features);
        h.refcount_order = h.version == 2 ? QCOW2_V2_REFCOUNT_ORDER : be32toh(h.refcount_order);
        h.header_length = h.version == 2 ? QCOW2_V2_HEADER_SIZE : be32toh(h.header_length);
        if (h.header_length <= QCOW2_V3_HEADER_SIZE)
                h.compression_type = 0;
        *ret = h;
        return 0;
}

static int refuse_backing(
                const Qcow2Header *h, const void *buf, size_t len, const char *label, Error **reterr) {
        _cleanup_free_ char *name = NULL;

        if (h->backing_file_offset <= len && h->backing_file_size <= len - h->backing_file_offset)
                name = string_escape((const char *)buf + h->backing_file_offset, h->backing_file_size,
                                QCOW2_BACKING_NAME_MAX);
        return error_set(reterr, ERROR_FORMAT_REFUSED,
                        "%s is only a difference to another file, '%s': an image has to stand alone", label,
                        name ?: "?");
}

/* Well-formed, but more than is taken. Bit "dirty" is none of it: only reference counts may be off then, and
 * a base is never written. */
static int refuse_features(
                const Qcow2Header *h, const void *buf, size_t len, const char *label, Error **reterr) {
        uint64_t unknown = h->incompatible_features & ~QCOW2_KNOWN;

        if (h->backing_file_offset != 0)
                return refuse_backing(h, buf, len, label, reterr);
        if (h->incompatible_features & QCOW2_DATA_FILE)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s keeps its data in another file: an image has to stand alone", label);
        if (h->crypt_method != 0)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is encrypted, and there is nobody to ask for its passphrase", label);
        if (unknown != 0)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s uses qcow2 features that are not known here (bits %#" PRIx64 ")", label,
                                unknown);
        if (h->compression_type > 1)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is compressed by a method that is not known here (%u)", label,
                                h->compression_type);
        if (h->incompatible_features & QCOW2_CORRUPT)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s is marked as corrupt: 'qemu-img check -r all' may repair it", label);
        return 0;
}

static int check_table(const Qcow2Header *h, uint64_t file_size, const char *name, uint64_t offset,
                uint64_t size, uint64_t size_max, const char *label, Error **reterr) {
        uint64_t cluster = UINT64_C(1) << h->cluster_bits;

        if (size > size_max || offset % cluster != 0 || (size > 0 && offset < cluster) || offset > INT64_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: %s at %#" PRIx64 ", %" PRIu64 " bytes", label,
                                name, offset, size);
        if (offset > file_size || size > file_size - offset)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s is cut off: it ends at %" PRIu64 " bytes, before its %s", label,
                                file_size, name);
        return 0;
}

static int check_sizes(const Qcow2Header *h, const char *label, Error **reterr) {
        if (h->cluster_bits < 9 || h->cluster_bits > 21)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: clusters of 2^%" PRIu32 " bytes", label,
                                h->cluster_bits);
        if (h->version == 3 &&
                        (h->header_length < QCOW2_V3_HEADER_SIZE ||
                                        h->header_length > UINT32_C(1) << h->cluster_bits))
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: its length is %" PRIu32, label,
                                h->header_length);
        if (h->refcount_order > 6)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: reference counts of 2^%" PRIu32 " bits",
                                label, h->refcount_order);
        if (h->size == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s is a disk of 0 bytes", label);
        if (h->size > IMAGE_VIRTUAL_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s claims to be a disk of %" PRIu64
                                " bytes, more than a disk may have (1 PiB)",
                                label, h->size);
        return 0;
}

static int check_tables(const Qcow2Header *h, const ImageHeader *ih, const char *label, Error **reterr) {
        /* bytes of the disk that one entry of the first table stands for */
        uint64_t covered = (UINT64_C(1) << h->cluster_bits) / ih->l2_entry_size << h->cluster_bits;
        uint64_t needed = (h->size - 1) / covered + 1;
        int r;

        if (h->l1_size < needed)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: %" PRIu32
                                " entries in its first table, where %" PRIu64 " are needed",
                                label, h->l1_size, needed);
        r = check_table(h, ih->file_size, "first table", h->l1_table_offset, h->l1_size * UINT64_C(8),
                        QCOW2_L1_SIZE_MAX, label, reterr);
        if (r < 0)
                return r;
        if (h->refcount_table_clusters == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has a broken qcow2 header: no reference counts", label);
        r = check_table(h, ih->file_size, "reference counts", h->refcount_table_offset,
                        (uint64_t)h->refcount_table_clusters << h->cluster_bits, QCOW2_REFTABLE_SIZE_MAX,
                        label, reterr);
        if (r < 0)
                return r;
        if (h->nb_snapshots == 0)
                return 0;
        /* An entry has 40 bytes at least. */
        return check_table(h, ih->file_size, "snapshots", h->snapshots_offset,
                        h->nb_snapshots * UINT64_C(40), QCOW2_SNAPSHOTS_MAX * UINT64_C(40), label, reterr);
}

static int check_extensions(
                const Qcow2Header *h, const void *buf, size_t len, const char *label, Error **reterr) {
        size_t offset = qcow2_first_extension(h);
        Qcow2Extension e;

        do {
                if (!qcow2_read_extension(h, buf, len, offset, &e))
                        return error_set(reterr, ERROR_INVALID_IMAGE,
                                        "%s has a broken qcow2 header: an extension at %#zx does not end in "
                                        "it",
                                        label, offset);
                offset = e.next;
        } while (offset != 0);
        return 0;
}

int qcow2_header_check(const Qcow2Header *h, const void *buf, size_t len, uint64_t file_size,
                const char *label, ImageHeader *ret, Error **reterr) {
        ImageHeader ih = { .format = IMAGE_FORMAT_QCOW2, .file_size = file_size };
        int r;

        r = refuse_features(h, buf, len, label, reterr);
        if (r < 0)
                return r;
        r = check_sizes(h, label, reterr);
        if (r < 0)
                return r;
        ih.l2_entry_size = h->incompatible_features & QCOW2_EXTENDED_L2 ? 16 : 8;
        r = check_tables(h, &ih, label, reterr);
        if (r < 0)
                return r;
        r = check_extensions(h, buf, len, label, reterr);
        if (r < 0)
                return r;
        ih.virtual_size = h->size;
        ih.cluster_bits = h->cluster_bits;
        ih.l1_entries = h->l1_size;
        ih.l1_offset = h->l1_table_offset;
        *ret = ih;
        return 0;
}

size_t qcow2_first_extension(const Qcow2Header *h) {
        return h->header_length;
}

/* An area that reaches the buffer's end counts as ending there: real ones have some hundred bytes. */
static size_t extensions_end(const Qcow2Header *h, size_t len) {
        uint64_t end = h->cluster_bits < 63 ? UINT64_C(1) << h->cluster_bits : UINT64_MAX;

        if (h->backing_file_offset != 0)
                end = MIN(end, h->backing_file_offset);
        return MIN(end, len);
}

bool qcow2_read_extension(
                const Qcow2Header *h, const void *buf, size_t len, size_t offset, Qcow2Extension *ret) {
        size_t end = extensions_end(h, len);
        uint32_t head[2];
        Qcow2Extension e;

        if (offset == end) { /* there is no room for one, so none is needed as the last */
                *ret = (Qcow2Extension){ .type = QCOW2_EXTENSION_END };
                return true;
        }
        if (offset > end || end - offset < sizeof(head))
                return false;
        memcpy(head, (const char *)buf + offset, sizeof(head));
        e = (Qcow2Extension){ .type = be32toh(head[0]), .len = be32toh(head[1]) };
        offset += sizeof(head);
        if (e.type == QCOW2_EXTENSION_END)
                e.len = 0;
        if (e.len > end - offset)
                return false;
        e.data = (const char *)buf + offset;
        /* padded to 8 bytes, of which the last may be missing at the end */
        e.next = e.type == QCOW2_EXTENSION_END ? 0 : MIN(end, offset + ((size_t)e.len + 7) / 8 * 8);
        *ret = e;
        return true;
}
