/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "fake-qmp.h"
#include "util/fd-util.h"
#include "util/test.h"

typedef struct Buffer {
        char *data;
        size_t len, size;
} Buffer;

struct FakeQmp {
        sd_event_source *io;
        int fd;
        FakeQmpFlags flags;
        fake_qmp_command_t handler;
        void *userdata;
        bool hang_up, deaf;
        unsigned n_commands;

        Buffer in;
        int passed_fd;

        Buffer out;
        size_t out_start; /* up to here it is sent */
};

static void append(Buffer *b, const char *data, size_t n) {
        if (n > b->size - b->len) {
                size_t size = MAX(b->size * 2, b->len + n);
                char *grown = realloc(b->data, size);

                CHECK(grown);
                b->data = grown;
                b->size = size;
        }
        memcpy(b->data + b->len, data, n);
        b->len += n;
}

static void disconnect(FakeQmp *f) {
        f->io = sd_event_source_disable_unref(f->io);
        f->fd = safe_close(f->fd);
}

static void set_events(FakeQmp *f) {
        uint32_t events = (f->deaf ? 0 : EPOLLIN) | (f->out_start < f->out.len ? EPOLLOUT : 0);

        if (f->io)
                CHECK(sd_event_source_set_io_events(f->io, events) >= 0);
}

static void flush(FakeQmp *f) {
        while (f->fd >= 0 && f->out_start < f->out.len) {
                ssize_t n = send(f->fd, f->out.data + f->out_start, f->out.len - f->out_start,
                                MSG_DONTWAIT | MSG_NOSIGNAL);

                if (n < 0 && errno == EAGAIN)
                        break;
                if (n < 0) {
                        disconnect(f);
                        break;
                }
                f->out_start += (size_t)n;
        }
        if (f->out_start == f->out.len) {
                f->out_start = f->out.len = 0;
                if (f->hang_up)
                        disconnect(f);
        }
        set_events(f);
}

static void on_command(FakeQmp *f, const Json *message) {
        _cleanup_close_ int fd = TAKE_FD(f->passed_fd);
        FakeQmpCommand command = {
                .name = json_get_string(message, "execute"),
                .arguments = json_get(message, "arguments"),
                .fd = fd,
        };

        CHECK(command.name);
        CHECK_EQ(json_get_unsigned(message, "id", &command.id), 0);
        f->n_commands++;
        if (streq(command.name, "qmp_capabilities") && !(f->flags & FAKE_QMP_PASS_NEGOTIATION))
                fake_qmp_return(f, command.id, "{}");
        else if (f->handler)
                f->handler(f, &command, f->userdata);
        else
                fake_qmp_return(f, command.id, "{}");
}

/* QEMU forgets half a command when it meets a byte that is not UTF-8, and says so. */
static char *resync(FakeQmp *f, char *line) {
        char *bad = strrchr(line, '\xff');

        if (!bad)
                return line;
        fake_qmp_say(f, "{\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error\"}}\r\n");
        return bad + 1;
}

static void take_lines(FakeQmp *f) {
        char *newline;

        while (f->in.len > 0 && (newline = memchr(f->in.data, '\n', f->in.len))) {
                size_t len = (size_t)(newline - f->in.data);
                _cleanup_json_ Json *message = NULL;
                _cleanup_error_ Error *error = NULL;
                char *line = f->in.data;

                *newline = '\0';
                line = resync(f, line);
                if (json_parse(line, strlen(line), NULL, &message, &error) < 0)
                        TEST_FAIL("the client said '%s': %s", line, error_message(error));
                memmove(f->in.data, newline + 1, f->in.len - len - 1);
                f->in.len -= len + 1;
                on_command(f, message);
        }
}

static void take_fd(FakeQmp *f, struct msghdr *message) {
        struct cmsghdr *c = CMSG_FIRSTHDR(message);

        if (!c)
                return;
        CHECK(c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS &&
                        c->cmsg_len == CMSG_LEN(sizeof(int)));
        safe_close(f->passed_fd);
        memcpy(&f->passed_fd, CMSG_DATA(c), sizeof(int));
}

/* One byte at a time, as QEMU reads; so a descriptor belongs to the command whose first byte brings it. */
static bool receive_byte(FakeQmp *f) {
        union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(int))];
        } control;
        char byte;
        struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
        struct msghdr message = {
                .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control)
        };
        ssize_t n = recvmsg(f->fd, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

        if (n < 0 && errno == EAGAIN)
                return false;
        if (n <= 0) {
                disconnect(f);
                return false;
        }
        take_fd(f, &message);
        append(&f->in, &byte, 1);
        if (byte == '\n')
                take_lines(f);
        return f->fd >= 0 && !f->deaf;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        FakeQmp *f = userdata;

        if (revents & EPOLLIN)
                while (receive_byte(f))
                        ;
        else if (revents & (EPOLLHUP | EPOLLERR))
                disconnect(f);
        if (f->fd >= 0)
                flush(f);
        return 0;
}

int fake_qmp_new(sd_event *event, FakeQmpFlags flags, fake_qmp_command_t handler, void *userdata,
                int *ret_fd, FakeQmp **ret) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        _cleanup_(fake_qmp_freep) FakeQmp *f = NULL;
        int r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        f = malloc(sizeof(FakeQmp));
        if (!f)
                return -ENOMEM;
        *f = (FakeQmp){
                .fd = TAKE_FD(pair[1]),
                .flags = flags,
                .handler = handler,
                .userdata = userdata,
                .passed_fd = -EBADF,
        };
        r = sd_event_add_io(event, &f->io, f->fd, 0, on_io, f);
        if (r < 0)
                return r;
        if (!(flags & FAKE_QMP_SILENT))
                fake_qmp_greet(f);
        set_events(f);
        *ret_fd = TAKE_FD(pair[0]);
        *ret = TAKE_PTR(f);
        return 0;
}

FakeQmp *fake_qmp_free(FakeQmp *f) {
        if (!f)
                return NULL;
        disconnect(f);
        safe_close(f->passed_fd);
        free(f->in.data);
        free(f->out.data);
        free(f);
        return NULL;
}

void fake_qmp_say_n(FakeQmp *f, const char *data, size_t len) {
        append(&f->out, data, len);
        flush(f);
}

void fake_qmp_say(FakeQmp *f, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;
        int n;

        va_start(ap, format);
        n = vasprintf(&text, format, ap);
        va_end(ap);
        CHECK(n >= 0);
        fake_qmp_say_n(f, text, (size_t)n);
}

void fake_qmp_greet(FakeQmp *f) {
        fake_qmp_say(f,
                        "{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 0, \"minor\": 2, \"major\": 7}, "
                        "\"package\": \"\"}, \"capabilities\": [\"oob\"]}}\r\n");
}

void fake_qmp_return(FakeQmp *f, uint64_t id, const char *value) {
        fake_qmp_say(f, "{\"return\": %s, \"id\": %" PRIu64 "}\r\n", value, id);
}

void fake_qmp_refuse(FakeQmp *f, uint64_t id, const char *class, const char *description) {
        fake_qmp_say(f, "{\"id\": %" PRIu64 ", \"error\": {\"class\": \"%s\", \"desc\": \"%s\"}}\r\n", id,
                        class, description);
}

void fake_qmp_event(FakeQmp *f, const char *name, const char *data) {
        fake_qmp_say(f,
                        "{\"timestamp\": {\"seconds\": 1700000000, \"microseconds\": 250000}, \"event\": "
                        "\"%s\"%s%s}\r\n",
                        name, data ? ", \"data\": " : "", data ?: "");
}

void fake_qmp_hang_up(FakeQmp *f) {
        f->hang_up = true;
        flush(f);
}

void fake_qmp_set_deaf(FakeQmp *f, bool deaf) {
        f->deaf = deaf;
        set_events(f);
}

unsigned fake_qmp_n_commands(const FakeQmp *f) {
        return f->n_commands;
}

size_t fake_qmp_n_unsent(const FakeQmp *f) {
        return f->out.len - f->out_start;
}
