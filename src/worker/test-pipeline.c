/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What earlier workers left; whole transfers are in test-pull.py. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "pipeline.h"
#include "util/test.h"

#define NOISE (MIB)    /* nothing makes it smaller: several pieces of what is received */
#define RUN (16 * MIB) /* of one byte: many pieces of the image out of few bytes */
#define TAIL (6 * MIB) /* by which the damage is noticed */
#define ROUNDS 10      /* threads are given each chance to be late */

static int make_file(void) {
        int fd = memfd_create("test", MFD_CLOEXEC);

        CHECK(fd >= 0);
        return fd;
}

static size_t file_size(int fd) {
        struct stat st;

        CHECK(fstat(fd, &st) >= 0);
        return (size_t)st.st_size;
}

static void make_noise(uint8_t *p, size_t len) {
        uint64_t x = 88172645463325252U;

        for (size_t i = 0; i < len; i++) {
                x ^= x << 13;
                x ^= x >> 7;
                x ^= x << 17;
                p[i] = (uint8_t)x;
        }
}

/* A gzip stream that is damaged behind what unpacks to the run. */
static void make_damaged(int fd) {
        size_t len = NOISE + RUN, room = 2 * NOISE;
        uint8_t *plain = malloc(len), *packed = malloc(room), *tail = malloc(TAIL);
        z_stream z = {};

        CHECK(plain && packed && tail);
        make_noise(plain, NOISE);
        memset(plain + NOISE, 'x', RUN);
        make_noise(tail, TAIL);
        memset(tail, 0xff, 64); /* no block begins so */
        CHECK_EQ(deflateInit2(&z, 1, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = plain;
        z.avail_in = (uInt)len;
        z.next_out = packed;
        z.avail_out = (uInt)room;
        CHECK_EQ(deflate(&z, Z_FULL_FLUSH), Z_OK);
        CHECK(z.avail_in == 0 && z.avail_out > 0);
        CHECK_EQ(write(fd, packed, room - z.avail_out), (ssize_t)(room - z.avail_out));
        CHECK_EQ(write(fd, tail, TAIL), TAIL);
        (void)deflateEnd(&z);
        free(plain);
        free(packed);
        free(tail);
}

/* What cannot be gone on with is forgotten wholly: nothing of it stands where the new image has holes. */
static void test_damaged(void) {
        int received = make_file(), output = make_file();
        const PipelineConfig config = { .output_fd = output, .received_fd = received, .max_size = GIB };
        _cleanup_(pipeline_freep) Pipeline *p = NULL;
        static uint8_t zeros[MIB], back[MIB];
        PipelineResult result;
        uint64_t len = 1;

        make_damaged(received);
        CHECK_EQ(pipeline_resume(&config, &p, &len, NULL), 0);
        CHECK_EQ(len, 0);
        CHECK_EQ(file_size(output), 0);
        CHECK_EQ(file_size(received), 0);
        CHECK_EQ(pipeline_feed(p, "an image", 8, NULL), 0);
        for (size_t i = 0; i < RUN / MIB; i++)
                CHECK_EQ(pipeline_feed(p, zeros, sizeof(zeros), NULL), 0);
        CHECK_EQ(pipeline_feed(p, "its end", 7, NULL), 0);
        CHECK_EQ(pipeline_finish(p, &result, NULL), 0);
        CHECK_EQ(result.size, 8 + RUN + 7);
        for (size_t i = 0; i < RUN / MIB; i++) {
                CHECK_EQ(pread(output, back, MIB, (off_t)(8 + i * MIB)), MIB);
                CHECK(is_zero(back, MIB));
        }
        (void)close(received);
        (void)close(output);
}

int main(void) {
        for (int i = 0; i < ROUNDS; i++)
                test_damaged();
        return 0;
}
