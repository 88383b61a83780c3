/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "client/errors.h"
#include "ctl.h"
#include "term.h"

static void print_hint(const char *hint) {
        (void)fprintf(stderr, "%sHint: ", term_style(stderr, STYLE_DIM));
        term_print(stderr, hint);
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
}

/* What vmctl failed to do names its object in quotes. A message that names it too is a sentence of its own,
 * which would say that for a second time. */
static bool speaks_for_itself(const char *message, const char *what) {
        const char *begin = strchr(what, '\''), *end = strrchr(what, '\'');

        return begin != end && memmem(message, strlen(message), begin, (size_t)(end - begin) + 1);
}

/* The last lines of a guest's output may be part of it. */
static void print_message(const char *message) {
        for (const char *line = message; line;) {
                size_t len = strcspn(line, "\n");
                _cleanup_free_ char *copy = strndup(line, len);

                if (copy)
                        term_print(stderr, copy);
                line = line[len] == '\n' ? line + len + 1 : NULL;
                if (line)
                        (void)fputs("\n", stderr);
        }
}

int ctl_report(const Ctl *c, const Error *e, int r, const char *format, ...) {
        const ErrorSource source = { .host = c->host };
        _cleanup_error_ Error *own = NULL;
        _cleanup_free_ char *what = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&what, format, ap) < 0)
                what = NULL;
        va_end(ap);

        if (!e)
                (void)client_error_set(&own, &source, NULL, NULL, r);
        e = e ?: own;
        (void)fprintf(stderr, "%svmctl: ", term_style(stderr, STYLE_RED));
        if (!what || !speaks_for_itself(error_message(e), what)) {
                term_print(stderr, what ?: "Failed");
                (void)fputs(": ", stderr);
        }
        print_message(error_message(e));
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
        if (error_hint(e))
                print_hint(error_hint(e));
        if (error_code_errno(error_code(e)) == ETIMEDOUT)
                return EXIT_TIMED_OUT;
        return r < 0 ? r : -EIO;
}

int ctl_complain(const char *hint, const char *format, ...) {
        _cleanup_free_ char *message = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&message, format, ap) < 0)
                message = NULL;
        va_end(ap);

        (void)fprintf(stderr, "%svmctl: ", term_style(stderr, STYLE_RED));
        term_print(stderr, message ?: strerror(ENOMEM));
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
        if (hint)
                print_hint(hint);
        return -EIO;
}

void ctl_print_warning(const char *warning, const char *name) {
        (void)fprintf(stderr, "%sWarning: ", term_style(stderr, STYLE_YELLOW));
        if (name)
                (void)fprintf(stderr, "VM '%s': ", name);
        term_print(stderr, warning);
        (void)fprintf(stderr, "%s\n", term_normal(stderr));
}

void ctl_print_warnings(Ctl *c, const char *path, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_strv_ char **warnings = NULL;

        if (client_get(c->client, path, VMCTL_VM, "Warnings", "as", &m, NULL) < 0 ||
                        sd_bus_message_read_strv(m, &warnings) < 0)
                return;
        STRV_FOREACH(w, warnings)
                ctl_print_warning(*w, name);
}

int ctl_connect(Ctl *c) {
        _cleanup_error_ Error *e = NULL;

        if (c->client || client_new(c->choice, c->host, c->ask_password, &c->client, &e) >= 0)
                return 0;
        return ctl_complain(error_hint(e), "%s", error_message(e));
}

void ctl_done(Ctl *c) {
        client_free(c->client);
        *c = (Ctl){};
}

int ctl_new_call(Ctl *c, const char *path, const char *interface, const char *member, sd_bus_message **ret) {
        int r = ctl_connect(c);

        if (r != 0)
                return r;
        r = client_new_call(c->client, path, interface, member, ret);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to make a call") : 0;
}

int ctl_step(Ctl *c, uint64_t deadline, Progress *progress) {
        uint64_t now, until;
        int r;

        r = sd_bus_process(client_bus(c->client), NULL);
        if (r != 0)
                return r < 0 ? r : 0;
        if (progress)
                progress_update(progress);
        now = now_monotonic();
        if (now >= deadline)
                return -ETIMEDOUT;
        until = progress ? MIN(deadline, progress_next(progress)) : deadline;
        r = sd_bus_wait(client_bus(c->client), until == UINT64_MAX ? UINT64_MAX : MAX(until, now) - now);
        return r < 0 && r != -EINTR ? r : 0;
}
