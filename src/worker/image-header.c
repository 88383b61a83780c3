/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <inttypes.h>

#include "image-header.h"
#include "qcow2-header.h"

#define QCOW2_MAGIC "QFI\xfb"
#define QCOW2_OFFSET_MASK UINT64_C(0x00fffffffffffe00) /* bits 9 to 55 of an entry */
#define QCOW2_L2_COMPRESSED (UINT64_C(1) << 62)

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
        { MAGIC(offset, bytes), ERROR_FORMAT_REFUSED, name, ALONE }
#define CONVERTED(offset, bytes, name) \
        { MAGIC(offset, bytes), ERROR_FORMAT_REFUSED, name, IMPORT }
#define OTHER(offset, bytes, name, advice) \
        { MAGIC(offset, bytes), ERROR_INVALID_IMAGE, name, advice }
#define PACKED(offset, bytes, name) \
        { MAGIC(offset, bytes), ERROR_COMPRESSED, name, UNPACK }
#define ALONE "it is neither taken nor converted"
#define IMPORT "only qcow2 and raw are taken as they are, 'vmctl image import' converts it"
#define UNPACK "unpack it first"
#define DOWNLOAD "the download has probably failed"
        IMAGE(0, "QFI\xfb\0\0\0\1", "a qcow image of version 1"),
        CONVERTED(0, "KDMV", "a VMDK image"),
        IMAGE(0, "COWD", "a VMDK image"),
        IMAGE(0, "# Disk DescriptorFile", "the description of a VMDK image whose data is in other files"),
        CONVERTED(0x40, "\x7f\x10\xda\xbe", "a VDI image"),
        CONVERTED(0, "vhdxfile", "a VHDX image"),
        CONVERTED(0, "conectix", "a VHD image"),
        IMAGE(0, "QED\0", "a QED image"),
        IMAGE(0, "WithoutFreeSpace", "a Parallels image"),
        IMAGE(0, "WithouFreSpacExt", "a Parallels image"),
        IMAGE(0, "Bochs Virtual HD Image", "a Bochs image"),
        PACKED(0, "\x1f\x8b", "compressed by gzip"),
        PACKED(0, "\xfd\x37zXZ", "compressed by xz"),
        PACKED(0, "\x28\xb5\x2f\xfd", "compressed by zstd"),
        PACKED(0, "BZh", "compressed by bzip2"),
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
#undef CONVERTED
#undef OTHER
#undef PACKED
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

static int parse_qcow2(const void *buf, size_t len, uint64_t file_size, const char *label, ImageHeader *ret,
                Error **reterr) {
        Qcow2Header h;
        int r;

        r = qcow2_header_read(buf, len, label, &h, reterr);
        return r < 0 ? r : qcow2_header_check(&h, buf, len, file_size, label, ret, reterr);
}

bool image_header_is_qcow2(const void *buf, size_t len) {
        return has_bytes(buf, len, 0, QCOW2_MAGIC, 4) && !has_bytes(buf, len, 4, "\0\0\0\1", 4);
}

int image_header_parse(const void *buf, size_t len, uint64_t file_size, ImageFormat stated,
                ImageHeaderFlags flags, const char *label, ImageHeader *ret, Error **reterr) {
        bool qcow2 = image_header_is_qcow2(buf, len);

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
