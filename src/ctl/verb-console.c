/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "pump.h"
#include "term.h"
#include "text.h"
#include "util/fd-util.h"
#include "verbs.h"

static int open_console(Ctl *c, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(name);
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_new_call(c, path, VMCTL_VM, "OpenConsole", &m);
        if (r != 0)
                return r;
        r = client_call_fd(c->client, m, &error);
        return r < 0 ? ctl_report(c, error, r, "Failed to open the console of VM '%s'", name) : r;
}

_printf_(1, 2) static void say(const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void)fprintf(stderr, "%s%s%s\n", term_style(stderr, STYLE_DIM), text ?: "", term_normal(stderr));
}

/* The last line of the guest rarely ends where the shell's prompt should begin. */
static void say_end(const char *name, PumpEnd end) {
        if (term_is_tty(stdout))
                (void)fputc('\n', stderr);
        if (end == PUMP_DETACHED)
                say("Detached from the console of VM '%s'.", name);
        else
                say("The console of VM '%s' was closed.", name);
}

int verb_console(Ctl *c, const Args *args) {
        const char *name = args->words[0], *timeout = args_get(args, "timeout");
        _cleanup_close_ int fd = -EBADF;
        Pump p = { .in = STDIN_FILENO, .out = STDOUT_FILENO, .linger_usec = UINT64_MAX };
        PumpEnd end;
        int r;

        if (timeout && parse_timespan(timeout, &p.linger_usec) < 0) {
                ctl_complain(TIME_HINT, "'%s' is no time", timeout);
                return EXIT_USAGE;
        }
        p.detach = isatty(STDIN_FILENO);
        fd = open_console(c, name);
        if (fd < 0)
                return fd;
        p.socket = fd;
        if (p.detach) {
                say("Connected to the console of VM '%s'. Ctrl-] detaches.", name);
                r = raw_terminal_set(STDIN_FILENO);
                if (r < 0)
                        return ctl_report(c, NULL, r, "Failed to set the terminal up");
        }
        r = pump_run(&p, &end);
        raw_terminal_restore();
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to go on with the console of VM '%s'", name);
        if (p.detach)
                say_end(name, end);
        return 0;
}
