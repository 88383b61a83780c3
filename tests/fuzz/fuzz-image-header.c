/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The first byte says how the rest is presented: what the client states, and whether the file goes on behind
 * the input. The kernel's header is a second reader of the same bytes. */
#include "fuzz.h"
#include "util/test.h"
#include "worker/image-header.h"
#include "worker/kernel-header.h"

static void check_error(const Error *e) {
        CHECK(e);
        CHECK(error_code(e) == ERROR_INVALID_IMAGE || error_code(e) == ERROR_FORMAT_REFUSED);
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
        uint64_t file_size;
        ImageHeader h;
        uint8_t how;

        if (size == 0)
                return 0;
        how = *data++;
        size--;
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
        check_kernel(data, size);
        return 0;
}
