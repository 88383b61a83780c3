/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* An image whose headers lie all over the file: a file in the worker, memory in a fuzzer. */

#include <inttypes.h>

#include "util/error.h"

typedef struct ImageReader {
        /* As much as there is of len bytes at offset, or an error that is set. */
        int (*read)(const void *userdata, uint64_t offset, void *buf, size_t len, size_t *ret_len,
                        Error **reterr);
        const void *userdata;
        uint64_t size;     /* of the file */
        const char *label; /* begins messages, as "The image '/srv/a.vmdk'" */
} ImageReader;

/* All of len bytes, `what` names them. ERROR_INVALID_IMAGE where the file ends before. */
static inline int image_reader_read(const ImageReader *reader, uint64_t offset, void *buf, size_t len,
                const char *what, Error **reterr) {
        size_t n;
        int r;

        if (offset > reader->size || len > reader->size - offset)
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "%s is cut off: it ends at %" PRIu64 " bytes, before its %s", reader->label,
                                reader->size, what);
        r = reader->read(reader->userdata, offset, buf, len, &n, reterr);
        if (r < 0)
                return r;
        if (n < len)
                return error_set(reterr, ERROR_INVALID_IMAGE, "%s shrinks while it is read", reader->label);
        return 0;
}
