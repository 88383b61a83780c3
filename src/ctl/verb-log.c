/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "console-log.h"
#include "sanitize.h"
#include "term.h"
#include "util/fd-util.h"
#include "verbs.h"

#define PROVISION_LOG "provision.log"

/* Nobody reads more of it at once, and it keeps `--tail` from reading it in pieces. */
#define PROVISION_LOG_MAX (64 * MIB)

int console_log_open(Ctl *c, const char *name, uint32_t tail, bool follow, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = ctl_vm_path(name);
        int r;

        if (!path)
                return -ENOMEM;
        r = sd_bus_message_new_method_call(c->bus, &m, CTL_SERVICE, path, CTL_VM, "OpenConsoleLog");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && tail > 0)
                r = sd_bus_message_append(m, "{sv}", "tail", "u", tail);
        if (r >= 0 && follow)
                r = sd_bus_message_append(m, "{sv}", "follow", "b", true);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : ctl_call_fd(c, m, reterr);
}

int console_log_copy(int fd, bool raw) {
        Sanitizer s = {};
        char data[16384];
        ssize_t n;

        for (;;) {
                n = read(fd, data, sizeof(data));
                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        break;
                if (raw)
                        (void)fwrite(data, 1, (size_t)n, stdout);
                else
                        sanitize_write(&s, stdout, data, (size_t)n);
                (void)fflush(stdout);
        }
        if (!raw)
                sanitize_end(&s, stdout);
        (void)fflush(stdout);
        return n < 0 ? -errno : 0;
}

/* What to show and how. */
typedef struct LogView {
        const char *name;
        uint32_t tail;
        bool console, provision, follow, raw;
} LogView;

static int show_console(Ctl *c, const LogView *v) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = console_log_open(c, v->name, v->tail, v->follow, &error);
        if (fd < 0)
                return ctl_report(c, &error, fd, "Failed to open the console log of VM '%s'", v->name);
        r = console_log_copy(fd, v->raw);
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

/* -ENOENT when there is none. */
static int open_provision_log(Ctl *c, const char *name, sd_bus_error *reterr) {
        _cleanup_free_ char *path = ctl_vm_path(name), *folder = NULL, *file = NULL;
        int r, fd;

        if (!path)
                return -ENOMEM;
        r = sd_bus_get_property_string(c->bus, CTL_SERVICE, path, CTL_VM, "Folder", reterr, &folder);
        if (r < 0)
                return r;
        file = strf("%s/" PROVISION_LOG, folder);
        if (!file)
                return -ENOMEM;
        fd = open(file, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
        return fd < 0 ? -errno : fd;
}

static int print_provision_log(int fd, const LogView *v) {
        _cleanup_free_ char *text = NULL;
        Sanitizer s = {};
        size_t len, start;
        int r;

        r = read_all(fd, PROVISION_LOG_MAX, &text, &len);
        if (r < 0)
                return r;
        start = tail_start(text, len, v->tail);
        if (v->raw)
                (void)fwrite(text + start, 1, len - start, stdout);
        else {
                sanitize_write(&s, stdout, text + start, len - start);
                sanitize_end(&s, stdout);
        }
        return 0;
}

static int show_provision(Ctl *c, const LogView *v) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        fd = open_provision_log(c, v->name, &error);
        if (fd == -ENOENT && !sd_bus_error_is_set(&error)) {
                if (!v->console)
                        (void)fprintf(stderr, "VM '%s' was never provisioned.\n", v->name);
                return 0;
        }
        if (fd < 0 && v->console && !sd_bus_error_is_set(&error))
                return 0; /* not asked for, and not readable */
        r = fd < 0 ? fd : print_provision_log(fd, v);
        return r < 0 ? ctl_report(c, &error, r, "Failed to read the provision log of VM '%s'", v->name) : 0;
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
        if (v.follow && !v.console)
                return ctl_complain(NULL, "Failed to follow: only the console log can be followed");
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
