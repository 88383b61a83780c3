/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "progress.h"
#include "reply.h"
#include "util/clock.h"
#include "util/string-util.h"

#define PAUSE_USEC (USEC_PER_SEC / 4)

/* Half of what it was before, half of what it is now: neither jumps nor lags by more than a second. */
static void measure(Progress *p, uint64_t elapsed) {
        uint64_t gained = p->done > p->told_done ? p->done - p->told_done : 0;
        uint64_t speed = (uint64_t)((double)gained * (double)USEC_PER_SEC / (double)elapsed);

        p->speed = p->speed > 0 ? p->speed / 2 + speed / 2 : speed;
}

bool progress_take(Progress *p, uint64_t now, const char *phase, uint64_t done, uint64_t total) {
        bool changed = p->told == 0 || !streq_ptr(p->phase, phase);

        p->done = done;
        p->total = total;
        if (!changed && now - p->told < PAUSE_USEC)
                return false;
        if (changed)
                p->speed = 0;
        else
                measure(p, now - p->told);
        p->phase = phase;
        p->told = now;
        p->told_done = done;
        return true;
}

bool progress_is_due(const Progress *p) {
        return now_usec() - p->told >= PAUSE_USEC;
}

void progress_tell(Progress *p, const char *phase, uint64_t done, uint64_t total) {
        JsonWriter *w;

        if (!progress_take(p, now_usec(), phase, done, total))
                return;
        w = reply_begin(phase);
        if (!w)
                return;
        json_put_unsigned(w, "done", done);
        json_put_unsigned(w, "total", total);
        json_put_unsigned(w, "speed", p->speed);
        (void)reply_end(w);
}

void progress_begin(Progress *p, const char *phase, uint64_t total) {
        *p = (Progress){};
        progress_tell(p, phase, 0, total);
}

void progress_add(Progress *p, uint64_t n) {
        progress_tell(p, p->phase, p->done + n, p->total);
}
