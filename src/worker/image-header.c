/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2 as QEMU's docs/interop/qcow2.txt has it: a header, big-endian, in the first cluster; a first table
 * (L1) of offsets of second tables (L2), each one cluster of offsets of data clusters; and reference counts,
 * which a reader does not need. */
#include <endian.h>
#include <inttypes.h>

#include "image-header.h"

#define QCOW2_MAGIC "QFI\xfb"
#define QCOW2_V2_HEADER_SIZE 72
#define QCOW2_V3_HEADER_SIZE 104
#define QCOW2_BACKING_NAME_MAX 1023
#define QCOW2_L1_SIZE_MAX (32 * MIB) /* these three are QEMU's own bounds */
#define QCOW2_REFTABLE_SIZE_MAX (8 * MIB)
#define QCOW2_SNAPSHOTS_MAX 65536
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9 to 55 of an entry */
#define QCOW2_L2_COMPRESSED (UINT64_C(1) << 62)

/* incompatible_features */
#define QCOW2_DIRTY (UINT64_C(1) << 0)
#define QCOW2_CORRUPT (UINT64_C(1) << 1)
#define QCOW2_DATA_FILE (UINT64_C(1) << 2)
#define QCOW2_COMPRESSION (UINT64_C(1) << 3)
#define QCOW2_EXTENDED_L2 (UINT64_C(1) << 4)
#define QCOW2_KNOWN (QCOW2_DIRTY | QCOW2_CORRUPT | QCOW2_DATA_FILE | QCOW2_COMPRESSION | QCOW2_EXTENDED_L2)

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
        /* from version 3 on */
        uint64_t incompatible_features;
        uint64_t compatible_features;
        uint64_t autoclear_features;
        uint32_t refcount_order;
        uint32_t header_length;
        uint8_t compression_type; /* where header_length reaches it */
} __attribute__((packed)) Qcow2Header;
_Static_assert(offsetof(Qcow2Header, incompatible_features) == QCOW2_V2_HEADER_SIZE, "qcow2 header");
_Static_assert(offsetof(Qcow2Header, compression_type) == QCOW2_V3_HEADER_SIZE, "qcow2 header");

static const char *const image_format_table[] = {
        [IMAGE_FORMAT_RAW] = "raw",
        [IMAGE_FORMAT_QCOW2] = "qcow2",
};
DEFINE_STRING_TABLE(image_format, ImageFormat, _IMAGE_FORMAT_MAX);

/* Beginnings of files that are certainly no raw disk, though most could be read as one. */
static const struct {
        unsigned offset;
        unsigned len;
        const char *bytes;
        ErrorCode code;
        const char *name;
        const char *advice;
} foreign_table[] = {
#define MAGIC(offset, bytes) (offset), sizeof(bytes) - 1, (bytes)
#define IMAGE(offset, bytes, name) \
        { MAGIC(offset, bytes), ERROR_FORMAT_REFUSED, name, TAKEN }
#define OTHER(offset, bytes, name, advice) \
        { MAGIC(offset, bytes), ERROR_INVALID_IMAGE, name, advice }
#define TAKEN "only qcow2 and raw are taken"
#define UNPACK "unpack it first"
#define DOWNLOAD "the download has probably failed"
        IMAGE(0, "QFI\xfb\0\0\0\1", "a qcow image of version 1"),
        IMAGE(0, "KDMV", "a VMDK image"),
        IMAGE(0, "COWD", "a VMDK image"),
        IMAGE(0, "# Disk DescriptorFile", "a VMDK descriptor"),
        IMAGE(0x40, "\x7f\x10\xda\xbe", "a VDI image"),
        IMAGE(0, "vhdxfile", "a VHDX image"),
        IMAGE(0, "conectix", "a VHD image"),
        IMAGE(0, "QED\0", "a QED image"),
        IMAGE(0, "WithoutFreeSpace", "a Parallels image"),
        IMAGE(0, "WithouFreSpacExt", "a Parallels image"),
        IMAGE(0, "Bochs Virtual HD Image", "a Bochs image"),
        OTHER(0, "\x1f\x8b", "compressed by gzip", UNPACK),
        OTHER(0, "\xfd\x37zXZ", "compressed by xz", UNPACK),
        OTHER(0, "\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK),
        OTHER(0, "BZh", "compressed by bzip2", UNPACK),
        OTHER(0, "\x04\x22\x4d\x18", "compressed by lz4", UNPACK),
        OTHER(0, "PK\3\4", "a zip archive", UNPACK),
        OTHER(0, "7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
        OTHER(257, "ustar", "a tar archive", UNPACK),
        OTHER(0, "070701", "a cpio archive", "an initial RAM disk is given as initrd"),
        OTHER(0, "\x7f\x45LF", "an ELF file", "a kernel is given as kernel"),
        OTHER(0x202, "HdrS", "a Linux kernel", "a kernel is given as kernel"),
        OTHER(0, "<!", "an HTML page", DOWNLOAD),
        OTHER(0, "<html", "an HTML page", DOWNLOAD),
        OTHER(0, "<?xml", "an XML text", DOWNLOAD),
#undef MAGIC
#undef IMAGE
#undef OTHER
};

/* What whole disks begin with. */
static const struct {
        unsigned offset;
        unsigned len;
        const char *bytes;
} disk_table[] = {
        { 510, 2, "\x55\xaa" },     /* a partition table (MBR, also in front of GPT), FAT, exFAT, NTFS */
        { 0x438, 2, "\x53\xef" },   /* ext2 to ext4 */
        { 0, 4, "XFSB" },           /* XFS */
        { 0x10040, 8, "_BHRfS_M" }, /* btrfs */
        { 0x8001, 5, "CD001" },     /* ISO 9660 */
        { 0, 4, "hsqs" },           /* squashfs */
        { 1024, 4, "\xe2\xe1\xf5\xe0" }, /* EROFS */
        { 1024, 4, "\x10\x20\xf5\xf2" }, /* F2FS */
};

/* A file system in LUKS is a proper content of a raw disk, but also an image format of QEMU's, so the user
 * has to say that it is raw. */
static const char luks_magic[] = "LUKS\xba\xbe";

static bool has_bytes(const void *buf, size_t len, size_t offset, const char *bytes, size_t n) {
        return len >= offset + n && memcmp((const char *)buf + offset, bytes, n) == 0;
}

static int refuse_foreign(const void *buf, size_t len, const char *label, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(foreign_table); i++) {
                const typeof(foreign_table[0]) *f = foreign_table + i;

                if (has_bytes(buf, len, f->offset, f->bytes, f->len))
                        return error_set(reterr, f->code, "%s is %s: %s", label, f->name, f->advice);
        }
        return 0;
}

static bool looks_like_disk(const void *buf, size_t len) {
        for (size_t i = 0; i < ELEMENTSOF(disk_table); i++)
                if (has_bytes(buf, len, disk_table[i].offset, disk_table[i].bytes, disk_table[i].len))
                        return true;
        return false;
}

static int parse_raw(const void *buf, size_t len, uint64_t file_size, ImageFormat stated,
                ImageHeaderFlags flags, const char *label, ImageHeader *ret, Error **reterr) {
        int r;

        r = refuse_foreign(buf, len, label, reterr);
        if (r < 0)
                return r;
        if (stated != IMAGE_FORMAT_RAW && !(flags & IMAGE_HEADER_ANY_CONTENT)) {
                if (has_bytes(buf, len, 0, luks_magic, strlen(luks_magic)))
                        return error_set(reterr, ERROR_FORMAT_REFUSED,
                                        "%s is encrypted with LUKS: give its format as raw if the guest is "
                                        "to unlock it",
                                        label);
                if (!looks_like_disk(buf, len))
                        return error_set(reterr, ERROR_INVALID_IMAGE,
                                        "%s is no disk image: it is not qcow2, and as a raw disk it has "
                                        "neither a partition table nor a file system (give its format as "
                                        "raw if it is one all the same)",
                                        label);
        }
        if (file_size % 512 != 0)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has %" PRIu64
                                " bytes: a raw disk is a multiple of 512, so an end may be missing",
                                label, file_size);
        if (file_size > IMAGE_VIRTUAL_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s has %" PRIu64 " bytes, more than a disk may have (1 PiB)", label,
                                file_size);
        *ret = (ImageHeader){
                .format = IMAGE_FORMAT_RAW, .virtual_size = file_size, .file_size = file_size
        };
        return 0;
}

/* The header in this machine's byte order, what a version 2 file lacks as zeros. */
static int read_qcow2(const void *buf, size_t len, const char *label, Qcow2Header *ret, Error **reterr) {
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
        h.refcount_order = be32toh(h.refcount_order);
        h.header_length = be32toh(h.header_length);
        if (h.version == 3 && h.header_length <= QCOW2_V3_HEADER_SIZE)
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

static int parse_qcow2(const void *buf, size_t len, uint64_t file_size, const char *label, ImageHeader *ret,
                Error **reterr) {
        ImageHeader ih = { .format = IMAGE_FORMAT_QCOW2, .file_size = file_size };
        Qcow2Header h;
        int r;

        r = read_qcow2(buf, len, label, &h, reterr);
        if (r < 0)
                return r;
        r = refuse_features(&h, buf, len, label, reterr);
        if (r < 0)
                return r;
        r = check_sizes(&h, label, reterr);
        if (r < 0)
                return r;
        ih.l2_entry_size = h.incompatible_features & QCOW2_EXTENDED_L2 ? 16 : 8;
        r = check_tables(&h, &ih, label, reterr);
        if (r < 0)
                return r;
        ih.virtual_size = h.size;
        ih.cluster_bits = h.cluster_bits;
        ih.l1_entries = h.l1_size;
        ih.l1_offset = h.l1_table_offset;
        *ret = ih;
        return 0;
}

int image_header_parse(const void *buf, size_t len, uint64_t file_size, ImageFormat stated,
                ImageHeaderFlags flags, const char *label, ImageHeader *ret, Error **reterr) {
        bool qcow2 = has_bytes(buf, len, 0, QCOW2_MAGIC, 4) && !has_bytes(buf, len, 4, "\0\0\0\1", 4);

        if (file_size == 0 || len == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s is empty", label);
        if (qcow2 && stated == IMAGE_FORMAT_RAW)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s was given as raw, but begins as a qcow2 image does: give its format as "
                                "qcow2",
                                label);
        if (qcow2)
                return parse_qcow2(buf, len, file_size, label, ret, reterr);
        if (stated == IMAGE_FORMAT_QCOW2)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s was given as qcow2, but is none", label);
        return parse_raw(buf, len, file_size, stated, flags, label, ret, reterr);
}

static int set_cut_off(const ImageHeader *h, uint64_t offset, const char *label, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE,
                        "%s is cut off: it ends at %" PRIu64 " bytes, but has data at %" PRIu64, label,
                        h->file_size, offset);
}

int image_header_check_l1(const ImageHeader *h, const void *table, size_t len, const char *label,
                uint64_t *highest, Error **reterr) {
        uint64_t entry, max = *highest;

        for (size_t i = 0; i + sizeof(entry) <= len; i += sizeof(entry)) {
                memcpy(&entry, (const char *)table + i, sizeof(entry));
                entry = be64toh(entry) & QCOW2_OFFSET_MASK;
                if (entry % (UINT64_C(1) << h->cluster_bits) != 0)
                        return error_set(reterr, ERROR_INVALID_IMAGE,
                                        "%s is broken: a second table at %#" PRIx64, label, entry);
                if (entry >= h->file_size)
                        return set_cut_off(h, entry, label, reterr);
                max = MAX(max, entry);
        }
        *highest = max;
        return 0;
}

int image_header_check_l2(
                const ImageHeader *h, const void *table, size_t len, const char *label, Error **reterr) {
        uint64_t entry, offset, compressed_mask = (UINT64_C(1) << (62 - (h->cluster_bits - 8))) - 1;

        for (size_t i = 0; i + h->l2_entry_size <= len; i += h->l2_entry_size) {
                memcpy(&entry, (const char *)table + i, sizeof(entry));
                entry = be64toh(entry);
                offset = entry & (entry & QCOW2_L2_COMPRESSED ? compressed_mask : QCOW2_OFFSET_MASK);
                if (offset >= h->file_size)
                        return set_cut_off(h, offset, label, reterr);
        }
        return 0;
}
