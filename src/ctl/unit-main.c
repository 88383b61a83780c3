/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-unit: the process of vm@NAME.service. It has the VM made and started, tells systemd when it is
 * ready, prints what the guest prints, and ends when the VM does; when it is to end itself, the guest is
 * shut down first. The VM is not its child: QEMU runs in a scope of its own, below vmctld, and outlives
 * both. */

#include <signal.h>
#include <stdio.h>
#include <systemd/sd-event.h>

#include "project.h"
#include "unit.h"
#include "util/log.h"

static int usage(void) {
        (void)fputs("Usage: vmctl-unit [--user] NAME, by systemd\n", stderr);
        return EXIT_USAGE;
}

/* What the file says of when the VM is ready. 0, or an exit status. */
static int read_file(Unit *u) {
        _cleanup_project_ Project p = { 0 };
        const VmfileVm *vm;

        if (project_open(u->file, &p) < 0 || project_parse(&p, false) < 0)
                return UNIT_EXIT_NO_VM;
        if (!p.file) {
                kdl_diagnostics_write(p.d, stderr);
                return UNIT_EXIT_NO_VM;
        }
        vm = vmfile_find(p.file, u->name);
        if (!vm) {
                ctl_complain("'systemctl daemon-reload' takes notice of changed files.",
                                "There is no VM '%s' in '%s'", u->name, u->file);
                return UNIT_EXIT_NO_VM;
        }
        u->ready = vm->ready;
        return free_and_strdup(&u->private_key, vm->private_key) < 0 ? EXIT_FAILURE : 0;
}

static int on_signal(sd_event_source *s, const struct signalfd_siginfo *si, void *userdata) {
        unit_stop(userdata);
        return 0;
}

static int add_signals(Unit *u) {
        sigset_t mask;
        int r;

        sigemptyset(&mask);
        sigaddset(&mask, SIGTERM);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        (void)signal(SIGHUP, SIG_IGN);
        (void)signal(SIGPIPE, SIG_IGN);
        r = sd_event_add_signal(u->event, &u->signals[0], SIGTERM, on_signal, u);
        return r < 0 ? r : sd_event_add_signal(u->event, &u->signals[1], SIGINT, on_signal, u);
}

static int run(Unit *u) {
        int r;

        r = add_signals(u);
        if (r >= 0)
                r = sd_bus_attach_event(client_bus(u->ctl->client), u->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(client_bus(u->ctl->client), true);
        if (r < 0)
                return ctl_report(u->ctl, NULL, r, "Failed to prepare");
        r = unit_begin(u);
        if (r < 0)
                return r;
        r = sd_event_loop(u->event);
        return r < 0 ? ctl_report(u->ctl, NULL, r, "Failed to look after VM '%s'", u->name) : r;
}

int main(int argc, char *argv[]) {
        bool user = argc == 3 && streq(argv[1], "--user");
        _cleanup_(ctl_done) Ctl c = { .choice = user ? CLIENT_BUS_USER : CLIENT_BUS_SYSTEM };
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(unit_done) Unit u = { .ctl = &c, .file = getenv("VMCTL_FILE") };
        _cleanup_error_ Error *e = NULL;
        int r;

        if (argc != (user ? 3 : 2) || argv[argc - 1][0] == '-')
                return usage();
        log_open("vmctl-unit", LOG_INFO);
        u.name = argv[argc - 1];
        if (vm_name_check(u.name, &e) < 0) {
                ctl_complain(NULL, "%s", error_message(e));
                return UNIT_EXIT_NO_VM;
        }
        r = u.file ? read_file(&u) : 0;
        if (r != 0)
                return r;
        r = ctl_connect(&c);
        if (r >= 0)
                r = sd_event_new(&event);
        if (r >= 0) {
                u.event = event;
                r = run(&u);
        }
        return r < 0 ? EXIT_FAILURE : r;
}
