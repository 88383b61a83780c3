/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PID 1 that executes itself anew while it makes a scope. The scope is the one that we are in ourselves,
 * or one that we are not in. */
#include <sys/socket.h>
#include <unistd.h>

#include "cgroup.h"
#include "core/bus-paths.h"
#include "systemd-private.h"
#include "util/test.h"

#define BEFORE ":1.1" /* PID 1's connection */
#define AFTER ":1.2"
#define OTHER_UNIT "vmctl-other.scope"
#define JOB SYSTEMD_PATH "/job/7"

typedef struct Fixture {
        sd_event *event;
        sd_bus *client, *server;
        Systemd *systemd;
        char *own_unit;
        sd_bus_message *start; /* the last call that asks for a scope */
        unsigned n_starts;
        unsigned told;
        int result;
        ScopeJob *job;
} Fixture;

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Fixture *f = userdata;

        if (sd_bus_message_is_method_call(m, BUS_DRIVER, "GetNameOwner"))
                return sd_bus_reply_method_return(m, "s", BEFORE);
        if (sd_bus_message_is_method_call(m, SYSTEMD_MANAGER, "Subscribe"))
                return sd_bus_reply_method_return(m, NULL);
        if (!sd_bus_message_is_method_call(m, SYSTEMD_MANAGER, "StartTransientUnit"))
                return 0;
        sd_bus_message_unref(f->start);
        f->start = sd_bus_message_ref(m);
        f->n_starts++;
        return 1;
}

static void on_unit(const char *unit, void *userdata) {
}
static void on_process(const char *unit, pid_t pid, const char *command, void *userdata) {
}
static const SystemdHandlers handlers = { on_unit, on_unit, on_process };

static void settle(Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->event, 0)) >= 0);
        while (r > 0);
}

static void fixture_init(Fixture *f) {
        sd_id128_t id;
        int fds[2];

        *f = (Fixture){};
        CHECK(cgroup_unit_of_pid(getpid(), &f->own_unit) >= 0);
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_event_new(&f->event) >= 0);
        CHECK(sd_bus_new(&f->server) >= 0 && sd_bus_new(&f->client) >= 0);
        CHECK(sd_bus_set_fd(f->server, fds[0], fds[0]) >= 0 &&
                        sd_bus_set_fd(f->client, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(f->server, true, id) >= 0 && sd_bus_set_anonymous(f->server, true) >= 0);
        CHECK(sd_bus_add_filter(f->server, NULL, on_call, f) >= 0);
        CHECK(sd_bus_start(f->server) >= 0 && sd_bus_start(f->client) >= 0);
        CHECK(sd_bus_attach_event(f->server, f->event, 0) >= 0);
        CHECK(sd_bus_attach_event(f->client, f->event, 0) >= 0);
        CHECK_EQ(systemd_new(f->client, &handlers, NULL, &f->systemd), 0);
        settle(f);
}

static void fixture_done(Fixture *f) {
        scope_job_free(f->job);
        systemd_free(f->systemd);
        sd_bus_message_unref(f->start);
        sd_bus_close(f->client);
        sd_bus_close(f->server);
        sd_bus_unref(f->client);
        sd_bus_unref(f->server);
        sd_event_unref(f->event);
        free(f->own_unit);
}

static void on_done(void *userdata, int r, const Error *error) {
        Fixture *f = userdata;

        f->told++;
        f->result = r;
        f->job = scope_job_free(f->job);
}

static void start(Fixture *f, const char *unit) {
        const ScopeSpec spec = {
                .unit = unit, .description = "A scope", .user = "vm@a.service", .pid = getpid()
        };

        CHECK_EQ(systemd_start_scope(f->systemd, &spec, on_done, f, &f->job), 0);
        settle(f);
        CHECK_EQ(f->n_starts, 1);
}

static void fail_start(Fixture *f, const char *error) {
        CHECK(sd_bus_reply_method_errorf(f->start, error, "No") >= 0);
        settle(f);
}

static void begin_anew(Fixture *f) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_signal(
                              f->server, &m, "/org/freedesktop/DBus", BUS_DRIVER, "NameOwnerChanged") >= 0);
        CHECK(sd_bus_message_set_sender(m, BUS_DRIVER) >= 0);
        CHECK(sd_bus_message_append(m, "sss", SYSTEMD_DESTINATION, BEFORE, AFTER) >= 0);
        CHECK(sd_bus_send(f->server, m, NULL) >= 0);
        sd_bus_message_unref(m);
        settle(f);
}

static void remove_job(Fixture *f, const char *sender, const char *unit) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_signal(f->server, &m, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved") >= 0);
        CHECK(sd_bus_message_set_sender(m, sender) >= 0);
        CHECK(sd_bus_message_append(m, "uoss", 7, JOB, unit, "done") >= 0);
        CHECK(sd_bus_send(f->server, m, NULL) >= 0);
        sd_bus_message_unref(m);
        settle(f);
}

static void test_done_already(void) {
        Fixture f;

        fixture_init(&f);
        start(&f, f.own_unit);
        fail_start(&f, SD_BUS_ERROR_NO_REPLY);
        CHECK_EQ(f.n_starts, 2);
        CHECK_EQ(f.told, 0);
        fail_start(&f, "org.freedesktop.systemd1.UnitExists");
        CHECK_EQ(f.told, 1);
        CHECK_EQ(f.result, 0);
        fixture_done(&f);
}

static void test_exists(void) {
        Fixture f;

        fixture_init(&f);
        start(&f, OTHER_UNIT);
        fail_start(&f, "org.freedesktop.systemd1.UnitExists");
        CHECK_EQ(f.told, 1);
        CHECK_EQ(f.result, -EEXIST);
        fixture_done(&f);
}

static void test_end_is_lost(void) {
        Fixture f;

        fixture_init(&f);
        start(&f, f.own_unit);
        CHECK(sd_bus_reply_method_return(f.start, "o", JOB) >= 0);
        settle(&f);
        CHECK_EQ(f.told, 0);
        begin_anew(&f);
        CHECK_EQ(f.told, 1);
        CHECK_EQ(f.result, 0);
        fixture_done(&f);
}

static void test_end_comes_later(void) {
        Fixture f;

        fixture_init(&f);
        start(&f, OTHER_UNIT);
        CHECK(sd_bus_reply_method_return(f.start, "o", JOB) >= 0);
        begin_anew(&f);
        remove_job(&f, BEFORE, OTHER_UNIT); /* which is nobody any more */
        CHECK_EQ(f.told, 0);
        remove_job(&f, AFTER, OTHER_UNIT);
        CHECK_EQ(f.told, 1);
        CHECK_EQ(f.result, 0);
        fixture_done(&f);
}

int main(void) {
        test_done_already();
        test_exists();
        test_end_is_lost();
        test_end_comes_later();
        return 0;
}
