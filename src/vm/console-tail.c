/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/epoll.h>
#include <unistd.h>

#include "console-open.h"
#include "console-tail.h"
#include "manager.h"
#include "util/fd-util.h"

#define TAIL_MAX (8 * KIB) /* a line may be of any length: then its end is what counts */
#define TAIL_TIMEOUT (2 * USEC_PER_SEC)
#define LINE_SHOWN_MAX 200

struct ConsoleTail {
        console_tail_t done;
        void *userdata;
        sd_event_source *input, *deadline;
        int fd;
        char text[TAIL_MAX];
        size_t len;
};

ConsoleTail *console_tail_free(ConsoleTail *t) {
        if (!t)
                return NULL;
        sd_event_source_disable_unref(t->input);
        sd_event_source_disable_unref(t->deadline);
        safe_close(t->fd);
        free(t);
        return NULL;
}

static void finish(ConsoleTail *t) {
        _cleanup_free_ char *shown = strdup("");
        char *save = NULL;

        t->input = sd_event_source_disable_unref(t->input);
        t->deadline = sd_event_source_disable_unref(t->deadline);
        t->text[t->len] = '\0';
        for (char *line = strtok_r(t->text, "\r\n", &save); line && shown;
                        line = strtok_r(NULL, "\r\n", &save)) {
                _cleanup_free_ char *escaped = string_escape(line, strlen(line), LINE_SHOWN_MAX);
                char *longer = escaped ? strf("%s\n  %s", shown, escaped) : NULL;

                free(shown);
                shown = longer;
        }
        t->done(t->userdata, shown ?: "");
}

static int on_input(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ConsoleTail *t = userdata;
        ssize_t n;

        if (t->len == TAIL_MAX - 1) { /* forget the older half */
                t->len /= 2;
                memmove(t->text, t->text + TAIL_MAX - 1 - t->len, t->len);
        }
        n = read(fd, t->text + t->len, TAIL_MAX - 1 - t->len);
        if (n > 0)
                t->len += (size_t)n;
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
                finish(t);
        return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        finish(userdata);
        return 0;
}

int console_tail_new(Vm *vm, unsigned lines, console_tail_t done, void *userdata, ConsoleTail **ret) {
        const LogRequest request = { .tail = lines, .flags = LOG_REQUEST_THIS_RUN };
        _cleanup_(console_tail_freep) ConsoleTail *t = malloc(sizeof(ConsoleTail));
        sd_event *event = vm->manager->core->event;
        int r;

        if (!t)
                return -ENOMEM;
        *t = (ConsoleTail){ .done = done, .userdata = userdata };
        t->fd = console_open_log(vm, vm->record.owner, &request, NULL);
        if (t->fd < 0)
                return t->fd;
        r = fd_set_nonblock(t->fd, true);
        if (r >= 0)
                r = sd_event_add_io(event, &t->input, t->fd, EPOLLIN, on_input, t);
        if (r >= 0)
                r = sd_event_add_time_relative(
                                event, &t->deadline, CLOCK_MONOTONIC, TAIL_TIMEOUT, 0, on_deadline, t);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}
