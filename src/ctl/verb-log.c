/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "console-log.h"
#include "log-reader.h"
#include "sanitize.h"
#include "term.h"
#include "util/fd-util.h"
#include "verbs.h"

/* The service keeps a quarter of it. */
#define PROVISION_LOG_MAX (64 * MIB)
#define PROVISION_PIECE (16 * KIB)

#define CONSOLE_TEXT_MAX (256 * KIB) /* of some lines, which may be any length */
#define LOG_PATIENCE_MS 10000        /* for more of a log that is all there already */

int console_log_open(Ctl *c, const char *name, uint32_t tail, bool follow, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = client_vm_path(name);
        int r;

        if (!path)
                return -ENOMEM;
        r = client_new_call(c->client, path, VMCTL_VM, "OpenConsoleLog", &m);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && tail > 0)
                r = sd_bus_message_append(m, "{sv}", "tail", "u", tail);
        if (r >= 0 && follow)
                r = sd_bus_message_append(m, "{sv}", "follow", "b", true);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : client_call_fd(c->client, m, reterr);
}

/* As read(), and -ETIMEDOUT. */
static ssize_t read_within(int fd, void *data, size_t size, int timeout_ms) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        ssize_t n;
        int r;

        do
                r = poll(&p, 1, timeout_ms);
        while (r < 0 && errno == EINTR);
        if (r <= 0)
                return r < 0 ? -errno : -ETIMEDOUT;
        do
                n = read(fd, data, size);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : n;
}

int console_log_read(int fd, uint64_t usec, char **ret, size_t *ret_len) {
        _cleanup_free_ char *text = malloc(CONSOLE_TEXT_MAX + 1);
        uint64_t end = now_monotonic() + usec;
        size_t len = 0;
        ssize_t n = -ENOMEM;

        while (text &&
                        (n = len < CONSOLE_TEXT_MAX ? read_within(fd, text + len, CONSOLE_TEXT_MAX - len,
                                                                      (int)((end - MIN(now_monotonic(), end)) /
                                                                                      USEC_PER_MSEC))
                                                    : 0) > 0)
                len += (size_t)n;
        if (n < 0 && n != -ETIMEDOUT)
                return (int)n;
        text[len] = '\0';
        *ret = TAKE_PTR(text);
        *ret_len = len;
        return (int)n;
}

/* Copies to standard output, up to the end; harmless to a terminal unless raw. */
static int copy(int fd, bool raw, bool follow) {
        Sanitizer s = {};
        char data[16384];
        ssize_t n;

        while ((n = read_within(fd, data, sizeof(data), follow ? -1 : LOG_PATIENCE_MS)) > 0) {
                if (raw)
                        (void)fwrite(data, 1, (size_t)n, stdout);
                else
                        sanitize_write(&s, stdout, data, (size_t)n);
                (void)fflush(stdout);
        }
        if (!raw)
                sanitize_end(&s, stdout);
        (void)fflush(stdout);
        return (int)n;
}

/* What to show and how. */
typedef struct LogView {
        const char *name;
        uint32_t tail;
        bool console, provision, follow, raw;
} LogView;

static int show_console(Ctl *c, const LogView *v) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = console_log_open(c, v->name, v->tail, v->follow, &error);
        if (fd < 0)
                return ctl_report(c, error, fd, "Failed to open the console log of VM '%s'", v->name);
        r = copy(fd, v->raw, v->follow);
        if (r == -ETIMEDOUT)
                (void)error_set(&error, ERROR_CONSOLE_UNAVAILABLE, "The console of VM '%s' does not answer",
                                v->name);
        if (r == -ETIMEDOUT)
                return ctl_report(c, error, r, "Failed to read the console log of VM '%s'", v->name);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to read the console log of VM '%s'", v->name) : 0;
}

/* Where the last n lines begin. */
static size_t tail_start(const char *text, size_t len, uint32_t n) {
        size_t i = len > 0 && text[len - 1] == '\n' ? len - 1 : len;

        if (n == 0)
                return 0;
        for (; i > 0; i--)
                if (text[i - 1] == '\n' && --n == 0)
                        break;
        return i;
}

/* All that is there now. The caller frees. */
static int read_log(LogReader *l, char **ret, size_t *ret_len) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0, size = 0, n;
        int r;

        do {
                if (size - len < PROVISION_PIECE) {
                        char *larger = len < PROVISION_LOG_MAX ? realloc(text, 2 * size + PROVISION_PIECE)
                                                               : NULL;

                        if (!larger)
                                return len < PROVISION_LOG_MAX ? -ENOMEM : -EFBIG;
                        text = larger;
                        size = 2 * size + PROVISION_PIECE;
                }
                r = log_reader_read(l, text + len, PROVISION_PIECE, &n);
                if (r < 0)
                        return r;
                len += n;
        } while (n > 0);
        *ret = TAKE_PTR(text);
        *ret_len = len;
        return 0;
}

static void print_text(Sanitizer *s, const LogView *v, const char *text, size_t len) {
        if (v->raw)
                (void)fwrite(text, 1, len, stdout);
        else
                sanitize_write(s, stdout, text, len);
        (void)fflush(stdout);
}

/* Until the file is removed, with its VM. */
static int follow_log(LogReader *l, const LogView *v, Sanitizer *s) {
        bool there = true;

        while (there) {
                struct pollfd p = { .fd = l->notices, .events = POLLIN };
                char data[PROVISION_PIECE];
                size_t n;
                int r;

                r = log_reader_read(l, data, sizeof(data), &n);
                if (r < 0)
                        return r;
                if (n > 0) {
                        print_text(s, v, data, n);
                        continue;
                }
                if (poll(&p, 1, -1) < 0 && errno != EINTR)
                        return -errno;
                there = log_reader_take_notices(l);
        }
        return 0;
}

static int print_provision_log(LogReader *l, const LogView *v) {
        _cleanup_free_ char *text = NULL;
        bool follow = v->follow && !v->console;
        size_t len = 0, start;
        Sanitizer s = {};
        int r;

        r = follow ? log_reader_watch(l) : 0;
        if (r >= 0)
                r = read_log(l, &text, &len);
        if (r < 0)
                return r;
        start = tail_start(text, len, v->tail);
        print_text(&s, v, text + start, len - start);
        if (follow)
                r = follow_log(l, v, &s);
        if (!v->raw)
                sanitize_end(&s, stdout);
        return r;
}

static int show_provision(Ctl *c, const LogView *v) {
        _cleanup_(log_reader_done) LogReader log = LOG_READER_NONE;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(v->name);
        int r;

        if (!path)
                return ctl_oom();
        r = log_reader_open(c, path, &log, &error);
        if (r == -ENOENT) {
                if (!v->console)
                        (void)fprintf(stderr, "VM '%s' was never provisioned.\n", v->name);
                return 0;
        }
        if (r >= 0)
                r = print_provision_log(&log, v);
        return r < 0 ? ctl_report(c, error, r, "Failed to read the provision log of VM '%s'", v->name) : 0;
}

int verb_log(Ctl *c, const Args *args) {
        const char *tail = args_get(args, "tail");
        LogView v = {
                .name = args->words[0],
                .console = args_has(args, "console"),
                .provision = args_has(args, "provision"),
                .follow = args_has(args, "follow"),
                .raw = args_has(args, "raw") || !term_is_tty(stdout),
        };
        int r = 0;

        if (!v.console && !v.provision)
                v.console = v.provision = true;
        if (tail && parse_u32(tail, &v.tail) < 0) {
                ctl_complain(NULL, "'%s' is no number of lines", tail);
                return EXIT_USAGE;
        }
        r = ctl_connect(c);
        if (r != 0)
                return r;
        /* What is followed comes last, for it has no end. */
        if (v.provision && v.follow)
                r = show_provision(c, &v);
        if (r == 0 && v.console)
                r = show_console(c, &v);
        if (r == 0 && v.provision && !v.follow)
                r = show_provision(c, &v);
        return r;
}
