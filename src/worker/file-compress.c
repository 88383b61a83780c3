/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/stat.h>
#include <zstd.h>

#include "file-copy.h"

#define OUT_SIZE (128 * KIB)

typedef struct Compression {
        const FileCopy *copy;
        ZSTD_CCtx *zstd;
        char *out;
        uint64_t offset; /* in the output */
        bool stream;
} Compression;

static void compression_done(Compression *x) {
        ZSTD_freeCCtx(x->zstd);
        free(x->out);
}

/* Takes all of the input; at the end also brings out all that is held back. */
static int compress_some(Compression *x, const void *data, size_t len, bool end, Error **reterr) {
        ZSTD_inBuffer in = { data, len, 0 };
        size_t left;

        do {
                ZSTD_outBuffer out = { x->out, OUT_SIZE, 0 };
                int r;

                left = ZSTD_compressStream2(x->zstd, &out, &in, end ? ZSTD_e_end : ZSTD_e_continue);
                if (ZSTD_isError(left))
                        return error_set(reterr, ERROR_FAILED, "zstd failed: %s", ZSTD_getErrorName(left));
                r = file_write(x->copy, x->out, out.pos, x->stream ? NULL : &x->offset, reterr);
                if (r < 0)
                        return r;
        } while (in.pos < in.size || (end && left > 0));
        return 0;
}

static int compress_piece(const void *data, uint64_t offset, uint64_t len, void *userdata, Error **reterr) {
        static const char zeros[64 * KIB];

        if (data)
                return compress_some(userdata, data, len, false, reterr);
        while (len > 0) {
                size_t n = MIN(len, (uint64_t)sizeof(zeros));
                int r = compress_some(userdata, zeros, n, false, reterr);

                if (r < 0)
                        return r;
                len -= n;
        }
        return 0;
}

int file_compress(const FileCopy *c, Error **reterr) {
        _cleanup_(compression_done) Compression x = { .copy = c };
        struct stat in, out;
        int r;

        if (fstat(c->input, &in) < 0 || fstat(c->output, &out) < 0)
                return error_set_errno(reterr, -errno, "%s cannot be looked at", c->input_label);
        x.stream = !S_ISREG(out.st_mode);
        x.zstd = ZSTD_createCCtx();
        x.out = malloc(OUT_SIZE);
        if (!x.zstd || !x.out)
                return error_set_errno(reterr, -ENOMEM, "Failed to compress");
        /* The size lets a reader make room at once, the checksum lets it find damage. */
        (void)ZSTD_CCtx_setPledgedSrcSize(x.zstd, (unsigned long long)in.st_size);
        (void)ZSTD_CCtx_setParameter(x.zstd, ZSTD_c_checksumFlag, 1);
        r = file_read_pieces(c, compress_piece, &x, reterr);
        return r < 0 ? r : compress_some(&x, NULL, 0, true, reterr);
}
