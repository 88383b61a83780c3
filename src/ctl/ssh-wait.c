/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU's user-mode network accepts a connection to the forwarded port before it knows whether anybody in the
 * guest will take it: then it closes it (nobody listens yet) or stays silent (the guest has no network yet).
 * Nothing tells when that changes, so connections are tried again: soon after one was closed, and every
 * other second while they are silent, with the older ones kept for a while, as a busy guest may yet answer
 * on them. The first that brings a greeting ends the wait, as does a VM that no longer runs. */

#include <arpa/inet.h>
#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "client/decode.h"
#include "ssh-wait.h"
#include "term.h"
#include "util/fd-util.h"

#define GREETING "SSH-"
#define GREETING_LEN (sizeof(GREETING) - 1)

#define RETRY_MIN_USEC (200 * USEC_PER_MSEC)
#define RETRY_MAX_USEC (1 * USEC_PER_SEC)
#define SILENT_USEC (2 * USEC_PER_SEC)

/* sshd drops connections at random from ten that have not logged in. */
#define ATTEMPTS_MAX 4

typedef struct SshWait SshWait;

typedef struct Attempt {
        SshWait *wait;
        int fd;
        sd_event_source *source;
        char greeting[GREETING_LEN];
        size_t n;
} Attempt;

struct SshWait {
        Ctl *ctl;
        const char *path;
        uint16_t port;
        uint64_t deadline, retry_usec;
        sd_event *event;
        sd_event_source *next, *tick, *end;
        sd_bus_slot *changed, *removed;
        ServiceWatch *watch;
        Attempt attempts[ATTEMPTS_MAX];
        size_t n_attempts;
        Progress progress;
        char *state; /* the VM's, as far as known */
        bool ended;
        int result;
};

static void attempt_end(Attempt *a) {
        a->source = sd_event_source_disable_unref(a->source);
        a->fd = safe_close(a->fd);
        a->n = 0;
}

static void wait_done(SshWait *w) {
        for (size_t i = 0; i < ATTEMPTS_MAX; i++)
                attempt_end(&w->attempts[i]);
        sd_event_source_disable_unref(w->next);
        sd_event_source_disable_unref(w->tick);
        sd_event_source_disable_unref(w->end);
        sd_bus_slot_unref(w->changed);
        sd_bus_slot_unref(w->removed);
        service_watch_free(w->watch);
        if (w->event)
                (void)sd_bus_detach_event(client_bus(w->ctl->client));
        sd_event_unref(w->event);
        progress_end(&w->progress);
        free(w->state);
}

/* Not sd_event_exit(): that closes the bus, which has still to tell why a VM is down. */
static int end(SshWait *w, int result) {
        w->ended = true;
        w->result = result;
        return 0;
}

static int arm(sd_event_source *timer, uint64_t at) {
        int r = sd_event_source_set_time(timer, at);

        return r < 0 ? r : sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
}

static int retry(SshWait *w) {
        int r = arm(w->next, now_monotonic() + w->retry_usec);

        w->retry_usec = MIN(w->retry_usec * 2, RETRY_MAX_USEC);
        return r;
}

static int on_socket(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Attempt *a = userdata;
        ssize_t n = recv(fd, a->greeting + a->n, GREETING_LEN - a->n, MSG_DONTWAIT);

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0) {
                a->n += (size_t)n;
                if (a->n < GREETING_LEN)
                        return 0;
                if (memcmp(a->greeting, GREETING, GREETING_LEN) == 0)
                        return end(a->wait, 0);
        }
        attempt_end(a);
        return retry(a->wait);
}

static int attempt_begin(SshWait *w, Attempt *a) {
        struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_port = htons(w->port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };

        attempt_end(a);
        a->wait = w;
        a->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (a->fd < 0)
                return -errno;
        if (connect(a->fd, (struct sockaddr *)&address, sizeof(address)) < 0 && errno != EINPROGRESS) {
                attempt_end(a);
                return retry(w);
        }
        return sd_event_add_io(w->event, &a->source, a->fd, EPOLLIN, on_socket, a);
}

static int on_next(sd_event_source *s, uint64_t usec, void *userdata) {
        SshWait *w = userdata;
        int r = arm(w->next, now_monotonic() + SILENT_USEC);

        return r < 0 ? r : attempt_begin(w, &w->attempts[w->n_attempts++ % ATTEMPTS_MAX]);
}

static int on_tick(sd_event_source *s, uint64_t usec, void *userdata) {
        SshWait *w = userdata;

        progress_update(&w->progress);
        return arm(s, progress_next(&w->progress));
}

static int on_end(sd_event_source *s, uint64_t usec, void *userdata) {
        return end(userdata, -ETIMEDOUT);
}

/* Of these the VM may still come to greet us. */
static bool is_hopeful(const char *state) {
        return streq(state, "running") || streq(state, "starting");
}

static int take_state(SshWait *w, const char *state) {
        int r;

        r = free_and_strdup(&w->state, state);
        if (r < 0)
                return r;
        return is_hopeful(state) ? 0 : end(w, -EHOSTDOWN);
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_json_ Json *changed = NULL;
        SshWait *w = userdata;
        const char *state;

        if (!client_from_service(w->ctl->client, m) || sd_bus_message_skip(m, "s") < 0 ||
                        client_decode(m, &changed) < 0)
                return 0;
        state = json_get_string(changed, "State");
        return state ? take_state(w, state) : 0;
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        SshWait *w = userdata;
        const char *name, *path;

        if (!client_from_service(w->ctl->client, m) || sd_bus_message_read(m, "so", &name, &path) < 0)
                return 0;
        return streq(path, w->path) ? take_state(w, "destroyed") : 0;
}

/* What happened to the VM while the service was away was not signalled. */
static void on_service_changed(void *userdata, bool present) {
        _cleanup_free_ char *state = NULL;
        SshWait *w = userdata;

        if (present && client_get_string(w->ctl->client, w->path, VMCTL_VM, "State", &state, NULL) >= 0)
                (void)take_state(w, state);
}

static int add_timer(SshWait *w, sd_event_source **ret, uint64_t at, sd_event_time_handler_t handler) {
        return sd_event_add_time(w->event, ret, CLOCK_MONOTONIC, at, 1, handler, w);
}

static int wait_init(SshWait *w) {
        sd_bus *bus = client_bus(w->ctl->client);
        int r;

        r = sd_event_new(&w->event);
        if (r >= 0)
                r = sd_bus_attach_event(bus, w->event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, &w->changed, VMCTL_SERVICE, w->path,
                                "org.freedesktop.DBus.Properties", "PropertiesChanged", on_changed, NULL, w);
        if (r >= 0)
                r = sd_bus_match_signal_async(bus, &w->removed, VMCTL_SERVICE, VMCTL_MANAGER_PATH,
                                VMCTL_MANAGER, "VMRemoved", on_removed, NULL, w);
        if (r >= 0)
                r = service_watch_new(w->ctl->client, on_service_changed, w, &w->watch);
        if (r >= 0)
                r = add_timer(w, &w->end, w->deadline, on_end);
        if (r >= 0)
                r = add_timer(w, &w->next, 0, on_next);
        if (r >= 0)
                r = add_timer(w, &w->tick, progress_next(&w->progress), on_tick);
        return r;
}

/* Why there is no use in waiting. */
static int report_state(Ctl *c, const char *name, const char *path, const char *state) {
        _cleanup_free_ char *message = NULL, *hint = NULL;
        const char *verb = streq(state, "suspended") ? "resume" : streq(state, "stopping") ? NULL : "start";

        if (streq(state, "destroyed"))
                return ctl_complain(NULL, "Failed to reach VM '%s': it was destroyed", name);
        if (streq(state, "failed"))
                (void)client_get_string(c->client, path, VMCTL_VM, "FailureMessage", &message, NULL);
        hint = verb ? strf("'vmctl %s %s' lets it run.", verb, name) : NULL;
        return ctl_complain(hint, "Failed to reach VM '%s': it is %s%s%s", name, state,
                        isempty(message) ? "" : ": ", message ?: "");
}

int ssh_wait(Ctl *c, const char *name, const char *path, uint16_t port, uint64_t deadline) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *text = strf("Waiting for ssh on VM '%s'…", name), *state = NULL;
        _cleanup_(wait_done) SshWait w = {
                .ctl = c,
                .path = path,
                .port = port,
                .deadline = deadline,
                .retry_usec = RETRY_MIN_USEC,
                .attempts = { { .fd = -EBADF }, { .fd = -EBADF }, { .fd = -EBADF }, { .fd = -EBADF } },
        };
        int r;

        progress_begin(&w.progress, text);
        r = wait_init(&w);
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to wait for VM '%s'", name);
        r = client_get_string(c->client, path, VMCTL_VM, "State", &state, &error);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to reach VM '%s'", name);
        if (!is_hopeful(state))
                return report_state(c, name, path, state);
        while (r >= 0 && !w.ended)
                r = sd_event_run(w.event, UINT64_MAX);
        r = w.ended ? w.result : r;
        progress_end(&w.progress);
        if (r == -EHOSTDOWN)
                return report_state(c, name, path, w.state);
        if (r == -ETIMEDOUT) {
                ctl_complain("'vmctl log' and 'vmctl console' show how far the guest has come.",
                                "VM '%s' runs, but its sshd did not answer in time", name);
                return EXIT_TIMED_OUT;
        }
        return r < 0 ? ctl_report(c, NULL, r, "Failed to wait for VM '%s'", name) : 0;
}

int ssh_wait_for_vm(Ctl *c, const char *name, uint64_t deadline) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(name);
        uint16_t port;
        int r;

        if (!path)
                return ctl_oom();
        r = client_get(c->client, path, VMCTL_VM, "SSHPort", "q", &m, &error);
        if (r >= 0)
                r = sd_bus_message_read(m, "q", &port);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to reach VM '%s'", name);
        if (port == 0)
                return ctl_complain("Its network is 'none'; 'vmctl console' needs no network.",
                                "VM '%s' cannot be reached by ssh", name);
        return ssh_wait(c, name, path, port, deadline);
}
