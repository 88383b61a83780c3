/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"
#include "util/test.h"

#define START (1000 * USEC_PER_SEC)
#define MSEC(n) (START + (n)*USEC_PER_MSEC)

static void test_at_most_four_a_second(void) {
        Progress p = {};
        unsigned n = 0;

        for (uint64_t i = 0; i < 1000; i++)
                n += progress_take(&p, MSEC(i), "reading", i * KIB, 0);
        CHECK_EQ(n, 4);
        CHECK_EQ(p.done, 999 * KIB); /* is counted where nothing is told, too */
        CHECK(progress_take(&p, MSEC(1000), "reading", 1000 * KIB, 0));
}

static void test_phases_at_once(void) {
        Progress p = {};
        char reading[] = "reading";

        CHECK(progress_take(&p, MSEC(0), "reading", 0, 10));
        CHECK(!progress_take(&p, MSEC(0), reading, 0, 10)); /* the same word from elsewhere */
        CHECK(progress_take(&p, MSEC(1), "writing", 0, 10));
        CHECK(!progress_take(&p, MSEC(250), "writing", 5, 10));
        CHECK(progress_take(&p, MSEC(251), "writing", 6, 10));
        CHECK_STREQ(p.phase, "writing");
        CHECK_EQ(p.total, 10);
}

static void test_first_piece(void) {
        Progress p = { .phase = "reading", .total = 10 };

        CHECK(progress_take(&p, MSEC(0), "reading", 5, 10));
        CHECK_EQ(p.speed, 0);
        CHECK(!progress_take(&p, MSEC(1), "reading", 6, 10));
}

static void test_speed(void) {
        Progress p = {};

        CHECK(progress_take(&p, MSEC(0), "reading", 7 * MIB, 0)); /* resumed: these are not its doing */
        CHECK_EQ(p.speed, 0);
        CHECK(progress_take(&p, MSEC(500), "reading", 8 * MIB, 0));
        CHECK_EQ(p.speed, 2 * MIB);
        CHECK(progress_take(&p, MSEC(1000), "reading", 8 * MIB, 0));
        CHECK_EQ(p.speed, 1 * MIB);
        CHECK(progress_take(&p, MSEC(1500), "reading", 1 * MIB, 0)); /* it began anew */
        CHECK_EQ(p.speed, MIB / 2);
        CHECK(progress_take(&p, MSEC(1600), "writing", 8 * MIB, 0));
        CHECK_EQ(p.speed, 0);
}

int main(void) {
        test_at_most_four_a_second();
        test_phases_at_once();
        test_first_piece();
        test_speed();
        return EXIT_SUCCESS;
}
