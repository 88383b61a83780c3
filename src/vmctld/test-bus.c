/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The objects on the bus and what stands before them: polkit that answers twice, and memory that is short
 * while an answer is made. We are the bus, PID 1 and polkit ourselves. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bus/manager-bus.h"
#include "core/bus-paths.h"
#include "core/test-record-faults.h"
#include "host/host.h"
#include "service.h"
#include "util/fd-util.h"
#include "util/test.h"

#define USERS_CLIENT ":1.42"
#define ROOTS_CLIENT ":1.7"
#define POLKIT "org.freedesktop.PolicyKit1.Authority"

static sd_event *event;
static sd_bus *server, *polkit; /* our ends */
static sd_bus *bus;
static Manager *m;
static Access *access_control;
static BusFace face;
static char base[] = "/tmp/test-bus.XXXXXX";

static sd_bus_message *question; /* to polkit, the last one */
static unsigned n_questions;
static unsigned n_answers; /* to clients */
static char last_error[128];

/* --- QEMU's facts, instead of host.c */

static bool host_known;
static host_done_t host_done;
static void *host_asker;

int host_new(sd_event *e, const char *qemu, bool other_users, Host **ret) {
        *ret = NULL;
        return 0;
}
Host *host_free(Host *h) {
        return NULL;
}
int host_ensure(Host *h, host_done_t done, void *userdata) {
        host_done = done;
        host_asker = userdata;
        return host_known;
}
void host_forget(Host *h, void *userdata) {
}
int host_check_qemu(const Host *h, Error **reterr) {
        return 0;
}
const char *host_qemu_version(const Host *h) {
        return "7.2.0";
}
int host_resolve_machine(const Host *h, const char *asked, const char **ret, Error **reterr) {
        *ret = "pc-q35-7.2";
        return 0;
}
bool host_has_kvm(const Host *h, const char **ret_reason) {
        *ret_reason = "there is none";
        return false;
}
gid_t host_kvm_gid(const Host *h) {
        return 0;
}
bool host_has_passt(const Host *h, const char **ret_reason) {
        *ret_reason = "there is none";
        return false;
}
int host_uefi(const Host *h, const char **ret_code, const char **ret_vars, Error **reterr) {
        return -ENOENT;
}

/* --- The bus */

static void settle(void) {
        int r;

        do
                CHECK((r = sd_event_run(event, 0)) >= 0);
        while (r > 0);
}

static sd_bus *make_bus(sd_bus_message_handler_t on_message, sd_bus **ret_ours) {
        sd_bus *theirs;
        sd_id128_t id;
        int fds[2];

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_bus_new(ret_ours) >= 0 && sd_bus_new(&theirs) >= 0);
        CHECK(sd_bus_set_fd(*ret_ours, fds[0], fds[0]) >= 0 && sd_bus_set_fd(theirs, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(*ret_ours, true, id) >= 0 && sd_bus_set_anonymous(*ret_ours, true) >= 0);
        CHECK(sd_bus_add_filter(*ret_ours, NULL, on_message, NULL) >= 0);
        CHECK(sd_bus_start(*ret_ours) >= 0 && sd_bus_start(theirs) >= 0);
        CHECK(sd_bus_attach_event(*ret_ours, event, 0) >= 0);
        return theirs;
}

static int on_question(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        if (!sd_bus_message_is_method_call(message, POLKIT, "CheckAuthorization"))
                return 0;
        sd_bus_message_unref(question);
        question = sd_bus_message_ref(message);
        n_questions++;
        return 1;
}

/* access.c attaches it. */
int __wrap_sd_bus_open_system_with_description(sd_bus **ret, const char *description);
int __wrap_sd_bus_open_system_with_description(sd_bus **ret, const char *description) {
        *ret = make_bus(on_question, &polkit);
        return 0;
}

static int on_message(sd_bus_message *message, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(message);
        const char *name;
        uint8_t type;

        CHECK(sd_bus_message_get_type(message, &type) >= 0);
        if (type == SD_BUS_MESSAGE_METHOD_RETURN || type == SD_BUS_MESSAGE_METHOD_ERROR) {
                n_answers++;
                (void)snprintf(last_error, sizeof(last_error), "%s", e ? e->name : "");
                return 1;
        }
        if (sd_bus_message_is_method_call(message, BUS_DRIVER, "GetConnectionUnixUser")) {
                CHECK(sd_bus_message_read(message, "s", &name) >= 0);
                return sd_bus_reply_method_return(
                                message, "u", (uint32_t)(streq(name, ROOTS_CLIENT) ? 0 : 1000));
        }
        if (sd_bus_message_is_method_call(message, BUS_DRIVER, "GetNameOwner"))
                return sd_bus_reply_method_return(message, "s", ":1.1");
        return type == SD_BUS_MESSAGE_METHOD_CALL ? sd_bus_reply_method_return(message, NULL) : 0;
}

static void set_up(void) {
        Config c = {
                .system = true,
                .state_dir = strf("%s/state", base),
                .runtime_dir = strf("%s/run", base),
                .conf_dir = strf("%s/conf", base),
                .qemu = strdup("/bin/true"),
                .uid_first = 100000,
                .uid_count = 4096,
                .port_first = 42000,
                .port_last = 42063,
        };

        memcpy(c.limits, resource_limits_default, sizeof(c.limits));
        n_questions = n_answers = 0;
        bus = make_bus(on_message, &server);
        CHECK(sd_bus_attach_event(bus, event, 0) >= 0);
        CHECK_EQ(service_new(event, bus, bus, &c, &manager_bus_hooks, &m), 0);
        CHECK_EQ(access_new(bus, m, &access_control), 0);
        face = (BusFace){ .manager = m, .access = access_control };
        CHECK(manager_bus_add(&face) >= 0);
        settle();
}

static void tear_down(void) {
        settle();
        for (int i = 0; i < _RESOURCE_MAX; i++)
                if (i != RESOURCE_UNREAD && i != RESOURCE_PINGS)
                        CHECK_EQ(accounts_total(m->core->accounts, i), 0);
        CHECK_EQ(face.n_asking, 0);
        free(face.asking);
        access_free(access_control);
        sd_bus_close(bus);
        service_free(m);
        sd_bus_unref(bus);
        question = sd_bus_message_unref(question);
        sd_bus_close(server);
        sd_bus_close(polkit);
        sd_bus_unref(server);
        sd_bus_unref(polkit);
}

static void make_call(const char *sender, const char *member, const char *types, ...) {
        sd_bus_message *call;
        uint64_t cookie;
        va_list ap;

        CHECK(sd_bus_message_new_method_call(
                              server, &call, NULL, BUS_PATH_MANAGER, "org.vmctl1.Manager", member) >= 0);
        CHECK(sd_bus_message_set_sender(call, sender) >= 0);
        va_start(ap, types);
        CHECK(!types || sd_bus_message_appendv(call, types, ap) >= 0);
        va_end(ap);
        CHECK(sd_bus_send(server, call, &cookie) >= 0);
        sd_bus_message_unref(call);
        settle();
}

/* --- polkit */

static void authorize(sd_bus_message *whom, bool authorized) {
        CHECK(sd_bus_reply_method_return(whom, "(bba{ss})", (int)authorized, 0, 0) >= 0);
        settle();
}

/* With a name that none can have, which is found out when the call is let through. */
static void create(void) {
        make_call(USERS_CLIENT, "CreateVM", "sa{sv}", "/", 0);
}

static sd_bus_message *ask_to_create(void) {
        create();
        CHECK_EQ(n_questions, 1);
        CHECK_EQ(n_answers, 0);
        return sd_bus_message_ref(question);
}

/* What it says second counts for nothing: neither for this call, nor for the next one. */
static void test_polkit_twice(bool first, bool second) {
        sd_bus_message *old;

        set_up();
        old = ask_to_create();
        authorize(old, first);
        CHECK_EQ(n_answers, 1);
        CHECK_STREQ(last_error, first ? "org.vmctl1.Error.InvalidName" : SD_BUS_ERROR_ACCESS_DENIED);
        authorize(old, second);
        CHECK_EQ(n_answers, 1);
        create();
        CHECK_EQ(n_questions, 2);
        authorize(old, true);
        CHECK_EQ(n_answers, 1);
        authorize(question, false);
        CHECK_EQ(n_answers, 2);
        CHECK_STREQ(last_error, SD_BUS_ERROR_ACCESS_DENIED);
        sd_bus_message_unref(old);
        tear_down();
}

/* Both come before we look: the first one counts. */
static void test_polkit_twice_at_once(void) {
        sd_bus_message *old;

        set_up();
        old = ask_to_create();
        CHECK(sd_bus_reply_method_return(old, "(bba{ss})", 0, 0, 0) >= 0);
        authorize(old, true);
        CHECK_EQ(n_answers, 1);
        CHECK_STREQ(last_error, SD_BUS_ERROR_ACCESS_DENIED);
        sd_bus_message_unref(old);
        tear_down();
}

static void test_polkit_fails_and_agrees(void) {
        sd_bus_message *old;

        set_up();
        old = ask_to_create();
        CHECK(sd_bus_reply_method_errorf(old, SD_BUS_ERROR_NO_REPLY, "No") >= 0);
        settle();
        CHECK_EQ(n_answers, 1);
        CHECK_STREQ(last_error, SD_BUS_ERROR_ACCESS_DENIED);
        authorize(old, true);
        CHECK_EQ(n_answers, 1);
        sd_bus_message_unref(old);
        tear_down();
}

/* --- GetCapabilities */

/* Call `n` of the library fails while it is answered. One answer comes, and the next one is whole. */
static bool try_capabilities(bool known, int n) {
        bool happened;

        set_up();
        host_known = known;
        faults->happened = false;
        faults->countdown = known ? n : NO_FAULT;
        make_call(ROOTS_CLIENT, "GetCapabilities", NULL);
        if (!known) { /* two wait for QEMU */
                make_call(ROOTS_CLIENT, "GetCapabilities", NULL);
                CHECK_EQ(face.n_asking, 2);
                CHECK_EQ(n_answers, 0);
                faults->countdown = n;
                host_done(host_asker);
                settle();
        }
        faults->countdown = NO_FAULT;
        happened = faults->happened;
        CHECK_EQ(n_answers, known ? 1 : 2);
        CHECK(happened || isempty(last_error));
        n_answers = 0;
        host_known = true;
        make_call(ROOTS_CLIENT, "GetCapabilities", NULL);
        CHECK_EQ(n_answers, 1);
        CHECK_STREQ(last_error, "");
        tear_down();
        return happened;
}

static void test_capabilities(void) {
        for (int known = 0; known < 2; known++) {
                int n = 0;

                while (try_capabilities(known, n))
                        n++;
                printf("GetCapabilities, QEMU %s: %i calls\n", known ? "known" : "asked", n);
                CHECK(n > 0);
        }
}

/* The end of the service is an answer, too, and what QEMU says then comes too late. */
static void test_capabilities_at_the_end(void) {
        set_up();
        host_known = false;
        make_call(ROOTS_CLIENT, "GetCapabilities", NULL);
        CHECK_EQ(n_answers, 0);
        manager_bus_end(&face);
        settle();
        CHECK_EQ(n_answers, 1);
        CHECK_STREQ(last_error, "org.vmctl1.Error.ServiceEnding");
        host_done(host_asker);
        settle();
        CHECK_EQ(n_answers, 1);
        tear_down();
}

int main(void) {
        faults_init();
        CHECK(mkdtemp(base));
        CHECK(sd_event_new(&event) >= 0);
        test_polkit_twice(true, true);
        test_polkit_twice(true, false);
        test_polkit_twice(false, true);
        test_polkit_twice_at_once();
        test_polkit_fails_and_agrees();
        test_capabilities();
        test_capabilities_at_the_end();
        sd_event_unref(event);
        CHECK_EQ(remove_tree_at(AT_FDCWD, base), 0);
        return 0;
}
