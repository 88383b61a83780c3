/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The follower of jobs against a service that does what goes wrong, both on one loop and a bus of their own:
 * ends that come early, late or never, a service or a connection that is lost, questions for a password. Run
 * by dbus-run-session. */

#include <stdio.h>
#include <sys/socket.h>
#include <systemd/sd-event.h>

#include "decode.h"
#include "errors.h"
#include "jobs.h"
#include "util/string-util.h"
#include "util/test.h"

#define JOBS_MAX 64

/* What the service does when it is called, by the name of the method. */
static struct {
        sd_bus *bus;
        sd_bus_slot *slots[2];
        sd_bus_message *held; /* a call that it has not answered */
        uint32_t last_id;
        unsigned n_calls, n_held, n_canceled, n_asked, n_asking;
        bool has_job[JOBS_MAX];
        const char *refusal; /* the error with which the next question for a job is answered */
} service;

static sd_event *event;

static void job_path(uint32_t id, char path[64]) {
        (void)snprintf(path, 64, VMCTL_JOB_PREFIX "/%u", id);
}

static void tell(sd_bus *bus, uint32_t id, const char *phase, const char *error) {
        char path[64];

        job_path(id, path);
        CHECK(sd_bus_emit_signal(bus, path, DBUS_PROPERTIES, "PropertiesChanged", "sa{sv}as", VMCTL_JOB, 4,
                              "Phase", "s", phase, "Done", "t", UINT64_C(5), "ErrorName", "s",
                              error ? "org.vmctl1.Error.NoSpace" : "", "ErrorMessage", "s", error ?: "",
                              0) >= 0);
}

static void end(sd_bus *bus, uint32_t id, const char *result) {
        char path[64];

        job_path(id, path);
        service.has_job[id % JOBS_MAX] = false;
        CHECK(sd_bus_emit_signal(bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved", "uoos", id, path,
                              VMCTL_IMAGE_PREFIX "/debian", result) >= 0);
}

static int reply(sd_bus_message *m, uint32_t id) {
        char path[64];

        job_path(id, path);
        return sd_bus_reply_method_return(m, "o", path);
}

static uint32_t begin(void) {
        service.has_job[++service.last_id % JOBS_MAX] = true;
        return service.last_id;
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *member = sd_bus_message_get_member(m);
        uint32_t id;

        service.n_calls++;
        if (streq(member, "Refused"))
                return sd_bus_error_set(reterr, "org.vmctl1.Error.NoSuchImage", "There is no such image");
        if (streq(member, "Guarded") && sd_bus_message_get_allow_interactive_authorization(m) <= 0) {
                service.n_asked++;
                return sd_bus_error_set(
                                reterr, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, "Who are you?");
        }
        if (streq(member, "Held") || streq(member, "Guarded")) { /* somebody thinks */
                service.n_asking += streq(member, "Guarded");
                service.n_held += streq(member, "Held");
                sd_bus_message_unref(service.held);
                service.held = sd_bus_message_ref(m);
                return 1;
        }
        id = begin();
        if (streq(member, "Early")) {
                end(service.bus, 40, "failed"); /* somebody else's */
                tell(service.bus, id, "downloading", "The disk is full");
                end(service.bus, id, "failed");
        } else if (streq(member, "EarlyDone"))
                end(service.bus, id, "done");
        return reply(m, id);
}

static int on_cancel(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *path = sd_bus_message_get_path(m);

        service.n_canceled++;
        end(service.bus, (uint32_t)atoi(strrchr(path, '/') + 1), "canceled");
        return sd_bus_reply_method_return(m, NULL);
}

static int get_phase(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(m, "s", "connecting");
}

static int find_job(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *reterr) {
        if (service.refusal)
                return sd_bus_error_set(reterr, TAKE_PTR(service.refusal), "Not now");
        return service.has_job[(unsigned)atoi(strrchr(path, '/') + 1) % JOBS_MAX];
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Plain", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Early", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("EarlyDone", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Held", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Guarded", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Refused", "", "o", on_call, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", on_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Phase", "s", get_phase, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static void service_start(void) {
        CHECK(sd_bus_open_user(&service.bus) >= 0);
        CHECK(sd_bus_add_object_vtable(service.bus, &service.slots[0], VMCTL_MANAGER_PATH, VMCTL_MANAGER,
                              manager_vtable, NULL) >= 0);
        CHECK(sd_bus_add_fallback_vtable(service.bus, &service.slots[1], VMCTL_JOB_PREFIX, VMCTL_JOB,
                              job_vtable, find_job, NULL) >= 0);
        CHECK(sd_bus_attach_event(service.bus, event, 0) >= 0);
        CHECK(sd_bus_request_name(service.bus, VMCTL_SERVICE, 0) >= 0);
}

/* As a crash is. */
static void service_stop(void) {
        service.held = sd_bus_message_unref(service.held);
        sd_bus_slot_unref(service.slots[0]);
        sd_bus_slot_unref(service.slots[1]);
        service.bus = sd_bus_flush_close_unref(service.bus);
        memset(&service, 0, sizeof(service));
}

/* A job as it is followed. */
typedef struct Followed {
        ClientJob *job;
        unsigned n_changed, n_done;
        char phase[32];
        Error *error;
        bool free_when_done; /* in the handler */
        bool lost;
} Followed;

static void on_changed(void *userdata, const ClientJob *job) {
        Followed *f = userdata;

        f->n_changed++;
        (void)snprintf(f->phase, sizeof(f->phase), "%s", client_job_progress(job).phase ?: "");
}

static void on_done(void *userdata, const ClientJob *job, const Error *error) {
        Followed *f = userdata;

        f->n_done++;
        f->error = error_copy(error);
        f->lost = client_job_is_lost(job);
        if (f->free_when_done)
                f->job = client_job_free(f->job);
}

static const ClientJobHandlers handlers = { .changed = on_changed, .done = on_done };

static void followed_done(Followed *f) {
        client_job_free(f->job);
        error_free(f->error);
        *f = (Followed){};
}

typedef struct Fixture {
        Client *client;
        ClientJobs *jobs;
} Fixture;

static Fixture setup(bool may_ask) {
        _cleanup_error_ Error *e = NULL;
        Fixture x = {};

        service_start();
        CHECK_EQ(client_new(CLIENT_BUS_USER, NULL, may_ask, &x.client, &e), 0);
        CHECK(sd_bus_attach_event(client_bus(x.client), event, 0) >= 0);
        CHECK(client_jobs_new(x.client, &x.jobs) >= 0);
        return x;
}

static void teardown(Fixture *x) {
        client_jobs_free(x->jobs);
        client_free(x->client);
        if (service.bus)
                service_stop();
}

static void follow(Fixture *x, const char *member, Followed *f) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        CHECK(client_new_call(x->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, member, &m) >= 0);
        CHECK(client_job_begin(x->jobs, m, 0, &handlers, f, &f->job) >= 0);
        CHECK_EQ(f->n_done, 0);
}

/* Runs the loop until that is so; a test that waits in vain is ended by its timeout. */
#define RUN_UNTIL(condition) \
        while (!(condition)) \
        CHECK(sd_event_run(event, UINT64_MAX) >= 0)

/* All that the service has said until now: its answers come in their order. */
static void hear_all(Fixture *x) {
        Followed f = {};

        follow(x, "Plain", &f);
        RUN_UNTIL(f.n_changed);
        followed_done(&f);
}

static void test_plain(void) {
        Fixture x = setup(false);
        Followed f = { .free_when_done = true }, other = {};

        follow(&x, "Plain", &f);
        follow(&x, "Plain", &other);
        RUN_UNTIL(streq(f.phase, "connecting") && streq(other.phase, "connecting"));
        tell(service.bus, 1, "downloading", NULL);
        RUN_UNTIL(streq(f.phase, "downloading"));
        CHECK_STREQ(other.phase, "connecting");
        end(service.bus, 2, "timeout");
        RUN_UNTIL(other.n_done);
        CHECK_EQ(error_code(other.error), ERROR_TIMEOUT);
        CHECK_STREQ(client_job_result(other.job), "timeout");
        CHECK_STREQ(client_job_object(other.job), VMCTL_IMAGE_PREFIX "/debian");
        CHECK_EQ(f.n_done, 0);
        end(service.bus, 1, "done");
        RUN_UNTIL(f.n_done);
        CHECK(!f.error && !f.job);
        followed_done(&other);
        teardown(&x);
}

/* On a connection that has heard nothing from the service before. */
static void test_early_end(void) {
        Fixture x = setup(false);
        Followed f = {}, done = {};

        follow(&x, "Early", &f);
        follow(&x, "EarlyDone", &done);
        RUN_UNTIL(f.n_done && done.n_done);
        CHECK_EQ(error_code(f.error), ERROR_NO_SPACE);
        CHECK_STREQ(error_message(f.error), "The disk is full");
        CHECK_STREQ(client_job_result(f.job), "failed");
        CHECK_EQ(client_job_progress(f.job).done, 5);
        CHECK(!f.lost && !done.error);
        CHECK_STREQ(client_job_path(done.job), VMCTL_JOB_PREFIX "/2");
        followed_done(&f);
        followed_done(&done);
        teardown(&x);
}

static void test_refused(void) {
        Fixture x = setup(false);
        Followed f = {};

        follow(&x, "Refused", &f);
        RUN_UNTIL(f.n_done);
        CHECK_EQ(error_code(f.error), ERROR_NO_SUCH_IMAGE);
        CHECK(error_hint(f.error) && !client_job_path(f.job) && !client_job_result(f.job));
        followed_done(&f);
        teardown(&x);
}

static void test_lost_in_job(void) {
        Fixture x = setup(false);
        Followed f[2] = { { .free_when_done = true }, {} };

        follow(&x, "Plain", &f[0]);
        follow(&x, "Plain", &f[1]);
        RUN_UNTIL(f[0].n_changed && f[1].n_changed);
        service_stop();
        RUN_UNTIL(f[0].n_done && f[1].n_done);
        CHECK(f[0].lost && f[1].lost && f[0].error && !client_job_result(f[1].job));
        followed_done(&f[0]);
        followed_done(&f[1]);

        /* Another one is none of its heirs: with the same number it is another job. */
        service_start();
        follow(&x, "Plain", &f[1]);
        RUN_UNTIL(f[1].n_changed);
        CHECK_STREQ(client_job_path(f[1].job), VMCTL_JOB_PREFIX "/1");
        end(service.bus, 1, "done");
        RUN_UNTIL(f[1].n_done);
        CHECK(!f[1].error);
        followed_done(&f[1]);
        teardown(&x);
}

static void test_lost_in_call(void) {
        Fixture x = setup(false);
        Followed f = {};

        follow(&x, "Held", &f);
        RUN_UNTIL(service.n_held);
        service_stop();
        RUN_UNTIL(f.n_done);
        CHECK(f.error && !f.lost);
        CHECK_STREQ(error_name(f.error), SD_BUS_ERROR_NO_REPLY);
        followed_done(&f);
        teardown(&x);
}

static void test_lost_connection(void) {
        Fixture x = setup(false);
        Followed in_job = {}, in_call = {};

        follow(&x, "Plain", &in_job);
        follow(&x, "Held", &in_call);
        RUN_UNTIL(in_job.n_changed && service.n_held);
        CHECK(shutdown(sd_bus_get_fd(client_bus(x.client)), SHUT_RDWR) >= 0);
        RUN_UNTIL(in_job.n_done && in_call.n_done);
        CHECK_STREQ(error_message(in_job.error), "The connection was lost");
        CHECK_STREQ(error_message(in_call.error), "The connection was lost");
        CHECK(in_job.lost && !in_call.lost);
        followed_done(&in_job);
        followed_done(&in_call);
        teardown(&x);
}

/* What is not there when it is asked for was a former service's, or ended while signals were left out. */
static void test_forgotten(void) {
        Fixture x = setup(false);
        Followed f = {}, other = {};

        follow(&x, "Plain", &f);
        follow(&x, "Plain", &other);
        RUN_UNTIL(streq(f.phase, "connecting") && streq(other.phase, "connecting"));
        service.has_job[1] = false;
        CHECK(sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "SignalsLost", NULL) >= 0);
        RUN_UNTIL(f.n_done);
        CHECK(f.lost && f.error && !other.n_done);
        followed_done(&f);
        followed_done(&other); /* it is left alone */
        CHECK_EQ(service.n_canceled, 0);
        teardown(&x);
}

static void lose_signals(const char *refusal) {
        service.refusal = refusal;
        CHECK(sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "SignalsLost", NULL) >= 0);
}

/* When its end may be among what was left out, it is asked for until there is an answer. */
static void test_unanswered(void) {
        Fixture x = setup(false);
        Followed f = {};

        service.refusal = SD_BUS_ERROR_LIMITS_EXCEEDED;
        follow(&x, "Plain", &f);
        RUN_UNTIL(!service.refusal);
        hear_all(&x);
        CHECK_EQ(f.n_done, 0); /* its end will be told */
        lose_signals(SD_BUS_ERROR_TIMEOUT);
        RUN_UNTIL(streq(f.phase, "connecting"));
        CHECK_EQ(f.n_done, 0);
        service.has_job[1] = false;
        lose_signals(SD_BUS_ERROR_TIMEOUT);
        RUN_UNTIL(f.n_done);
        CHECK(f.lost && strstr(error_message(f.error), "lost"));
        followed_done(&f);

        follow(&x, "Plain", &f);
        RUN_UNTIL(streq(f.phase, "connecting"));
        lose_signals(SD_BUS_ERROR_LIMITS_EXCEEDED);
        RUN_UNTIL(f.n_done);
        CHECK(f.lost && streq(error_name(f.error), SD_BUS_ERROR_LIMITS_EXCEEDED));
        followed_done(&f);
        teardown(&x);
}

static void test_cancel(void) {
        Fixture x = setup(false);
        Followed f = {}, early = {};

        follow(&x, "Plain", &f);
        RUN_UNTIL(f.n_changed);
        client_job_cancel(f.job);
        CHECK_EQ(f.n_done, 0);
        RUN_UNTIL(f.n_done);
        CHECK_EQ(error_code(f.error), ERROR_CANCELED);
        CHECK_EQ(service.n_canceled, 1);
        client_job_cancel(f.job); /* it has ended */

        /* Before it is known which it is. */
        follow(&x, "Held", &early);
        RUN_UNTIL(service.n_held);
        client_job_cancel(early.job);
        CHECK_EQ(early.n_done, 0);
        CHECK(reply(service.held, begin()) >= 0);
        RUN_UNTIL(early.n_done);
        CHECK_EQ(error_code(early.error), ERROR_CANCELED);
        CHECK_EQ(service.n_canceled, 2);
        CHECK_EQ(f.n_done, 1);
        followed_done(&f);
        followed_done(&early);
        teardown(&x);
}

/* More calls than go out at a time; those that wait can be called off without a word to the service. */
static void test_many(void) {
        Followed f[50] = {}, extra = {};
        Fixture x = setup(false);

        for (size_t i = 0; i < ELEMENTSOF(f); i++)
                follow(&x, "Held", &f[i]);
        CHECK(client_is_busy(x.client));
        follow(&x, "Held", &extra);
        client_job_cancel(extra.job);
        CHECK_EQ(extra.n_done, 1);
        CHECK_EQ(error_code(extra.error), ERROR_CANCELED);
        RUN_UNTIL(service.n_held == 32);
        /* Nobody waits for the first ones any more: these count until they are answered all the same. */
        for (size_t i = 0; i < 31; i++)
                followed_done(&f[i]);
        CHECK(client_is_busy(x.client));
        CHECK(reply(service.held, begin()) >= 0);
        RUN_UNTIL(f[31].n_changed && service.n_held == 33);
        service_stop();
        for (size_t i = 31; i < ELEMENTSOF(f); i++) {
                RUN_UNTIL(f[i].n_done);
                CHECK(f[i].error);
                followed_done(&f[i]);
        }
        followed_done(&extra);
        teardown(&x);
}

/* To one alone, as the bus broadcasts no signals to those who look out for another sender. */
static void forge_end(sd_bus *stranger, Client *c, uint32_t id) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        const char *to;
        char path[64];

        job_path(id, path);
        CHECK(sd_bus_get_unique_name(client_bus(c), &to) >= 0);
        CHECK(sd_bus_message_new_signal(stranger, &m, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved") >= 0);
        CHECK(sd_bus_message_append(m, "uoos", id, path, VMCTL_IMAGE_PREFIX "/debian", "failed") >= 0);
        CHECK(sd_bus_send_to(stranger, m, to, NULL) >= 0);
        CHECK(sd_bus_flush(stranger) >= 0);
}

/* Signals of others than the service are nothing. */
static void test_forged(void) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *stranger = NULL;
        Fixture x = setup(false);
        Followed f = {};

        CHECK(sd_bus_open_user(&stranger) >= 0);
        follow(&x, "Held", &f);
        RUN_UNTIL(service.n_held);
        forge_end(stranger, x.client, 1);
        CHECK(reply(service.held, begin()) >= 0);
        RUN_UNTIL(f.n_changed);
        forge_end(stranger, x.client, 1);
        tell(service.bus, 1, "verifying", NULL); /* comes behind it */
        RUN_UNTIL(streq(f.phase, "verifying"));
        CHECK_EQ(f.n_done, 0);
        followed_done(&f);
        teardown(&x);
}

static void on_ask(void *userdata) {
        unsigned *n = userdata;

        (*n)++;
}

/* Of those that polkit wants a password for one asks at a time. */
static void test_ask(void) {
        Fixture x = setup(true);
        unsigned n_asked = 0;
        Followed f[3] = {};

        client_on_ask(x.client, on_ask, &n_asked);
        for (size_t i = 0; i < ELEMENTSOF(f); i++)
                follow(&x, "Guarded", &f[i]);
        RUN_UNTIL(service.n_asked == 3 && service.n_asking == 1);
        hear_all(&x);
        CHECK_EQ(n_asked, 1);
        /* Of the two that wait for their turn one is called off. */
        client_job_cancel(f[2].job);
        CHECK_EQ(f[2].n_done, 1);
        CHECK_EQ(error_code(f[2].error), ERROR_CANCELED);
        f[0].job = client_job_free(f[0].job); /* its question goes on */
        hear_all(&x);
        CHECK_EQ(service.n_asking, 1);
        CHECK(reply(service.held, begin()) >= 0);
        RUN_UNTIL(service.n_asking == 2);
        CHECK_EQ(n_asked, 2);
        CHECK(reply(service.held, begin()) >= 0);
        RUN_UNTIL(f[1].n_changed);
        for (size_t i = 0; i < ELEMENTSOF(f); i++)
                followed_done(&f[i]);
        teardown(&x);

        x = setup(false);
        follow(&x, "Guarded", &f[0]);
        RUN_UNTIL(f[0].n_done);
        CHECK_STREQ(error_name(f[0].error), SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
        CHECK(error_hint(f[0].error));
        followed_done(&f[0]);
        teardown(&x);
}

/* What is said of an error, by where it came from. `message` NULL: its own. */
static const struct {
        const char *host, *path, *name;
        int r;
        ErrorCode code;
        const char *message, *hint; /* the latter a part of it */
} errors[] = {
        { NULL, "/", "org.vmctl1.Error.NoSuchVM", 0, ERROR_NO_SUCH_VM, NULL, "'vmctl list'" },
        { NULL, VMCTL_VM_PREFIX "/x", SD_BUS_ERROR_UNKNOWN_OBJECT, 0, ERROR_NO_SUCH_VM,
                        "There is no such VM", "'vmctl list'" },
        { NULL, VMCTL_IMAGE_PREFIX "/x", SD_BUS_ERROR_UNKNOWN_OBJECT, 0, ERROR_NO_SUCH_IMAGE,
                        "There is no image 'x'", "'vmctl image list'" },
        { NULL, VMCTL_JOB_PREFIX "/1", SD_BUS_ERROR_UNKNOWN_OBJECT, 0, ERROR_NO_SUCH_JOB,
                        "There is no such job", "finished" },
        { NULL, "/org/freedesktop/systemd1", SD_BUS_ERROR_UNKNOWN_OBJECT, 0, ERROR_FAILED, NULL, NULL },
        { NULL, "/", SD_BUS_ERROR_NO_REPLY, 0, ERROR_TIMEOUT, "vmctld did not answer", "journalctl" },
        { NULL, "/", "org.freedesktop.systemd1.NoSuchUnit", 0, ERROR_FAILED, NULL, "systemctl status" },
        { NULL, "/", "org.example.Strange", 0, ERROR_FAILED, NULL, NULL },
        { NULL, NULL, NULL, -ENOMEM, ERROR_NO_MEMORY, "Cannot allocate memory", NULL },
        { NULL, NULL, NULL, -ECONNRESET, ERROR_FAILED, "The connection was lost", NULL },
        { "there", NULL, NULL, -ECONNRESET, ERROR_FAILED, "The connection to the host was lost",
                        "ssh HOST" },
        { "there", "/", SD_BUS_ERROR_DISCONNECTED, 0, ERROR_FAILED, "The connection to the host was lost",
                        "ssh HOST" },
};

static void test_errors(void) {
        for (size_t i = 0; i < ELEMENTSOF(errors); i++) {
                const sd_bus_error e = SD_BUS_ERROR_MAKE_CONST(errors[i].name, "Its own words");
                const ErrorSource source = { .host = errors[i].host };
                _cleanup_error_ Error *told = NULL;

                CHECK(client_error_set(&told, &source, errors[i].path, &e, errors[i].r) < 0);
                CHECK_EQ(error_code(told), errors[i].code);
                CHECK_STREQ(error_message(told), errors[i].message ?: "Its own words");
                CHECK(!errors[i].hint == !error_hint(told));
                CHECK(!errors[i].hint || strstr(error_hint(told), errors[i].hint));
        }
}

static void test_decode(void) {
        static const char expected[] = "{\"a\":1,\"b\":[true,-2,\"x\",[\"y\",0.5]],\"c\":{\"d\":[]}}";
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_json_ Json *v = NULL;
        Fixture x = setup(false);

        CHECK(client_new_call(x.client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "Plain", &m) >= 0);
        CHECK(sd_bus_message_append(m, "a{sv}", 3, "a", "t", UINT64_C(1), "b", "(bis(sd))", true, -2, "x",
                              "y", 0.5, "c", "a{sv}", 1, "d", "as", 0) >= 0);
        CHECK(sd_bus_message_seal(m, 1, 0) >= 0);
        CHECK_EQ(client_decode(m, &v), 0);
        CHECK_EQ(client_decode(m, &v), -ENXIO);
        CHECK_EQ(json_writer_new(0, &w), 0);
        json_write_value(w, v);
        CHECK_EQ(json_writer_finish(w, &text, NULL), 0);
        CHECK_STREQ(text, expected);
        teardown(&x);
}

int main(void) {
        CHECK(sd_event_new(&event) >= 0);
        test_errors();
        test_decode();
        test_plain();
        test_early_end();
        test_refused();
        test_lost_in_job();
        test_lost_in_call();
        test_lost_connection();
        test_forgotten();
        test_unanswered();
        test_cancel();
        test_many();
        test_forged();
        test_ask();
        sd_event_unref(event);
        return 0;
}
