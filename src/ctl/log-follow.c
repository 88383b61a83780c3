/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "log-follow.h"

/* What is shown before others get their turn. */
#define PIECE (64 * KIB)

void log_follow_prepare(LogFollow *f) {
        _cleanup_error_ Error *error = NULL;

        f->log = LOG_READER_NONE;
        if (log_reader_open(f->ctl, f->path, &f->log, &error) >= 0)
                f->log.at = log_reader_size(&f->log);
}

/* Returns whether there may be more. */
static bool show_piece(LogFollow *f) {
        _cleanup_free_ char *data = malloc(PIECE);
        size_t len = 0;

        if (!data || log_reader_read(&f->log, data, PIECE, &len) < 0 || len == 0)
                return false;
        live_hide(f->live);
        log_lines_write(&f->lines, stdout, data, len);
        (void)fflush(stdout);
        live_draw(f->live);
        return true;
}

static int on_more(sd_event_source *s, void *userdata) {
        return show_piece(userdata) ? 0 : sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static int on_notice(sd_event_source *s, int fd, uint32_t events, void *userdata) {
        LogFollow *f = userdata;

        (void)log_reader_take_notices(&f->log);
        return sd_event_source_set_enabled(f->more, SD_EVENT_ON);
}

void log_follow_begin(LogFollow *f, sd_event *event) {
        _cleanup_error_ Error *error = NULL;
        int r = 0;

        if (f->more)
                return;
        if (f->log.fd < 0)
                r = log_reader_open(f->ctl, f->path, &f->log, &error);
        if (r >= 0)
                r = log_reader_watch(&f->log);
        if (r >= 0)
                r = sd_event_add_defer(event, &f->more, on_more, f);
        /* However much is printed: signals and the service come first. */
        if (r >= 0)
                r = sd_event_source_set_priority(f->more, SD_EVENT_PRIORITY_IDLE);
        if (r >= 0)
                r = sd_event_source_set_enabled(f->more, SD_EVENT_ON);
        if (r >= 0)
                (void)sd_event_add_io(event, &f->notices, f->log.notices, EPOLLIN, on_notice, f);
}

void log_follow_end(LogFollow *f) {
        f->notices = sd_event_source_disable_unref(f->notices);
        f->more = sd_event_source_disable_unref(f->more);
        if (f->log.fd >= 0) {
                off_t end = log_reader_size(&f->log);

                while (f->log.at < end && show_piece(f))
                        ;
                live_hide(f->live);
                log_lines_end(&f->lines, stdout);
                (void)fflush(stdout);
                live_draw(f->live);
        }
        log_reader_done(&f->log);
}
