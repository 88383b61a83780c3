/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>

#include "image-header.h"
#include "kernel-header.h"
#include "util/test.h"

#define LABEL "The disk image 'x'"
#define CLUSTER (64 * KIB)

static uint8_t header[IMAGE_HEADER_SIZE];

static void put32(size_t offset, uint32_t v) {
        v = htobe32(v);
        memcpy(header + offset, &v, sizeof(v));
}

static void put64(size_t offset, uint64_t v) {
        v = htobe64(v);
        memcpy(header + offset, &v, sizeof(v));
}

/* As qemu-img makes it: 20 GiB, refcount table in cluster 1, first table of 40 entries in cluster 3. */
static void make_qcow2(unsigned version) {
        memset(header, 0, sizeof(header));
        memcpy(header, "QFI\xfb", 4);
        put32(4, version);
        put32(20, 16);
        put64(24, 20 * GIB);
        put32(36, 40);
        put64(40, 3 * CLUSTER);
        put64(48, CLUSTER);
        put32(56, 1);
        if (version >= 3) {
                put32(96, 4);
                put32(100, 112);
        }
}

static int parse(uint64_t file_size, ImageFormat stated, ImageHeaderFlags flags, ImageHeader *ret,
                Error **e) {
        return image_header_parse(
                        header, MIN(file_size, sizeof(header)), file_size, stated, flags, LABEL, ret, e);
}

static void expect_taken(uint64_t file_size, ImageFormat stated, ImageHeaderFlags flags, ImageFormat format,
                uint64_t virtual_size) {
        _cleanup_error_ Error *e = NULL;
        ImageHeader h;

        if (parse(file_size, stated, flags, &h, &e) < 0)
                TEST_FAIL("refused: %s", error_message(e));
        CHECK_EQ(h.format, format);
        CHECK_EQ(h.virtual_size, virtual_size);
        CHECK_EQ(h.file_size, file_size);
}

static void expect_refused(uint64_t file_size, ImageFormat stated, ImageHeaderFlags flags, ErrorCode code,
                const char *words) {
        _cleanup_error_ Error *e = NULL;
        ImageHeader h;

        CHECK_EQ(parse(file_size, stated, flags, &h, &e), -error_code_errno(code));
        CHECK_STREQ(error_code_name(error_code(e)), error_code_name(code));
        CHECK(startswith(error_message(e), LABEL));
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
}

static void test_qcow2_taken(void) {
        make_qcow2(2);
        expect_taken(4 * CLUSTER, _IMAGE_FORMAT_INVALID, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
        make_qcow2(3);
        expect_taken(4 * CLUSTER, IMAGE_FORMAT_QCOW2, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
        /* the file ends with the last entry of the first table, as after 'qemu-img create' */
        expect_taken(3 * CLUSTER + 40 * 8, IMAGE_FORMAT_QCOW2, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
        /* dirty, zstd, an unknown compatible and an unknown autoclear feature */
        put64(72, 1 | 8);
        put64(80, 1 << 20);
        put64(88, 1 << 20);
        header[104] = 1;
        expect_taken(4 * CLUSTER, IMAGE_FORMAT_QCOW2, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
        /* entries of 16 bytes: twice as many second tables */
        put64(72, 16);
        put32(36, 80);
        expect_taken(4 * CLUSTER, IMAGE_FORMAT_QCOW2, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
        /* internal snapshots are the image's own business */
        make_qcow2(3);
        put32(60, 2);
        put64(64, 2 * CLUSTER);
        expect_taken(4 * CLUSTER, IMAGE_FORMAT_QCOW2, 0, IMAGE_FORMAT_QCOW2, 20 * GIB);
}

static void test_qcow2_refused(void) {
        static const struct {
                unsigned offset;
                unsigned size;
                uint64_t value;
                ErrorCode code;
                const char *words;
        } cases[] = {
                { 4, 4, 4, ERROR_FORMAT_REFUSED, "version 4" },
                { 8, 8, 512, ERROR_FORMAT_REFUSED, "difference to another file" },
                { 8, 8, UINT64_MAX, ERROR_FORMAT_REFUSED, "difference to another file" },
                { 20, 4, 8, ERROR_INVALID_IMAGE, "clusters of 2^8" },
                { 20, 4, 22, ERROR_INVALID_IMAGE, "clusters of 2^22" },
                { 20, 4, UINT32_MAX, ERROR_INVALID_IMAGE, "clusters" },
                { 24, 8, 0, ERROR_INVALID_IMAGE, "0 bytes" },
                { 24, 8, IMAGE_VIRTUAL_SIZE_MAX + 1, ERROR_INVALID_IMAGE, "more than a disk may have" },
                { 24, 8, UINT64_MAX, ERROR_INVALID_IMAGE, "more than a disk may have" },
                { 24, 8, 20 * GIB + 1, ERROR_INVALID_IMAGE, "41 are needed" },
                { 32, 4, 1, ERROR_FORMAT_REFUSED, "encrypted" },
                { 32, 4, 2, ERROR_FORMAT_REFUSED, "encrypted" },
                { 36, 4, 39, ERROR_INVALID_IMAGE, "40 are needed" },
                { 36, 4, UINT32_MAX, ERROR_INVALID_IMAGE, "first table" },
                { 36, 4, CLUSTER / 8 + 1, ERROR_INVALID_IMAGE, "cut off" },
                { 40, 8, 0, ERROR_INVALID_IMAGE, "first table" },
                { 40, 8, 3 * CLUSTER + 512, ERROR_INVALID_IMAGE, "first table" },
                { 40, 8, 4 * CLUSTER, ERROR_INVALID_IMAGE, "cut off" },
                { 40, 8, -CLUSTER, ERROR_INVALID_IMAGE, "first table" },
                { 48, 8, 0, ERROR_INVALID_IMAGE, "reference counts" },
                { 48, 8, 4 * CLUSTER, ERROR_INVALID_IMAGE, "cut off" },
                { 56, 4, 0, ERROR_INVALID_IMAGE, "no reference counts" },
                { 56, 4, 129, ERROR_INVALID_IMAGE, "reference counts" },
                { 60, 4, 65537, ERROR_INVALID_IMAGE, "snapshots" },
                { 60, 4, 1, ERROR_INVALID_IMAGE, "snapshots" }, /* at offset 0 */
                { 72, 8, 2, ERROR_INVALID_IMAGE, "corrupt" },
                { 72, 8, 4, ERROR_FORMAT_REFUSED, "another file" },
                { 72, 8, 32, ERROR_FORMAT_REFUSED, "0x20" },
                { 72, 8, UINT64_C(1) << 63, ERROR_FORMAT_REFUSED, "0x8000000000000000" },
                { 96, 4, 7, ERROR_INVALID_IMAGE, "2^7 bits" },
                { 100, 4, 103, ERROR_INVALID_IMAGE, "length is 103" },
                { 100, 4, CLUSTER + 8, ERROR_INVALID_IMAGE, "length" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                make_qcow2(3);
                if (cases[i].size == 4)
                        put32(cases[i].offset, (uint32_t)cases[i].value);
                else
                        put64(cases[i].offset, cases[i].value);
                expect_refused(4 * CLUSTER, _IMAGE_FORMAT_INVALID, 0, cases[i].code, cases[i].words);
        }
        make_qcow2(3);
        header[104] = 2;
        expect_refused(4 * CLUSTER, IMAGE_FORMAT_QCOW2, 0, ERROR_FORMAT_REFUSED, "compressed by a method");
}

static void test_qcow2_cut_off(void) {
        make_qcow2(3);
        for (uint64_t size = 8; size < 3 * CLUSTER + 40 * 8; size += size < 200 ? 1 : 1000)
                expect_refused(size, _IMAGE_FORMAT_INVALID, 0, ERROR_INVALID_IMAGE,
                                size < 104 ? "ends within its qcow2 header" : "cut off");
}

/* The name goes to a terminal. */
static void test_backing_name(void) {
        make_qcow2(3);
        put64(8, 512);
        put32(16, 13);
        memcpy(header + 512, "/etc/\x1b[31m\xff/x", 13);
        expect_refused(4 * CLUSTER, _IMAGE_FORMAT_INVALID, 0, ERROR_FORMAT_REFUSED,
                        "'/etc/\\x1b[31m\\xff/x'");
}

static void test_stated_format(void) {
        make_qcow2(3);
        expect_refused(4 * CLUSTER, IMAGE_FORMAT_RAW, 0, ERROR_FORMAT_REFUSED, "given as raw");
        make_qcow2(9);
        expect_refused(4 * CLUSTER, IMAGE_FORMAT_RAW, IMAGE_HEADER_ANY_CONTENT, ERROR_FORMAT_REFUSED,
                        "given as raw");
        memset(header, 0, sizeof(header));
        header[510] = 0x55;
        header[511] = 0xaa;
        expect_refused(CLUSTER, IMAGE_FORMAT_QCOW2, 0, ERROR_INVALID_IMAGE, "given as qcow2");
        expect_taken(CLUSTER, _IMAGE_FORMAT_INVALID, 0, IMAGE_FORMAT_RAW, CLUSTER);
        expect_taken(CLUSTER, IMAGE_FORMAT_RAW, 0, IMAGE_FORMAT_RAW, CLUSTER);
}

static void test_raw(void) {
        static const struct {
                unsigned offset;
                const char *bytes;
        } disks[] = {
                { 510, "\x55\xaa" },
                { 0x438, "\x53\xef" },
                { 0, "XFSB" },
                { 0x10040, "_BHRfS_M" },
                { 0x8001, "CD001" },
                { 0, "hsqs" },
        };

        for (size_t i = 0; i < ELEMENTSOF(disks); i++) {
                memset(header, 0, sizeof(header));
                memcpy(header + disks[i].offset, disks[i].bytes, strlen(disks[i].bytes));
                expect_taken(8 * GIB, _IMAGE_FORMAT_INVALID, 0, IMAGE_FORMAT_RAW, 8 * GIB);
                expect_refused(8 * GIB + 100, _IMAGE_FORMAT_INVALID, 0, ERROR_INVALID_IMAGE,
                                "multiple of 512");
                expect_refused(1 << 9, IMAGE_FORMAT_QCOW2, 0, ERROR_INVALID_IMAGE, "given as qcow2");
        }
        memset(header, 0, sizeof(header));
        expect_refused(0, _IMAGE_FORMAT_INVALID, 0, ERROR_INVALID_IMAGE, "empty");
        expect_refused(0, IMAGE_FORMAT_RAW, IMAGE_HEADER_ANY_CONTENT, ERROR_INVALID_IMAGE, "empty");
        expect_refused(MIB, _IMAGE_FORMAT_INVALID, 0, ERROR_INVALID_IMAGE, "is no disk image");
        expect_taken(MIB, IMAGE_FORMAT_RAW, 0, IMAGE_FORMAT_RAW, MIB);
        expect_taken(MIB, _IMAGE_FORMAT_INVALID, IMAGE_HEADER_ANY_CONTENT, IMAGE_FORMAT_RAW, MIB);
        expect_refused(511, IMAGE_FORMAT_RAW, 0, ERROR_INVALID_IMAGE, "511 bytes");
        expect_refused(IMAGE_VIRTUAL_SIZE_MAX + 512, IMAGE_FORMAT_RAW, 0, ERROR_INVALID_IMAGE, "more than");
}

/* Also with a partition table's signature, and also when it is said to be raw. */
static void test_foreign(void) {
        static const struct {
                unsigned offset;
                const char *bytes;
                unsigned len;
                ErrorCode code;
                const char *words;
        } cases[] = {
                { 0, "QFI\xfb\0\0\0\1", 8, ERROR_FORMAT_REFUSED, "version 1" },
                { 0, "KDMV", 4, ERROR_FORMAT_REFUSED, "VMDK" },
                { 0, "# Disk DescriptorFile\n", 22, ERROR_FORMAT_REFUSED, "VMDK" },
                { 0x40, "\x7f\x10\xda\xbe", 4, ERROR_FORMAT_REFUSED, "VDI" },
                { 0, "vhdxfile", 8, ERROR_FORMAT_REFUSED, "VHDX" },
                { 0, "conectix", 8, ERROR_FORMAT_REFUSED, "VHD" },
                { 0, "QED", 4, ERROR_FORMAT_REFUSED, "QED" },
                { 0, "\x1f\x8b", 2, ERROR_COMPRESSED, "gzip" },
                { 0,
                                "\xfd"
                                "7zXZ",
                                6, ERROR_COMPRESSED, "xz" },
                { 0, "\x28\xb5\x2f\xfd", 4, ERROR_COMPRESSED, "zstd" },
                { 0, "BZh9", 4, ERROR_COMPRESSED, "bzip2" },
                { 257, "ustar", 5, ERROR_INVALID_IMAGE, "tar" },
                { 0,
                                "\x7f"
                                "ELF",
                                4, ERROR_INVALID_IMAGE, "ELF" },
                { 0x202, "HdrS", 4, ERROR_INVALID_IMAGE, "kernel" },
                { 0, "<!DOCTYPE html>", 15, ERROR_INVALID_IMAGE, "HTML" },
        };

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                memset(header, 0, sizeof(header));
                memcpy(header + cases[i].offset, cases[i].bytes, cases[i].len);
                expect_refused(MIB, _IMAGE_FORMAT_INVALID, 0, cases[i].code, cases[i].words);
                memcpy(header + 510, "\x55\xaa", 2);
                expect_refused(MIB, _IMAGE_FORMAT_INVALID, 0, cases[i].code, cases[i].words);
                expect_refused(MIB, IMAGE_FORMAT_RAW, 0, cases[i].code, cases[i].words);
                expect_refused(MIB, _IMAGE_FORMAT_INVALID, IMAGE_HEADER_ANY_CONTENT, cases[i].code,
                                cases[i].words);
        }
        memset(header, 0, sizeof(header));
        memcpy(header, "LUKS\xba\xbe", 6);
        expect_refused(MIB, _IMAGE_FORMAT_INVALID, 0, ERROR_FORMAT_REFUSED, "LUKS");
        expect_taken(MIB, IMAGE_FORMAT_RAW, 0, IMAGE_FORMAT_RAW, MIB);
}

static void test_tables(void) {
        const ImageHeader h = { .format = IMAGE_FORMAT_QCOW2,
                .file_size = 8 * CLUSTER,
                .cluster_bits = 16,
                .l2_entry_size = 8 };
        const uint64_t copied = UINT64_C(1) << 63, compressed = UINT64_C(1) << 62;
        uint64_t highest = 0;

#define ENTRY(v) (&(uint64_t){ htobe64(v) }), sizeof(uint64_t), LABEL
        CHECK_EQ(image_header_check_l1(&h, ENTRY(copied | 5 * CLUSTER), &highest, NULL), 0);
        CHECK_EQ(highest, 5 * CLUSTER);
        CHECK_EQ(image_header_check_l1(&h, ENTRY(2 * CLUSTER), &highest, NULL), 0);
        CHECK_EQ(image_header_check_l1(&h, ENTRY(0), &highest, NULL), 0);
        CHECK_EQ(highest, 5 * CLUSTER);
        CHECK(image_header_check_l1(&h, ENTRY(copied | 8 * CLUSTER), &highest, NULL) < 0);
        CHECK(image_header_check_l1(&h, ENTRY(5 * CLUSTER + 512), &highest, NULL) < 0);
        CHECK_EQ(image_header_check_l2(&h, ENTRY(copied | 7 * CLUSTER), NULL), 0);
        CHECK_EQ(image_header_check_l2(&h, ENTRY(1), NULL), 0); /* reads as zeros */
        CHECK(image_header_check_l2(&h, ENTRY(copied | 8 * CLUSTER), NULL) < 0);
        /* 54 bits of offset, down to the byte, then a number of sectors */
        CHECK_EQ(image_header_check_l2(&h, ENTRY(compressed | UINT64_C(3) << 54 | (8 * CLUSTER - 1)), NULL),
                        0);
        CHECK(image_header_check_l2(&h, ENTRY(compressed | UINT64_C(3) << 54 | 8 * CLUSTER), NULL) < 0);
#undef ENTRY
}

static void test_format_names(void) {
        for (int i = 0; i < _IMAGE_FORMAT_MAX; i++)
                CHECK_EQ(image_format_from_string(image_format_to_string(i)), i);
        CHECK_EQ(image_format_from_string("qed"), _IMAGE_FORMAT_INVALID);
        CHECK(!image_format_to_string(_IMAGE_FORMAT_INVALID));
}

/* An ELF file with two segments of notes, the PVH entry in the second. */
static void test_kernel_notes(void) {
        static const uint8_t notes[] = { 4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 'G', 'N', 'U', 0, 9, 9, 9,
                9, /* */
                4, 0, 0, 0, 8, 0, 0, 0, 18, 0, 0, 0, 'X', 'e', 'n', 0, 1, 2, 3, 4, 5, 6, 7, 8 };
        uint8_t elf[64 + 2 * 56] = "\x7f"
                                   "ELF\2\1\1";
        uint64_t offset, size;

        elf[18] = 62; /* x86-64 */
        elf[32] = 64; /* program headers: offset, size, number */
        elf[54] = 56;
        elf[56] = 2;
        for (unsigned i = 0; i < 2; i++) {
                elf[64 + i * 56] = 4; /* PT_NOTE */
                elf[64 + i * 56 + 9] = (uint8_t)(1 + i);
                elf[64 + i * 56 + 32] = 100;
        }
        CHECK(kernel_header_find_notes(elf, sizeof(elf), 1, &offset, &size));
        CHECK_EQ(offset, 512);
        CHECK_EQ(size, 100);
        CHECK(!kernel_header_find_notes(elf, sizeof(elf), 2, &offset, &size));
        for (size_t len = 0; len < sizeof(elf); len++)
                CHECK(!kernel_header_find_notes(elf, len, 1, &offset, &size));
        memset(elf + 64 + 32, 0xff, 8); /* 16 EiB of notes */
        CHECK(!kernel_header_find_notes(elf, sizeof(elf), 0, &offset, &size));

        CHECK(kernel_notes_have_pvh(notes, sizeof(notes)));
        for (size_t len = 0; len < sizeof(notes); len++)
                CHECK(!kernel_notes_have_pvh(notes, len));
        CHECK(!kernel_notes_have_pvh("\xff\xff\xff\xff\xff\xff\xff\xff\x12\0\0\0Xen", 16));
}

static void test_bzimage(void) {
        memset(header, 0, sizeof(header));
        memcpy(header + 0x1fe, "\x55\xaa", 2);
        CHECK(!kernel_header_is_bzimage(header, sizeof(header)));
        memcpy(header + 0x202, "HdrS", 4);
        CHECK(kernel_header_is_bzimage(header, sizeof(header)));
        CHECK(!kernel_header_is_bzimage(header, 0x205));
}

int main(void) {
        test_qcow2_taken();
        test_qcow2_refused();
        test_qcow2_cut_off();
        test_backing_name();
        test_stated_format();
        test_raw();
        test_foreign();
        test_tables();
        test_format_names();
        test_kernel_notes();
        test_bzimage();
        return 0;
}
