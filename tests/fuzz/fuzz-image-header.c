/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first byte says how the rest is presented: what the client states, whether the file goes on behind the
 * input, and whether it is folded. All readers of headers get the same bytes. */
#include "fuzz.h"
#include "util/test.h"
#include "worker/foreign-header.h"
#include "worker/kernel-header.h"
#include "worker/qcow2-header.h"

/* Of a folded file the input has only the beginning of each block: the headers of a VHDX lie far apart. */
#define BLOCK (64 * KIB)
#define BLOCK_INPUT 512

typedef struct Memory {
        const uint8_t *data;
        size_t size;
        bool folded;
} Memory;

static void check_error(const Error *e) {
        CHECK(e);
        CHECK(error_code(e) == ERROR_INVALID_IMAGE || error_code(e) == ERROR_FORMAT_REFUSED ||
                        error_code(e) == ERROR_COMPRESSED);
        CHECK(utf8_is_valid(error_message(e), strlen(error_message(e))));
}

static void check_tables(const ImageHeader *h, const uint8_t *data, size_t size) {
        _cleanup_error_ Error *e = NULL;
        uint64_t highest = 0;

        CHECK(h->l1_entries > 0);
        CHECK(h->l1_offset + h->l1_entries * UINT64_C(8) <= h->file_size);
        if (image_header_check_l1(h, data, size, "x", &highest, &e) < 0)
                check_error(e);
        else
                CHECK(highest < h->file_size);
        e = error_free(e);
        if (image_header_check_l2(h, data, size, "x", &e) < 0)
                check_error(e);
}

static int read_memory(const void *userdata, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                Error **reterr) {
        const Memory *m = userdata;

        *ret_len = 0;
        if (!m->folded) {
                if (offset >= m->size)
                        return 0;
                *ret_len = MIN(len, m->size - offset);
                memcpy(buf, m->data + offset, *ret_len);
                return 0;
        }
        for (; *ret_len < len && offset / BLOCK * BLOCK_INPUT < m->size; offset++) {
                uint64_t at = offset / BLOCK * BLOCK_INPUT + offset % BLOCK;

                ((uint8_t *)buf)[(*ret_len)++] = offset % BLOCK < BLOCK_INPUT && at < m->size ? m->data[at]
                                                                                              : 0;
        }
        return 0;
}

static void check_foreign(const ImageReader *reader) {
        uint8_t head[512];
        ImageFormat found;
        size_t len;

        CHECK_EQ(reader->read(reader->userdata, 0, head, sizeof(head), &len, NULL), 0);
        if (foreign_header_detect(reader, head, len, &found, NULL) >= 0)
                CHECK((int)found == _IMAGE_FORMAT_INVALID || image_format_is_foreign(found));
        for (ImageFormat f = 0; f < _IMAGE_FORMAT_MAX; f++) {
                _cleanup_error_ Error *e = NULL;
                ImageHeader h;

                if (foreign_header_parse(reader, f, &h, &e) < 0) {
                        check_error(e);
                        continue;
                }
                CHECK(image_format_is_foreign(f));
                CHECK_EQ(h.format, f);
                CHECK(h.virtual_size > 0 && h.virtual_size <= IMAGE_VIRTUAL_SIZE_MAX);
        }
}

static int check_snapshot(const Qcow2Snapshot *s, void *userdata) {
        CHECK(utf8_is_valid(s->id, strlen(s->id)));
        CHECK(utf8_is_valid(s->name, strlen(s->name)));
        return ++*(unsigned *)userdata == 1000 ? -E2BIG : 0; /* enough */
}

static void check_qcow2(const ImageReader *reader, const uint8_t *data, size_t size) {
        _cleanup_error_ Error *e = NULL;
        Qcow2Extension x;
        Qcow2Header h;
        unsigned n = 0;

        if (qcow2_header_read(data, size, "x", &h, &e) < 0) {
                check_error(e);
                return;
        }
        x.next = qcow2_first_extension(&h);
        while (x.next != 0 && qcow2_read_extension(&h, data, size, x.next, &x)) {
                CHECK(x.len == 0 ||
                                (x.data >= (const char *)data &&
                                                x.data + x.len <= (const char *)data + size));
                CHECK(x.next <= size);
        }
        if (qcow2_read_snapshots(&h, reader, check_snapshot, &n, &e) < 0 && n < 1000)
                check_error(e);
}

static void check_kernel(const uint8_t *data, size_t size) {
        uint64_t offset, len;

        for (unsigned i = 0; kernel_header_find_notes(data, size, i, &offset, &len); i++)
                CHECK(len <= MIB);
        (void)kernel_header_is_bzimage(data, size);
        (void)kernel_notes_have_pvh(data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        static const ImageFormat stated[] = { _IMAGE_FORMAT_INVALID, IMAGE_FORMAT_RAW, IMAGE_FORMAT_QCOW2 };
        _cleanup_error_ Error *e = NULL;
        Memory memory;
        ImageReader reader = { .read = read_memory, .userdata = &memory, .label = "x" };
        uint64_t file_size;
        ImageHeader h;
        uint8_t how;

        if (size == 0)
                return 0;
        how = *data++;
        size--;
        memory = (Memory){ .data = data, .size = size, .folded = how & 32 };
        file_size = how & 16 ? 16 * GIB : size;
        if (image_header_parse(data, size, file_size, stated[(how & 3) % ELEMENTSOF(stated)],
                            how & 4 ? IMAGE_HEADER_ANY_CONTENT : 0, "x", &h, &e) < 0) {
                check_error(e);
        } else {
                CHECK(h.virtual_size > 0 && h.virtual_size <= IMAGE_VIRTUAL_SIZE_MAX);
                if (h.format == IMAGE_FORMAT_QCOW2)
                        check_tables(&h, data, size);
                else
                        CHECK_EQ(h.virtual_size, file_size);
        }
        reader.size = memory.folded ? (size + BLOCK_INPUT - 1) / BLOCK_INPUT * BLOCK : file_size;
        check_foreign(&reader);
        check_qcow2(&reader, data, size);
        check_kernel(data, size);
        return 0;
}
