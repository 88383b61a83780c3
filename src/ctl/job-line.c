/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <ctype.h>
#include <stdio.h>

#include "job-line.h"
#include "term.h"
#include "text.h"
#include "util/string-util.h"

#define GAP 2
#define BAR_AROUND (2 + GAP) /* its ends, and a gap */

/* Longer than this is not worth the guess. */
#define LEFT_MAX_SECONDS (100 * 3600)

static unsigned percent(const JobLine *l) {
        return (unsigned)((double)MIN(l->done, l->total) * 100 / (double)l->total);
}

/* "3.2M of 1.4G", or what is known of that; NULL where nothing is. */
static char *amount_text(const JobLine *l) {
        _cleanup_free_ char *done = text_size(l->done), *total = text_size(l->total);

        if (!done || !total || (l->done == 0 && l->total == 0))
                return NULL;
        return l->total > 0 ? strf("%s of %s", done, total) : strf("%s", done);
}

static char *speed_text(const JobLine *l) {
        _cleanup_free_ char *speed = text_size(l->speed);

        return l->speed > 0 && speed ? strf("%s/s", speed) : NULL;
}

static char *left_text(const JobLine *l) {
        uint64_t seconds = l->speed > 0 && l->total > l->done ? (l->total - l->done) / l->speed : 0;
        _cleanup_free_ char *left = text_duration(seconds * USEC_PER_SEC);

        return seconds > 0 && seconds <= LEFT_MAX_SECONDS && left ? strf("%s left", left) : NULL;
}

static char *bar_text(const JobLine *l, size_t width) {
        size_t full = width * percent(l) / 100;
        char *bar = malloc(width + 3);

        if (!bar)
                return NULL;
        bar[0] = '[';
        memset(bar + 1, '=', full);
        memset(bar + 1 + full, ' ', width - full);
        if (full < width)
                bar[1 + full] = '>';
        bar[width + 1] = ']';
        bar[width + 2] = '\0';
        return bar;
}

/* Appends the piece, with a gap of two, if there is room. */
static void append(char **text, const char *piece, size_t columns) {
        char *longer;

        if (!*text || !piece || text_width(*text) + GAP + text_width(piece) > columns)
                return;
        longer = strf("%s  %s", *text, piece);
        if (longer) {
                free(*text);
                *text = longer;
        }
}

static char *title_text(const char *phase) {
        char *title = string_escape(phase, strlen(phase), SIZE_MAX / 8);

        if (title)
                title[0] = (char)toupper((unsigned char)title[0]);
        return title;
}

/* What comes first is kept longest where there is little room. "" when nothing is known. */
static char *numbers_text(const JobLine *l, size_t room) {
        _cleanup_free_ char *amount = amount_text(l), *speed = speed_text(l), *left = left_text(l);
        char *text = NULL;

        text = l->total > 0 ? strf("%3u%%", percent(l)) : strdup(amount ?: "");
        if (l->total > 0)
                append(&text, amount, room);
        append(&text, speed, room);
        append(&text, left, room);
        return text;
}

/* Numbers come and go beside it, so its width is the terminal's alone: else it would jump. */
static size_t bar_width(const JobLine *l, size_t columns) {
        return l->total == 0 ? 0 : columns >= 99 ? 30 : columns >= 79 ? 20 : 0;
}

char *job_line_text(const JobLine *l, size_t columns) {
        _cleanup_free_ char *title = title_text(isempty(l->phase) ? "waiting" : l->phase), *numbers = NULL,
                            *bar = NULL;
        size_t width = bar_width(l, columns), used;

        if (!title)
                return NULL;
        used = text_width(title) + GAP + (width > 0 ? width + BAR_AROUND : 0);
        numbers = numbers_text(l, columns - MIN(columns, used));
        if (!numbers)
                return NULL;
        if (used + text_width(numbers) > columns)
                return strndup(title, columns);
        if (*numbers == '\0')
                return strf("%s…", title);
        if (width > 0)
                bar = bar_text(l, width);
        return bar ? strf("%s  %s  %s", title, bar, numbers) : strf("%s  %s", title, numbers);
}

int job_line_take(JobLine *l, const ClientJob *job) {
        ClientJobProgress p = client_job_progress(job);

        l->done = p.done;
        l->total = p.total;
        l->speed = p.speed;
        return free_and_strdup(&l->phase, p.phase);
}

static void show_phase(JobLine *l) {
        _cleanup_free_ char *title = title_text(l->phase), *total = text_size(l->total);

        if (streq_ptr(l->phase, l->shown_phase) || free_and_strdup(&l->shown_phase, l->phase) < 0)
                return;
        (void)fprintf(stderr, l->total > 0 ? "%s (%s)\n" : "%s\n", title ?: "", total ?: "");
}

void job_line_show(JobLine *l) {
        _cleanup_free_ char *text = NULL;

        if (l->quiet)
                return;
        if (!term_can_redraw(stderr)) {
                if (!isempty(l->phase))
                        show_phase(l);
                return;
        }
        text = job_line_text(l, term_columns_of(stderr) - 1); /* in the last column it might wrap */
        if (!text)
                return;
        (void)fprintf(stderr, "\r\033[K%s", text);
        (void)fflush(stderr);
        l->drawn = true;
}

void job_line_clear(JobLine *l) {
        if (l->drawn)
                (void)fputs("\r\033[K", stderr);
        l->drawn = false;
}

void job_line_done(JobLine *l) {
        job_line_clear(l);
        free(l->phase);
        free(l->shown_phase);
        *l = (JobLine){};
}
