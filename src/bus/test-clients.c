/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Clients that may not read, and a bus that tells what it keeps for them, or does not, or not in time. */
#include <sys/socket.h>

#include "clients.h"
#include "core/bus-paths.h"
#include "util/test.h"

#define CLIENT ":1.42"
#define USER 1000
#define UNREAD_MAX (64 * KIB)
#define STATS "org.freedesktop.DBus.Debug.Stats"

static sd_event *event;
static sd_bus *server, *bus;
static Accounts *accounts;
static Clients *clients;
static Client *client;
static sd_bus_message *ping, *question; /* that wait for an answer */
static unsigned n_questions, n_surveys, drained;

/* --- The clock: one timer, which is enough */

static sd_event_source *timer;
static sd_event_time_handler_t on_time;
static void *on_time_userdata;

static int on_timer(sd_event_source *s, void *userdata) {
        timer = NULL;
        return on_time(s, 0, on_time_userdata);
}

int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata);
int __wrap_sd_event_add_time_relative(sd_event *e, sd_event_source **ret, clockid_t clock, uint64_t usec,
                uint64_t accuracy, sd_event_time_handler_t callback, void *userdata) {
        CHECK(!timer);
        CHECK(sd_event_add_defer(e, ret, on_timer, NULL) >= 0);
        CHECK(sd_event_source_set_enabled(*ret, SD_EVENT_OFF) >= 0);
        timer = *ret;
        on_time = callback;
        on_time_userdata = userdata;
        return 0;
}

static void settle(void) {
        int r;

        do
                CHECK((r = sd_event_run(event, 0)) >= 0);
        while (r > 0);
}

static void pass_time(void) {
        CHECK(timer);
        CHECK(sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT) >= 0);
        settle();
}

/* --- The bus */

static void keep(sd_bus_message **where, sd_bus_message *m) {
        sd_bus_message_unref(*where);
        *where = sd_bus_message_ref(m);
}

static int on_call(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        if (sd_bus_message_is_method_call(m, BUS_DRIVER, "GetConnectionUnixUser"))
                return sd_bus_reply_method_return(m, "u", (uint32_t)USER);
        if (sd_bus_message_is_method_call(m, "org.freedesktop.DBus.Peer", "Ping"))
                keep(&ping, m);
        else if (sd_bus_message_is_method_call(m, STATS, "GetConnectionStats")) {
                keep(&question, m);
                n_questions++;
        } else if (sd_bus_message_is_method_call(m, STATS, "GetStats"))
                n_surveys++;
        else
                return 0;
        return 1;
}

static void fail_question(const char *name) {
        CHECK(sd_bus_reply_method_errorf(question, name, "No") >= 0);
        settle();
}

static void tell(uint32_t bytes) {
        CHECK(sd_bus_reply_method_return(question, "a{sv}", 2, "OutgoingFDs", "u", (uint32_t)0,
                              "OutgoingBytes", "u", bytes) >= 0);
        settle();
}

static void on_identified(Client *c, bool known, void *userdata) {
        CHECK(known);
}
static void on_left(Client *c, void *userdata) {
}
static void on_drained(void *userdata) {
        drained++;
}
static const ClientHandlers handlers = { on_identified, on_left, on_drained };

static void set_up(void) {
        static ResourceLimit limits[_RESOURCE_MAX];
        sd_id128_t id;
        int fds[2];

        for (int i = 0; i < _RESOURCE_MAX; i++)
                limits[i] = (ResourceLimit){ UNREAD_MAX, 8 * UNREAD_MAX };
        drained = n_questions = n_surveys = 0;
        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
        CHECK_EQ(sd_id128_randomize(&id), 0);
        CHECK(sd_event_new(&event) >= 0);
        CHECK(sd_bus_new(&server) >= 0 && sd_bus_new(&bus) >= 0);
        CHECK(sd_bus_set_fd(server, fds[0], fds[0]) >= 0 && sd_bus_set_fd(bus, fds[1], fds[1]) >= 0);
        CHECK(sd_bus_set_server(server, true, id) >= 0 && sd_bus_set_anonymous(server, true) >= 0);
        CHECK(sd_bus_add_filter(server, NULL, on_call, NULL) >= 0);
        CHECK(sd_bus_start(server) >= 0 && sd_bus_start(bus) >= 0);
        CHECK(sd_bus_attach_event(server, event, 0) >= 0 && sd_bus_attach_event(bus, event, 0) >= 0);
        CHECK_EQ(accounts_new(limits, &accounts), 0);
        CHECK_EQ(clients_new(bus, accounts, false, &clients), 0);
        clients_set_handlers(clients, &handlers, NULL);
        client = client_get(clients, CLIENT);
        CHECK(client);
        settle();
        CHECK(client_is_known(client));
}

static void tear_down(void) {
        clients_free(clients);
        CHECK_EQ(accounts_total(accounts, RESOURCE_UNREAD), 0);
        CHECK_EQ(accounts_total(accounts, RESOURCE_PINGS), 0);
        accounts_free(accounts);
        ping = sd_bus_message_unref(ping);
        question = sd_bus_message_unref(question);
        sd_bus_close(bus);
        sd_bus_close(server);
        sd_bus_unref(bus);
        sd_bus_unref(server);
        sd_event_unref(event);
}

static uint64_t unread(void) {
        return accounts_used(accounts, USER, RESOURCE_UNREAD);
}

/* It has as much on its way to it as it may. */
static void fill(void) {
        while (client_reserve(client, 1 * KIB) >= 0)
                ;
        CHECK(unread() > 0 && !client_has_room(client, 1 * KIB));
        settle();
}

static void fill_and_ask(void) {
        fill();
        clients_inquire(clients, USER);
        settle();
        CHECK_EQ(n_questions, 1);
}

/* No answer says nothing of who reads: nothing is given back, and the bus is asked again, but later. */
static void test_no_answer(void) {
        uint64_t before;

        set_up();
        fill_and_ask();
        before = unread();
        fail_question(SD_BUS_ERROR_NO_REPLY);
        CHECK_EQ(unread(), before);
        CHECK_EQ(drained, 0);
        CHECK(!client_has_room(client, 1 * KIB));
        clients_inquire(clients, USER);
        settle();
        CHECK_EQ(n_questions, 1); /* not yet */
        pass_time();
        CHECK_EQ(drained, 1); /* whose calls wait asks again */
        clients_inquire(clients, USER);
        settle();
        CHECK_EQ(n_questions, 2);
        CHECK_EQ(n_surveys, 0);
        tell(0);
        CHECK_EQ(drained, 2);
        CHECK_EQ(unread(), 0);
        CHECK(client_has_room(client, 1 * KIB));
        tear_down();
}

/* An answer that is none is as good: without the key, or of another kind. */
static void test_strange_answer(void) {
        uint64_t before;

        set_up();
        fill_and_ask();
        before = unread();
        CHECK(sd_bus_reply_method_return(question, "a{sv}", 1, "OutgoingFDs", "u", (uint32_t)0) >= 0);
        settle();
        CHECK_EQ(unread(), before);
        pass_time();
        clients_inquire(clients, USER);
        settle();
        CHECK_EQ(n_questions, 2);
        CHECK(sd_bus_reply_method_return(question, "s", "nothing") >= 0);
        settle();
        CHECK_EQ(unread(), before);
        CHECK(timer);
        tear_down();
        timer = NULL;
}

/* A bus that does not know the question is asked of all connections at once from then on. */
static void test_unknown_question(void) {
        set_up();
        fill_and_ask();
        fail_question(SD_BUS_ERROR_UNKNOWN_METHOD);
        CHECK_EQ(n_surveys, 1);
        CHECK_EQ(n_questions, 1);
        tear_down();
}

/* What is read while the bus is asked is given back once. */
static void test_read_meanwhile(void) {
        set_up();
        fill_and_ask();
        CHECK(sd_bus_reply_method_return(ping, NULL) >= 0);
        settle();
        tell(0);
        CHECK_EQ(unread(), 0);
        tear_down();
}

/* A client that answers a Ping twice has not read twice as much; the bus's second answer counts as little.
 */
static void test_answers_twice(void) {
        sd_bus_message *first;
        uint64_t left;

        set_up();
        fill();
        first = sd_bus_message_ref(ping);
        CHECK(sd_bus_reply_method_return(first, NULL) >= 0);
        settle();
        CHECK(drained > 0);
        fill();
        CHECK(ping != first); /* there is another one under way */
        left = unread();
        CHECK(sd_bus_reply_method_return(first, NULL) >= 0);
        settle();
        CHECK_EQ(unread(), left);
        sd_bus_message_unref(first);
        tear_down();

        set_up();
        fill_and_ask();
        tell(0);
        CHECK_EQ(unread(), 0);
        fill();
        left = unread();
        tell(0);
        CHECK_EQ(unread(), left);
        tear_down();
}

int main(void) {
        test_no_answer();
        test_strange_answer();
        test_unknown_question();
        test_read_meanwhile();
        test_answers_twice();
        return 0;
}
