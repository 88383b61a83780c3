/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <endian.h>

#include "foreign-header.h"
#include "qcow2-header.h"
#include "util/test.h"

#define LABEL "The image 'x'"
#define FILE_SIZE (512 * KIB)

static uint8_t file[FILE_SIZE];

static int read_file(const void *userdata, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                Error **reterr) {
        uint64_t at = MIN(offset, FILE_SIZE);

        *ret_len = MIN(len, FILE_SIZE - at);
        memcpy(buf, file + at, *ret_len);
        return 0;
}

static ImageReader reader = { .read = read_file, .size = FILE_SIZE, .label = LABEL };

static void le(size_t offset, unsigned size, uint64_t v) {
        v = htole64(v);
        memcpy(file + offset, &v, size);
}

static void be(size_t offset, unsigned size, uint64_t v) {
        v = htobe64(v);
        memcpy(file + offset, (const char *)&v + 8 - size, size);
}

static void begin(const void *magic, size_t len, size_t offset) {
        memset(file, 0, sizeof(file));
        memcpy(file + offset, magic, len);
        reader.size = FILE_SIZE;
}

static void expect_taken(ImageFormat format, uint64_t virtual_size, const char *variant) {
        _cleanup_error_ Error *e = NULL;
        ImageFormat found;
        ImageHeader h;

        CHECK_EQ(foreign_header_detect(&reader, file, 512, &found, NULL), 0);
        CHECK_EQ(found, format);
        if (foreign_header_parse(&reader, format, &h, &e) < 0)
                TEST_FAIL("refused: %s", error_message(e));
        CHECK_EQ(h.format, format);
        CHECK_EQ(h.virtual_size, virtual_size);
        CHECK(streq_ptr(h.variant, variant));
}

static void expect_refused(ImageFormat format, ErrorCode code, const char *words) {
        _cleanup_error_ Error *e = NULL;
        ImageHeader h;

        CHECK_EQ(foreign_header_parse(&reader, format, &h, &e), -error_code_errno(code));
        CHECK(startswith(error_message(e), LABEL));
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" does not hold \"%s\"", error_message(e), words);
}

static void describe_vmdk(const char *text) {
        memset(file + 0x200, 0, 10240);
        memcpy(file + 0x200, text, strlen(text));
}

static void make_vmdk(void) {
        begin("KDMV\1", 5, 0);
        le(12, 8, 2048); /* capacity, grain, entries of a table, directory: sectors */
        le(20, 8, 128);
        le(44, 4, 512);
        le(56, 8, 100);
        describe_vmdk("parentCID=ffffffff\ncreateType=\"monolithicSparse\"\n");
}

static void test_vmdk(void) {
        const ImageFormat f = IMAGE_FORMAT_VMDK;

        make_vmdk();
        expect_taken(f, MIB, "monolithicSparse");
        describe_vmdk("parentCID=FFFFFFFF\ncreateType=\"streamOptimized\"\n");
        expect_taken(f, MIB, "streamOptimized");
        describe_vmdk("parentCID=12345678\ncreateType=\"monolithicSparse\"\n");
        expect_refused(f, ERROR_FORMAT_REFUSED, "a difference");
        /* QEMU stops at a NUL, others might not */
        describe_vmdk("createType=\"monolithicSparse\"\n");
        memcpy(file + 0x2000, "parentFileNameHint", 18);
        expect_refused(f, ERROR_FORMAT_REFUSED, "a difference");
        describe_vmdk("createType=\"vmfs\"\n");
        expect_refused(f, ERROR_FORMAT_REFUSED, "several files");
        make_vmdk();
        le(12, 8, 0);
        expect_refused(f, ERROR_FORMAT_REFUSED, "in other files");
        le(12, 8, UINT64_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "1 PiB");
        make_vmdk();
        le(56, 8, 1 << 20);
        expect_refused(f, ERROR_INVALID_IMAGE, "cut off");
        /* a footer that has another size */
        make_vmdk();
        le(56, 8, UINT64_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "no VMDK footer");
        memcpy(file + FILE_SIZE - 1024, file, 512);
        le(FILE_SIZE - 1024 + 56, 8, 100);
        expect_taken(f, MIB, "monolithicSparse");
        le(FILE_SIZE - 1024 + 12, 8, 0);
        expect_refused(f, ERROR_INVALID_IMAGE, "footer");
}

static void test_vdi(void) {
        const ImageFormat f = IMAGE_FORMAT_VDI;

        begin("\x7f\x10\xda\xbe\1\0\1\0", 8, 0x40);
        le(0x4c, 4, 1);
        le(0x154, 4, 512);
        le(0x170, 8, 5 * MIB);
        le(0x178, 4, MIB);
        le(0x180, 4, 5);
        expect_taken(f, 5 * MIB, "dynamic");
        file[0x1b8] = 1;
        expect_refused(f, ERROR_FORMAT_REFUSED, "a difference");
        file[0x1b8] = 0;
        le(0x180, 4, 4);
        expect_refused(f, ERROR_INVALID_IMAGE, "blocks");
        le(0x180, 4, UINT32_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "cut off");
}

static void sum_vpc(size_t offset) {
        uint32_t sum = 0;

        be(offset + 64, 4, 0);
        for (size_t i = 0; i < 512; i++)
                sum += file[offset + i];
        be(offset + 64, 4, ~sum);
}

static void test_vpc(void) {
        const ImageFormat f = IMAGE_FORMAT_VPC;
        const size_t end = FILE_SIZE - 512;
        ImageFormat found;

        begin("conectix", 8, end);
        be(end + 48, 8, end);
        be(end + 60, 4, 2);
        sum_vpc(end);
        expect_taken(f, end, "fixed");
        file[end + 100] = 1; /* not by chance */
        CHECK_EQ(foreign_header_detect(&reader, file, 512, &found, NULL), 0);
        CHECK_EQ(found, _IMAGE_FORMAT_INVALID);
        be(end + 48, 8, FILE_SIZE);
        sum_vpc(end);
        expect_refused(f, ERROR_INVALID_IMAGE, "cut off");

        begin("conectix", 8, 0);
        memcpy(file + 512, "cxsparse", 8);
        be(16, 8, 512);
        be(48, 8, 4 * MIB);
        be(60, 4, 3);
        be(512 + 16, 8, 2048);
        be(512 + 28, 4, 2);
        be(512 + 32, 4, 2 * MIB);
        sum_vpc(0);
        expect_taken(f, 4 * MIB, "dynamic");
        be(512 + 28, 4, 1);
        expect_refused(f, ERROR_INVALID_IMAGE, "blocks");
        be(60, 4, 4);
        sum_vpc(0);
        expect_refused(f, ERROR_FORMAT_REFUSED, "a difference");
}

static void make_vhdx(void) {
        begin("vhdxfile", 8, 0);
        memcpy(file + 64 * KIB, "head", 4);
        memcpy(file + 192 * KIB, "regi", 4);
        le(192 * KIB + 8, 4, 1);
        memcpy(file + 192 * KIB + 16, "\x06\xa2\x7c\x8b\x90\x47\x9a\x4b\xb8\xfe\x57\x5f\x05\x0f\x88\x6e",
                        16);
        le(192 * KIB + 32, 8, 256 * KIB);
        memcpy(file + 256 * KIB, "metadata\0\0\2", 11);
        memcpy(file + 256 * KIB + 32, "\x37\x67\xa1\xca\x36\xfa\x43\x4d\xb3\xb6\x33\xf0\xaa\x44\xe7\x6b",
                        16);
        le(256 * KIB + 48, 4, 64 * KIB);
        memcpy(file + 256 * KIB + 64, "\x24\x42\xa5\x2f\x1b\xcd\x76\x48\xb2\x11\x5d\xbe\xd8\x3b\xf4\xb8",
                        16);
        le(256 * KIB + 80, 4, 64 * KIB + 8);
        le(320 * KIB + 8, 8, 3 * GIB);
}

static void test_vhdx(void) {
        const ImageFormat f = IMAGE_FORMAT_VHDX;

        make_vhdx();
        expect_taken(f, 3 * GIB, NULL);
        le(320 * KIB + 4, 4, 2);
        expect_refused(f, ERROR_FORMAT_REFUSED, "a difference");
        make_vhdx();
        file[64 * KIB + 48] = 1;
        expect_refused(f, ERROR_FORMAT_REFUSED, "was not closed");
        /* a newer header without a log */
        memcpy(file + 128 * KIB, "head", 4);
        le(128 * KIB + 8, 8, 1);
        expect_taken(f, 3 * GIB, NULL);
        make_vhdx();
        le(192 * KIB + 8, 4, UINT32_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "regions");
        make_vhdx();
        le(256 * KIB + 80, 4, UINT32_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "cut off");
        make_vhdx();
        le(320 * KIB + 8, 8, UINT64_MAX);
        expect_refused(f, ERROR_INVALID_IMAGE, "1 PiB");
}

/* All formats, cut off anywhere: no byte behind the end counts. */
static void test_cut_off(void) {
        ImageHeader h;

        make_vhdx();
        for (ImageFormat f = IMAGE_FORMAT_VMDK; f < _IMAGE_FORMAT_MAX; f++)
                for (reader.size = 0; reader.size < 256 * KIB; reader.size = reader.size * 2 + 1)
                        CHECK(foreign_header_parse(&reader, f, &h, NULL) < 0);
}

static void test_extensions(void) {
        Qcow2Header h = { .header_length = 104, .cluster_bits = 9 };
        Qcow2Extension e;

        memset(file, 0, 1024);
        CHECK(qcow2_read_extension(&h, file, 1024, 104, &e));
        CHECK_EQ(e.next, 0);
        be(104, 4, QCOW2_EXTENSION_BACKING_FORMAT);
        be(108, 4, 5);
        memcpy(file + 112, "qcow2", 5);
        CHECK(qcow2_read_extension(&h, file, 1024, 104, &e));
        CHECK_EQ(e.type, QCOW2_EXTENSION_BACKING_FORMAT);
        CHECK(e.len == 5 && memcmp(e.data, "qcow2", 5) == 0);
        CHECK_EQ(e.next, 120);
        be(108, 4, 512 - 112); /* up to the end of the cluster, no further one */
        CHECK(qcow2_read_extension(&h, file, 1024, 104, &e));
        CHECK_EQ(e.next, 512);
        CHECK(qcow2_read_extension(&h, file, 1024, e.next, &e));
        CHECK_EQ(e.next, 0);
        be(108, 4, 512 - 112 + 1);
        CHECK(!qcow2_read_extension(&h, file, 1024, 104, &e));
        be(108, 4, UINT32_MAX);
        CHECK(!qcow2_read_extension(&h, file, 1024, 104, &e));
        CHECK(!qcow2_read_extension(&h, file, 110, 104, &e));
        h.backing_file_offset = 108;
        CHECK(!qcow2_read_extension(&h, file, 1024, 104, &e));
        CHECK(!qcow2_read_extension(&h, file, 1024, SIZE_MAX, &e));
}

static int count_snapshot(const Qcow2Snapshot *s, void *userdata) {
        unsigned *n = userdata;

        CHECK_STREQ(s->id, *n == 0 ? "1" : "\\x1b");
        CHECK_STREQ(s->name, *n == 0 ? "one" : "");
        CHECK_EQ(s->disk_size, *n == 0 ? 77U : 0U);
        CHECK_EQ(s->vm_state_size, *n == 0 ? 5 * GIB : 9);
        ++*n;
        return 0;
}

static void test_snapshots(void) {
        Qcow2Header h = { .cluster_bits = 16, .nb_snapshots = 2, .snapshots_offset = FILE_SIZE - 104 };
        const size_t first = FILE_SIZE - 104, second = first + 40 + 16 + 8;
        unsigned n = 0;

        begin("", 0, 0);
        be(first + 8, 4, 1);
        be(first + 12, 2, 1);
        be(first + 14, 2, 3);
        be(first + 36, 4, 16);
        be(first + 40, 8, 5 * GIB);
        be(first + 48, 8, 77);
        memcpy(file + first + 56, "1one", 4);
        be(second + 32, 4, 9);
        CHECK(qcow2_read_snapshots(&h, &reader, NULL, NULL, NULL) == 0); /* ends with the file */
        be(second + 12, 2, 1);
        CHECK(qcow2_read_snapshots(&h, &reader, NULL, NULL, NULL) < 0);
        memmove(file + first - 8, file + first, 104);
        file[FILE_SIZE - 8] = 0x1b;
        h.snapshots_offset -= 8;
        CHECK_EQ(qcow2_read_snapshots(&h, &reader, count_snapshot, &n, NULL), 0);
        CHECK_EQ(n, 2U);
        be(first - 8, 8, FILE_SIZE); /* its first table */
        CHECK(qcow2_read_snapshots(&h, &reader, NULL, NULL, NULL) < 0);
        h.nb_snapshots = UINT32_MAX;
        CHECK(qcow2_read_snapshots(&h, &reader, NULL, NULL, NULL) < 0);
}

int main(void) {
        test_vmdk();
        test_vdi();
        test_vpc();
        test_vhdx();
        test_cut_off();
        test_extensions();
        test_snapshots();
        return 0;
}
