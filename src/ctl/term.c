/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "term.h"
#include "util/string-util.h"

#define LABEL_WIDTH 11

static const char *const sequences[] = {
        [STYLE_NONE] = "",
        [STYLE_BOLD] = "\033[1m",
        [STYLE_DIM] = "\033[2m",
        [STYLE_GREEN] = "\033[32m",
        [STYLE_YELLOW] = "\033[33m",
        [STYLE_RED] = "\033[1;31m",
};
_Static_assert(ELEMENTSOF(sequences) == _STYLE_MAX, "a style has no sequence");

bool term_is_tty(FILE *stream) {
        return isatty(fileno(stream));
}

/* TERM says that cursor movements and colours are understood. */
static bool term_is_capable(void) {
        const char *term = getenv("TERM");

        return !isempty(term) && !streq(term, "dumb");
}

bool term_can_redraw(FILE *stream) {
        return term_is_tty(stream) && term_is_capable();
}

bool term_has_colors(FILE *stream) {
        static int cached[2] = { -1, -1 }; /* asked for every cell of a table */
        int *known = &cached[stream == stderr];

        if (*known < 0)
                *known = term_can_redraw(stream) && isempty(getenv("NO_COLOR"));
        return *known;
}

const char *term_style(FILE *stream, Style style) {
        return term_has_colors(stream) ? sequences[style] : "";
}

const char *term_normal(FILE *stream) {
        return term_has_colors(stream) ? "\033[0m" : "";
}

size_t term_columns_of(FILE *stream) {
        struct winsize ws;
        uint32_t columns;

        if (!term_is_tty(stream))
                return SIZE_MAX;
        if (!isempty(getenv("COLUMNS")) && parse_u32(getenv("COLUMNS"), &columns) >= 0 && columns > 0)
                return columns;
        if (ioctl(fileno(stream), TIOCGWINSZ, &ws) >= 0 && ws.ws_col > 0)
                return ws.ws_col;
        return 80;
}

Style style_of_state(const char *state) {
        static const struct {
                const char *state;
                Style style;
        } styles[] = {
                { "running", STYLE_GREEN },
                { "suspended", STYLE_YELLOW },
                { "starting", STYLE_YELLOW },
                { "stopping", STYLE_YELLOW },
                { "failed", STYLE_RED },
                { "broken", STYLE_RED },
        };

        for (size_t i = 0; i < ELEMENTSOF(styles); i++)
                if (streq(styles[i].state, state))
                        return styles[i].style;
        return STYLE_NONE;
}

void term_print(FILE *stream, const char *s) {
        _cleanup_free_ char *safe = string_escape(s, strlen(s), SIZE_MAX / 8);

        (void)fputs(safe ?: "?", stream);
}

void term_label(const char *label) {
        printf("%*s%s ", LABEL_WIDTH, label, *label ? ":" : " ");
}

static uint64_t now(clockid_t clock) {
        struct timespec ts;

        (void)clock_gettime(clock, &ts);
        return (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
}

uint64_t now_monotonic(void) {
        return now(CLOCK_MONOTONIC);
}

uint64_t now_realtime(void) {
        return now(CLOCK_REALTIME);
}

void progress_begin(Progress *p, const char *text) {
        *p = (Progress){ .text = term_can_redraw(stderr) ? text : NULL, .since = now_monotonic() };
}

void progress_update(Progress *p) {
        uint64_t seconds = (now_monotonic() - p->since) / USEC_PER_SEC;

        if (!p->text || seconds == 0)
                return;
        (void)fprintf(stderr, "\r\033[K%s%s %" PRIu64 "s%s", term_style(stderr, STYLE_DIM), p->text, seconds,
                        term_normal(stderr));
        (void)fflush(stderr);
        p->shown = true;
}

void progress_end(Progress *p) {
        if (p->shown)
                (void)fputs("\r\033[K", stderr);
        *p = (Progress){};
}

uint64_t progress_next(const Progress *p) {
        if (!p->text)
                return UINT64_MAX;
        return p->since + ((now_monotonic() - p->since) / USEC_PER_SEC + 1) * USEC_PER_SEC;
}
