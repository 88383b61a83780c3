/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <time.h>

#include "stats.h"
#include "util/test.h"

double now_ms(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (double)ts.tv_sec * 1e3 + (double)ts.tv_nsec / 1e6;
}

void series_add(Series *s, double ms) {
        CHECK(s->n < SERIES_MAX);
        s->ms[s->n++] = ms;
}

static int compare(const void *a, const void *b) {
        double x = *(const double *)a, y = *(const double *)b;

        return x < y ? -1 : x > y;
}

static double quantile(const Series *s, double q) {
        Series sorted = *s;

        CHECK(s->n > 0);
        qsort(sorted.ms, sorted.n, sizeof(double), compare);
        return sorted.ms[(size_t)(q * (double)(sorted.n - 1) + 0.5)];
}

void table_heading(void) {
        printf("| %-28s | %4s | %7s | %7s | %7s | %8s | %8s | %8s | %6s | %6s |\n", "ms", "runs", "min",
                        "median", "p90", "bare min", "b median", "b p90", "ratio", "pairs");
        printf("|:-----------------------------|-----:|--------:|--------:|--------:"
               "|---------:|---------:|---------:|-------:|-------:|\n");
        (void)fflush(stdout);
}

void table_row(const char *what, const Series *ours, const Series *bare) {
        printf("| %-28s | %4zu | %7.2f | %7.2f | %7.2f |", what, ours->n, quantile(ours, 0),
                        quantile(ours, 0.5), quantile(ours, 0.9));
        if (bare) {
                Series ratios = {};

                CHECK_EQ(bare->n, ours->n);
                for (size_t i = 0; i < ours->n; i++)
                        series_add(&ratios, ours->ms[i] / bare->ms[i]);
                printf(" %8.2f | %8.2f | %8.2f | %6.2f | %6.2f |\n", quantile(bare, 0), quantile(bare, 0.5),
                                quantile(bare, 0.9), quantile(ours, 0.5) / quantile(bare, 0.5),
                                quantile(&ratios, 0.5));
        } else
                printf(" %8s | %8s | %8s | %6s | %6s |\n", "", "", "", "", "");
        (void)fflush(stdout);
}
