/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctld: one loop, and connections to the bus for clients, for PID 1, and (access.c) for polkit, since what
 * the bus allows a connection must not be used up by the others. It is ready when it shows the same VMs as
 * before its last end. */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "bus/manager-bus.h"
#include "core/bus-paths.h"
#include "service.h"
#include "util/log.h"

typedef struct Arguments {
        bool user;
        bool debug;
} Arguments;

typedef struct Buses {
        sd_bus *clients, *systemd;
} Buses;

static int help(void) {
        printf("Usage: vmctld [OPTION...]\n\n"
               "Runs virtual machines as D-Bus objects and systemd scopes. Started by systemd.\n\n"
               "      --user     Serve the calling user on the user's bus\n"
               "      --system   Serve the system (default)\n"
               "      --debug    Log more\n"
               "  -h, --help     Show this help\n"
               "      --version  Show the version\n\n"
               "See vmctld(8).\n");
        return 0;
}

/* 1: go on; 0: done; negative: bad usage. */
static int parse_arguments(int argc, char *argv[], Arguments *a) {
        enum { OPT_USER = 256, OPT_SYSTEM, OPT_DEBUG, OPT_VERSION };
        static const struct option options[] = {
                { "user", no_argument, NULL, OPT_USER },
                { "system", no_argument, NULL, OPT_SYSTEM },
                { "debug", no_argument, NULL, OPT_DEBUG },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, OPT_VERSION },
                {},
        };
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case OPT_USER:
                        a->user = true;
                        break;
                case OPT_SYSTEM:
                        a->user = false;
                        break;
                case OPT_DEBUG:
                        a->debug = true;
                        break;
                case 'h':
                        return help();
                case OPT_VERSION:
                        printf("vmctld %s\n", VMCTL_VERSION);
                        return 0;
                default:
                        return -EINVAL;
                }
        if (optind < argc) {
                (void)fprintf(stderr, "vmctld: Unexpected argument '%s'\n", argv[optind]);
                return -EINVAL;
        }
        return 1;
}

static int block_signals(sd_event *event) {
        sigset_t set;

        sigemptyset(&set);
        for (const int *s = (const int[]){ SIGTERM, SIGINT, SIGCHLD, 0 }; *s; s++)
                sigaddset(&set, *s);
        if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
                return -errno;
        (void)signal(SIGPIPE, SIG_IGN);
        return sd_event_set_signal_exit(event, true); /* SIGTERM and SIGINT leave the loop */
}

static void buses_done(Buses *b) {
        sd_bus_unref(b->clients);
        sd_bus_unref(b->systemd);
}

/* Of the loop, a failure: a bus that has gone takes our name and PID 1's signals with it. */
static int open_bus(sd_event *event, bool user, const char *description, sd_bus **ret) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        int r;

        r = user ? sd_bus_open_user_with_description(&bus, description)
                 : sd_bus_open_system_with_description(&bus, description);
        if (r < 0)
                return log_error_errno(r, "Cannot connect to the bus: %m");
        r = sd_bus_set_exit_on_disconnect(bus, true);
        if (r >= 0)
                r = sd_bus_attach_event(bus, event, SD_EVENT_PRIORITY_NORMAL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

static int open_buses(sd_event *event, bool user, Buses *ret) {
        int r;

        r = open_bus(event, user, "vmctld", &ret->clients);
        return r < 0 ? r : open_bus(event, user, "vmctld-systemd", &ret->systemd);
}

/* Replies and signals of the last turn go out; QEMUs run on. */
static void close_buses(const Buses *b) {
        (void)sd_bus_flush(b->clients);
        (void)sd_bus_flush(b->systemd);
        sd_bus_close(b->clients);
        sd_bus_close(b->systemd);
}

/* We serve before, but the boot starts VMs after this: from a cold disk QEMU may take long to answer for the
 * first time, and they have deadlines. */
static void on_host(void *userdata) {
        (void)sd_notify(false, "READY=1");
}

/* Until SIGTERM. */
static int run_loop(sd_event *event) {
        int r;

        r = sd_event_loop(event);
        (void)sd_notify(false, "STOPPING=1");
        if (r < 0)
                return log_error_errno(r, "The event loop failed: %m");
        if (r > 0)
                return log_error_errno(-ENOTCONN,
                                "The bus or systemd is lost; VMs run on until the service is back");
        return 0;
}

static int on_exit_of_loop(sd_event_source *s, void *userdata) {
        manager_bus_end(userdata);
        return 0;
}

/* sd-bus closes its connections when the loop ends: what is still to be said must be before that. */
static int end_calls_at_exit(sd_event *event, BusFace *face, sd_event_source **ret) {
        int r;

        r = sd_event_add_exit(event, ret, on_exit_of_loop, face);
        return r < 0 ? r : sd_event_source_set_priority(*ret, SD_EVENT_PRIORITY_IMPORTANT);
}

static int serve(sd_event *event, const Buses *buses, Config *config) {
        _cleanup_(service_freep) Manager *m = NULL;
        _cleanup_(access_freep) Access *access = NULL;
        _cleanup_(sd_event_source_disable_unrefp) sd_event_source *end = NULL;
        sd_bus *bus = buses->clients;
        BusFace face;
        bool known;
        int r;

        r = service_new(event, bus, buses->systemd, config, &manager_bus_hooks, &m);
        if (r < 0)
                return log_error_errno(r, "Cannot set up the service: %m");
        r = launcher_connect(m->core->launcher);
        if (r < 0)
                return r;
        r = access_new(bus, m, &access);
        if (r < 0)
                return log_error_errno(r, "Cannot set up access control: %m");
        face = (BusFace){ .manager = m, .access = access };
        r = manager_bus_add(&face);
        if (r >= 0)
                r = end_calls_at_exit(event, &face, &end);
        if (r < 0)
                return log_error_errno(r, "Cannot register the bus objects: %m");
        r = service_load(m);
        if (r < 0)
                return log_error_errno(r, "Cannot load the VMs: %m");
        r = host_ensure(m->host, on_host, m);
        if (r < 0)
                return log_error_errno(r, "Cannot ask QEMU for its version: %m");
        known = r > 0;
        r = sd_bus_request_name(bus, BUS_NAME, 0);
        if (r < 0)
                return log_error_errno(r, "Cannot get the name " BUS_NAME " on the bus: %m");
        if (known)
                on_host(m);
        r = run_loop(event);
        close_buses(buses);
        return r;
}

static int run(const Arguments *a) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(buses_done) Buses buses = {};
        Config config;
        int r;

        r = config_load(!a->user, &config);
        if (r < 0)
                return log_error_errno(r, "Cannot load the configuration: %m");
        r = sd_event_default(&event);
        if (r >= 0)
                r = block_signals(event);
        if (r >= 0)
                r = sd_event_set_watchdog(event, true);
        if (r < 0)
                log_error_errno(r, "Cannot set up the event loop: %m");
        else
                r = open_buses(event, a->user, &buses);
        if (r >= 0)
                r = serve(event, &buses, &config);
        config_done(&config);
        return r;
}

int main(int argc, char *argv[]) {
        Arguments a = {};
        int r;

        r = parse_arguments(argc, argv, &a);
        if (r <= 0)
                return r < 0 ? 2 : EXIT_SUCCESS;
        log_open("vmctld", a.debug ? LOG_DEBUG : LOG_INFO);
        umask(0077);
        return run(&a) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
