/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A guest that is up greets within milliseconds, and then that is all. Else the service waits for it: a job,
 * which ends with the VM at the latest. */

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>

#include "job-wait.h"
#include "ssh-wait.h"
#include "term.h"
#include "util/fd-util.h"

#define GREETING "SSH-"
#define GREETING_LEN (sizeof(GREETING) - 1)
#define ATTEMPTS_MAX 10   /* a service that goes away so often will not do it next time */
#define GREETING_MSEC 300 /* who is slower is waited for by the service, which costs no more than a job */

/* QEMU's user-mode network takes a connection before it knows whether anybody in the guest does. */
static bool greets(uint16_t port) {
        _cleanup_close_ int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_in address = {
                .sin_family = AF_INET,
                .sin_port = htons(port),
                .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        };
        struct pollfd p = { .fd = fd, .events = POLLIN };
        char greeting[GREETING_LEN];

        if (fd < 0 ||
                        (connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0 &&
                                        errno != EINPROGRESS))
                return false;
        return poll(&p, 1, GREETING_MSEC) > 0 &&
                        recv(fd, greeting, sizeof(greeting), 0) == (ssize_t)sizeof(greeting) &&
                        memcmp(greeting, GREETING, sizeof(greeting)) == 0;
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        bool *changed = userdata;

        *changed = true;
        return 0;
}

static void on_service(void *userdata, bool present) {
        bool *changed = userdata;

        *changed |= present;
}

/* The state of the VM, which is none in which it starts. A service that comes back tells nobody of a change
 * who has not asked it, and one that we did not read from has told of changes in vain. */
static int get_state(Ctl *c, const char *path, uint64_t deadline, char **ret, Error **reterr) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *properties = NULL, *signals_lost = NULL;
        _cleanup_(service_watch_freep) ServiceWatch *watch = NULL;
        sd_bus *bus = client_bus(c->client);
        bool changed = true;
        int r;

        r = sd_bus_match_signal(bus, &properties, VMCTL_SERVICE, path, DBUS_PROPERTIES, "PropertiesChanged",
                        on_changed, &changed);
        if (r >= 0)
                r = sd_bus_match_signal(bus, &signals_lost, VMCTL_SERVICE, VMCTL_MANAGER_PATH, VMCTL_MANAGER,
                                "SignalsLost", on_changed, &changed);
        if (r >= 0)
                r = service_watch_new(c->client, on_service, &changed, &watch);
        if (r < 0)
                return client_error(c->client, r, reterr);
        for (;;) {
                _cleanup_free_ char *state = NULL;

                changed = false;
                r = client_get_string(c->client, path, VMCTL_VM, "State", &state, reterr);
                if (r < 0)
                        return r;
                if (!streq(state, "starting")) {
                        *ret = TAKE_PTR(state);
                        return 0;
                }
                while (!changed) {
                        r = ctl_step(c, deadline, NULL);
                        if (r < 0)
                                return client_error(c->client, r, reterr);
                }
        }
}

/* Why there is no use in waiting. */
static int report_state(Ctl *c, const char *name, const char *path, const char *state) {
        _cleanup_free_ char *message = NULL, *hint = NULL;
        const char *verb = streq(state, "suspended") ? "resume" : streq(state, "stopping") ? NULL : "start";

        if (streq(state, "failed"))
                (void)client_get_string(c->client, path, VMCTL_VM, "FailureMessage", &message, NULL);
        hint = verb ? strf("'vmctl %s %s' lets it run.", verb, name) : NULL;
        return ctl_complain(hint, "Failed to reach VM '%s': it is %s%s%s", name, state,
                        isempty(message) ? "" : ": ", message ?: "");
}

/* Negative: `w` tells why not. */
static int wait_ready(JobWait *w, const char *path, uint64_t deadline) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        uint64_t now = now_monotonic();
        int r;

        r = client_new_call(w->ctl->client, path, VMCTL_VM, "WaitReady", &m);
        if (r >= 0) /* 0 would be the service's default */
                r = sd_bus_message_append(m, "sta{sv}", "sshd", deadline > now ? deadline - now : 1, 0);
        return r < 0 ? r : job_wait_run(w, m, 0);
}

/* Whether the VM's state says more: it has gone down, or the service has, and its heir can be asked. */
static bool has_ended(const JobWait *w) {
        return error_is(w->error, ERROR_CANCELED) || error_is(w->error, ERROR_INVALID_STATE) ||
                        error_is(w->error, ERROR_SERVICE_ENDING) || (w->job && client_job_is_lost(w->job));
}

int ssh_wait(Ctl *c, const char *name, const char *path, uint16_t port, uint64_t deadline) {
        for (unsigned n = 1;; n++) {
                _cleanup_(job_wait_done)
                                JobWait w = { .ctl = c, .line.quiet = c->json || !term_can_redraw(stderr) };
                _cleanup_free_ char *state = NULL;
                _cleanup_error_ Error *e = NULL;
                int r;

                r = get_state(c, path, deadline, &state, &e);
                if (r < 0)
                        return ctl_report(c, e, r, "Failed to reach VM '%s'", name);
                if (!streq(state, "running"))
                        return report_state(c, name, path, state);
                if (greets(port))
                        return 0;
                r = wait_ready(&w, path, deadline);
                if (r >= 0)
                        return 0;
                if (w.sig != 0 || !has_ended(&w) || n == ATTEMPTS_MAX)
                        return job_wait_report(&w, r, NULL, "Failed to reach VM '%s'", name);
        }
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
