/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "decompress.h"
#include "decompress-codec.h"

static const char *const compression_table[] = {
        [COMPRESSION_NONE] = "none",
        [COMPRESSION_ZSTD] = "zstd",
        [COMPRESSION_GZIP] = "gzip",
        [COMPRESSION_XZ] = "xz",
        [COMPRESSION_BZIP2] = "bzip2",
};
DEFINE_STRING_TABLE(compression, Compression, _COMPRESSION_MAX);

static const Codec *const codec_table[_COMPRESSION_MAX] = {
        [COMPRESSION_ZSTD] = &codec_zstd,
        [COMPRESSION_GZIP] = &codec_gzip,
        [COMPRESSION_XZ] = &codec_xz,
        [COMPRESSION_BZIP2] = &codec_bzip2,
};

/* No disk image begins like one of these. */
static const struct {
        size_t offset;
        const char *magic;
        size_t len;
        const char *what;
} refused_table[] = {
        { 0, "PK\x03\x04", 4, "a zip archive" },
        { 0, "7z\xbc\xaf\x27\x1c", 6, "a 7z archive" },
        { 0, "Rar!\x1a\x07", 6, "a rar archive" },
        { 257, "ustar", 5, "a tar archive" },
        { 0, "LZIP", 4, "compressed with lzip" },
        { 0, "\x04\x22\x4d\x18", 4, "compressed with lz4" },
};

int compression_detect(const void *data, size_t len, Compression *ret, Error **reterr) {
        const uint8_t *p = data;

        for (size_t i = 0; i < ELEMENTSOF(refused_table); i++)
                if (len >= refused_table[i].offset + refused_table[i].len &&
                                memcmp(p + refused_table[i].offset, refused_table[i].magic,
                                                refused_table[i].len) == 0)
                        return error_set(reterr, ERROR_INVALID_IMAGE,
                                        "it is %s, not a disk image, plain or compressed with zstd, gzip, "
                                        "xz "
                                        "or bzip2",
                                        refused_table[i].what);
        *ret = COMPRESSION_NONE;
        for (int i = 0; i < _COMPRESSION_MAX; i++)
                if (codec_table[i] && len >= codec_table[i]->magic_size && codec_table[i]->is_magic(p))
                        *ret = (Compression)i;
        return 0;
}

struct Decompress {
        const Codec *codec;
        void *state;
        DecompressSink sink;
        uint8_t *room; /* the sink's; NULL: none at the moment */
        size_t size, fill;
        bool header_checked;
        uint8_t magic[CODEC_MAGIC_MAX]; /* of the next frame, as far as it has come */
        size_t magic_fill;
        bool in_frame;
        uint64_t n_frames;
};

int decompress_new(Compression kind, const DecompressSink *sink, Decompress **ret) {
        _cleanup_(decompress_freep) Decompress *d = calloc(1, sizeof(Decompress));
        int r;

        if (!d)
                return -ENOMEM;
        d->codec = codec_table[kind];
        d->sink = *sink;
        r = d->codec->new (&d->state);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(d);
        return 0;
}

Decompress *decompress_free(Decompress *d) {
        if (d)
                d->codec->free(d->state);
        free(d);
        return NULL;
}

/* Only one layer is taken off: a second one would be handed to a guest as its disk. */
static int check_content(Decompress *d, Error **reterr) {
        Compression inner;
        int r;

        if (d->header_checked)
                return 0;
        d->header_checked = true;
        r = compression_detect(d->room, d->fill, &inner, reterr);
        if (r < 0)
                return r;
        if (inner == COMPRESSION_NONE)
                return 0;
        return error_set(reterr, ERROR_INVALID_IMAGE, "it is compressed twice, with %s in %s",
                        compression_to_string(inner), d->codec->name);
}

static int commit(Decompress *d, Error **reterr) {
        size_t n = d->fill;
        int r;

        r = check_content(d, reterr);
        if (r < 0)
                return r;
        d->room = NULL;
        d->fill = 0;
        return d->sink.commit(d->sink.userdata, n, reterr);
}

static int make_room(Decompress *d) {
        void *room;
        int r;

        if (d->room)
                return 0;
        r = d->sink.reserve(d->sink.userdata, &room, &d->size);
        if (r >= 0)
                d->room = room;
        return r;
}

/* One call of the library; b->in moves on. */
static int step(Decompress *d, CodecBuffers *b, bool *ret_full, Error **reterr) {
        size_t in_before = b->in_len, out_before;
        bool ended = false;
        int r;

        r = make_room(d);
        if (r < 0)
                return r;
        b->out = d->room + d->fill;
        b->out_len = out_before = d->size - d->fill;
        r = d->codec->step(d->state, b, &ended, reterr);
        if (r < 0)
                return r;
        if (!ended && b->in_len > 0 && b->in_len == in_before && b->out_len == out_before)
                return error_set(reterr, ERROR_INVALID_IMAGE, "its %s data is damaged: it leads nowhere",
                                d->codec->name);
        d->fill = d->size - b->out_len;
        *ret_full = b->out_len == 0;
        if (ended) {
                d->in_frame = false;
                d->n_frames++;
        }
        return d->fill == d->size ? commit(d, reterr) : 0;
}

/* Until the frame has ended, or all input is used and all that it gives has come out. */
static int run_frame(Decompress *d, const uint8_t **p, size_t *len, Error **reterr) {
        CodecBuffers b = { .in = *p, .in_len = *len };
        bool full = false;
        int r = 0;

        while (r >= 0 && d->in_frame && (b.in_len > 0 || full))
                r = step(d, &b, &full, reterr);
        *p = b.in;
        *len = b.in_len;
        return r;
}

static int set_garbage(const Decompress *d, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_IMAGE, "something else follows behind the end of its %s data",
                        d->codec->name);
}

static bool skip_padding(Decompress *d) {
        static const uint8_t zeros[CODEC_MAGIC_MAX];
        size_t n = d->codec->padding;

        if (n == 0 || d->n_frames == 0 || d->magic_fill != n || memcmp(d->magic, zeros, n) != 0)
                return false;
        d->magic_fill = 0;
        return true;
}

/* Between frames: one begins only with its magic, which may come in pieces. */
static int start_frame(Decompress *d, const uint8_t **p, size_t *len, Error **reterr) {
        const uint8_t *magic = d->magic;
        size_t n = d->codec->magic_size;
        int r;

        for (; *len > 0 && d->magic_fill < n; (*p)++, (*len)--) {
                d->magic[d->magic_fill++] = **p;
                (void)skip_padding(d);
        }
        if (d->magic_fill < n)
                return 0;
        if (!d->codec->is_magic(d->magic))
                return set_garbage(d, reterr);
        r = d->codec->start(d->state);
        if (r < 0)
                return error_set_errno(reterr, r, "Failed to unpack the image");
        d->magic_fill = 0;
        d->in_frame = true;
        return run_frame(d, &magic, &n, reterr);
}

int decompress_feed(Decompress *d, const void *data, size_t len, Error **reterr) {
        const uint8_t *p = data;
        int r = 0;

        while (r >= 0 && len > 0)
                r = d->in_frame ? run_frame(d, &p, &len, reterr) : start_frame(d, &p, &len, reterr);
        return r;
}

int decompress_finish(Decompress *d, Error **reterr) {
        if (d->in_frame || d->n_frames == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "its %s data is cut off before its end",
                                d->codec->name);
        if (d->magic_fill > 0)
                return set_garbage(d, reterr);
        return d->fill > 0 ? commit(d, reterr) : 0;
}
