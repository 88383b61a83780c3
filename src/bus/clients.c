/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <sys/random.h>

#include "bus-measure.h"
#include "clients.h"
#include "core/bus-paths.h"
#include "util/log.h"

#define PING_AFTER (64 * KIB) /* a client is asked whether it reads when so much is on its way to it */
#define AWAITED_MAX 96        /* signals that are kept for a client that does not read: of 32 jobs */
#define INQUIRY_AGAIN_MIN (20 * USEC_PER_MSEC) /* to look again whether a client reads that waits for us */
#define INQUIRY_AGAIN_MAX (2 * USEC_PER_SEC)
#define SURVEY_AGAIN (20 * USEC_PER_MSEC) /* it costs the bus something for each of its connections */
#define CLIENT_SHARE 4 /* of the account of its user, what a single client may fill: one in so many */
/* What may always be sent to who has read all, however little the others of its user read: of the 256
 * connections that a bus takes of a user, as much as the account, and of all that it takes, half of all. */
#define CLIENT_FREE (16 * KIB)

struct Client {
        Clients *clients; /* borrowed */
        char *name;       /* unique, as ":1.42" */
        uid_t uid;
        bool known, subscribed, inspect;
        bool lost;                /* signals were not sent to it */
        sd_bus_message **awaited; /* owned: of these, those that it gets nevertheless; NULL: none yet */
        size_t n_awaited;
        sd_bus_slot *credentials;
        Charge unread;
        uint64_t vouched; /* of `unread`, what the answer to the Ping under way is for */
        sd_bus_slot *ping;
        Charge pinging; /* a client that does not read never answers */
        sd_bus_slot *inquiry;
        uint64_t inquired;      /* of `unread`, what the inquiry or survey under way is about */
        sd_event_source *again; /* owned: when the next one is due, at the earliest */
        uint64_t again_usec;    /* how long that is */
};

struct Clients {
        sd_bus *bus;        /* borrowed */
        Accounts *accounts; /* borrowed */
        bool everybody;
        const ClientHandlers *handlers;
        void *userdata;
        sd_bus_slot *leaving;
        bool surveys; /* the bus tells what it keeps only for all connections at once */
        sd_bus_slot *survey;
        sd_event_source *rest; /* owned: until the next survey may begin */
        Client **list;         /* owned, sorted by name */
        size_t n;
};

static Client *client_free(Client *c) {
        sd_bus_slot_unref(c->credentials);
        sd_bus_slot_unref(c->ping);
        sd_bus_slot_unref(c->inquiry);
        sd_event_source_disable_unref(c->again);
        for (size_t i = 0; i < c->n_awaited; i++)
                sd_bus_message_unref(c->awaited[i]);
        free(c->awaited);
        charge_release(&c->unread);
        charge_release(&c->pinging);
        free(c->name);
        free(c);
        return NULL;
}

static const char *name_of(const void *client) {
        return ((const Client *)client)->name;
}

static size_t position(const Clients *c, const char *name) {
        return sorted_position(c->list, c->n, name_of, name);
}

static void remove_client(Clients *c, size_t i) {
        Client *client = c->list[i];
        bool known = client->known;

        if (c->handlers)
                c->handlers->left(client, c->userdata);
        memmove(c->list + i, c->list + i + 1, (--c->n - i) * sizeof(Client *));
        client_free(client);
        if (c->handlers && known)
                c->handlers->drained(c->userdata);
}

/* A name that has no owner any more. Only those of connections can be ours. */
static int on_leaving(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Clients *c = userdata;
        const char *name;
        size_t i;

        if (!streq_ptr(sd_bus_message_get_sender(m), BUS_DRIVER) || sd_bus_message_read(m, "s", &name) < 0)
                return 0;
        i = position(c, name);
        if (i < c->n && streq(c->list[i]->name, name))
                remove_client(c, i);
        return 0;
}

static int on_matched(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        /* Nobody would ever be forgotten: better to begin anew than to fill up. */
        return e ? log_error_errno(-sd_bus_error_get_errno(e), "The bus does not tell who leaves: %s",
                                   e->message)
                 : 0;
}

int clients_new(sd_bus *bus, Accounts *accounts, bool everybody, Clients **ret) {
        _cleanup_(clients_freep) Clients *c = malloc(sizeof(Clients));
        int r;

        if (!c)
                return -ENOMEM;
        *c = (Clients){ .bus = bus, .accounts = accounts, .everybody = everybody };
        if (!everybody) {
                r = sd_bus_add_match_async(bus, &c->leaving,
                                "type='signal',sender='org.freedesktop.DBus',"
                                "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
                                on_leaving, on_matched, c);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(c);
        return 0;
}

Clients *clients_free(Clients *c) {
        if (!c)
                return NULL;
        sd_bus_slot_unref(c->leaving);
        sd_bus_slot_unref(c->survey);
        sd_event_source_disable_unref(c->rest);
        for (size_t i = 0; i < c->n; i++)
                client_free(c->list[i]);
        free(c->list);
        free(c);
        return NULL;
}

void clients_set_handlers(Clients *c, const ClientHandlers *handlers, void *userdata) {
        c->handlers = handlers;
        c->userdata = userdata;
}

sd_bus *clients_bus(const Clients *c) {
        return c->bus;
}

static int on_credentials(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Client *c = userdata;
        Clients *all = c->clients;
        uint32_t uid;

        c->credentials = sd_bus_slot_unref(c->credentials);
        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "u", &uid) >= 0) {
                c->uid = uid;
                c->known = charge(all->accounts, c->uid, RESOURCE_UNREAD, 0, &c->unread, NULL) >= 0;
        }
        if (c->known) {
                all->handlers->identified(c, true, all->userdata);
                return 0;
        }
        /* It left before the match was there, or has gone this moment. */
        all->handlers->identified(c, false, all->userdata);
        remove_client(all, position(all, c->name));
        return 0;
}

static Client *add(Clients *all, const char *name, size_t i) {
        Client *c, **grown = reallocarray(all->list, all->n + 1, sizeof(Client *));

        if (!grown)
                return NULL;
        all->list = grown;
        c = malloc(sizeof(Client));
        if (!c)
                return NULL;
        *c = (Client){ .clients = all, .name = strdup(name) };
        /* The bus daemon answers this itself, at once: that is not counted with what waits for others. */
        if (!c->name ||
                        sd_bus_call_method_async(all->bus, &c->credentials, BUS_DRIVER,
                                        "/org/freedesktop/DBus", BUS_DRIVER, "GetConnectionUnixUser",
                                        on_credentials, c, "s", name) < 0)
                return client_free(c);
        memmove(all->list + i + 1, all->list + i, (all->n++ - i) * sizeof(Client *));
        all->list[i] = c;
        return c;
}

Client *client_get(Clients *c, const char *name) {
        size_t i = position(c, name);

        return i < c->n && streq(c->list[i]->name, name) ? c->list[i] : add(c, name, i);
}

bool client_is_known(const Client *c) {
        return c->known;
}

uid_t client_uid(const Client *c) {
        return c->uid;
}

void client_subscribe(Client *c, int inspect) {
        c->subscribed = true;
        if (inspect >= 0)
                c->inspect = inspect > 0;
}

static void ping(Client *c);

static void ping_others(Clients *all, uid_t uid) {
        const Accounts *a = all->accounts;

        for (size_t i = 0; i < all->n; i++) {
                if (accounts_used(a, uid, RESOURCE_PINGS) >= accounts_limit(a, uid, RESOURCE_PINGS))
                        return;
                if (all->list[i]->known && all->list[i]->uid == uid && all->list[i]->unread.amount > 0)
                        ping(all->list[i]);
        }
}

static void tell_awaited(Client *c) {
        size_t told = 0;

        while (told < c->n_awaited && client_reserve(c, BUS_MESSAGE_OVERHEAD) >= 0) {
                (void)sd_bus_send_to(c->clients->bus, c->awaited[told], c->name, NULL);
                sd_bus_message_unref(c->awaited[told++]);
        }
        c->n_awaited -= told;
        if (told > 0)
                memmove(c->awaited, c->awaited + told, c->n_awaited * sizeof(c->awaited[0]));
}

static void tell_lost(Client *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;

        tell_awaited(c);
        if (!c->lost || c->n_awaited > 0 || client_reserve(c, BUS_MESSAGE_OVERHEAD) < 0)
                return;
        if (sd_bus_message_new_signal(c->clients->bus, &m, BUS_PATH_MANAGER, "org.vmctl1.Manager",
                            "SignalsLost") >= 0 &&
                        sd_bus_send_to(c->clients->bus, m, c->name, NULL) >= 0)
                c->lost = false;
}

/* So much of it has been read. */
static void take_read(Client *c, uint64_t bytes) {
        bytes = MIN(bytes, c->unread.amount);
        charge_shrink(&c->unread, bytes);
        c->vouched -= MIN(c->vouched, bytes);
}

static int on_pong(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Client *c = userdata;
        Clients *all = c->clients;
        uint64_t vouched;
        uid_t uid = c->uid;

        /* An error tells as much, be it the client's or, when the bus forbids the call, the bus's: then
         * nothing can be known, and the client is not to suffer for it. */
        c->ping = sd_bus_slot_unref(c->ping);
        charge_release(&c->pinging);
        vouched = c->vouched;
        take_read(c, vouched);
        c->inquired -= MIN(c->inquired, vouched);
        c->vouched = 0;
        tell_lost(c);
        if (accounts_used(all->accounts, uid, RESOURCE_UNREAD) > PING_AFTER)
                ping_others(all, uid);
        all->handlers->drained(all->userdata);
        return 0;
}

/* Who knows the number of a Ping can answer it, and sd-bus counts: a client that does not read could guess
 * it. One that is in use is refused, as any other failure, and from the first large one on sd-bus itself
 * looks for one that is not. */
static int seal_with_random_cookie(sd_bus_message *m) {
        uint32_t cookie;

        if (getrandom(&cookie, sizeof(cookie), 0) < 0)
                return -errno;
        return sd_bus_message_seal(m, cookie > 0 ? cookie : 1, UINT64_MAX);
}

/* The Ping stands in the client's queue behind all that was sent before. It has no deadline: the bus would
 * count it until there is an answer, or the client goes. */
static void ping(Client *c) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        Clients *all = c->clients;

        if (c->ping || charge(all->accounts, c->uid, RESOURCE_PINGS, 1, &c->pinging, NULL) < 0)
                return;
        if (sd_bus_message_new_method_call(all->bus, &m, c->name, "/", "org.freedesktop.DBus.Peer", "Ping") <
                                        0 ||
                        seal_with_random_cookie(m) < 0 ||
                        sd_bus_call_async(all->bus, &c->ping, m, on_pong, c, UINT64_MAX) < 0) {
                charge_release(&c->pinging);
                return;
        }
        c->vouched = c->unread.amount;
}

static int on_again(sd_event_source *s, uint64_t usec, void *userdata) {
        Client *c = userdata;

        c->again = sd_event_source_disable_unref(c->again);
        c->clients->handlers->drained(c->clients->userdata); /* whose calls still wait ask again */
        return 0;
}

/* A timer, because nothing tells that a client reads but what it sends itself, and one that blocks in a call
 * sends nothing. It is there while a call waits alone. A user whose clients are as many as a bus takes, and
 * read nothing, costs 128 questions a second, which the bus answers by itself. */
static void try_again(Client *c) {
        c->again_usec = c->again_usec > 0 ? MIN(2 * c->again_usec, INQUIRY_AGAIN_MAX) : INQUIRY_AGAIN_MIN;
        (void)sd_event_add_time_relative(sd_bus_get_event(c->clients->bus), &c->again, CLOCK_MONOTONIC,
                        c->again_usec, c->again_usec / 2, on_again, c);
}

/* A bus that does not know the call, as dbus-broker says by Failed, or forbids it. Any other error is no
 * answer: that there was none in time says nothing of who reads. */
static bool is_unanswerable(sd_bus_message *m) {
        const sd_bus_error *e = sd_bus_message_get_error(m);

        return e &&
                        (sd_bus_error_has_name(e, SD_BUS_ERROR_FAILED) ||
                                        sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_METHOD) ||
                                        sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_INTERFACE) ||
                                        sd_bus_error_has_name(e, SD_BUS_ERROR_NOT_SUPPORTED) ||
                                        sd_bus_error_has_name(e, SD_BUS_ERROR_ACCESS_DENIED));
}

/* Goes to a value in what was entered. Returns whether it is there. */
static int find_key(sd_bus_message *m, const char *key) {
        const char *name;
        int r;

        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r < 0 || streq(name, key))
                        return r;
                r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        return r;
}

/* The bytes that the bus keeps for the client; UINT64_MAX: it does not say. */
static uint64_t read_queued(sd_bus_message *m) {
        uint32_t queued;

        if (sd_bus_message_enter_container(m, 'a', "{sv}") < 0 || find_key(m, "OutgoingBytes") <= 0 ||
                        sd_bus_message_read(m, "v", "u", &queued) < 0)
                return UINT64_MAX;
        return queued;
}

/* So much the bus keeps for the client. */
static void take_found(Client *c, uint64_t queued) {
        uint64_t inquired = c->inquired;

        c->inquired = 0;
        if (queued >= inquired) {
                if (!c->again)
                        try_again(c);
                return;
        }
        c->again = sd_event_source_disable_unref(c->again);
        c->again_usec = 0;
        take_read(c, inquired - queued);
        tell_lost(c);
        c->clients->handlers->drained(c->clients->userdata);
}

static int read_connection(sd_bus_message *m, const char **ret_name, uint64_t *ret_queued) {
        const char *key;
        uint32_t value;
        int r;

        r = sd_bus_message_read(m, "s", ret_name);
        if (r >= 0)
                r = sd_bus_message_skip(m, "a{sv}");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{su}");
        while (r >= 0 && (r = sd_bus_message_read(m, "{su}", &key, &value)) > 0)
                if (streq(key, "OutgoingBytes"))
                        *ret_queued = value;
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

/* Returns whether the bus says what it keeps for its connections. */
static int read_survey(Clients *all, sd_bus_message *m) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        if (r >= 0)
                r = find_key(m, "org.bus1.DBus.Debug.Stats.PeerAccounting");
        if (r <= 0)
                return r;
        r = sd_bus_message_enter_container(m, 'v', "a(sa{sv}a{su})");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "(sa{sv}a{su})");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'r', "sa{sv}a{su}")) > 0) {
                uint64_t queued = UINT64_MAX;
                const char *name;
                size_t i;

                r = read_connection(m, &name, &queued);
                if (r < 0)
                        return r;
                i = position(all, name);
                if (i < all->n && streq(all->list[i]->name, name) && all->list[i]->inquired > 0)
                        take_found(all->list[i], queued);
                r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : 1;
}

static int on_rested(sd_event_source *s, uint64_t usec, void *userdata) {
        Clients *all = userdata;

        all->rest = sd_event_source_disable_unref(all->rest);
        all->handlers->drained(all->userdata); /* as on_again() */
        return 0;
}

static void rest(Clients *all) {
        (void)sd_event_add_time_relative(sd_bus_get_event(all->bus), &all->rest, CLOCK_MONOTONIC,
                        SURVEY_AGAIN, USEC_PER_MSEC, on_rested, all);
}

static int on_surveyed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Clients *all = userdata;
        bool known = !is_unanswerable(m);

        all->survey = sd_bus_slot_unref(all->survey);
        if (!sd_bus_message_is_method_error(m, NULL))
                known = read_survey(all, m) != 0;
        /* Of whom nothing was said. A bus that never does has limits of its own for its users. */
        for (size_t i = 0; i < all->n; i++)
                if (all->list[i]->inquired > 0)
                        take_found(all->list[i], known ? UINT64_MAX : 0);
        rest(all);
        return 0;
}

static void survey(Clients *all) {
        if (all->survey || all->rest)
                return;
        if (sd_bus_call_method_async(all->bus, &all->survey, BUS_DRIVER, "/org/freedesktop/DBus",
                            "org.freedesktop.DBus.Debug.Stats", "GetStats", on_surveyed, all, "") < 0) {
                rest(all);
                return;
        }
        for (size_t i = 0; i < all->n; i++)
                all->list[i]->inquired = all->list[i]->unread.amount;
}

static int on_inquired(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Client *c = userdata;

        c->inquiry = sd_bus_slot_unref(c->inquiry);
        if (is_unanswerable(m)) {
                c->clients->surveys = true;
                survey(c->clients);
        } else
                take_found(c, sd_bus_message_is_method_error(m, NULL) ? UINT64_MAX : read_queued(m));
        return 0;
}

static void inquire(Client *c) {
        Clients *all = c->clients;

        if (c->inquiry || c->again || c->unread.amount == 0)
                return;
        if (all->surveys)
                survey(all);
        else if (sd_bus_call_method_async(all->bus, &c->inquiry, BUS_DRIVER, "/org/freedesktop/DBus",
                                 "org.freedesktop.DBus.Debug.Stats", "GetConnectionStats", on_inquired, c,
                                 "s", c->name) >= 0)
                c->inquired = c->unread.amount;
        else
                try_again(c);
}

void clients_inquire(Clients *c, uid_t uid) {
        for (size_t i = 0; i < c->n; i++)
                if (c->list[i]->known && c->list[i]->uid == uid)
                        inquire(c->list[i]);
}

static bool goes_anyway(const Client *c, uint64_t bytes) {
        return c->unread.amount == 0 && bytes <= CLIENT_FREE;
}

/* A single answer that is larger than all that may be on its way goes out when nothing else is. */
static uint64_t most_for(const Client *c) {
        return accounts_limit(c->clients->accounts, c->uid, RESOURCE_UNREAD) / CLIENT_SHARE;
}

bool client_has_room(const Client *c, uint64_t bytes) {
        uint64_t most = most_for(c), needed = MIN(bytes, most);

        return goes_anyway(c, bytes) ||
                        (c->unread.amount + needed <= most &&
                                        charge_fits(c->clients->accounts, c->uid, RESOURCE_UNREAD, needed));
}

int client_reserve(Client *c, uint64_t bytes) {
        int r;

        if (!client_has_room(c, bytes)) {
                ping_others(c->clients, c->uid);
                return -EDQUOT;
        }
        r = charge_grow_anyway(&c->unread, MIN(bytes, most_for(c)));
        if (r < 0)
                return r;
        if (c->unread.amount - c->vouched > PING_AFTER)
                ping(c);
        return 0;
}

static int send_copy(Client *c, sd_bus_message *signal, uint64_t size, bool awaited) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *copy = NULL;
        bool later = c->n_awaited > 0 || client_reserve(c, size) < 0; /* not before what is kept */
        int r;

        if (later) {
                c->lost = true;
                if (awaited && !c->awaited)
                        c->awaited = calloc(AWAITED_MAX, sizeof(sd_bus_message *));
                if (!awaited || !c->awaited || c->n_awaited >= AWAITED_MAX)
                        return 0;
        }
        r = sd_bus_message_rewind(signal, true);
        if (r >= 0)
                r = sd_bus_message_new_signal(c->clients->bus, &copy, sd_bus_message_get_path(signal),
                                sd_bus_message_get_interface(signal), sd_bus_message_get_member(signal));
        if (r >= 0)
                r = sd_bus_message_copy(copy, signal, true);
        if (r >= 0 && later) {
                c->awaited[c->n_awaited++] = TAKE_PTR(copy);
                return 0;
        }
        return r < 0 ? r : sd_bus_send_to(c->clients->bus, copy, c->name, NULL);
}

static bool hears(const Client *c, const Hearers *h) {
        if (!c->subscribed)
                return false;
        if (h->everybody || c->inspect || c->uid == 0)
                return true;
        for (size_t i = 0; i < h->n; i++)
                if (h->uids[i] == c->uid)
                        return true;
        return false;
}

int clients_send(Clients *all, const Hearers *hearers, sd_bus_message *signal) {
        BusMeasure size = {};
        int r;

        if (all->everybody)
                return sd_bus_send(all->bus, signal, NULL);
        /* Sealed, so that it can be read; it is never sent itself, so the cookie is nobody's. */
        r = sd_bus_message_seal(signal, 1, 0);
        if (r >= 0)
                r = bus_measure(signal, UINT64_MAX, &size);
        for (size_t i = 0; r >= 0 && i < all->n; i++)
                if (hears(all->list[i], hearers))
                        r = send_copy(all->list[i], signal, size.bytes, hearers->awaited);
        return r;
}
