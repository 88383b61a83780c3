/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>
#include <stdio.h>
#include <strings.h>

#include "foreign-header.h"
#include "util/string-util.h"

#define SECTOR 512

static uint32_t le32(const uint8_t *p) {
        uint32_t v;

        memcpy(&v, p, sizeof(v));
        return le32toh(v);
}

static uint64_t le64(const uint8_t *p) {
        uint64_t v;

        memcpy(&v, p, sizeof(v));
        return le64toh(v);
}

static uint32_t be32(const uint8_t *p) {
        return __builtin_bswap32(le32(p));
}

static uint64_t be64(const uint8_t *p) {
        return (uint64_t)be32(p) << 32 | be32(p + 4);
}

static int set_broken(const ImageReader *reader, const char *format, const char *what, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "%s has a broken %s header: %s", reader->label, format,
                        what);
}

static int set_difference(const ImageReader *reader, Error **reterr) {
        return error_set(reterr, ERROR_FORMAT_REFUSED,
                        "%s is only a difference to another image: an image has to stand alone",
                        reader->label);
}

/* A table of n entries at that offset. */
static int check_table(const ImageReader *reader, uint64_t offset, uint64_t n, unsigned entry_size,
                Error **reterr) {
        if (offset > reader->size || n > (reader->size - offset) / entry_size)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s is cut off: it ends at %" PRIu64 " bytes, before its table of blocks",
                                reader->label, reader->size);
        return 0;
}

static int finish(const ImageReader *reader, ImageFormat format, uint64_t virtual_size, const char *variant,
                ImageHeader *ret, Error **reterr) {
        if (virtual_size == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s is a disk of 0 bytes", reader->label);
        if (virtual_size > IMAGE_VIRTUAL_SIZE_MAX)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s claims to be a disk of %" PRIu64
                                " bytes, more than a disk may have (1 PiB)",
                                reader->label, virtual_size);
        *ret = (ImageHeader){
                .format = format,
                .virtual_size = virtual_size,
                .file_size = reader->size,
                .variant = variant,
        };
        return 0;
}

/* VMDK: a sparse extent with its description in it. QEMU takes a capacity of 0 for a mere description, whose
 * extents it opens by name, and follows parentFileNameHint wherever in the description it stands. */
#define VMDK_DESCRIPTION_OFFSET UINT64_C(0x200) /* where QEMU looks for it, whatever the header says */
#define VMDK_DESCRIPTION_SIZE UINT64_C(10240)   /* as much of it as QEMU reads */
#define VMDK_AT_END UINT64_MAX
#define VMDK_ENTRIES_MAX 512
#define VMDK_GRAIN_SECTORS_MAX 0x200000
#define VMDK_FOOTER (2 * SECTOR) /* bytes before the end */

static int read_vmdk_geometry(const ImageReader *reader, const uint8_t h[SECTOR], Error **reterr) {
        uint64_t capacity = le64(h + 12), grain = le64(h + 20), directory = le64(h + 56), covered;
        uint32_t entries = le32(h + 44);

        if (capacity == 0)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is the description of a VMDK image whose data is in other files",
                                reader->label);
        if (capacity > IMAGE_VIRTUAL_SIZE_MAX / SECTOR)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s claims to be a disk of %" PRIu64
                                " sectors, more than a disk may have (1 PiB)",
                                reader->label, capacity);
        if (grain == 0 || grain > VMDK_GRAIN_SECTORS_MAX || (grain & (grain - 1)) != 0)
                return set_broken(reader, "VMDK", "the size of its grains", reterr);
        if (entries == 0 || entries > VMDK_ENTRIES_MAX)
                return set_broken(reader, "VMDK", "the size of its tables", reterr);
        if (directory == VMDK_AT_END)
                return 0;
        if (directory > INT64_MAX / SECTOR)
                return set_broken(reader, "VMDK", "the place of its tables", reterr);
        covered = grain * entries;
        return check_table(
                        reader, directory * SECTOR, (capacity - 1) / covered + 1, sizeof(uint32_t), reterr);
}

/* Of streamOptimized images: what was not known when the header was written. QEMU uses it in its place. */
static int check_vmdk_footer(const ImageReader *reader, const uint8_t header[SECTOR], Error **reterr) {
        uint8_t footer[SECTOR];
        int r;

        if (le64(header + 56) != VMDK_AT_END)
                return 0;
        r = image_reader_read(reader, reader->size - MIN(reader->size, (uint64_t)VMDK_FOOTER), footer,
                        sizeof(footer), "footer", reterr);
        if (r < 0)
                return r;
        if (memcmp(footer, "KDMV", 4) != 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s is cut off: it has no VMDK footer",
                                reader->label);
        if (le64(footer + 12) != le64(header + 12) || le64(footer + 56) == VMDK_AT_END)
                return set_broken(reader, "VMDK", "the footer says something else", reterr);
        return read_vmdk_geometry(reader, footer, reterr);
}

static const char *vmdk_variant(const char *text, size_t len) {
        static const char *const known[] = { "monolithicSparse", "streamOptimized" };

        for (size_t i = 0; i < ELEMENTSOF(known); i++) {
                char line[64];
                int n = snprintf(line, sizeof(line), "createType=\"%s\"", known[i]);

                if (memmem(text, len, line, (size_t)n))
                        return known[i];
        }
        return NULL;
}

static int check_vmdk_description(const ImageReader *reader, const char **ret, Error **reterr) {
        static const char parent[] = "parentCID=", none[] = "parentCID=ffffffff";
        char text[VMDK_DESCRIPTION_SIZE];
        uint64_t rest = reader->size - MIN(reader->size, VMDK_DESCRIPTION_OFFSET);
        size_t len = MIN(VMDK_DESCRIPTION_SIZE, rest);
        const char *p;
        int r;

        r = image_reader_read(reader, VMDK_DESCRIPTION_OFFSET, text, len, "description", reterr);
        if (r < 0)
                return r;
        p = memmem(text, len, parent, strlen(parent));
        if (memmem(text, len, "parentFileNameHint", strlen("parentFileNameHint")) ||
                        (p &&
                                        (len - (size_t)(p - text) < strlen(none) ||
                                                        strncasecmp(p, none, strlen(none)) != 0)))
                return set_difference(reader, reterr);
        *ret = vmdk_variant(text, len);
        if (!*ret)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is a VMDK image of several files, or of a kind that is not known here "
                                "(only monolithicSparse and streamOptimized are)",
                                reader->label);
        return 0;
}

static int parse_vmdk(const ImageReader *reader, ImageHeader *ret, Error **reterr) {
        uint8_t h[SECTOR];
        const char *variant;
        int r;

        r = image_reader_read(reader, 0, h, sizeof(h), "header", reterr);
        if (r < 0)
                return r;
        if (le32(h + 4) == 0 || le32(h + 4) > 3)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is a VMDK image of version %" PRIu32 ": only 1 to 3 are known",
                                reader->label, le32(h + 4));
        r = read_vmdk_geometry(reader, h, reterr);
        if (r < 0)
                return r;
        r = check_vmdk_footer(reader, h, reterr);
        if (r < 0)
                return r;
        r = check_vmdk_description(reader, &variant, reterr);
        if (r < 0)
                return r;
        return finish(reader, IMAGE_FORMAT_VMDK, le64(h + 12) * SECTOR, variant, ret, reterr);
}

/* VDI: one table of 32 bit numbers of blocks. */
static int parse_vdi(const ImageReader *reader, ImageHeader *ret, Error **reterr) {
        uint8_t h[SECTOR];
        uint64_t size, block, n;
        uint32_t type;
        int r;

        r = image_reader_read(reader, 0, h, sizeof(h), "header", reterr);
        if (r < 0)
                return r;
        type = le32(h + 0x4c);
        size = le64(h + 0x170);
        block = le32(h + 0x178);
        n = le32(h + 0x180);
        if (le32(h + 0x44) != 0x10001)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s is a VDI image of version %" PRIu32 ".%" PRIu32 ": only 1.1 is known",
                                reader->label, le32(h + 0x44) >> 16, le32(h + 0x44) & 0xffff);
        if (!is_zero(h + 0x1a8, 32) || (type != 1 && type != 2)) /* UUIDs of link and parent */
                return set_difference(reader, reterr);
        if (block != MIB || n == 0 || size > n * block)
                return set_broken(reader, "VDI", "the number or the size of its blocks", reterr);
        r = check_table(reader, le32(h + 0x154), n, sizeof(uint32_t), reterr);
        if (r < 0)
                return r;
        return finish(reader, IMAGE_FORMAT_VDI, size, type == 1 ? "dynamic" : "static", ret, reterr);
}

/* VHDX: a table of regions, of which one is a table of metadata. GUIDs as they lie in the file. */
#define VHDX_HEADER_1 (64 * KIB)
#define VHDX_HEADER_2 (128 * KIB)
#define VHDX_REGIONS (192 * KIB)
#define VHDX_TABLE_SIZE (64 * KIB) /* of the table of regions, and of that of metadata */
#define VHDX_ENTRY_SIZE 32         /* in both tables */
#define VHDX_ENTRIES_MAX 2047

typedef struct VhdxItem {
        const char *guid; /* 16 bytes */
        const char *what;
} VhdxItem;

static const VhdxItem vhdx_metadata_region = {
        "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e", "metadata"
};
static const VhdxItem vhdx_parameters = { "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b",
        "parameters" };
static const VhdxItem vhdx_disk_size = { "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8",
        "disk size" };

static const uint8_t *vhdx_find(const uint8_t *table, size_t first, unsigned n, const VhdxItem *item) {
        if (n > VHDX_ENTRIES_MAX)
                return NULL;
        for (unsigned i = 0; i < n; i++) {
                const uint8_t *entry = table + first + (size_t)i * VHDX_ENTRY_SIZE;

                if (first + (i + 1) * (size_t)VHDX_ENTRY_SIZE > VHDX_TABLE_SIZE)
                        return NULL;
                if (memcmp(entry, item->guid, 16) == 0)
                        return entry;
        }
        return NULL;
}

/* The newer of the two headers counts. QEMU would have to write the log's content back into the file. */
static int check_vhdx_log(const ImageReader *reader, Error **reterr) {
        static const uint64_t offsets[] = { VHDX_HEADER_1, VHDX_HEADER_2 };
        uint64_t newest = 0;
        bool valid = false, logged = false;

        for (size_t i = 0; i < ELEMENTSOF(offsets); i++) {
                uint8_t h[SECTOR];
                int r;

                r = image_reader_read(reader, offsets[i], h, sizeof(h), "header", reterr);
                if (r < 0)
                        return r;
                if (memcmp(h, "head", 4) != 0 || (valid && le64(h + 8) <= newest))
                        continue;
                valid = true;
                newest = le64(h + 8);
                logged = !is_zero(h + 48, 16);
        }
        if (!valid)
                return set_broken(reader, "VHDX", "neither of its two copies is valid", reterr);
        if (logged)
                return error_set(reterr, ERROR_FORMAT_REFUSED,
                                "%s was not closed: its log has to be written back first, which mounting it "
                                "where it comes from does",
                                reader->label);
        return 0;
}

static int read_vhdx_item(const ImageReader *reader, const uint8_t *table, uint64_t region,
                const VhdxItem *item, uint8_t ret[8], Error **reterr) {
        const uint8_t *entry = vhdx_find(table, VHDX_ENTRY_SIZE, table[10] | table[11] << 8, item);

        if (!entry)
                return set_broken(reader, "VHDX", item->what, reterr);
        return image_reader_read(reader, region + le32(entry + 16), ret, 8, item->what, reterr);
}

static int read_vhdx_metadata(const ImageReader *reader, uint8_t *table, uint64_t region, uint64_t *ret_size,
                Error **reterr) {
        uint8_t item[8];
        int r;

        r = image_reader_read(reader, region, table, VHDX_TABLE_SIZE, "metadata", reterr);
        if (r < 0)
                return r;
        if (memcmp(table, "metadata", 8) != 0)
                return set_broken(reader, "VHDX", "metadata", reterr);
        r = read_vhdx_item(reader, table, region, &vhdx_parameters, item, reterr);
        if (r < 0)
                return r;
        if (le32(item + 4) & 2)
                return set_difference(reader, reterr);
        r = read_vhdx_item(reader, table, region, &vhdx_disk_size, item, reterr);
        if (r < 0)
                return r;
        *ret_size = le64(item);
        return 0;
}

static int parse_vhdx(const ImageReader *reader, ImageHeader *ret, Error **reterr) {
        _cleanup_free_ uint8_t *table = malloc(VHDX_TABLE_SIZE);
        const uint8_t *entry;
        uint64_t size;
        int r;

        if (!table)
                return error_set_errno(reterr, -ENOMEM, "%s cannot be read", reader->label);
        r = check_vhdx_log(reader, reterr);
        if (r < 0)
                return r;
        r = image_reader_read(reader, VHDX_REGIONS, table, VHDX_TABLE_SIZE, "table of regions", reterr);
        if (r < 0)
                return r;
        entry = memcmp(table, "regi", 4) == 0 ? vhdx_find(table, 16, le32(table + 8), &vhdx_metadata_region)
                                              : NULL;
        if (!entry || le64(entry + 16) > INT64_MAX)
                return set_broken(reader, "VHDX", "table of regions", reterr);
        r = read_vhdx_metadata(reader, table, le64(entry + 16), &size, reterr);
        if (r < 0)
                return r;
        return finish(reader, IMAGE_FORMAT_VHDX, size, NULL, ret, reterr);
}

/* VHD, big-endian: the same footer at the end, and, unless of fixed size, at the beginning. */
#define VPC_FIXED 2
#define VPC_DYNAMIC 3
#define VPC_DIFFERENCING 4

static bool vpc_footer_is_valid(const uint8_t f[SECTOR]) {
        uint32_t sum = 0;

        for (unsigned i = 0; i < SECTOR; i++)
                if (i < 64 || i >= 68)
                        sum += f[i];
        return memcmp(f, "conectix", 8) == 0 && be32(f + 64) == ~sum;
}

static int check_vpc_table(const ImageReader *reader, uint64_t offset, uint64_t size, Error **reterr) {
        uint8_t h[SECTOR];
        uint64_t block, n;
        int r;

        r = image_reader_read(reader, offset, h, sizeof(h), "header", reterr);
        if (r < 0)
                return r;
        n = be32(h + 28);
        block = be32(h + 32);
        if (memcmp(h, "cxsparse", 8) != 0 || block < SECTOR || (block & (block - 1)) != 0 ||
                        size > n * block)
                return set_broken(reader, "VHD", "the number or the size of its blocks", reterr);
        return check_table(reader, be64(h + 16), n, sizeof(uint32_t), reterr);
}

static int parse_vpc(const ImageReader *reader, ImageHeader *ret, Error **reterr) {
        uint8_t f[SECTOR];
        uint64_t size;
        bool fixed;
        int r;

        r = image_reader_read(reader, 0, f, sizeof(f), "header", reterr);
        if (r < 0)
                return r;
        fixed = memcmp(f, "conectix", 8) != 0;
        if (fixed) {
                r = image_reader_read(reader, reader->size - SECTOR, f, sizeof(f), "footer", reterr);
                if (r < 0)
                        return r;
        }
        size = be64(f + 48);
        if (!vpc_footer_is_valid(f))
                return set_broken(reader, "VHD", "its checksum", reterr);
        if (be32(f + 60) == VPC_DIFFERENCING)
                return set_difference(reader, reterr);
        if (be32(f + 60) != (fixed ? VPC_FIXED : VPC_DYNAMIC))
                return set_broken(reader, "VHD", "its type", reterr);
        if (fixed && size > reader->size - SECTOR)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s is cut off: a disk of %" PRIu64 " bytes in a file of %" PRIu64,
                                reader->label, size, reader->size);
        r = fixed ? 0 : check_vpc_table(reader, be64(f + 16), size, reterr);
        if (r < 0)
                return r;
        return finish(reader, IMAGE_FORMAT_VPC, size, fixed ? "fixed" : "dynamic", ret, reterr);
}

int foreign_header_detect(
                const ImageReader *reader, const void *buf, size_t len, ImageFormat *ret, Error **reterr) {
        static const struct {
                ImageFormat format;
                unsigned offset;
                const char *magic;
        } table[] = {
                { IMAGE_FORMAT_VMDK, 0, "KDMV" },
                { IMAGE_FORMAT_VDI, 0x40, "\x7f\x10\xda\xbe" },
                { IMAGE_FORMAT_VHDX, 0, "vhdxfile" },
                { IMAGE_FORMAT_VPC, 0, "conectix" },
        };
        uint8_t footer[SECTOR];
        int r;

        for (size_t i = 0; i < ELEMENTSOF(table); i++) {
                size_t n = strlen(table[i].magic);

                if (len >= table[i].offset + n &&
                                memcmp((const char *)buf + table[i].offset, table[i].magic, n) == 0) {
                        *ret = table[i].format;
                        return 0;
                }
        }
        *ret = _IMAGE_FORMAT_INVALID;
        if (reader->size < 2 * SECTOR)
                return 0;
        r = image_reader_read(reader, reader->size - SECTOR, footer, sizeof(footer), "end", reterr);
        if (r < 0)
                return r;
        /* The checksum, for the last sector of a raw disk is the guest's. */
        if (vpc_footer_is_valid(footer) && be32(footer + 60) == VPC_FIXED)
                *ret = IMAGE_FORMAT_VPC;
        return 0;
}

int foreign_header_parse(const ImageReader *reader, ImageFormat format, ImageHeader *ret, Error **reterr) {
        switch (format) {
        case IMAGE_FORMAT_VMDK:
                return parse_vmdk(reader, ret, reterr);
        case IMAGE_FORMAT_VDI:
                return parse_vdi(reader, ret, reterr);
        case IMAGE_FORMAT_VHDX:
                return parse_vhdx(reader, ret, reterr);
        case IMAGE_FORMAT_VPC:
                return parse_vpc(reader, ret, reterr);
        default:
                return error_set(reterr, ERROR_FORMAT_REFUSED, "%s is of an unknown format", reader->label);
        }
}
