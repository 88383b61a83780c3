/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include "pump.h"
#include "term.h"
#include "util/fd-util.h"

#define BUFFER_SIZE 4096

typedef struct State {
        const Pump *pump;
        char input[BUFFER_SIZE]; /* typed, not yet taken by the console */
        size_t n_input;
        bool input_ended, half_closed;
        uint64_t deadline;
        bool ended;
        PumpEnd end;
} State;

static struct {
        int fd;
        bool set;
        struct termios before, raw;
} terminal = { .fd = -EBADF };

static void end(State *s, PumpEnd how) {
        s->ended = true;
        s->end = how;
}

/* Appends what was read, up to the key that detaches. */
static void take_typed(State *s, const char *data, size_t n) {
        const char *detach = s->pump->detach ? memchr(data, PUMP_DETACH, n) : NULL;
        size_t len = MIN(detach ? (size_t)(detach - data) : n, sizeof(s->input) - s->n_input);

        memcpy(s->input + s->n_input, data, len);
        s->n_input += len;
        if (detach)
                end(s, PUMP_DETACHED);
}

static int read_input(State *s) {
        size_t room = sizeof(s->input) - s->n_input;
        char data[BUFFER_SIZE];
        ssize_t n;

        /* From a pipe no more is read than there is room for; a terminal is read for the key's sake. */
        n = read(s->pump->in, data, s->pump->detach ? sizeof(data) : room);
        if (n < 0)
                return errno == EINTR || errno == EAGAIN ? 0 : -errno;
        if (n == 0) {
                s->input_ended = true;
                if (s->pump->linger_usec != UINT64_MAX)
                        s->deadline = now_monotonic() + s->pump->linger_usec;
                return 0;
        }
        take_typed(s, data, (size_t)n);
        return 0;
}

/* A guest that reads nothing must not keep us from hearing the user, so this never waits. */
static int send_input(State *s) {
        ssize_t n = send(s->pump->socket, s->input, s->n_input, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        memmove(s->input, s->input + n, s->n_input - (size_t)n);
        s->n_input -= (size_t)n;
        return 0;
}

static int receive_output(State *s) {
        char data[BUFFER_SIZE];
        ssize_t n = recv(s->pump->socket, data, sizeof(data), MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n < 0 && errno != ECONNRESET)
                return -errno;
        if (n <= 0) {
                end(s, PUMP_CLOSED);
                return 0;
        }
        return write_all(s->pump->out, data, (size_t)n);
}

static int wait_msec(const State *s) {
        uint64_t now = now_monotonic();

        if (s->deadline == UINT64_MAX)
                return -1;
        return s->deadline <= now ? 0 : (int)MIN((s->deadline - now) / USEC_PER_MSEC + 1, (uint64_t)INT_MAX);
}

static int step(State *s) {
        bool full = s->n_input == sizeof(s->input);
        struct pollfd fds[] = {
                { .fd = s->input_ended || (full && !s->pump->detach) ? -1 : s->pump->in, .events = POLLIN },
                { .fd = s->pump->socket, .events = (short)(POLLIN | (s->n_input > 0 ? POLLOUT : 0)) },
        };
        int r;

        if (s->input_ended && s->n_input == 0 && !s->half_closed) {
                (void)shutdown(s->pump->socket, SHUT_WR);
                s->half_closed = true;
        }
        r = poll(fds, ELEMENTSOF(fds), wait_msec(s));
        if (r < 0)
                return errno == EINTR ? 0 : -errno;
        if (r == 0) {
                end(s, PUMP_TIMED_OUT);
                return 0;
        }
        if (fds[1].revents & POLLOUT)
                r = send_input(s);
        if (r >= 0 && fds[0].revents != 0)
                r = read_input(s);
        if (r >= 0 && fds[1].revents & (POLLIN | POLLHUP | POLLERR))
                r = receive_output(s);
        return r;
}

int pump_run(const Pump *p, PumpEnd *ret) {
        State s = { .pump = p, .deadline = UINT64_MAX };

        while (!s.ended) {
                int r = step(&s);

                /* A console that ends while we write to it still may have last words to read. */
                if (r == -EPIPE && !s.half_closed) {
                        s.n_input = 0;
                        s.input_ended = s.half_closed = true;
                        continue;
                }
                if (r < 0)
                        return r;
        }
        if (s.n_input > 0)
                (void)send_input(&s); /* typed right before the key that detaches */
        *ret = s.end;
        return 0;
}

static void on_fatal_signal(int sig) {
        int saved = errno;

        raw_terminal_restore();
        (void)signal(sig, SIG_DFL);
        (void)raise(sig);
        errno = saved;
}

/* The shell may have used the terminal while we were stopped. */
static void on_continue(int sig) {
        int saved = errno;

        if (terminal.set)
                (void)tcsetattr(terminal.fd, TCSANOW, &terminal.raw);
        errno = saved;
}

int raw_terminal_set(int fd) {
        static const int fatal[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2,
                SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL };
        struct sigaction on_fatal = { .sa_handler = on_fatal_signal, .sa_flags = SA_NODEFER };
        struct sigaction on_cont = { .sa_handler = on_continue, .sa_flags = SA_RESTART };

        if (tcgetattr(fd, &terminal.before) < 0)
                return -errno;
        terminal.raw = terminal.before;
        cfmakeraw(&terminal.raw);
        terminal.fd = fd;
        terminal.set = true;
        for (size_t i = 0; i < ELEMENTSOF(fatal); i++) {
                struct sigaction old;

                /* What nohup(1) and the like have ignored stays so. */
                if (sigaction(fatal[i], NULL, &old) >= 0 && old.sa_handler != SIG_IGN)
                        (void)sigaction(fatal[i], &on_fatal, NULL);
        }
        (void)sigaction(SIGCONT, &on_cont, NULL);
        return tcsetattr(fd, TCSANOW, &terminal.raw) < 0 ? -errno : 0;
}

/* Also called from signal handlers: tcsetattr() is safe there. */
void raw_terminal_restore(void) {
        if (!terminal.set)
                return;
        terminal.set = false;
        (void)tcsetattr(terminal.fd, TCSANOW, &terminal.before);
}
