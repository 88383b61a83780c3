/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "console.h"
#include "util/fd-util.h"

#define CHUNK (64 * KIB)    /* what one step reads or sends: bounds how long the others wait */
#define INPUT_MAX (4 * KIB) /* typed ahead towards a guest that does not read */
#define DRAIN_MAX (1 * MIB) /* more than a socket's buffer holds when QEMU ends */
#define LINGER_MS 500 /* for readers that have not got the end of the log yet: the scope waits for us */

typedef enum ReaderKind {
        READER_CONSOLE,
        READER_LOG,
} ReaderKind;

typedef struct Reader {
        ReaderKind kind;
        int fd;
        bool input_done; /* it has shut down its writing side */
        bool gone;       /* nobody reads what we send; what it had sent is still taken */
        bool streaming;  /* READER_LOG: has its request been answered? */
        union {
                LogRequest request;
                uint8_t request_bytes[sizeof(LogRequest)];
        };
        size_t request_len;
        uint64_t cursor;
        uint64_t limit; /* where to end */
        char note[64];  /* what is to be sent before the log goes on */
        size_t note_len, note_sent;
} Reader;

struct Console {
        RingLog *log;
        uint64_t run_start; /* where the output of this QEMU begins */
        int serial;
        int listeners[2]; /* by ReaderKind */
        bool accept_failed;
        char input[INPUT_MAX];
        size_t input_len;
        size_t turn;
        Reader readers[CONSOLE_READERS_MAX];
        char chunk[CHUNK];
};

enum {
        POLL_SERIAL,
        POLL_LISTENERS,
        POLL_READERS = POLL_LISTENERS + 2,
};

#define FOREACH_READER(c, r)                                                        \
        for (Reader *r = (c)->readers; r < (c)->readers + CONSOLE_READERS_MAX; r++) \
                if (r->fd >= 0)

static Reader *reader_find_free(Console *c) {
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++)
                if (c->readers[i].fd < 0)
                        return &c->readers[i];
        return NULL;
}

static void reader_close(Console *c, Reader *r) {
        /* With input left unread the kernel would tell the client "connection reset" instead of "end". */
        (void)recv(r->fd, c->chunk, sizeof(c->chunk), MSG_DONTWAIT);
        r->fd = safe_close(r->fd);
}

static bool reader_has_output(const Console *c, const Reader *r) {
        return r->streaming && !r->gone &&
                        (r->note_sent < r->note_len || r->cursor < MIN(r->limit, c->log->end));
}

static bool reader_wants_input(const Console *c, const Reader *r) {
        if (r->input_done)
                return false;
        return r->kind == READER_LOG ? !r->streaming : c->input_len < sizeof(c->input);
}

/* Returns how much the socket took. A client that has gone takes everything. */
static size_t reader_transmit(Reader *r, const void *data, size_t len) {
        ssize_t n;

        n = send(r->fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n >= 0)
                return (size_t)n;
        if (errno != EAGAIN && errno != EINTR)
                r->gone = true;
        return 0;
}

static void reader_skip_dropped(const Console *c, Reader *r) {
        int n;

        if (r->cursor >= c->log->start)
                return;
        if (r->kind == READER_LOG) {
                n = snprintf(r->note, sizeof(r->note), "\n[... %" PRIu64 " bytes skipped ...]\n",
                                c->log->start - r->cursor);
                r->note_len = MIN((size_t)n, sizeof(r->note) - 1);
                r->note_sent = 0;
        }
        r->cursor = c->log->start;
}

static void reader_send_log(Console *c, Reader *r) {
        uint64_t end = MIN(r->limit, c->log->end);
        ssize_t n;

        if (r->note_sent >= r->note_len)
                reader_skip_dropped(c, r);
        if (r->note_sent < r->note_len) {
                r->note_sent += reader_transmit(r, r->note + r->note_sent, r->note_len - r->note_sent);
                return;
        }
        if (r->cursor >= end)
                return;
        n = ring_log_read(c->log, r->cursor, c->chunk, MIN(sizeof(c->chunk), end - r->cursor));
        if (n < 0)
                r->cursor = end; /* unreadable, and trying again would not end */
        else
                r->cursor += reader_transmit(r, c->chunk, (size_t)n);
}

static void reader_receive_request(Console *c, Reader *r) {
        ssize_t n;

        n = recv(r->fd, r->request_bytes + r->request_len, sizeof(LogRequest) - r->request_len,
                        MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0) {
                r->gone = true;
                return;
        }
        r->request_len += (size_t)n;
        if (r->request_len < sizeof(LogRequest))
                return;
        if (r->request.flags & ~(uint32_t)(LOG_REQUEST_FOLLOW | LOG_REQUEST_THIS_RUN)) {
                r->gone = true;
                return;
        }
        r->cursor = ring_log_tail(c->log, r->request.tail);
        if (r->request.flags & LOG_REQUEST_THIS_RUN)
                r->cursor = MAX(r->cursor, c->run_start);
        r->limit = r->request.flags & LOG_REQUEST_FOLLOW ? UINT64_MAX : c->log->end;
        r->streaming = true;
}

static void reader_receive_input(Console *c, Reader *r) {
        ssize_t n;

        n = recv(r->fd, c->input + c->input_len, sizeof(c->input) - c->input_len, MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n <= 0)
                r->input_done = true;
        else if (c->serial >= 0) /* else there is nobody to type to */
                c->input_len += (size_t)n;
}

static bool reader_is_done(const Reader *r) {
        if (r->gone)
                return r->kind == READER_LOG || r->input_done;
        return r->streaming && r->cursor >= r->limit && r->note_sent >= r->note_len;
}

static void reader_dispatch(Console *c, Reader *r, short revents) {
        if (revents & (POLLHUP | POLLERR))
                r->gone = true;
        if ((revents & (POLLIN | POLLHUP | POLLERR)) && reader_wants_input(c, r)) {
                if (r->kind == READER_LOG)
                        reader_receive_request(c, r);
                else
                        reader_receive_input(c, r);
        }
        if (reader_has_output(c, r))
                reader_send_log(c, r);
}

/* Returns false when nobody waits any more. */
static bool accept_reader(Console *c, ReaderKind kind) {
        _cleanup_close_ int fd = accept4(c->listeners[kind], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        Reader *r;

        if (fd < 0) {
                c->accept_failed = errno != EAGAIN && errno != EINTR && errno != ECONNABORTED;
                return false;
        }
        r = reader_find_free(c);
        if (r)
                *r = (Reader){
                        .kind = kind,
                        .fd = TAKE_FD(fd),
                        .streaming = kind == READER_CONSOLE,
                        .cursor = c->log->end,
                        .limit = UINT64_MAX,
                };
        return true;
}

/* As many as there is room for: a client that has connected before the guest prints something is to get it.
 * Who has hung up already is only found out in the next round, so the last place being taken in this one is
 * no reason yet to turn somebody away. */
static void accept_readers(Console *c, const struct pollfd *listeners) {
        size_t room = CONSOLE_READERS_MAX;
        bool full;

        FOREACH_READER(c, r)
                room--;
        full = room == 0;
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++) {
                if (listeners[i].revents == 0)
                        continue;
                if (full)
                        (void)accept_reader(c, (ReaderKind)i);
                while (room > 0 && accept_reader(c, (ReaderKind)i))
                        room--;
        }
}

/* Those who are up to date get it straight from the buffer. That spares reading it back, and they get it
 * even when it could not be stored. */
static void send_live(Console *c, Reader *r, size_t len, uint64_t start) {
        size_t n;

        n = reader_transmit(r, c->chunk, len);
        if (n > 0)
                r->cursor = MIN(start + n, c->log->end);
}

/* Returns false when there is nothing to read, or nothing more to come. */
static bool take_output(Console *c) {
        uint64_t before = c->log->end, start;
        ssize_t n;

        if (c->serial < 0)
                return false;
        n = recv(c->serial, c->chunk, sizeof(c->chunk), MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        if (n <= 0) { /* QEMU closed it */
                c->serial = safe_close(c->serial);
                c->input_len = 0;
                return false;
        }
        (void)ring_log_append(c->log, c->chunk, (size_t)n, &start); /* a loss is noted in the log itself */
        FOREACH_READER(c, r)
                if (r->streaming && !r->gone && r->cursor == before && r->limit > before &&
                                r->note_sent >= r->note_len)
                        send_live(c, r, (size_t)n, start);
        return true;
}

static void flush_input(Console *c) {
        ssize_t n;

        if (c->serial < 0 || c->input_len == 0)
                return;
        n = send(c->serial, c->input, c->input_len, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return;
        if (n < 0) /* its reading side is shut: whatever is typed goes nowhere */
                n = (ssize_t)c->input_len;
        c->input_len -= (size_t)n;
        memmove(c->input, c->input + n, c->input_len);
}

int console_new(RingLog *log, int serial, int listen_console, int listen_log, Console **ret) {
        _cleanup_(console_freep) Console *c = calloc(1, sizeof(Console));
        int r;

        if (!c) {
                safe_close(serial);
                safe_close(listen_console);
                safe_close(listen_log);
                return -ENOMEM;
        }
        c->log = log;
        c->run_start = log->end;
        c->serial = serial;
        c->listeners[READER_CONSOLE] = listen_console;
        c->listeners[READER_LOG] = listen_log;
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++)
                c->readers[i].fd = -EBADF;
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++) {
                if (c->listeners[i] < 0)
                        continue;
                r = fd_set_nonblock(c->listeners[i], true); /* a client may be gone again before accept() */
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(c);
        return 0;
}

Console *console_free(Console *c) {
        if (!c)
                return NULL;
        FOREACH_READER(c, r)
                reader_close(c, r);
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++)
                safe_close(c->listeners[i]);
        safe_close(c->serial);
        free(c);
        return NULL;
}

void console_prepare(Console *c, struct pollfd *fds) {
        fds[POLL_SERIAL] = (struct pollfd){ .fd = c->serial,
                .events = (short)(POLLIN | (c->input_len > 0 ? POLLOUT : 0)) };
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++)
                fds[POLL_LISTENERS + i] = (struct pollfd){ .fd = c->accept_failed ? -1 : c->listeners[i],
                        .events = POLLIN };
        c->accept_failed = false; /* out of descriptors, say: after the next event it may go better */
        for (size_t i = 0; i < CONSOLE_READERS_MAX; i++) {
                const Reader *r = &c->readers[i];
                bool in = reader_wants_input(c, r), out = reader_has_output(c, r);

                /* poll() reports a hang-up whatever it is asked for: one that is known must not be polled
                 * while the guest takes no input. */
                fds[POLL_READERS + i] = (struct pollfd){ .fd = r->gone && !in ? -1 : r->fd,
                        .events = (short)((in ? POLLIN : 0) | (out ? POLLOUT : 0)) };
        }
}

void console_dispatch(Console *c, const struct pollfd *fds) {
        c->turn++; /* who comes first gets the room that there is for input */
        for (size_t n = 0; n < CONSOLE_READERS_MAX; n++) {
                size_t i = (c->turn + n) % CONSOLE_READERS_MAX;

                if (fds[POLL_READERS + i].revents != 0)
                        reader_dispatch(c, &c->readers[i], fds[POLL_READERS + i].revents);
        }
        FOREACH_READER(c, r)
                if (reader_is_done(r))
                        reader_close(c, r);
        accept_readers(c, fds + POLL_LISTENERS);
        if (fds[POLL_SERIAL].revents & (POLLIN | POLLHUP | POLLERR))
                (void)take_output(c);
        flush_input(c);
}

void console_drain(Console *c) {
        uint64_t end = c->log->end + DRAIN_MAX;

        while (c->log->end < end && take_output(c))
                ;
        for (size_t i = 0; i < ELEMENTSOF(c->listeners); i++)
                c->listeners[i] = safe_close(c->listeners[i]);
        c->serial = safe_close(c->serial);
        FOREACH_READER(c, r) {
                r->limit = MIN(r->limit, c->log->end);
                r->input_done = true;
                if (!reader_has_output(c, r))
                        reader_close(c, r);
        }
}

static uint64_t now_ms(void) {
        struct timespec ts;

        (void)clock_gettime(CLOCK_MONOTONIC, &ts); /* cannot fail for this clock */
        return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

void console_linger(Console *c) {
        uint64_t deadline = now_ms() + LINGER_MS;

        for (uint64_t now = now_ms(); now < deadline; now = now_ms()) {
                struct pollfd fds[CONSOLE_POLL_MAX];
                bool waiting = false;

                FOREACH_READER(c, r)
                        waiting = true;
                if (!waiting)
                        return;
                console_prepare(c, fds);
                if (poll(fds, CONSOLE_POLL_MAX, (int)(deadline - now)) <= 0)
                        return;
                console_dispatch(c, fds);
        }
}
