/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>
#include <sys/socket.h>

#include "launch-protocol.h"
#include "util/fd-util.h"
#include "util/string-util.h"

const char *const launch_environment[] = { "http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy",
        "ALL_PROXY", "no_proxy", "NO_PROXY", NULL };

typedef union Control {
        struct cmsghdr header;
        char space[CMSG_SPACE(PACKET_FDS_MAX * sizeof(int))];
} Control;

void packet_done(Packet *p) {
        p->texts = strv_free(p->texts);
        while (p->n_fds > 0)
                safe_close(p->fds[--p->n_fds]);
}

/* Each text with the NUL at its end. */
static int join(char *const *texts, char **ret, size_t *ret_len) {
        _cleanup_free_ char *all = NULL;
        size_t len = 0, n = 0;

        STRV_FOREACH(t, texts) {
                len += strlen(*t) + 1;
                if (++n > PACKET_TEXTS_MAX)
                        return -E2BIG;
        }
        all = malloc(len + 1);
        if (!all)
                return -ENOMEM;
        *ret_len = 0;
        STRV_FOREACH(t, texts) {
                size_t size = strlen(*t) + 1;

                memcpy(all + *ret_len, *t, size);
                *ret_len += size;
        }
        *ret = TAKE_PTR(all);
        return 0;
}

int packet_send(int socket, const void *header, size_t size, char *const *texts, const int *fds,
                size_t n_fds) {
        _cleanup_free_ char *joined = NULL;
        Control control = {};
        struct iovec iov[2] = { { (void *)header, size } };
        struct msghdr m = { .msg_iov = iov, .msg_iovlen = ELEMENTSOF(iov) };
        ssize_t n;
        int r;

        if (n_fds > PACKET_FDS_MAX)
                return -E2BIG;
        r = join(texts, &joined, &iov[1].iov_len);
        if (r < 0)
                return r;
        iov[1].iov_base = joined;
        if (size + iov[1].iov_len > PACKET_SIZE_MAX)
                return -EMSGSIZE;
        if (n_fds > 0) {
                control.header = (struct cmsghdr){ .cmsg_len = CMSG_LEN(n_fds * sizeof(int)),
                        .cmsg_level = SOL_SOCKET,
                        .cmsg_type = SCM_RIGHTS };
                memcpy(CMSG_DATA(&control.header), fds, n_fds * sizeof(int));
                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
        }
        do
                n = sendmsg(socket, &m, MSG_NOSIGNAL);
        while (n < 0 && errno == EINTR);
        return n < 0 ? -errno : 0;
}

static void take_fds(struct msghdr *m, Packet *p) {
        for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
                size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                memcpy(p->fds, CMSG_DATA(c), n * sizeof(int)); /* one such header fits */
                p->n_fds = n;
        }
}

static int split(const char *joined, size_t len, char ***ret) {
        _cleanup_strv_ char **texts = NULL;
        size_t n = 0;

        for (const char *p = joined; len > 0;) {
                size_t size = strnlen(p, len) + 1;

                if (size > len || ++n > PACKET_TEXTS_MAX)
                        return -EBADMSG;
                if (strv_extend(&texts, p) < 0)
                        return -ENOMEM;
                p += size;
                len -= size;
        }
        *ret = TAKE_PTR(texts);
        return 0;
}

int packet_receive(int socket, void *header, size_t size, Packet *ret) {
        char joined[PACKET_SIZE_MAX]; /* of which the kernel gives as much as comes */
        _cleanup_(packet_done) Packet p = {};
        Control control;
        struct iovec iov[] = { { header, size }, { joined, sizeof(joined) } };
        struct msghdr m = { .msg_iov = iov,
                .msg_iovlen = ELEMENTSOF(iov),
                .msg_control = &control,
                .msg_controllen = sizeof(control) };
        ssize_t n;
        int r;

        do
                n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
        while (n < 0 && errno == EINTR);
        if (n < 0)
                return errno == ECONNRESET ? 0 : -errno;
        take_fds(&m, &p);
        if (n == 0)
                return 0;
        if ((size_t)n < size || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)))
                return -EBADMSG;
        r = split(joined, (size_t)n - size, &p.texts);
        if (r < 0)
                return r;
        *ret = p;
        p = (Packet){};
        return 1;
}
