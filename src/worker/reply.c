/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>
#include <unistd.h>

#include "reply.h"
#include "util/fd-util.h"
#include "util/string-util.h"

#define PAUSE_MSEC 250

static int64_t now_msec(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts);
        return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

/* One write(), so that a line is whole or not there when the worker is killed. */
static int write_line(JsonWriter *w) {
        _cleanup_free_ char *text = NULL, *line = NULL;
        size_t len;
        int r;

        r = json_writer_finish(w, &text, &len);
        if (r < 0)
                return r;
        line = strf("%s\n", text);
        return line ? write_all(STDOUT_FILENO, line, len + 1) : -ENOMEM;
}

void progress_tell(Progress *p, const char *phase, uint64_t done, uint64_t total) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        bool changed = !p->phase || !streq(p->phase, phase);
        int64_t now = now_msec();

        if (!changed && now - p->told < PAUSE_MSEC)
                return;
        if (changed)
                p->begun = now;
        p->phase = phase;
        p->told = now;
        if (json_writer_new(0, &w) < 0)
                return;
        json_write_object(w);
        json_put_string(w, "phase", phase);
        json_put_unsigned(w, "done", done);
        json_put_unsigned(w, "total", total);
        json_put_unsigned(w, "speed",
                        now > p->begun ? (uint64_t)((double)done * 1000 / (double)(now - p->begun)) : 0);
        json_write_end(w);
        (void)write_line(w);
}

int reply_result(JsonWriter *w) {
        return write_line(w);
}

int reply_error(const Error *error) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "error", error_code_name(error ? error_code(error) : ERROR_NO_MEMORY));
        json_put_string(w, "message", error ? error_message(error) : "Out of memory");
        json_write_end(w);
        return write_line(w);
}
