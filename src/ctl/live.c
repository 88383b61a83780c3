/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "live.h"
#include "term.h"
#include "text.h"
#include "util/string-util.h"

#define ROWS_DEFAULT 24
#define COLUMNS_MIN 20

struct Live {
        LiveLine *lines;
        size_t n, n_drawn;
        bool quiet, redraws;
        sd_event_source *timer;
};

LiveLine *live_line(Live *l, size_t i) {
        assert(i < l->n);
        return &l->lines[i];
}

static size_t rows(void) {
        struct winsize ws;

        return ioctl(STDERR_FILENO, TIOCGWINSZ, &ws) >= 0 && ws.ws_row > 0 ? ws.ws_row : ROWS_DEFAULT;
}

static int name_width(const Live *l) {
        size_t width = 0;

        for (size_t i = 0; i < l->n; i++)
                width = MAX(width, l->lines[i].name ? strlen(l->lines[i].name) : 0);
        return (int)width;
}

static char *line_text(const LiveLine *line, size_t columns) {
        uint64_t seconds = (now_monotonic() - line->since) / USEC_PER_SEC;
        char *text;

        if (!line->text)
                return job_line_text(&line->job, columns);
        text = seconds == 0 ? strf("%s…", line->text) : strf("%s… %" PRIu64 " s", line->text, seconds);
        if (text && text_width(text) > columns)
                text[MIN(strlen(text), columns)] = '\0';
        return text;
}

static void draw_line(const Live *l, const LiveLine *line, size_t columns) {
        int width = MIN(name_width(l), (int)columns / 2);
        _cleanup_free_ char *text = line_text(line, columns - MIN(columns, (size_t)width + 2));

        (void)fprintf(stderr, "%s%s%-*.*s%s  ", l->n_drawn > 0 ? "\n" : "", term_style(stderr, STYLE_BOLD),
                        width, width, line->name, term_normal(stderr));
        (void)fputs(text ?: "", stderr);
}

void live_draw(Live *l) {
        size_t columns, room, more = 0;

        if (!l->redraws || l->n_drawn > 0)
                return;
        columns = MAX(term_columns_of(stderr), (size_t)COLUMNS_MIN) - 1; /* the last one might wrap */
        room = MAX(rows(), (size_t)4) - 2;
        for (size_t i = 0; i < l->n; i++) {
                if (!l->lines[i].active)
                        continue;
                if (l->n_drawn >= room) {
                        more++;
                        continue;
                }
                draw_line(l, &l->lines[i], columns);
                l->n_drawn++;
        }
        if (more > 0) {
                (void)fprintf(stderr, "\n… and %zu more", more);
                l->n_drawn++;
        }
        (void)fflush(stderr);
}

void live_hide(Live *l) {
        for (; l->n_drawn > 0; l->n_drawn--)
                (void)fputs(l->n_drawn > 1 ? "\r\033[K\033[A" : "\r\033[K", stderr);
        (void)fflush(stderr);
}

static void redraw(Live *l) {
        live_hide(l);
        live_draw(l);
}

static int on_second(sd_event_source *s, uint64_t usec, void *userdata) {
        Live *l = userdata;

        if (l->n_drawn > 0)
                redraw(l);
        return sd_event_source_set_time_relative(s, USEC_PER_SEC);
}

int live_new(sd_event *event, size_t n, bool quiet, Live **ret) {
        _cleanup_(live_freep) Live *l = malloc(sizeof(Live));
        int r;

        if (!l)
                return -ENOMEM;
        *l = (Live){ .n = n, .quiet = quiet, .redraws = !quiet && term_can_redraw(stderr) };
        l->lines = calloc(n + 1, sizeof(LiveLine));
        if (!l->lines)
                return -ENOMEM;
        if (l->redraws) {
                r = sd_event_add_time_relative(event, &l->timer, CLOCK_MONOTONIC, USEC_PER_SEC,
                                100 * USEC_PER_MSEC, on_second, l);
                if (r >= 0)
                        r = sd_event_source_set_enabled(l->timer, SD_EVENT_ON);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(l);
        return 0;
}

Live *live_free(Live *l) {
        if (!l)
                return NULL;
        live_hide(l);
        for (size_t i = 0; l->lines && i < l->n; i++) {
                free(l->lines[i].job.phase);
                free(l->lines[i].job.shown_phase);
                free(l->lines[i].text);
                free(l->lines[i].shown);
        }
        free(l->lines);
        sd_event_source_disable_unref(l->timer);
        free(l);
        return NULL;
}

/* Once for each phase. */
static void tell(LiveLine *line) {
        const char *phase = line->text ?: line->job.phase;
        _cleanup_free_ char *safe = NULL;

        if (isempty(phase) || streq_ptr(phase, line->shown) || free_and_strdup(&line->shown, phase) < 0)
                return;
        safe = string_escape(phase, strlen(phase), SIZE_MAX / 8);
        if (safe)
                (void)fprintf(stderr, "%s: %c%s\n", line->name, toupper((unsigned char)*safe), safe + 1);
}

void live_show(Live *l, LiveLine *line) {
        line->active = true;
        if (l->redraws)
                redraw(l);
        else if (!l->quiet)
                tell(line);
}

void live_phase(Live *l, LiveLine *line, const char *text) {
        char *safe = text ? string_escape(text, strlen(text), SIZE_MAX / 8) : NULL;

        if (safe)
                safe[0] = (char)toupper((unsigned char)safe[0]);
        if (!streq_ptr(line->text, safe))
                line->since = now_monotonic();
        free(line->text);
        line->text = safe;
        live_show(l, line);
}

void live_end(Live *l, LiveLine *line, const char *text) {
        line->active = false;
        if (l->quiet)
                return;
        live_hide(l);
        if (text)
                (void)fprintf(stderr, "%s: %s\n", line->name, text);
        live_draw(l);
}
