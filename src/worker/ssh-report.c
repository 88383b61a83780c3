/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ssh-report.h"
#include "reply.h"

void ssh_report_phase(const char *phase) {
        JsonWriter *w = reply_begin(phase);

        if (w)
                (void)reply_end(w);
}

void ssh_report_ready(const char *host_key, const char *cloud_init) {
        JsonWriter *w = reply_begin("ready");

        if (!w)
                return;
        json_put_string(w, "host-key", host_key);
        json_put_string(w, "cloud-init", cloud_init);
        (void)reply_end(w);
}

void ssh_report_step(size_t step, size_t n_steps, const ProvisionStep *s) {
        JsonWriter *w = reply_begin("step");

        if (!w)
                return;
        json_put_unsigned(w, "step", step);
        json_put_unsigned(w, "of", n_steps);
        json_put_string(w, "kind", step_kind_to_string(s->kind));
        json_put_string(w, "name", s->name ?: s->destination);
        (void)reply_end(w);
}

void ssh_report_step_done(size_t step, uint64_t usec) {
        JsonWriter *w = reply_begin("step-done");

        if (!w)
                return;
        json_put_unsigned(w, "step", step);
        json_put_unsigned(w, "usec", usec);
        (void)reply_end(w);
}
