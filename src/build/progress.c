/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>
#include <unistd.h>

#include "progress.h"
#include "util/fd-util.h"
#include "json/json.h"

#define INTERVAL (250 * USEC_PER_MSEC)

static uint64_t now_usec(void) {
        struct timespec t;

        (void)clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * USEC_PER_SEC + (uint64_t)t.tv_nsec / NSEC_PER_USEC;
}

static void tell(const Progress *p) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        uint64_t elapsed = p->told - p->started;
        _cleanup_free_ char *text = NULL;
        size_t len;

        if (json_writer_new(0, &w) < 0)
                return;
        json_write_object(w);
        json_put_string(w, "phase", p->phase);
        json_put_unsigned(w, "done", p->done);
        json_put_unsigned(w, "total", p->total);
        json_put_unsigned(w, "speed", elapsed > 0 ? (uint64_t)((double)p->done * 1e6 / (double)elapsed) : 0);
        json_write_end(w);
        if (json_writer_finish(w, &text, &len) < 0)
                return;
        text[len] = '\n'; /* in place of the NUL, so that a line is one write */
        (void)write_all(STDOUT_FILENO, text, len + 1);
}

void progress_begin(Progress *p, const char *phase, uint64_t total) {
        *p = (Progress){ .phase = phase, .total = total, .started = now_usec() };
        p->told = p->started;
        tell(p);
}

void progress_add(Progress *p, uint64_t n) {
        uint64_t now = now_usec();

        p->done += n;
        if (now - p->told < INTERVAL)
                return;
        p->told = now;
        tell(p);
}
