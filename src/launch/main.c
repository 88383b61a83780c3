/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "launch.h"
#include "util/fd-util.h"
#include "util/log.h"

#ifndef SO_PEERPIDFD /* newer than the headers of Debian 12 */
#        define SO_PEERPIDFD 77
#endif

/* The bus daemon allows 128 a connection, and vmctld has 64 jobs done at a time. */
#define CALLS_IN_FLIGHT_MAX 64
#define PACKETS_PENDING_MAX 256 /* more than the socket holds: each takes above 1 KiB of it */
#define SEND_TIMEOUT_SEC 20 /* somebody who has let answers pile up and reads none; below our watchdog's */
#define CALL_TIMEOUT (15 * USEC_PER_SEC) /* PID 1 answers in milliseconds unless the host is in trouble */
/* What was killed ends in milliseconds, unless it hangs in the kernel, on a file system whose server does
 * not answer. Such a one does nothing any more but end what it is at. vmctld waits for 20 s. */
#define END_PATIENCE (10 * USEC_PER_SEC)

static const struct {
        const char *name;
        int (*handle)(Server *s, const LaunchRequest *q, Packet *p);
        bool waits; /* nothing is done for one that has gone meanwhile, and so takes it for failed */
} verb_table[] = {
        [LAUNCH_RUN] = { "run", run_program, true },
        [LAUNCH_KILL] = { "kill", kill_program },
        [LAUNCH_START_SCOPE] = { "start-scope", start_scope, true },
        [LAUNCH_SET_LIMITS] = { "set-limits", set_limits, true },
        [LAUNCH_STOP_SCOPE] = { "stop-scope", stop_scope },
        [LAUNCH_KILL_SCOPE] = { "kill-scope", kill_scope },
        [LAUNCH_SIGNAL] = { "signal", signal_process },
};

static int help(void) {
        printf("Usage: vmctl-launch [--socket=FD [--user]]\n\n"
               "Runs programs and makes scopes for vmctld. Started by systemd, or by a vmctld\n"
               "that runs as whoever may do this.\n\n"
               "      --socket=FD  The descriptor of the connection to vmctld\n"
               "      --user       For a user's own vmctld\n"
               "  -h, --help       Show this help\n"
               "      --version    Show the version\n");
        return 0;
}

void server_reply(Server *s, const LaunchReply *reply, const char *text, int fd) {
        char *const texts[] = { (char *)text, NULL };
        LaunchReply r = *reply;

        r.version = LAUNCH_VERSION;
        if (s->socket >= 0 && packet_send(s->socket, &r, sizeof(r), texts, &fd, fd >= 0 ? 1 : 0) < 0)
                (void)shutdown(s->socket, SHUT_RDWR); /* which the loop hears of */
}

/* Whoever comes next finds nothing that still writes. */
void server_rest(Server *s) {
        s->patience = sd_event_source_disable_unref(s->patience);
        if (!s->listener)
                (void)sd_event_exit(s->event, EXIT_SUCCESS);
        else if (sd_event_source_set_enabled(s->listener, SD_EVENT_ON) < 0)
                (void)sd_event_exit(s->event, EXIT_FAILURE);
}

static int on_patience(sd_event_source *source, uint64_t usec, void *userdata) {
        log_error("A worker that was killed does not end, and is not awaited any more: it hangs in the "
                  "kernel");
        server_rest(userdata);
        return 0;
}

/* vmctld has gone: what it had run for a client ends. Shims go on. */
static void leave(Server *s) {
        s->io = sd_event_source_disable_unref(s->io);
        s->peer = sd_event_source_disable_unref(s->peer);
        s->socket = safe_close(s->socket);
        disown_children(s);
        disown_asked(s);
        if (!has_workers(s) ||
                        sd_event_add_time_relative(s->event, &s->patience, CLOCK_MONOTONIC, END_PATIENCE, 0,
                                        on_patience, s) < 0)
                server_rest(s);
}

static void handle_packet(Server *s, bool is_gone) {
        _cleanup_(packet_done) Packet p = {};
        LaunchRequest q;
        int r;

        r = packet_receive(s->socket, &q, sizeof(q), &p);
        if (r == -EAGAIN)
                return;
        if (r > 0 && (q.version != LAUNCH_VERSION || q.verb >= _LAUNCH_VERB_MAX || q.n_fds > PACKET_FDS_MAX))
                r = -EBADMSG;
        if (r < 0)
                log_error_errno(r, "Cannot read what vmctld asks for: %m");
        if (r <= 0) {
                leave(s);
                return;
        }
        if (verb_table[q.verb].waits && is_gone)
                return;
        r = verb_table[q.verb].handle(s, &q, &p);
        if (r < 0)
                log_warning_errno(r, "%s failed: %m", verb_table[q.verb].name);
}

static int on_socket(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        handle_packet(userdata, revents & EPOLLHUP);
        return 0;
}

/* What it has sent before is done yet. Whoever it has handed the connection to, as to a VM, has no say in
 * anything, and keeps nobody else from being listened to. */
static int on_peer_end(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Server *s = userdata;

        for (int i = 0; i < PACKETS_PENDING_MAX && s->socket >= 0; i++) {
                struct pollfd p = { .fd = s->socket, .events = POLLIN };

                if (poll(&p, 1, 0) <= 0)
                        break;
                handle_packet(s, true);
        }
        if (s->socket >= 0)
                leave(s);
        return 0;
}

static int open_bus(Server *s, bool user) {
        int r;

        r = user ? sd_bus_open_user_with_description(&s->bus, "vmctl-launch")
                 : sd_bus_open_system_with_description(&s->bus, "vmctl-launch");
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(s->bus, true);
        if (r >= 0)
                r = sd_bus_attach_event(s->bus, s->event, SD_EVENT_PRIORITY_NORMAL);
        return r < 0 ? log_error_errno(r, "Cannot connect to the bus: %m")
                     : call_queue_new(s->bus, CALLS_IN_FLIGHT_MAX, CALL_TIMEOUT, &s->calls);
}

static int block_signals(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        (void)signal(SIGPIPE, SIG_IGN);
        return sigprocmask(SIG_BLOCK, &set, NULL) < 0 ? -errno : 0;
}

static void server_done(Server *s) {
        call_queue_free(s->calls);
        sd_event_source_disable_unref(s->patience);
        sd_event_source_disable_unref(s->io);
        sd_event_source_disable_unref(s->peer);
        sd_event_source_disable_unref(s->listener);
        safe_close(s->socket);
        sd_bus_flush_close_unref(s->bus);
        config_done(&s->config);
        sd_event_unref(s->event);
}

/* A pidfd of the process that has connected, or has made the pair. -ESRCH: it is gone. */
static int open_peer(int socket) {
        struct ucred peer;
        socklen_t len = sizeof(int);
        int fd;

        if (getsockopt(socket, SOL_SOCKET, SO_PEERPIDFD, &fd, &len) >= 0)
                return fd;
        if (errno != ENOPROTOOPT) /* before Linux 6.5 */
                return -errno;
        len = sizeof(peer);
        if (getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0)
                return -errno;
        fd = pidfd_open(peer.pid, 0);
        return fd < 0 ? -errno : fd;
}

static int watch_peer(Server *s, int socket) {
        _cleanup_close_ int fd = open_peer(socket);
        int r;

        if (fd < 0)
                return fd;
        r = sd_event_add_io(s->event, &s->peer, fd, EPOLLIN, on_peer_end, s);
        if (r < 0)
                return r;
        r = sd_event_source_set_io_fd_own(s->peer, true);
        if (r >= 0)
                TAKE_FD(fd);
        return r;
}

/* Takes the connection over, and the settings as they are now. */
static int attend(Server *s, int fd, bool user) {
        const struct timeval patience = { .tv_sec = SEND_TIMEOUT_SEC };
        _cleanup_close_ int socket = fd;
        int r;

        config_done(&s->config);
        r = config_load(!user, &s->config);
        if (r >= 0)
                r = fd_set_nonblock(socket, false);
        if (r >= 0 && setsockopt(socket, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
                r = -errno;
        if (r >= 0)
                r = watch_peer(s, socket);
        if (r >= 0)
                r = sd_event_add_io(s->event, &s->io, socket, EPOLLIN, on_socket, s);
        if (r < 0) {
                s->peer = sd_event_source_disable_unref(s->peer);
                return r;
        }
        s->socket = TAKE_FD(socket);
        return 0;
}

/* One at a time. An error of ours would switch the source off for good. */
static int on_connection(sd_event_source *source, int fd, uint32_t revents, void *userdata) {
        Server *s = userdata;
        int socket = accept4(fd, NULL, NULL, SOCK_CLOEXEC), r;

        if (socket < 0)
                return 0;
        r = attend(s, socket, false);
        if (r == -ESRCH)
                return 0;
        if (r < 0)
                log_error_errno(r, "Cannot attend to vmctld: %m");
        else
                (void)sd_event_source_set_enabled(source, SD_EVENT_OFF);
        return 0;
}

/* Given by PID 1, or by the vmctld that has executed us. */
static int begin(Server *s, int socket, bool user) {
        int r;

        r = fd_set_cloexec(socket, true);
        if (r < 0 || sd_is_socket(socket, AF_UNIX, SOCK_SEQPACKET, 1) <= 0)
                return r < 0 ? r : attend(s, socket, user);
        r = fd_set_nonblock(socket, true);
        return r < 0 ? r : sd_event_add_io(s->event, &s->listener, socket, EPOLLIN, on_connection, s);
}

static int serve(int socket, bool user) {
        _cleanup_(server_done) Server s = { .socket = -EBADF };
        int r;

        TAILQ_INIT(&s.children);
        TAILQ_INIT(&s.asked);
        r = sd_event_default(&s.event);
        if (r >= 0)
                r = block_signals();
        if (r >= 0)
                r = sd_event_set_watchdog(s.event, true);
        if (r >= 0)
                r = open_bus(&s, user);
        if (r >= 0)
                r = begin(&s, socket, user);
        if (r < 0)
                return log_error_errno(r, "Cannot set up: %m");
        (void)sd_notify(false, "READY=1");
        r = sd_event_loop(s.event);
        return r < 0 ? log_error_errno(r, "The event loop failed: %m") : r;
}

int main(int argc, char *argv[]) {
        enum { OPT_SOCKET = 256, OPT_USER, OPT_VERSION };
        static const struct option options[] = {
                { "socket", required_argument, NULL, OPT_SOCKET },
                { "user", no_argument, NULL, OPT_USER },
                { "help", no_argument, NULL, 'h' },
                { "version", no_argument, NULL, OPT_VERSION },
                {},
        };
        uint32_t socket = 0;
        bool user = false;
        int c;

        while ((c = getopt_long(argc, argv, "h", options, NULL)) >= 0)
                switch (c) {
                case OPT_SOCKET:
                        if (parse_u32(optarg, &socket) < 0 || socket < 3 || socket > INT32_MAX)
                                return 2;
                        break;
                case OPT_USER:
                        user = true;
                        break;
                case 'h':
                        return help();
                case OPT_VERSION:
                        printf("vmctl-launch %s\n", VMCTL_VERSION);
                        return 0;
                default:
                        return 2;
                }
        if (socket == 0 && sd_listen_fds(true) == 1)
                socket = SD_LISTEN_FDS_START;
        if (socket == 0 || optind < argc) {
                (void)fprintf(stderr, "vmctl-launch: It is started by systemd, with a socket\n");
                return 2;
        }
        log_open("vmctl-launch", LOG_INFO);
        umask(0077);
        return serve((int)socket, user) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
