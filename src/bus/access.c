/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "access.h"
#include "bus-measure.h"
#include "core/bus-paths.h"
#include "policy.h"
#include "util/log.h"

#define ANSWER_MAX (31 * MIB) /* the bus cuts off who sends a message of more than 32 MiB */
#define ARRIVED_MAX 4096      /* calls of clients that the bus has yet to name: it does so at once */
#define MEASURED_MAX 8 /* answers whose size is found out for one user in a turn: some take milliseconds */
#define CALL_SIZE_MAX (2 * MIB) /* definitions have 10 KiB, the steps of provisionings some hundred */

/* Whose turn it is comes round in a ring. */
typedef struct User {
        uid_t uid;
        BusCall *calls; /* owned, in the order of their arrival */
} User;

struct Access {
        sd_bus *bus;      /* borrowed */
        sd_bus *polkit;   /* owned: a connection of its own, as the bus limits the calls of each */
        Manager *manager; /* borrowed */
        sd_bus_slot *filter;
        BusCall *arrived; /* owned: of clients that are not known yet */
        size_t n_arrived;
        User *users; /* owned: those with calls */
        size_t n_users;
        size_t turn;           /* index of the user who is served next */
        BusCall *current;      /* owned: in the bus's own queue, or dispatched in this turn of the loop */
        bool passed;           /* it is dispatched */
        sd_event_source *next; /* owned: goes on with the next one, when there is one */
};

void call_target_done(CallTarget *t) {
        free(t->id);
        free(t->name);
        *t = (CallTarget){};
}

BusCall *bus_call_free(BusCall *c) {
        if (!c)
                return NULL;
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->message);
        call_target_done(&c->target);
        charge_release(&c->calls);
        charge_release(&c->bytes);
        charge_release(&c->descriptors);
        charge_release(&c->question);
        free(c);
        return NULL;
}

static void free_list(BusCall *list) {
        while (list) {
                BusCall *c = list;

                list = c->next;
                bus_call_free(c);
        }
}

Access *access_free(Access *a) {
        if (!a)
                return NULL;
        sd_bus_slot_unref(a->filter);
        clients_set_handlers(a->manager->clients, NULL, NULL);
        free_list(a->arrived);
        for (size_t i = 0; i < a->n_users; i++)
                free_list(a->users[i].calls);
        free(a->users);
        bus_call_free(a->current);
        sd_event_source_disable_unref(a->next);
        sd_bus_flush_close_unref(a->polkit);
        free(a);
        return NULL;
}

static const BusCall *dispatched(const Access *a) {
        return a->current && sd_bus_get_current_message(a->bus) == a->current->message ? a->current : NULL;
}

uid_t access_caller_uid(const Access *a) {
        const BusCall *c = dispatched(a);

        return c ? c->uid : a->manager->core->config.system ? 0 : geteuid();
}

bool access_may_see(const Access *a, uid_t owner) {
        const BusCall *c = dispatched(a);

        return !c || c->uid == 0 || c->uid == owner || c->inspect;
}

bool access_may_use(const Access *a, const char *id, uid_t owner, bool shared) {
        const BusCall *c = dispatched(a);

        if (!c || (c->rule == RULE_FILTER && (shared || access_may_see(a, owner))))
                return true;
        return c->rule != RULE_FILTER && streq_ptr(c->target.id, id);
}

static void append(BusCall **list, BusCall *c) {
        while (*list)
                list = &(*list)->next;
        *list = c;
}

static User *user_of(Access *a, uid_t uid) {
        User *grown;

        for (size_t i = 0; i < a->n_users; i++)
                if (a->users[i].uid == uid)
                        return &a->users[i];
        grown = reallocarray(a->users, a->n_users + 1, sizeof(User));
        if (!grown)
                return NULL;
        a->users = grown;
        a->users[a->n_users] = (User){ .uid = uid };
        return &a->users[a->n_users++];
}

/* Takes a call out of the list that it stands in; the caller owns it then. */
static void take_out(BusCall *c) {
        Access *a = c->access;
        BusCall **list = &a->arrived;

        for (size_t i = 0; c->state != CALL_ARRIVED && i < a->n_users; i++)
                if (a->users[i].uid == c->uid)
                        list = &a->users[i].calls;
        for (; *list; list = &(*list)->next)
                if (*list == c) {
                        *list = c->next;
                        c->next = NULL;
                        a->n_arrived -= c->state == CALL_ARRIVED;
                        return;
                }
}

static void go_on(Access *a) {
        (void)sd_event_source_set_enabled(a->next, SD_EVENT_ONESHOT);
}

/* A refusal is an answer, too: who reads none of them gets none. Whom the bus has not named yet has no
 * account to charge for it: such a call is refused as the service ends. */
static void refuse(BusCall *c, const char *name, const char *message) {
        take_out(c);
        if (!client_is_known(c->client) ||
                        client_reserve(c->client, BUS_MESSAGE_OVERHEAD + strlen(message)) >= 0)
                (void)sd_bus_reply_method_errorf(c->message, name, "%s", message);
        bus_call_free(c);
}

static void ready(BusCall *c) {
        c->state = CALL_READY;
        charge_release(&c->question);
        go_on(c->access);
}

static int on_polkit(sd_bus_message *m, void *userdata, sd_bus_error *error);

/* Asks about the calls of this user that wait for it, as far as their account allows. Frees none. */
static void ask_for(Access *a, const User *user) {
        for (BusCall *c = user->calls; c; c = c->next) {
                if (c->state != CALL_WAITING)
                        continue;
                if (charge(a->manager->core->accounts, user->uid, RESOURCE_QUESTIONS, 1, &c->question,
                                    NULL) < 0)
                        return;
                c->state = CALL_ASKED;
                if (policy_ask(a->polkit, c, policy_action(a->manager, c), on_polkit) >= 0)
                        continue;
                c->refusal = "Cannot ask polkit";
                c->refusal_name = SD_BUS_ERROR_ACCESS_DENIED;
                ready(c);
        }
}

/* What others' questions kept waiting may be asked now. */
static void ask_for_all(Access *a) {
        for (size_t i = 0; i < a->n_users; i++)
                ask_for(a, &a->users[i]);
}

static void answered(BusCall *c, bool authorized, const char *why_not, const char *error_name) {
        Access *a = c->access;

        if (authorized && (c->rule == RULE_FILTER || c->rule == RULE_VISIBLE))
                c->inspect = true;
        if (authorized || c->rule == RULE_FILTER)
                ready(c);
        else
                refuse(c, error_name, why_not);
        ask_for_all(a);
}

static int on_polkit(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        int authorized = 0, challenge = 0;
        BusCall *c = userdata;

        c->slot = sd_bus_slot_unref(c->slot);
        if (e) {
                log_debug("polkit failed: %s", e->message);
                answered(c, false,
                                sd_bus_error_has_name(e, SD_BUS_ERROR_SERVICE_UNKNOWN)
                                                ? "Only root may do this: polkit is not installed"
                                                : "polkit did not answer",
                                SD_BUS_ERROR_ACCESS_DENIED);
                return 0;
        }
        if (sd_bus_message_enter_container(m, 'r', "bba{ss}") < 0 ||
                        sd_bus_message_read(m, "bb", &authorized, &challenge) < 0)
                authorized = challenge = 0;
        if (!authorized && challenge && sd_bus_message_get_allow_interactive_authorization(c->message) <= 0)
                answered(c, false, "A password is required for this",
                                SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED);
        else
                answered(c, authorized, "Permission denied by polkit", SD_BUS_ERROR_ACCESS_DENIED);
        return 0;
}

/* What this very call needs: at its arrival, and anew if its object has become another kind of thing to its
 * caller while it waited. */
static void decide(BusCall *c) {
        Access *a = c->access;

        c->inspect = c->uid == 0;
        c->state = CALL_WAITING;
        if (policy_action(a->manager, c))
                ask_for(a, user_of(a, c->uid));
        else
                ready(c);
}

static void refuse_list(BusCall **list, const Error *why) {
        while (*list)
                refuse(*list, error_code_name(error_code(why)), error_message(why));
}

void access_end(Access *a, const Error *why) {
        refuse_list(&a->arrived, why);
        for (size_t i = 0; i < a->n_users; i++)
                refuse_list(&a->users[i].calls, why);
}

/* The caller is known: charge it, bind it, decide. */
static void take_in(BusCall *c) {
        Access *a = c->access;
        _cleanup_error_ Error *e = NULL;
        BusMeasure size;
        User *user;
        int r;

        c->uid = client_uid(c->client);
        r = bus_measure(c->message, CALL_SIZE_MAX, &size);
        if (r < 0) {
                refuse(c, SD_BUS_ERROR_LIMITS_EXCEEDED, "The call is too large");
                return;
        }
        r = charge(a->manager->core->accounts, c->uid, RESOURCE_CALLS, 1, &c->calls, &e);
        if (r >= 0)
                r = charge(a->manager->core->accounts, c->uid, RESOURCE_CALL_BYTES, size.bytes, &c->bytes,
                                &e);
        if (r >= 0)
                r = charge(a->manager->core->accounts, c->uid, RESOURCE_DESCRIPTORS, size.descriptors,
                                &c->descriptors, &e);
        if (r >= 0)
                r = policy_find_target(a->manager, c, &c->target);
        user = r < 0 ? NULL : user_of(a, c->uid);
        if (!user) {
                refuse(c, e ? error_code_name(error_code(e)) : SD_BUS_ERROR_NO_MEMORY,
                                e ? error_message(e) : "Out of memory");
                return;
        }
        take_out(c);
        c->state = CALL_WAITING;
        append(&user->calls, c);
        decide(c);
}

/* Does the name still stand for what the call was bound to? An image that was shared, or is not any more,
 * needs another verdict. Returns whether it can be dispatched now. */
static bool check_binding(BusCall *c) {
        CallTarget now;

        if (!c->target.id)
                return true;
        if (policy_find_target(c->access->manager, c, &now) < 0)
                return true; /* the method finds out, by the UUID */
        if (streq_ptr(now.id, c->target.id) && now.shared != c->target.shared) {
                call_target_done(&c->target);
                c->target = now;
                decide(c);
                return c->state == CALL_READY;
        }
        call_target_done(&now);
        return true;
}

/* How much room it takes; what would cost us the bus is refused. */
static uint64_t size_answer(BusCall *c) {
        uint64_t size = policy_answer_size(c->access->manager, c);

        if (size <= ANSWER_MAX)
                return size;
        c->refusal = "The answer would be larger than the bus allows: ask for single objects";
        c->refusal_name = SD_BUS_ERROR_LIMITS_EXCEEDED;
        return 0; /* refuse() sees to it */
}

/* The first call of this user that can be dispatched, if there is room for its answer. What had none is
 * measured again only when there is what it needed then: so those who read nothing are not in the way of
 * their user's others, however many calls of theirs wait. */
static BusCall *take_ready(Access *a, const User *user) {
        unsigned measured = 0;
        bool blocked = false;
        BusCall *c;

        for (c = user->calls; c; c = c->next) {
                if (c->state != CALL_READY)
                        continue;
                if (c->needs > 0 && !client_has_room(c->client, c->needs)) {
                        blocked = true;
                        continue;
                }
                if (measured++ == MEASURED_MAX) {
                        go_on(a);
                        c = NULL;
                        break;
                }
                if (!check_binding(c))
                        continue;
                c->needs = size_answer(c);
                if (client_reserve(c->client, c->needs) >= 0)
                        break;
                blocked = true;
        }
        if (blocked)
                clients_inquire(a->manager->clients, user->uid);
        if (c)
                take_out(c);
        return c;
}

static void forget_idle_users(Access *a) {
        for (size_t i = 0; i < a->n_users;)
                if (a->users[i].calls)
                        i++;
                else
                        a->users[i] = a->users[--a->n_users];
}

static BusCall *choose(Access *a) {
        BusCall *c = NULL;

        for (size_t i = 0; !c && i < a->n_users; i++)
                if (a->users[i].uid == 0)
                        c = take_ready(a, &a->users[i]);
        for (size_t i = 0; !c && i < a->n_users; i++) {
                a->turn = (a->turn + 1) % a->n_users;
                c = take_ready(a, &a->users[a->turn]);
        }
        forget_idle_users(a);
        return c;
}

/* The last call was dispatched: a call that is kept keeps its descriptors open, and whoever reads from a
 * pipe would wait for its end. */
static int on_next(sd_event_source *s, void *userdata) {
        Access *a = userdata;
        BusCall *c;

        if (a->current && !a->passed)
                return 0; /* its dispatch goes on with the next one */
        a->current = bus_call_free(a->current);
        c = choose(a);
        if (!c)
                return 0;
        if (c->refusal) {
                refuse(c, c->refusal_name, c->refusal);
                go_on(a);
                return 0;
        }
        if (sd_bus_message_rewind(c->message, true) < 0 || sd_bus_enqueue_for_read(a->bus, c->message) < 0) {
                refuse(c, SD_BUS_ERROR_NO_MEMORY, "Out of memory");
                go_on(a);
                return 0;
        }
        a->current = c;
        a->passed = false;
        return 0;
}

static void on_identified(Client *client, bool known, void *userdata) {
        Access *a = userdata;
        BusCall *next;

        for (BusCall *c = a->arrived; c; c = next) {
                next = c->next;
                if (c->client != client)
                        continue;
                if (known)
                        take_in(c);
                else /* it has gone, or memory is short */
                        refuse(c, SD_BUS_ERROR_FAILED, "Who makes this call could not be found out");
        }
}

static void drop_calls(BusCall **list, const Client *client) {
        while (*list) {
                BusCall *c = *list;

                if (c->client != client) {
                        list = &c->next;
                        continue;
                }
                *list = c->next;
                bus_call_free(c);
        }
}

/* What a caller who has gone meanwhile wanted is not done. */
static void on_left(Client *client, void *userdata) {
        Access *a = userdata;

        drop_calls(&a->arrived, client);
        a->n_arrived = 0;
        for (const BusCall *c = a->arrived; c; c = c->next)
                a->n_arrived++;
        for (size_t i = 0; i < a->n_users; i++)
                drop_calls(&a->users[i].calls, client);
        if (a->current && a->current->client == client)
                a->current->client = NULL; /* it is in the bus's own queue */
        ask_for_all(a);
        go_on(a);
}

static void on_drained(void *userdata) {
        go_on(userdata);
}

static const ClientHandlers client_handlers = { on_identified, on_left, on_drained };

static int receive(Access *a, sd_bus_message *m) {
        const char *sender = sd_bus_message_get_sender(m);
        Client *client = sender ? client_get(a->manager->clients, sender) : NULL;
        BusCall *c;

        if (!client)
                return -ENOMEM;
        /* Nobody is charged for these yet. */
        if (a->n_arrived >= ARRIVED_MAX)
                return sd_bus_reply_method_errorf(m, SD_BUS_ERROR_LIMITS_EXCEEDED, "Too many calls at once");
        c = malloc(sizeof(BusCall));
        if (!c)
                return -ENOMEM;
        *c = (BusCall){
                .access = a, .message = sd_bus_message_ref(m), .client = client, .rule = policy_rule(m)
        };
        append(&a->arrived, c);
        a->n_arrived++;
        if (client_is_known(client))
                take_in(c);
        return 1;
}

static int on_message(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Access *a = userdata;
        BusCall *c = a->current;
        uint8_t type;

        if (sd_bus_message_get_type(m, &type) < 0 || type != SD_BUS_MESSAGE_METHOD_CALL)
                return 0;
        if (!c || c->message != m)
                return receive(a, m);
        a->passed = true;
        go_on(a);
        if (!c->client) {
                a->current = NULL;
                bus_call_free(c);
                return 1;
        }
        /* Only calls that ask for all tell whether the caller may see all. */
        client_subscribe(c->client, c->rule == RULE_FILTER ? c->inspect : -1);
        return 0;
}

static int set_up(Access *a, sd_event *event) {
        int r;

        r = sd_bus_open_system_with_description(&a->polkit, "vmctld-polkit");
        if (r >= 0)
                r = sd_bus_set_exit_on_disconnect(a->polkit, true);
        if (r >= 0)
                r = sd_bus_attach_event(a->polkit, event, SD_EVENT_PRIORITY_NORMAL);
        if (r >= 0)
                r = sd_event_add_defer(event, &a->next, on_next, a);
        if (r >= 0)
                r = sd_event_source_set_enabled(a->next, SD_EVENT_OFF);
        if (r >= 0)
                r = sd_bus_add_filter(a->bus, &a->filter, on_message, a);
        if (r >= 0)
                clients_set_handlers(a->manager->clients, &client_handlers, a);
        return r;
}

int access_new(sd_bus *bus, Manager *manager, Access **ret) {
        _cleanup_(access_freep) Access *a = malloc(sizeof(Access));
        int r;

        if (!a)
                return -ENOMEM;
        *a = (Access){ .bus = bus, .manager = manager };
        if (manager->core->config.system) {
                r = set_up(a, manager->core->event);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(a);
        return 0;
}
