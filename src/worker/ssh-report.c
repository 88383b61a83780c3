/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "ssh-report.h"
#include "ssh-session.h"
#include "util/fd-util.h"

#define TELL_USEC (250 * USEC_PER_MSEC)

int ssh_report_line(JsonWriter *w) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = json_writer_finish(w, &text, &len);
        json_writer_free(w);
        if (r < 0)
                return r;
        text[len] = '\n'; /* in place of the NUL: one write for one line */
        return write_all(STDOUT_FILENO, text, len + 1);
}

static JsonWriter *begin(const char *phase) {
        JsonWriter *w;

        if (json_writer_new(0, &w) < 0)
                return NULL;
        json_write_object(w);
        json_put_string(w, "phase", phase);
        return w;
}

/* A reader that is gone is noticed by the result's being lost; without memory there is none either. */
static void end(JsonWriter *w) {
        json_write_end(w);
        (void)ssh_report_line(w);
}

void ssh_report_phase(const char *phase) {
        JsonWriter *w = begin(phase);

        if (w)
                end(w);
}

void ssh_report_ready(const char *host_key, const char *cloud_init) {
        JsonWriter *w = begin("ready");

        if (!w)
                return;
        json_put_string(w, "host-key", host_key);
        json_put_string(w, "cloud-init", cloud_init);
        end(w);
}

void ssh_report_step(size_t step, size_t n_steps, const ProvisionStep *s) {
        JsonWriter *w = begin("step");

        if (!w)
                return;
        json_put_unsigned(w, "step", step);
        json_put_unsigned(w, "of", n_steps);
        json_put_string(w, "kind", step_kind_to_string(s->kind));
        json_put_string(w, "name", s->name ?: s->destination);
        end(w);
}

void ssh_report_step_done(size_t step, uint64_t usec) {
        JsonWriter *w = begin("step-done");

        if (!w)
                return;
        json_put_unsigned(w, "step", step);
        json_put_unsigned(w, "usec", usec);
        end(w);
}

void ssh_meter_add(SshMeter *m, uint64_t bytes) {
        uint64_t now = ssh_now(), elapsed;
        JsonWriter *w;

        if (m->started == 0)
                m->started = now;
        m->done += bytes;
        if (m->told != 0 && now - m->told < TELL_USEC)
                return;
        m->told = now;
        w = begin(m->phase);
        if (!w)
                return;
        elapsed = MAX(now - m->started, UINT64_C(1));
        json_put_unsigned(w, "done", m->done);
        json_put_unsigned(w, "total", m->total);
        json_put_unsigned(w, "speed", (uint64_t)((double)m->done * USEC_PER_SEC / (double)elapsed));
        end(w);
}
