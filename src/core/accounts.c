/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>

#include "accounts.h"

#define ROOT_SHARE 8 /* the part of each total that is kept for root: one in so many */

static const char *const resource_table[] = {
        [RESOURCE_CALLS] = "CallsPerUser",
        [RESOURCE_CALL_BYTES] = "CallBytesPerUser",
        [RESOURCE_DESCRIPTORS] = "DescriptorsPerUser",
        [RESOURCE_QUESTIONS] = "QuestionsPerUser",
        [RESOURCE_UNREAD] = "UnreadBytesPerUser",
        [RESOURCE_PINGS] = "PingsPerUser",
        [RESOURCE_OPERATIONS] = "OperationsPerUser",
        [RESOURCE_WORKERS] = "WorkersPerUser",
        [RESOURCE_READERS] = "LogReadersPerUser",
        [RESOURCE_VMS] = "VMsPerUser",
        [RESOURCE_PORTS] = "PortsPerUser",
        [RESOURCE_IMAGES] = "ImagesPerUser",
};
DEFINE_STRING_TABLE(resource, Resource, _RESOURCE_MAX);

static const char *const what_table[] = {
        [RESOURCE_CALLS] = "calls that wait for their turn",
        [RESOURCE_CALL_BYTES] = "bytes of calls that wait for their turn",
        [RESOURCE_DESCRIPTORS] = "descriptors in calls that wait for their turn",
        [RESOURCE_QUESTIONS] = "questions to polkit",
        [RESOURCE_UNREAD] = "bytes of answers and signals that were not read",
        [RESOURCE_PINGS] = "clients that were asked whether they read",
        [RESOURCE_OPERATIONS] = "operations under way",
        [RESOURCE_WORKERS] = "worker processes",
        [RESOURCE_READERS] = "logs being read",
        [RESOURCE_VMS] = "VMs",
        [RESOURCE_PORTS] = "forwarded ports",
        [RESOURCE_IMAGES] = "images",
};

/* The bus lets a connection have 128 calls without an answer: so many questions to polkit, by one, and
 * Pings, by another, stay below. A bus takes 256 connections of a user, and keeps 127 MB for one that does
 * not read: so many users would have to join forces to fill it. Worker processes are what memory and CPU
 * time go to. */
const ResourceLimit resource_limits_default[_RESOURCE_MAX] = {
        [RESOURCE_CALLS] = { 256, 4096 },
        [RESOURCE_CALL_BYTES] = { 4 * MIB, 64 * MIB },
        [RESOURCE_DESCRIPTORS] = { 512, 8192 },
        [RESOURCE_QUESTIONS] = { 12, 96 },
        [RESOURCE_UNREAD] = { 4 * MIB, 64 * MIB },
        [RESOURCE_PINGS] = { 8, 96 },
        [RESOURCE_OPERATIONS] = { 128, 2048 },
        [RESOURCE_WORKERS] = { 16, 256 },
        [RESOURCE_READERS] = { 16, 256 },
        [RESOURCE_VMS] = { 1024, 16384 },
        [RESOURCE_PORTS] = { 25, 101 }, /* a quarter of the default range; the total follows the range */
        [RESOURCE_IMAGES] = { 1024, 16384 },
};

typedef struct Account {
        uid_t uid;
        uint64_t used[_RESOURCE_MAX];
} Account;

struct Accounts {
        const ResourceLimit *limits; /* borrowed; NULL: none */
        Account *list;               /* owned; those who hold something */
        size_t n;
        uint64_t total[_RESOURCE_MAX];
};

int accounts_new(const ResourceLimit *limits, Accounts **ret) {
        Accounts *a = malloc(sizeof(Accounts));

        if (!a)
                return -ENOMEM;
        *a = (Accounts){ .limits = limits };
        *ret = a;
        return 0;
}

Accounts *accounts_free(Accounts *a) {
        if (!a)
                return NULL;
        free(a->list);
        free(a);
        return NULL;
}

static Account *find(const Accounts *a, uid_t uid) {
        for (size_t i = 0; i < a->n; i++)
                if (a->list[i].uid == uid)
                        return &a->list[i];
        return NULL;
}

static Account *find_or_add(Accounts *a, uid_t uid) {
        Account *account = find(a, uid), *grown;

        if (account)
                return account;
        grown = reallocarray(a->list, a->n + 1, sizeof(Account));
        if (!grown)
                return NULL;
        a->list = grown;
        a->list[a->n] = (Account){ .uid = uid };
        return &a->list[a->n++];
}

static void drop_if_empty(Accounts *a, Account *account) {
        for (int i = 0; i < _RESOURCE_MAX; i++)
                if (account->used[i] > 0)
                        return;
        *account = a->list[--a->n];
}

static bool fits(uint64_t used, uint64_t amount, uint64_t limit) {
        return used <= limit && amount <= limit - used;
}

static int check(const Accounts *a, const Account *account, Resource resource, uint64_t amount,
                Error **reterr) {
        const ResourceLimit *limit;

        if (!a->limits)
                return 0;
        limit = &a->limits[resource];
        if (account->uid != 0 && !fits(account->used[resource], amount, limit->per_user))
                return error_set(reterr, ERROR_QUOTA_EXCEEDED,
                                "User %u has %" PRIu64 " %s and may have %" PRIu64 " (%s=)",
                                (unsigned)account->uid, account->used[resource], what_table[resource],
                                limit->per_user, resource_table[resource]);
        if (!fits(a->total[resource], amount,
                            account->uid == 0 ? limit->total : limit->total - limit->total / ROOT_SHARE))
                return error_set(reterr, ERROR_QUOTA_EXCEEDED,
                                "All users together have %" PRIu64 " %s already", a->total[resource],
                                what_table[resource]);
        return 0;
}

static int add(Accounts *a, uid_t uid, Resource resource, uint64_t amount, bool anyway, Error **reterr) {
        Account *account = find_or_add(a, uid);
        int r;

        if (!account)
                return error_set_errno(reterr, -ENOMEM, "User %u cannot be charged", (unsigned)uid);
        r = anyway ? 0 : check(a, account, resource, amount, reterr);
        if (r >= 0) {
                account->used[resource] += amount;
                a->total[resource] += amount;
        }
        drop_if_empty(a, account);
        return r;
}

int charge(Accounts *a, uid_t uid, Resource resource, uint64_t amount, Charge *ret, Error **reterr) {
        int r = add(a, uid, resource, amount, false, reterr);

        if (r < 0)
                return r;
        *ret = (Charge){ .accounts = a, .uid = uid, .resource = resource, .amount = amount };
        return 0;
}

int charge_anyway(Accounts *a, uid_t uid, Resource resource, uint64_t amount, Charge *ret) {
        int r = add(a, uid, resource, amount, true, NULL);

        if (r < 0)
                return r;
        *ret = (Charge){ .accounts = a, .uid = uid, .resource = resource, .amount = amount };
        return 0;
}

int charge_grow(Charge *c, uint64_t amount, Error **reterr) {
        int r = add(c->accounts, c->uid, c->resource, amount, false, reterr);

        if (r >= 0)
                c->amount += amount;
        return r;
}

int charge_grow_anyway(Charge *c, uint64_t amount) {
        int r = add(c->accounts, c->uid, c->resource, amount, true, NULL);

        if (r >= 0)
                c->amount += amount;
        return r;
}

bool charge_fits(const Accounts *a, uid_t uid, Resource resource, uint64_t amount) {
        const Account *account = find(a, uid), nothing = { .uid = uid };

        return check(a, account ?: &nothing, resource, amount, NULL) >= 0;
}

void charge_shrink(Charge *c, uint64_t amount) {
        Account *account = c->accounts ? find(c->accounts, c->uid) : NULL;

        assert(amount <= c->amount);
        if (!account)
                return;
        c->amount -= amount;
        account->used[c->resource] -= amount;
        c->accounts->total[c->resource] -= amount;
        drop_if_empty(c->accounts, account);
}

void charge_release(Charge *c) {
        charge_shrink(c, c->amount);
        *c = (Charge){};
}

uint64_t accounts_used(const Accounts *a, uid_t uid, Resource resource) {
        const Account *account = find(a, uid);

        return account ? account->used[resource] : 0;
}

uint64_t accounts_limit(const Accounts *a, uid_t uid, Resource resource) {
        if (!a->limits)
                return UINT64_MAX;
        return uid == 0 ? a->limits[resource].total : a->limits[resource].per_user;
}

uint64_t accounts_total(const Accounts *a, Resource resource) {
        return a->total[resource];
}

bool accounts_next(const Accounts *a, size_t *i, Usage *ret) {
        for (; *i < a->n * _RESOURCE_MAX; (*i)++) {
                const Account *account = &a->list[*i / _RESOURCE_MAX];
                Resource resource = (Resource)(*i % _RESOURCE_MAX);

                if (account->used[resource] == 0)
                        continue;
                *ret = (Usage){ account->uid, resource, account->used[resource],
                        accounts_limit(a, account->uid, resource) };
                (*i)++;
                return true;
        }
        return false;
}
