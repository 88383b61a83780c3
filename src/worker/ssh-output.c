/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <poll.h>
#include <unistd.h>

#include "ssh-output.h"
#include "ssh-session.h"

#define TAIL_LINES 10

static int wait_writable(SshOutput *o) {
        struct pollfd p[] = {
                { .fd = o->fd, .events = POLLOUT },
                { .fd = o->cancel_fd, .events = POLLIN },
        };
        uint64_t now = now_usec();
        int timeout = -1;

        if (now >= o->deadline)
                return -ETIMEDOUT;
        if (o->deadline != USEC_INFINITY)
                timeout = (int)MIN((o->deadline - now) / USEC_PER_MSEC + 1, UINT64_C(3600000));
        if (poll(p, ELEMENTSOF(p), timeout) < 0 && errno != EINTR)
                return -errno;
        return p[1].revents != 0 ? -ECANCELED : 0;
}

static int send_all(SshOutput *o, const void *data, size_t len) {
        const char *p = data;

        while (len > 0) {
                ssize_t n = write(o->fd, p, len);
                int r;

                if (n >= 0) {
                        p += n;
                        len -= (size_t)n;
                        continue;
                }
                if (errno != EAGAIN && errno != EINTR)
                        return -errno;
                r = wait_writable(o);
                if (r < 0)
                        return r;
        }
        return 0;
}

static void remember(SshOutput *o, const char *data, size_t len) {
        if (len > SSH_TAIL_MAX) {
                o->seen += len - SSH_TAIL_MAX;
                data += len - SSH_TAIL_MAX;
                len = SSH_TAIL_MAX;
        }
        while (len > 0) {
                size_t at = o->seen % SSH_TAIL_MAX, n = MIN(len, SSH_TAIL_MAX - at);

                memcpy(o->tail + at, data, n);
                o->seen += n;
                data += n;
                len -= n;
        }
}

/* A frame that was begun and given up ends everything: nothing may follow it. */
static int send_frame(SshOutput *o, unsigned stream, const void *data, size_t len) {
        struct {
                ProvisionFrame frame;
                char data[PROVISION_FRAME_MAX];
        } out = { .frame = { .step = o->step, .stream = (uint16_t)stream, .length = (uint32_t)len } };
        int r;

        memcpy(out.data, data, len);
        r = send_all(o, &out, sizeof(out.frame) + len);
        if (r < 0)
                o->fd = -EBADF;
        return r;
}

int ssh_output_write(SshOutput *o, unsigned stream, const void *data, size_t len) {
        const char *p = data;

        remember(o, data, len);
        if (o->log) {
                int r = provision_log_write(o->log, data, len);

                if (r < 0)
                        return r;
        }
        while (len > 0 && o->fd >= 0) {
                size_t n = MIN(len, (size_t)PROVISION_FRAME_MAX);
                int r = send_frame(o, stream, p, n);

                if (r < 0)
                        return r;
                p += n;
                len -= n;
        }
        return 0;
}

int ssh_output_end(SshOutput *o) {
        return o->fd >= 0 ? send_frame(o, 1, "", 0) : 0;
}

/* Where the last `lines` lines begin. */
static const char *last_lines(const char *text, size_t len, size_t lines) {
        const char *p = text + len;

        while (p > text)
                if (*--p == '\n' && p < text + len - 1 && --lines == 0)
                        return p + 1;
        return text;
}

char *ssh_output_tail(const SshOutput *o, const char *separator) {
        size_t len = (size_t)MIN(o->seen, (uint64_t)SSH_TAIL_MAX),
               start = (size_t)(o->seen - len) % SSH_TAIL_MAX;
        char text[SSH_TAIL_MAX];
        const char *p, *end = text + len;
        char *out = strdup("");

        for (size_t i = 0; i < len; i++)
                text[i] = o->tail[(start + i) % SSH_TAIL_MAX];
        for (p = last_lines(text, len, TAIL_LINES); out && p < end;) {
                const char *newline = memchr(p, '\n', (size_t)(end - p)), *stop = newline ?: end;
                _cleanup_free_ char *line = string_escape(p, (size_t)(stop - p), SSH_TAIL_MAX);
                char *longer = line ? strf("%s%s%s", out, separator, line) : NULL;

                free(out);
                out = longer;
                p = stop + 1;
        }
        return out;
}
