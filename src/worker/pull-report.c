/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "pull-report.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define INTERVAL (USEC_PER_SEC / 4)

static uint64_t now_usec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

/* Half of what it was before, half of what it is now: neither jumps nor lags by more than a second. */
static void measure(PullReport *r, uint64_t now, uint64_t done) {
        uint64_t gained = done > r->last_done ? done - r->last_done : 0;
        uint64_t speed;

        if (now <= r->last)
                return;
        speed = (uint64_t)((double)gained * (double)USEC_PER_SEC / (double)(now - r->last));
        r->speed = r->speed > 0 ? r->speed / 2 + speed / 2 : speed;
}

bool pull_report_is_due(const PullReport *r) {
        return now_usec() - r->last >= INTERVAL;
}

void pull_report(PullReport *r, const char *phase, uint64_t done, uint64_t total) {
        uint64_t now = now_usec();
        bool changed = !streq_ptr(r->phase, phase);
        char line[256];
        int n;

        if (!changed && now - r->last < INTERVAL)
                return;
        if (changed)
                r->speed = 0;
        else
                measure(r, now, done);
        r->phase = phase;
        r->last = now;
        r->last_done = done;
        n = snprintf(line, sizeof(line),
                        "{\"phase\":\"%s\",\"done\":%" PRIu64 ",\"total\":%" PRIu64 ",\"speed\":%" PRIu64
                        "}\n",
                        phase, done, total, r->speed);
        (void)write_all(STDOUT_FILENO, line, (size_t)n);
}
