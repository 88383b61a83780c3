/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PID 1 that executes itself anew while it makes a scope, and scopes that it does not let go. */
#include <sys/socket.h>
#include <unistd.h>

#include "cgroup.h"
#include "core/bus-paths.h"
#include "systemd-private.h"
#include "util/test.h"

#define BEFORE ":1.1" /* PID 1's connection */
#define AFTER ":1.2"
#define UNIT "vmctl-a.scope"
#define JOB SYSTEMD_PATH "/job/7"

static const char *unit_of_process; /* that the scope is made around */

int cgroup_unit_of_pid(pid_t pid, char **ret) { /* instead of cgroup.c */
        CHECK_EQ(pid, getpid());
        *ret = strdup(unit_of_process);
        return *ret ? 0 : -ENOMEM;
}

typedef struct Fixture {
        sd_event *event;
        sd_bus *client, *server;
        Systemd *systemd;
        sd_bus_message *start; /* the last call that asks for a scope */
        sd_bus_message *list;  /* the last one that asks which there are */
        unsigned n_starts, n_lists;
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
        if (sd_bus_message_is_method_call(m, SYSTEMD_MANAGER, "ListUnitsByPatterns")) {
                sd_bus_message_unref(f->list);
                f->list = sd_bus_message_ref(m);
                f->n_lists++;
                return 1;
        }
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
        unit_of_process = "vmctld.service";
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
        sd_bus_message_unref(f->list);
        sd_bus_close(f->client);
        sd_bus_close(f->server);
        sd_bus_unref(f->client);
        sd_bus_unref(f->server);
        sd_event_unref(f->event);
}

static void on_done(void *userdata, int r, const Error *error) {
        Fixture *f = userdata;

        f->told++;
        f->result = r;
        f->job = scope_job_free(f->job);
}

static void start(Fixture *f) {
        const ScopeSpec spec = {
                .unit = UNIT, .description = "A scope", .user = "vm@a.service", .pid = getpid()
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

static void remove_job(Fixture *f, const char *sender, const char *result) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_signal(f->server, &m, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved") >= 0);
        CHECK(sd_bus_message_set_sender(m, sender) >= 0);
        CHECK(sd_bus_message_append(m, "uoss", 7, JOB, UNIT, result) >= 0);
        CHECK(sd_bus_send(f->server, m, NULL) >= 0);
        sd_bus_message_unref(m);
        settle(f);
}

/* The answer to the question which scopes there are. job: its type, "" for none; NULL: there is no scope. */
static void list(Fixture *f, const char *job) {
        sd_bus_message *m;

        CHECK_EQ(f->n_lists, 1);
        CHECK(sd_bus_message_new_method_return(f->list, &m) >= 0);
        CHECK(sd_bus_message_open_container(m, 'a', "(ssssssouso)") >= 0);
        CHECK(sd_bus_message_append(m, "(ssssssouso)", "vmctl-b.scope", "", "loaded", "active", "running",
                              "", SYSTEMD_PATH "/unit/b", 8, "start", SYSTEMD_PATH "/job/8") >= 0);
        if (job)
                CHECK(sd_bus_message_append(m, "(ssssssouso)", UNIT, "", "loaded", "active", "running", "",
                                      SYSTEMD_PATH "/unit/a", isempty(job) ? 0 : 7, job,
                                      isempty(job) ? "/" : JOB) >= 0);
        CHECK(sd_bus_message_close_container(m) >= 0);
        CHECK(sd_bus_send(f->server, m, NULL) >= 0);
        sd_bus_message_unref(m);
        settle(f);
}

static void check_told(const Fixture *f, int result) {
        CHECK_EQ(f->told, 1);
        CHECK_EQ(f->result, result);
}

/* PID 1 was asked twice, and knows the unit. */
static void start_again(Fixture *f) {
        fixture_init(f);
        start(f);
        fail_start(f, SD_BUS_ERROR_NO_REPLY);
        CHECK_EQ(f->n_starts, 2);
        fail_start(f, "org.freedesktop.systemd1.UnitExists");
        CHECK_EQ(f->told, 0);
}

static void test_done_already(void) {
        Fixture f;

        start_again(&f);
        unit_of_process = UNIT;
        list(&f, "");
        check_told(&f, 0);
        fixture_done(&f);
}

/* Its job is still to come to the process, and only the end of that tells. */
static void test_not_done_yet(void) {
        Fixture f;

        start_again(&f);
        list(&f, "start");
        CHECK_EQ(f.told, 0);
        unit_of_process = UNIT;
        remove_job(&f, BEFORE, "done");
        check_told(&f, 0);
        fixture_done(&f);

        start_again(&f);
        list(&f, "start");
        remove_job(&f, BEFORE, "failed");
        check_told(&f, -EIO);
        fixture_done(&f);
}

/* The job ends while PID 1 is being asked. */
static void test_done_meanwhile(void) {
        Fixture f;

        start_again(&f);
        unit_of_process = UNIT;
        remove_job(&f, BEFORE, "done");
        list(&f, "");
        check_told(&f, 0);
        fixture_done(&f);

        start_again(&f);
        remove_job(&f, BEFORE, "failed");
        list(&f, NULL);
        check_told(&f, -EIO);
        fixture_done(&f);
}

/* It is another's: one that is there, one that is being made, one that is being stopped for long. */
static void test_exists(void) {
        Fixture f;

        fixture_init(&f);
        start(&f);
        fail_start(&f, "org.freedesktop.systemd1.UnitExists");
        list(&f, "");
        check_told(&f, -EEXIST);
        fixture_done(&f);

        start_again(&f);
        list(&f, "start");
        remove_job(&f, BEFORE, "done");
        check_told(&f, -EEXIST);
        fixture_done(&f);

        start_again(&f);
        list(&f, "stop");
        check_told(&f, -EEXIST);
        fixture_done(&f);
}

/* PID 1 does not answer. */
static void test_no_answer(void) {
        Fixture f;

        start_again(&f);
        CHECK(sd_bus_reply_method_errorf(f.list, SD_BUS_ERROR_ACCESS_DENIED, "No") >= 0);
        settle(&f);
        check_told(&f, -EACCES);
        fixture_done(&f);

        start_again(&f);
        f.job = scope_job_free(f.job);
        list(&f, "");
        CHECK_EQ(f.told, 0);
        fixture_done(&f);
}

/* PID 1 names the job, and executes itself anew. */
static void start_and_begin_anew(Fixture *f) {
        fixture_init(f);
        start(f);
        CHECK(sd_bus_reply_method_return(f->start, "o", JOB) >= 0);
        settle(f);
        begin_anew(f);
        CHECK_EQ(f->told, 0);
}

static void test_end_is_lost(void) {
        Fixture f;

        start_and_begin_anew(&f);
        unit_of_process = UNIT;
        list(&f, "");
        check_told(&f, 0);
        fixture_done(&f);

        start_and_begin_anew(&f); /* and so is that it failed */
        list(&f, NULL);
        check_told(&f, -EIO);
        fixture_done(&f);
}

static void test_end_comes_later(void) {
        Fixture f;

        start_and_begin_anew(&f);
        remove_job(&f, BEFORE, "done"); /* which is nobody any more */
        list(&f, "start");
        CHECK_EQ(f.told, 0);
        unit_of_process = UNIT;
        remove_job(&f, AFTER, "done");
        check_told(&f, 0);
        fixture_done(&f);

        start_and_begin_anew(&f); /* before the answer */
        unit_of_process = UNIT;
        remove_job(&f, AFTER, "done");
        check_told(&f, 0);
        list(&f, "");
        CHECK_EQ(f.told, 1);
        fixture_done(&f);
}

int main(void) {
        test_done_already();
        test_not_done_yet();
        test_done_meanwhile();
        test_exists();
        test_no_answer();
        test_end_is_lost();
        test_end_comes_later();
        return 0;
}
