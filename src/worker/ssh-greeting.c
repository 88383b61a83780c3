/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A user-mode network accepts connections before it knows whether somebody in the guest takes them,
 * then closes them (nobody listens) or stays silent (the guest has no network yet). So only a greeting
 * counts. Nothing tells when it could come, so we connect again, soon after a connection was closed, every
 * other second while they are silent. The older ones are kept for a while, as a busy guest may yet answer
 * there. Each costs it a process, so the longer it takes the fewer there are, and the longer each is kept:
 * else one that is too slow for that would be kept busy by us and never answer. */
#include <arpa/inet.h>
#include <poll.h>

#include "ssh-greeting.h"
#include "ssh-session.h"
#include "util/fd-util.h"

#define GREETING_LEN 4 /* "SSH-"; an sshd may send other lines before, which libssh2 skips */

#define RETRY_MIN_USEC (250 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (1 * USEC_PER_SEC)
#define SILENT_MIN_USEC (2 * USEC_PER_SEC)
#define SILENT_SHARE 8 /* of the time that we have waited */

/* sshd drops connections at random from ten that have not logged in. */
#define ATTEMPTS_MAX 6

typedef struct Greeter {
        const SshAddress *address;
        struct pollfd polled[ATTEMPTS_MAX + 1]; /* the last is cancel_fd */
        uint64_t begun[ATTEMPTS_MAX];
        size_t n_attempts;
        uint64_t begin, next, retry_usec;
        const char *why;
} Greeter;

int ssh_address_parse(const char *host, uint16_t port, SshAddress *ret) {
        *ret = (SshAddress){};
        if (inet_pton(AF_INET, host, &ret->ip4.sin_addr) == 1) {
                ret->ip4.sin_family = AF_INET;
                ret->ip4.sin_port = htons(port);
                return 0;
        }
        if (inet_pton(AF_INET6, host, &ret->ip6.sin6_addr) == 1) {
                ret->ip6.sin6_family = AF_INET6;
                ret->ip6.sin6_port = htons(port);
                return 0;
        }
        return -EINVAL;
}

static void greeter_done(Greeter *g) {
        for (size_t i = 0; i < ATTEMPTS_MAX; i++)
                safe_close(g->polled[i].fd);
}

static void retry_soon(Greeter *g, const char *why) {
        g->why = why;
        g->next = now_usec() + g->retry_usec;
        g->retry_usec = MIN(g->retry_usec * 2, RETRY_MAX_USEC);
}

static int attempt_begin(Greeter *g) {
        size_t i = g->n_attempts++ % ATTEMPTS_MAX;
        struct pollfd *p = &g->polled[i];
        socklen_t len = g->address->any.sa_family == AF_INET ? sizeof(g->address->ip4)
                                                             : sizeof(g->address->ip6);
        uint64_t now = now_usec();
        int enough = GREETING_LEN;

        safe_close(p->fd);
        g->begun[i] = now;
        p->fd = socket(g->address->any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (p->fd < 0)
                return -errno;
        p->events = POLLIN;
        /* or a single byte would wake us again and again */
        if (setsockopt(p->fd, SOL_SOCKET, SO_RCVLOWAT, &enough, sizeof(enough)) < 0)
                return -errno;
        g->next = now + MAX(SILENT_MIN_USEC, (now - g->begin) / SILENT_SHARE);
        if (!g->why)
                g->why = "it is silent";
        if (connect(p->fd, &g->address->any, len) < 0 && errno != EINPROGRESS) {
                p->fd = safe_close(p->fd);
                retry_soon(g, "nothing listens there");
        }
        return 0;
}

/* Whether this one is it. */
static bool attempt_look(Greeter *g, struct pollfd *p) {
        char greeting[GREETING_LEN];
        ssize_t n = recv(p->fd, greeting, sizeof(greeting), MSG_PEEK | MSG_DONTWAIT);

        if (n == sizeof(greeting))
                return true;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return false;
        p->fd = safe_close(p->fd);
        /* After a long silence the next is due as if it lasted: passt gives a guest ten seconds. */
        if (now_usec() - g->begun[p - g->polled] >= SILENT_MIN_USEC)
                return false;
        retry_soon(g,
                        n < 0 && errno == ECONNREFUSED ? "nothing listens there"
                                                       : "connections are closed at once");
        return false;
}

static int until(uint64_t deadline) {
        uint64_t now = now_usec();

        return deadline > now ? (int)MIN((deadline - now + 999) / USEC_PER_MSEC, UINT64_C(60000)) : 0;
}

static int greeter_turn(Greeter *g, uint64_t deadline, int *ret_fd) {
        int r;

        if (now_usec() >= g->next) {
                r = attempt_begin(g);
                if (r < 0)
                        return r;
        }
        if (poll(g->polled, ELEMENTSOF(g->polled), until(MIN(g->next, deadline))) < 0)
                return errno == EINTR ? 0 : -errno;
        if (g->polled[ATTEMPTS_MAX].revents != 0)
                return -ECANCELED;
        for (size_t i = 0; i < ATTEMPTS_MAX; i++)
                if (g->polled[i].fd >= 0 && g->polled[i].revents != 0 && attempt_look(g, &g->polled[i])) {
                        *ret_fd = TAKE_FD(g->polled[i].fd);
                        return 1;
                }
        return now_usec() >= deadline ? -ETIMEDOUT : 0;
}

int ssh_greet(const SshAddress *address, int cancel_fd, uint64_t deadline, int *ret_fd,
                const char **ret_why) {
        _cleanup_(greeter_done) Greeter g = {
                .address = address, .begin = now_usec(), .retry_usec = RETRY_MIN_USEC
        };
        int one = 1, r = 0;

        for (size_t i = 0; i < ATTEMPTS_MAX; i++)
                g.polled[i].fd = -EBADF;
        g.polled[ATTEMPTS_MAX] = (struct pollfd){ .fd = cancel_fd, .events = POLLIN };
        while (r == 0)
                r = greeter_turn(&g, deadline, ret_fd);
        *ret_why = g.why ?: "it is silent";
        if (r < 0)
                return r;
        return setsockopt(*ret_fd, SOL_SOCKET, SO_RCVLOWAT, &one, sizeof(one)) < 0 ? -errno : 0;
}
