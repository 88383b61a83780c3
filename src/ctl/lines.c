/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "lines.h"
#include "sanitize.h"
#include "util/fd-util.h"

struct Lines {
        int fd;
        sd_event_source *source;
        lines_t handler;
        void *userdata;
        Sanitizer sanitizer;
        char line[LINES_MAX];
        size_t n;
};

static int end_line(Lines *l) {
        _cleanup_free_ char *text = NULL;
        size_t len;
        FILE *f;

        if (l->n == 0)
                return 0;
        f = open_memstream(&text, &len);
        if (!f)
                return -ENOMEM;
        sanitize_write(&l->sanitizer, f, l->line, l->n);
        l->n = 0;
        if (fclose(f) != 0)
                return -ENOMEM;
        if (len > 0)
                l->handler(l->userdata, text);
        return 0;
}

/* Progress is drawn over itself by '\r' alone; each such state is a line here. */
static int take(Lines *l, const char *data, size_t n) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < n; i++)
                if (data[i] == '\n' || data[i] == '\r')
                        r = end_line(l);
                else {
                        l->line[l->n++] = data[i];
                        if (l->n == sizeof(l->line))
                                r = end_line(l);
                }
        return r;
}

static int on_readable(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Lines *l = userdata;
        char data[4096];
        ssize_t n = read(l->fd, data, sizeof(data));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0)
                return take(l, data, (size_t)n);
        (void)end_line(l);
        l->source = sd_event_source_disable_unref(l->source);
        l->handler(l->userdata, NULL);
        return 0;
}

int lines_new(sd_event *event, int fd, lines_t handler, void *userdata, Lines **ret) {
        Lines *l = calloc(1, sizeof(Lines));
        int r;

        if (!l) {
                safe_close(fd);
                return -ENOMEM;
        }
        *l = (Lines){ .fd = fd, .handler = handler, .userdata = userdata, .sanitizer = { .plain = true } };
        r = fd_set_nonblock(fd, true);
        if (r >= 0)
                r = sd_event_add_io(event, &l->source, fd, EPOLLIN, on_readable, l);
        if (r < 0) {
                lines_free(l);
                return r;
        }
        *ret = l;
        return 0;
}

Lines *lines_free(Lines *l) {
        if (!l)
                return NULL;
        sd_event_source_disable_unref(l->source);
        safe_close(l->fd);
        free(l);
        return NULL;
}
