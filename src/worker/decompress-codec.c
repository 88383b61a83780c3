/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <bzlib.h>
#include <endian.h>
#include <lzma.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "decompress-codec.h"

static int set_damaged(const char *kind, const char *reason, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "its %s data is damaged: %s", kind, reason);
}

static int set_too_demanding(const char *kind, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE,
                        "its %s data needs more than the 1 GiB of memory that is allowed for unpacking",
                        kind);
}

static int set_no_memory(Error **reterr) {
        return error_set_errno(reterr, -ENOMEM, "Failed to unpack the image");
}

/* zstd: a frame, or a frame to be skipped */

static bool zstd_is_magic(const uint8_t *p) {
        uint32_t v;

        memcpy(&v, p, sizeof(v));
        v = le32toh(v);
        return v == ZSTD_MAGICNUMBER || (v & ZSTD_MAGIC_SKIPPABLE_MASK) == ZSTD_MAGIC_SKIPPABLE_START;
}

static int zstd_new(void **ret) {
        ZSTD_DCtx *c = ZSTD_createDCtx();

        if (!c)
                return -ENOMEM;
        (void)ZSTD_DCtx_setParameter(c, ZSTD_d_windowLogMax, CODEC_MEMORY_MAX_LOG);
        *ret = c;
        return 0;
}

static void zstd_free(void *state) {
        ZSTD_freeDCtx(state);
}

static int zstd_start(void *state) {
        return ZSTD_isError(ZSTD_DCtx_reset(state, ZSTD_reset_session_only)) ? -EIO : 0;
}

static int zstd_step(void *state, CodecBuffers *b, bool *ret_ended, Error **reterr) {
        ZSTD_inBuffer in = { .src = b->in, .size = b->in_len };
        ZSTD_outBuffer out = { .dst = b->out, .size = b->out_len };
        size_t r = ZSTD_decompressStream(state, &out, &in);

        if (ZSTD_isError(r)) {
                ZSTD_ErrorCode code = ZSTD_getErrorCode(r);

                return code == ZSTD_error_memory_allocation ? set_no_memory(reterr)
                                : code == ZSTD_error_frameParameter_windowTooLarge
                                ? set_too_demanding("zstd", reterr)
                                : set_damaged("zstd", ZSTD_getErrorName(r), reterr);
        }
        b->in += in.pos;
        b->in_len -= in.pos;
        b->out += out.pos;
        b->out_len -= out.pos;
        *ret_ended = r == 0;
        return 0;
}

const Codec codec_zstd = {
        .name = "zstd",
        .magic_size = 4,
        .is_magic = zstd_is_magic,
        .new = zstd_new,
        .free = zstd_free,
        .start = zstd_start,
        .step = zstd_step,
};

/* gzip: a member */

static bool gzip_is_magic(const uint8_t *p) {
        return p[0] == 0x1f && p[1] == 0x8b && p[2] == 8;
}

static int gzip_new(void **ret) {
        z_stream *z = calloc(1, sizeof(z_stream));

        if (!z)
                return -ENOMEM;
        if (inflateInit2(z, 16 + MAX_WBITS) != Z_OK) { /* 16: a gzip header, nothing else */
                free(z);
                return -ENOMEM;
        }
        *ret = z;
        return 0;
}

static void gzip_free(void *state) {
        if (state)
                inflateEnd(state);
        free(state);
}

static int gzip_start(void *state) {
        return inflateReset(state) == Z_OK ? 0 : -EIO;
}

static int gzip_step(void *state, CodecBuffers *b, bool *ret_ended, Error **reterr) {
        z_stream *z = state;
        int r;

        z->next_in = (uint8_t *)b->in;
        z->avail_in = (unsigned)MIN(b->in_len, (size_t)UINT32_MAX);
        z->next_out = b->out;
        z->avail_out = (unsigned)MIN(b->out_len, (size_t)UINT32_MAX);
        r = inflate(z, Z_NO_FLUSH);
        if (r == Z_MEM_ERROR)
                return set_no_memory(reterr);
        if (r != Z_OK && r != Z_STREAM_END && r != Z_BUF_ERROR)
                return set_damaged("gzip", z->msg ?: "it cannot be understood", reterr);
        b->in_len -= (size_t)(z->next_in - b->in);
        b->in = z->next_in;
        b->out_len -= (size_t)(z->next_out - b->out);
        b->out = z->next_out;
        *ret_ended = r == Z_STREAM_END;
        return 0;
}

const Codec codec_gzip = {
        .name = "gzip",
        .magic_size = 3,
        .is_magic = gzip_is_magic,
        .new = gzip_new,
        .free = gzip_free,
        .start = gzip_start,
        .step = gzip_step,
};

/* xz: a stream; zeros in fours may follow */

static bool xz_is_magic(const uint8_t *p) {
        return memcmp(p,
                               "\xfd"
                               "7zXZ\0",
                               6) == 0;
}

static int xz_new(void **ret) {
        lzma_stream *z = malloc(sizeof(lzma_stream));

        if (!z)
                return -ENOMEM;
        *z = (lzma_stream)LZMA_STREAM_INIT;
        *ret = z;
        return 0;
}

static void xz_free(void *state) {
        if (state)
                lzma_end(state);
        free(state);
}

static int xz_start(void *state) {
        lzma_ret r = lzma_stream_decoder(
                        state, UINT64_C(1) << CODEC_MEMORY_MAX_LOG, LZMA_TELL_UNSUPPORTED_CHECK);

        return r == LZMA_OK ? 0 : -ENOMEM;
}

static const char *xz_reason(lzma_ret r) {
        return r == LZMA_DATA_ERROR ? "it is corrupt"
                        : r == LZMA_UNSUPPORTED_CHECK || r == LZMA_OPTIONS_ERROR
                        ? "it uses a filter or a check that is not known"
                        : "it cannot be understood";
}

static int xz_step(void *state, CodecBuffers *b, bool *ret_ended, Error **reterr) {
        lzma_stream *z = state;
        lzma_ret r;

        z->next_in = b->in;
        z->avail_in = b->in_len;
        z->next_out = b->out;
        z->avail_out = b->out_len;
        r = lzma_code(z, LZMA_RUN);
        if (r == LZMA_MEM_ERROR)
                return set_no_memory(reterr);
        if (r == LZMA_MEMLIMIT_ERROR)
                return set_too_demanding("xz", reterr);
        if (r != LZMA_OK && r != LZMA_STREAM_END && r != LZMA_BUF_ERROR)
                return set_damaged("xz", xz_reason(r), reterr);
        b->in = z->next_in;
        b->in_len = z->avail_in;
        b->out = z->next_out;
        b->out_len = z->avail_out;
        *ret_ended = r == LZMA_STREAM_END;
        return 0;
}

const Codec codec_xz = {
        .name = "xz",
        .magic_size = 6,
        .padding = 4,
        .is_magic = xz_is_magic,
        .new = xz_new,
        .free = xz_free,
        .start = xz_start,
        .step = xz_step,
};

/* bzip2: a stream */

static bool bzip2_is_magic(const uint8_t *p) {
        return memcmp(p, "BZh", 3) == 0 && p[3] >= '1' && p[3] <= '9';
}

static int bzip2_new(void **ret) {
        bz_stream *z = calloc(1, sizeof(bz_stream));

        if (!z)
                return -ENOMEM;
        *ret = z;
        return 0;
}

static void bzip2_free(void *state) {
        if (state)
                (void)BZ2_bzDecompressEnd(state); /* minds that none may have been started */
        free(state);
}

static int bzip2_start(void *state) {
        (void)BZ2_bzDecompressEnd(state);
        *(bz_stream *)state = (bz_stream){};
        return BZ2_bzDecompressInit(state, 0, 0) == BZ_OK ? 0 : -ENOMEM;
}

static int bzip2_step(void *state, CodecBuffers *b, bool *ret_ended, Error **reterr) {
        bz_stream *z = state;
        int r;

        z->next_in = (char *)b->in;
        z->avail_in = (unsigned)MIN(b->in_len, (size_t)UINT32_MAX);
        z->next_out = (char *)b->out;
        z->avail_out = (unsigned)MIN(b->out_len, (size_t)UINT32_MAX);
        r = BZ2_bzDecompress(z);
        if (r == BZ_MEM_ERROR)
                return set_no_memory(reterr);
        if (r != BZ_OK && r != BZ_STREAM_END)
                return set_damaged("bzip2", r == BZ_DATA_ERROR ? "it is corrupt" : "it cannot be understood",
                                reterr);
        b->in_len -= (size_t)((uint8_t *)z->next_in - b->in);
        b->in = (uint8_t *)z->next_in;
        b->out_len -= (size_t)((uint8_t *)z->next_out - b->out);
        b->out = (uint8_t *)z->next_out;
        *ret_ended = r == BZ_STREAM_END;
        return 0;
}

const Codec codec_bzip2 = {
        .name = "bzip2",
        .magic_size = 4,
        .is_magic = bzip2_is_magic,
        .new = bzip2_new,
        .free = bzip2_free,
        .start = bzip2_start,
        .step = bzip2_step,
};
