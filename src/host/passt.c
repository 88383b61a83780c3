/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/task.h"
#include "passt.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define TRIAL_TIMEOUT (5 * USEC_PER_SEC) /* 15 ms on an idle host */
#define RESOLV_CONF_MAX (64 * KIB)
#define BINARY_MAX (16 * MIB) /* it has half of one */

/* The guest sees what it would see behind QEMU's own user-mode network. */
#define GUEST_ADDRESS "10.0.2.15"
#define GATEWAY "10.0.2.2"
#define NAME_SERVER "10.0.2.3"

struct Passt {
        sd_event *event;  /* borrowed */
        const char *path; /* borrowed */
        struct stat binary;
        bool known;   /* what follows is of this binary */
        char *reason; /* why it cannot be used; NULL: it can */
        Task *task;   /* the trial */
        passt_done_t done;
        void *userdata;
};

int passt_new(sd_event *event, const char *path, Passt **ret) {
        Passt *p = malloc(sizeof(Passt));

        if (!p)
                return -ENOMEM;
        *p = (Passt){ .event = event, .path = path };
        *ret = p;
        return 0;
}

Passt *passt_free(Passt *p) {
        if (!p)
                return NULL;
        task_free(p->task);
        free(p->reason);
        free(p);
        return NULL;
}

static void set_reason(Passt *p, char *reason) {
        free(p->reason);
        p->reason = reason;
}

static void on_trial(void *userdata, int status, const char *output, size_t len) {
        Passt *p = userdata;

        p->task = task_free(p->task);
        if (status > 0)
                set_reason(p,
                                strf("'%s' does not start as it should (status %i): it is from "
                                     "before November 2024, or user namespaces are forbidden",
                                                p->path, status));
        else if (status < 0) /* bad luck, perhaps: the next one tries again */
                set_reason(p, strf("'%s' could not be tried: %s", p->path, strerror(-status)));
        if (p->reason)
                log_info("%s", p->reason);
        p->known = true;
        p->done(p->userdata);
        p->known = status >= 0;
}

/* A program that has no word for the option does not know it. To try it would fill the journal with its
 * help. */
static bool is_too_old(const char *path) {
        _cleanup_free_ char *text = NULL;
        size_t len = 0;

        return read_file_at(AT_FDCWD, path, BINARY_MAX, &text, &len) >= 0 && len > 4 &&
                        memcmp(text, "\177ELF", 4) == 0 &&
                        !memmem(text, len, "dns-host", strlen("dns-host"));
}

/* QEMU's end of its socket is closed already, so it ends as soon as it is ready. */
static int try(Passt *p) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        _cleanup_strv_ char **argv = NULL;
        int r;

        r = passt_command(p->path, 3, NULL, "127.0.0.1", &argv);
        if (r < 0)
                return r;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        const ChildFd fds[] = { { pair[1], 3 } };
        const ChildSpec spec = {
                .argv = argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT | CHILD_NO_NEW_PRIVS | CHILD_NEW_SESSION,
        };
        pair[0] = safe_close(pair[0]);
        return task_run(p->event, &spec, NULL, 0, TRIAL_TIMEOUT, on_trial, p, &p->task);
}

static bool same_binary(const struct stat *a, const struct stat *b) {
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
                        a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int passt_ensure(Passt *p, passt_done_t done, void *userdata) {
        struct stat st = {};
        int r;

        if (p->task)
                return 0;
        if (stat(p->path, &st) < 0) {
                set_reason(p, strf("'%s': %s", p->path, strerror(errno)));
                p->known = false;
                return 1;
        }
        if (p->known && same_binary(&st, &p->binary))
                return 1;
        set_reason(p, NULL);
        p->known = false;
        p->binary = st;
        if (is_too_old(p->path)) {
                set_reason(p, strf("'%s' is from before November 2024", p->path));
                log_info("%s", p->reason ?: "passt is too old");
                p->known = true;
                return 1;
        }
        p->done = done;
        p->userdata = userdata;
        r = try(p);
        if (r >= 0)
                return 0;
        set_reason(p, strf("'%s' cannot be executed: %s", p->path, strerror(-r)));
        return 1;
}

bool passt_is_tried(const Passt *p) {
        return p->task;
}

bool passt_works(const Passt *p, const char **ret_reason) {
        const char *reason = p->known || p->reason ? p->reason : "it was not tried";

        if (ret_reason)
                *ret_reason = reason;
        return !reason;
}

/* Only addresses of the host's loopback are bound, and none is shown to the guest. */
int passt_command(const char *path, int fd, const char *ports, const char *resolver, char ***ret) {
        static const char *const fixed[] = { "--foreground", "--quiet", "--no-map-gw", "--address",
                GUEST_ADDRESS, "--netmask", "24", "--gateway", GATEWAY, "--udp-ports", "none", "--pid",
                "/proc/self/fd/1" };
        _cleanup_strv_ char **argv = NULL;
        int r;

        r = strv_extend(&argv, path);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(fixed); i++)
                r = strv_extend(&argv, fixed[i]);
        if (r >= 0)
                r = strv_extendf(&argv, "--fd=%i", fd);
        if (r >= 0)
                r = ports ? strv_extendf(&argv, "--tcp-ports=127.0.0.1/%s", ports)
                          : strv_extend(&argv, "--tcp-ports=none");
        if (r >= 0 && resolver) {
                r = strv_extend(&argv, "--dns=" NAME_SERVER);
                if (r >= 0)
                        r = strv_extend(&argv, "--dns-forward=" NAME_SERVER);
                if (r >= 0)
                        r = strv_extendf(&argv, "--dns-host=%s", resolver);
        }
        if (r < 0)
                return r;
        *ret = TAKE_PTR(argv);
        return 0;
}

char *passt_find_resolver(const char *resolv_conf) {
        _cleanup_free_ char *text = NULL;
        struct in_addr address;

        if (read_file_at(AT_FDCWD, resolv_conf, RESOLV_CONF_MAX, &text, NULL) < 0)
                return NULL;
        for (char *rest = text, *line; (line = strsep(&rest, "\n"));) {
                char *value = (char *)startswith(line, "nameserver");

                if (!value || (*value != ' ' && *value != '\t'))
                        continue;
                value += strspn(value, " \t");
                value[strcspn(value, " \t\r")] = '\0';
                return inet_pton(AF_INET, value, &address) == 1 ? strdup(value) : NULL;
        }
        return NULL;
}
