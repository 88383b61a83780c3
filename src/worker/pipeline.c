/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <openssl/evp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline.h"
#include "sparse-file.h"
#include "stage.h"

struct Pipeline {
        PipelineConfig config;
        EVP_MD_CTX *sha256;
        EVP_MD_CTX *sha512;      /* NULL: not wanted */
        Compression compression; /* _COMPRESSION_INVALID as long as too little has come */
        uint8_t header[COMPRESSION_HEADER_SIZE];
        size_t header_fill;
        bool replaying; /* what comes is in the files already */
        uint64_t received;
        uint64_t kept;      /* of it, in received_fd */
        uint64_t unchecked; /* of it, since the last look at the free space */
        Decompress *decompress;
        SparseFile *file;
        Stage *unpack; /* NULL: nothing is compressed */
        Stage *write;
        void *room;  /* of write's, that is being unpacked into */
        void *piece; /* what is being filled of unpack's, or else write's */
        size_t fill;
        size_t fill_kept; /* of it, in received_fd */
};

static int set_failed(int r, Error **reterr) {
        return error_set_errno(reterr, r, "Failed to take in the image");
}

static int new_hash(const EVP_MD *md, EVP_MD_CTX **ret) {
        *ret = EVP_MD_CTX_new();
        return *ret && EVP_DigestInit_ex2(*ret, md, NULL) == 1 ? 0 : -ENOMEM;
}

static int consume_image(void *userdata, uint64_t zeros, const void *data, size_t len, Error **reterr) {
        int r;

        r = sparse_file_write_zeros(userdata, zeros, reterr);
        return r < 0 ? r : sparse_file_write(userdata, data, len, reterr);
}

static int consume_compressed(void *userdata, uint64_t zeros, const void *data, size_t len, Error **reterr) {
        return decompress_feed(userdata, data, len, reterr);
}

static int reserve_image(void *userdata, void **ret, size_t *ret_size) {
        Pipeline *p = userdata;
        int r;

        r = stage_reserve(p->write, &p->room);
        if (r < 0)
                return r;
        *ret = p->room;
        *ret_size = STAGE_PIECE_SIZE;
        return 0;
}

static int commit_image(void *userdata, size_t len, Error **reterr) {
        Pipeline *p = userdata;

        if (is_zero(p->room, len))
                stage_commit_zeros(p->write, len);
        else
                stage_commit(p->write, len);
        return 0;
}

static int new_pipeline(const PipelineConfig *config, uint64_t present, Pipeline **ret) {
        _cleanup_(pipeline_freep) Pipeline *p = calloc(1, sizeof(Pipeline));
        int r;

        if (!p)
                return -ENOMEM;
        p->config = *config;
        p->compression = _COMPRESSION_INVALID;
        r = new_hash(EVP_sha256(), &p->sha256);
        if (r >= 0 && config->sha512)
                r = new_hash(EVP_sha512(), &p->sha512);
        if (r >= 0)
                r = sparse_file_new(config->output_fd, config->max_size, present, &p->file);
        if (r >= 0)
                r = stage_new(consume_image, p->file, &p->write);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

Pipeline *pipeline_free(Pipeline *p) {
        if (!p)
                return NULL;
        pipeline_keep(p); /* for the next worker */
        if (p->write)
                stage_cancel(p->write); /* unpack may wait for it */
        stage_free(p->unpack);
        stage_free(p->write);
        decompress_free(p->decompress);
        sparse_file_free(p->file);
        EVP_MD_CTX_free(p->sha256);
        EVP_MD_CTX_free(p->sha512);
        free(p);
        return NULL;
}

int pipeline_forget(const PipelineConfig *config, Error **reterr) {
        if (ftruncate(config->output_fd, 0) < 0 ||
                        (config->received_fd >= 0 && ftruncate(config->received_fd, 0) < 0))
                return error_set_errno(reterr, -errno, "Failed to empty the image's file");
        return 0;
}

int pipeline_new(const PipelineConfig *config, Pipeline **ret, Error **reterr) {
        int r;

        r = pipeline_forget(config, reterr);
        if (r < 0)
                return r;
        r = new_pipeline(config, 0, ret);
        return r < 0 ? set_failed(r, reterr) : 0;
}

/* The last stage's own words say most: the one before it only knows that it was canceled. */
static int stage_failure(Pipeline *p, Error **reterr) {
        int r, q;

        if (p->unpack) {
                r = stage_finish(p->unpack, reterr);
                if (r < 0 && r != -ECANCELED)
                        return r;
        }
        q = stage_finish(p->write, reterr);
        return q < 0 ? q : set_failed(-EIO, reterr);
}

/* Writes what the piece has gained. Whole pieces mostly: libcurl hands over 16 KiB at a time. */
static int keep(Pipeline *p, Error **reterr) {
        bool wanted = p->compression != COMPRESSION_NONE && p->config.received_fd >= 0;

        while (p->fill_kept < p->fill) {
                size_t len = p->fill - p->fill_kept;
                ssize_t n = (ssize_t)len;

                if (wanted && !p->replaying)
                        n = pwrite(p->config.received_fd, (const uint8_t *)p->piece + p->fill_kept, len,
                                        (off_t)p->kept);
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return error_set_errno(reterr, -errno, "Failed to write what was received");
                p->kept += (size_t)n;
                p->fill_kept += (size_t)n;
                p->unchecked += (size_t)n;
        }
        if (!wanted || p->unchecked < SPARSE_FILE_CHECK_INTERVAL)
                return 0;
        p->unchecked = 0;
        return sparse_file_check_space(p->config.received_fd, reterr);
}

void pipeline_keep(Pipeline *p) {
        if (p->piece)
                (void)keep(p, NULL); /* what failed is tried again with the rest of the piece */
}

static int hand_over(Pipeline *p, Error **reterr) {
        int r;

        r = keep(p, reterr);
        if (r < 0)
                return r;
        stage_commit(p->unpack ?: p->write, p->fill);
        p->piece = NULL;
        p->fill = p->fill_kept = 0;
        return 0;
}

/* Into the first stage's pieces, each handed over when it is full. */
static int forward(Pipeline *p, const uint8_t *data, size_t len, Error **reterr) {
        while (len > 0) {
                size_t n;
                int r;

                if (!p->piece && stage_reserve(p->unpack ?: p->write, &p->piece) < 0)
                        return stage_failure(p, reterr);
                n = MIN(len, (size_t)STAGE_PIECE_SIZE - p->fill);
                memcpy((uint8_t *)p->piece + p->fill, data, n);
                p->fill += n;
                data += n;
                len -= n;
                r = p->fill == STAGE_PIECE_SIZE ? hand_over(p, reterr) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Enough has come to know what it is. */
static int detect(Pipeline *p, Error **reterr) {
        const DecompressSink sink = { .reserve = reserve_image, .commit = commit_image, .userdata = p };
        int r;

        r = compression_detect(p->header, p->header_fill, &p->compression, reterr);
        if (r < 0)
                return r;
        if (p->compression != COMPRESSION_NONE) {
                r = decompress_new(p->compression, &sink, &p->decompress);
                if (r >= 0)
                        r = stage_new(consume_compressed, p->decompress, &p->unpack);
                if (r < 0)
                        return set_failed(r, reterr);
        }
        return forward(p, p->header, p->header_fill, reterr);
}

static int hash(Pipeline *p, const void *data, size_t len) {
        if (EVP_DigestUpdate(p->sha256, data, len) != 1 ||
                        (p->sha512 && EVP_DigestUpdate(p->sha512, data, len) != 1))
                return -ENOMEM;
        return 0;
}

int pipeline_feed(Pipeline *p, const void *data, size_t len, Error **reterr) {
        uint64_t max = pipeline_received_max(p->config.max_size);
        const uint8_t *d = data;
        int r;

        if (len > max - p->received)
                return error_set(reterr, ERROR_IMAGE_TOO_LARGE,
                                "The image is larger than the %" PRIu64 " bytes that are allowed",
                                p->config.max_size);
        p->received += len;
        r = hash(p, data, len);
        if (r < 0)
                return set_failed(r, reterr);
        if ((int)p->compression < 0) {
                size_t n = MIN(len, sizeof(p->header) - p->header_fill);

                memcpy(p->header + p->header_fill, d, n);
                p->header_fill += n;
                d += n;
                len -= n;
                r = p->header_fill == sizeof(p->header) ? detect(p, reterr) : 0;
        }
        return r < 0 || len == 0 ? r : forward(p, d, len, reterr);
}

static int finish_stages(Pipeline *p, Error **reterr) {
        int r;

        r = p->fill > 0 ? hand_over(p, reterr) : 0;
        if (r < 0)
                return r;
        if (p->unpack) {
                r = stage_finish(p->unpack, reterr);
                if (r >= 0)
                        r = decompress_finish(p->decompress, reterr);
                if (r < 0)
                        return r == -ECANCELED ? stage_failure(p, reterr) : r;
        }
        return stage_finish(p->write, reterr);
}

static int finish_hash(EVP_MD_CTX *c, char *ret) {
        uint8_t digest[EVP_MAX_MD_SIZE];
        unsigned n;

        if (EVP_DigestFinal_ex(c, digest, &n) != 1)
                return -ENOMEM;
        hex_encode(digest, n, ret);
        return 0;
}

int pipeline_finish(Pipeline *p, PipelineResult *ret, Error **reterr) {
        PipelineResult result = {};
        int r;

        if (p->received == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "it is empty");
        r = (int)p->compression < 0 ? detect(p, reterr) : 0;
        if (r >= 0)
                r = finish_stages(p, reterr);
        if (r >= 0)
                r = sparse_file_finish(p->file, &result.size, result.content_digest, reterr);
        if (r < 0)
                return r;
        if (result.size == 0)
                return error_set(reterr, ERROR_INVALID_IMAGE, "it is empty");
        r = finish_hash(p->sha256, result.received.sha256);
        if (r >= 0 && p->sha512)
                r = finish_hash(p->sha512, result.received.sha512);
        if (r < 0)
                return set_failed(r, reterr);
        result.compression = p->compression;
        *ret = result;
        return 0;
}

/* What the header says has to agree with where the bytes were found. */
static int replay(Pipeline *p, int fd, uint64_t len, Error **reterr) {
        _cleanup_free_ uint8_t *buffer = malloc(STAGE_PIECE_SIZE);
        uint64_t offset = 0;
        int r;

        if (!buffer)
                return -ENOMEM;
        p->replaying = true;
        while (offset < len) {
                ssize_t n = pread(fd, buffer, (size_t)MIN((uint64_t)STAGE_PIECE_SIZE, len - offset),
                                (off_t)offset);

                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                r = pipeline_feed(p, buffer, (size_t)n, reterr);
                if (r < 0)
                        return r;
                if ((int)p->compression < 0 ||
                                (p->compression == COMPRESSION_NONE) != (fd == p->config.output_fd))
                        return -EBADMSG;
                offset += (uint64_t)n;
        }
        r = keep(p, reterr);
        p->replaying = false;
        return r;
}

int pipeline_resume(const PipelineConfig *config, Pipeline **ret, uint64_t *ret_len, Error **reterr) {
        _cleanup_(pipeline_freep) Pipeline *p = NULL;
        struct stat output, received;
        bool compressed;
        uint64_t len;

        if (fstat(config->output_fd, &output) < 0 || fstat(config->received_fd, &received) < 0)
                return set_failed(-errno, reterr);
        compressed = received.st_size > 0;
        len = (uint64_t)(compressed ? received.st_size : output.st_size);
        if (compressed && ftruncate(config->output_fd, 0) < 0)
                return set_failed(-errno, reterr);
        if (new_pipeline(config, compressed ? 0 : len, &p) < 0)
                return set_failed(-ENOMEM, reterr);
        if (replay(p, compressed ? config->received_fd : config->output_fd, len, NULL) < 0) {
                p = pipeline_free(p); /* its threads write until then */
                *ret_len = 0;
                return pipeline_new(config, ret, reterr);
        }
        *ret_len = len;
        *ret = TAKE_PTR(p);
        return 0;
}
