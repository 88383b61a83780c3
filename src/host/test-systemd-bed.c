/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#include "test-systemd-bed.h"
#include "util/string-util.h"

static const char *const members[BED_START] = {
        [BED_LIST] = "ListUnitsByPatterns",
        [BED_LOOK] = "GetUnitProcesses",
};

bool bed_has_matches;
const char *bed_unit_of_process;

int __wrap_sd_bus_is_bus_client(sd_bus *bus);
int __wrap_sd_bus_is_bus_client(sd_bus *bus) {
        return bed_has_matches;
}

/* Instead of cgroup.c */
int cgroup_unit_of_pid(pid_t pid, char **ret);
int cgroup_unit_of_pid(pid_t pid, char **ret) {
        *ret = strdup(bed_unit_of_process);
        return *ret ? 0 : -ENOMEM;
}

/* --- Instead of core/launcher.c: one start at a time */

struct LaunchCall {
        launch_reply_t reply;
        void *userdata;
};
static LaunchCall start_call;
static Bed *bed;

int launcher_start_scope(Launcher *l, uint64_t around, const char *unit, const VmLimits *limits, bool kvm,
                uint64_t stop_timeout_usec, launch_reply_t reply, void *userdata, LaunchCall **ret) {
        bed->n_calls[BED_START]++;
        start_call = (LaunchCall){ reply, userdata };
        *ret = &start_call;
        return 0;
}

LaunchCall *launch_call_cancel(LaunchCall *c) {
        if (c)
                *c = (LaunchCall){};
        return NULL;
}

void bed_answer_start(Bed *b, int error, const char *text) {
        LaunchCall call = start_call;

        start_call = (LaunchCall){};
        if (call.reply)
                call.reply(call.userdata, &(LaunchAnswer){ error, text, getpid() });
        bed_settle(b);
}

int launcher_set_limits(Launcher *l, const char *unit, const VmLimits *limits, launch_reply_t reply,
                void *userdata, LaunchCall **ret) {
        return -EIO;
}

int launcher_stop_scope(Launcher *l, const char *unit) {
        bed->n_calls[BED_STOP]++;
        return 0;
}

int launcher_kill_scope(Launcher *l, const char *unit) {
        bed->n_calls[BED_KILL]++;
        return 0;
}

/* --- The clock: one timer, which is enough */

static struct {
        sd_event_source *source;
        uint64_t deadline;
        sd_event_time_handler_t callback;
        void *userdata;
} timer;

static int on_time(sd_event_source *s, void *userdata) {
        timer.source = NULL;
        return timer.callback(s, timer.deadline, timer.userdata);
}

static void on_timer_gone(void *userdata) {
        if (timer.source == userdata)
                timer.source = NULL;
}

int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata);
int __wrap_sd_event_add_time(sd_event *event, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata) {
        CHECK(!timer.source);
        CHECK(sd_event_add_defer(event, ret, on_time, NULL) >= 0);
        CHECK(sd_event_source_set_enabled(*ret, SD_EVENT_OFF) >= 0);
        (void)sd_event_source_set_userdata(*ret, *ret);
        CHECK(sd_event_source_set_destroy_callback(*ret, on_timer_gone) >= 0);
        timer.source = *ret;
        timer.deadline = usec;
        timer.callback = callback;
        timer.userdata = userdata;
        return 0;
}

bool bed_pass_deadline(Bed *b) {
        if (!timer.source)
                return false;
        CHECK(sd_event_source_set_enabled(timer.source, SD_EVENT_ONESHOT) >= 0);
        bed_settle(b);
        return true;
}

/* --- The connection */

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Bed *b = userdata;

        if (sd_bus_message_is_method_call(m, BUS_DRIVER, "GetNameOwner"))
                return sd_bus_reply_method_return(m, "s", BEFORE);
        if (sd_bus_message_is_method_call(m, SYSTEMD_MANAGER, "Subscribe"))
                return sd_bus_reply_method_return(m, NULL);
        for (BedCall i = 0; i < BED_START; i++)
                if (sd_bus_message_is_method_call(m, SYSTEMD_MANAGER, members[i])) {
                        sd_bus_message_unref(b->calls[i]);
                        b->calls[i] = sd_bus_message_ref(m);
                        b->n_calls[i]++;
                        return 1;
                }
        return 0;
}

static void note(Bed *b, unsigned *counter, const char *unit) {
        (*counter)++;
        CHECK(strlen(unit) < sizeof(b->last));
        strcpy(b->last, unit);
}

static void on_request_stop(const char *unit, void *userdata) {
        note(userdata, &((Bed *)userdata)->stop_requests, unit);
}
static void on_removed(const char *unit, void *userdata) {
        note(userdata, &((Bed *)userdata)->removed, unit);
}
static void on_in_use(const char *unit, pid_t pid, const char *command, void *userdata) {
        note(userdata, &((Bed *)userdata)->in_use, unit);
}
static const SystemdHandlers handlers = { on_request_stop, on_removed, on_in_use };

void bed_settle(Bed *b) {
        int r;

        do
                CHECK((r = sd_event_run(b->event, 0)) >= 0);
        while (r > 0);
}

void bed_init(Bed *b) {
        sd_id128_t id;
        int fds[2];

        *b = (Bed){};
        bed = b;
        bed_unit_of_process = "vmctld.service";
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_event_new(&b->event) >= 0);
        CHECK(sd_bus_new(&b->server) >= 0 && sd_bus_new(&b->client) >= 0);
        CHECK(sd_bus_set_fd(b->server, fds[0], fds[0]) >= 0 &&
                        sd_bus_set_fd(b->client, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(b->server, true, id) >= 0 && sd_bus_set_anonymous(b->server, true) >= 0);
        CHECK(sd_bus_add_filter(b->server, NULL, on_call, b) >= 0);
        CHECK(sd_bus_start(b->server) >= 0 && sd_bus_start(b->client) >= 0);
        CHECK(sd_bus_attach_event(b->server, b->event, 0) >= 0);
        CHECK(sd_bus_attach_event(b->client, b->event, 0) >= 0);
        CHECK_EQ(systemd_new(b->client, NULL, &handlers, b, &b->systemd), 0);
        bed_settle(b);
}

void bed_done(Bed *b) {
        systemd_free(b->systemd);
        CHECK(!timer.source);
        for (BedCall i = 0; i < BED_START; i++)
                sd_bus_message_unref(b->calls[i]);
        sd_bus_close(b->client);
        sd_bus_close(b->server);
        sd_bus_unref(b->client);
        sd_bus_unref(b->server);
        sd_event_unref(b->event);
}

/* --- What PID 1 says */

static void say(Bed *b, sd_bus_message *m) {
        CHECK(sd_bus_send(b->server, m, NULL) >= 0);
        sd_bus_message_unref(m);
        bed_settle(b);
}

void bed_fail(Bed *b, BedCall call, const char *error) {
        CHECK(b->calls[call]);
        CHECK(sd_bus_reply_method_errorf(b->calls[call], error, "No") >= 0);
        bed_settle(b);
}

void bed_reply(Bed *b, BedCall call, const char *types, ...) {
        sd_bus_message *m;
        va_list ap;

        CHECK(b->calls[call]);
        CHECK(sd_bus_message_new_method_return(b->calls[call], &m) >= 0);
        va_start(ap, types);
        CHECK(sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        say(b, m);
}

void bed_signal(Bed *b, const char *sender, const char *member, const char *types, ...) {
        sd_bus_message *m;
        va_list ap;

        CHECK(sd_bus_message_new_signal(b->server, &m, SYSTEMD_PATH, SYSTEMD_MANAGER, member) >= 0);
        CHECK(sd_bus_message_set_sender(m, sender) >= 0);
        va_start(ap, types);
        CHECK(sd_bus_message_appendv(m, types, ap) >= 0);
        va_end(ap);
        say(b, m);
}

void bed_begin_anew(Bed *b) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_signal(
                              b->server, &m, "/org/freedesktop/DBus", BUS_DRIVER, "NameOwnerChanged") >= 0);
        CHECK(sd_bus_message_set_sender(m, BUS_DRIVER) >= 0);
        CHECK(sd_bus_message_append(m, "sss", SYSTEMD_DESTINATION, BEFORE, AFTER) >= 0);
        say(b, m);
}

void bed_change_state(Bed *b, const char *path, const char *state) {
        sd_bus_message *m;

        CHECK(sd_bus_message_new_signal(b->server, &m, path, "org.freedesktop.DBus.Properties",
                              "PropertiesChanged") >= 0);
        CHECK(sd_bus_message_set_sender(m, BEFORE) >= 0);
        CHECK(sd_bus_message_append(m, "sa{sv}as", "org.freedesktop.systemd1.Unit", 2,
                              "InactiveExitTimestamp", "t", UINT64_C(1), state ? "ActiveState" : "SubState",
                              "s", state ?: "running", 0) >= 0);
        say(b, m);
}

void bed_list(Bed *b, const char *unit, const char *state, const char *job) {
        sd_bus_message *m;

        CHECK_EQ(b->n_calls[BED_LIST], 1);
        CHECK(sd_bus_message_new_method_return(b->calls[BED_LIST], &m) >= 0);
        CHECK(sd_bus_message_open_container(m, 'a', "(ssssssouso)") >= 0);
        CHECK(sd_bus_message_append(m, "(ssssssouso)", "vmctl-others.scope", "", "loaded", "active",
                              "running", "", SYSTEMD_PATH "/unit/others", 8, "start",
                              SYSTEMD_PATH "/job/8") >= 0);
        if (state)
                CHECK(sd_bus_message_append(m, "(ssssssouso)", unit, "", "loaded", state, "running", "",
                                      SYSTEMD_PATH "/unit/a", isempty(job) ? 0 : 7, job,
                                      isempty(job) ? "/" : JOB) >= 0);
        CHECK(sd_bus_message_close_container(m) >= 0);
        b->n_calls[BED_LIST] = 0;
        say(b, m);
}
