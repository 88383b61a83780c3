/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "accounts.h"
#include "util/test.h"

#define ALICE 1000
#define BOB 1001

static ResourceLimit limits[_RESOURCE_MAX];

static Accounts *accounts_of(uint64_t per_user, uint64_t total) {
        Accounts *a;

        for (int i = 0; i < _RESOURCE_MAX; i++)
                limits[i] = (ResourceLimit){ per_user, total };
        CHECK_EQ(accounts_new(limits, &a), 0);
        return a;
}

static int charge_one(Accounts *a, uid_t uid, Charge *ret) {
        return charge(a, uid, RESOURCE_VMS, 1, ret, NULL);
}

static void test_own_limit(void) {
        Accounts *a = accounts_of(2, 100);
        _cleanup_error_ Error *e = NULL;
        Charge one = {}, two = {}, three = {}, other = {};

        CHECK_EQ(charge_one(a, ALICE, &one), 0);
        CHECK_EQ(charge_one(a, ALICE, &two), 0);
        CHECK(charge(a, ALICE, RESOURCE_VMS, 1, &three, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_QUOTA_EXCEEDED);
        CHECK_STREQ(error_message(e), "User 1000 has 2 VMs and may have 2 (VMsPerUser=)");
        CHECK(!three.accounts);
        CHECK_EQ(charge_one(a, BOB, &other), 0);
        /* What was given back can be had again, and is given back once. */
        charge_release(&one);
        charge_release(&one);
        CHECK_EQ(accounts_used(a, ALICE, RESOURCE_VMS), 1);
        CHECK_EQ(charge_one(a, ALICE, &one), 0);
        charge_release(&one);
        charge_release(&two);
        charge_release(&other);
        CHECK_EQ(accounts_total(a, RESOURCE_VMS), 0);
        accounts_free(a);
}

/* The last eighth of what there is for all is root's, who has no limit of their own. */
static void test_reserve(void) {
        Accounts *a = accounts_of(7, 16);
        Charge users[3] = {}, root = {}, more = {};

        CHECK_EQ(charge(a, ALICE, RESOURCE_VMS, 7, &users[0], NULL), 0);
        CHECK_EQ(charge(a, BOB, RESOURCE_VMS, 7, &users[1], NULL), 0);
        CHECK_EQ(charge_one(a, BOB + 1, &users[2]), -EDQUOT);
        CHECK_EQ(charge(a, 0, RESOURCE_VMS, 2, &root, NULL), 0);
        CHECK_EQ(charge_one(a, 0, &more), -EDQUOT);
        charge_release(&users[0]);
        CHECK_EQ(charge_grow(&root, 7, NULL), 0);
        CHECK_EQ(accounts_used(a, 0, RESOURCE_VMS), 9);
        charge_release(&users[1]);
        charge_release(&root);
        accounts_free(a);
}

static void test_grow(void) {
        Accounts *a = accounts_of(10, UINT64_MAX);
        Charge c = {}, taken;

        /* nothing yet, but whose it is is known */
        CHECK_EQ(charge(a, ALICE, RESOURCE_UNREAD, 0, &c, NULL), 0);
        CHECK_EQ(charge_grow(&c, 10, NULL), 0);
        CHECK_EQ(charge_grow(&c, 1, NULL), -EDQUOT);
        CHECK_EQ(charge_grow(&c, UINT64_MAX, NULL), -EDQUOT);
        CHECK_EQ(c.amount, 10);
        charge_shrink(&c, 4);
        CHECK_EQ(accounts_used(a, ALICE, RESOURCE_UNREAD), 6);
        taken = charge_take(&c);
        charge_release(&c);
        CHECK_EQ(accounts_used(a, ALICE, RESOURCE_UNREAD), 6);
        charge_release(&taken);
        CHECK_EQ(accounts_used(a, ALICE, RESOURCE_UNREAD), 0);
        accounts_free(a);
}

/* On a user's own bus. */
static void test_without_limits(void) {
        Charge c = {};
        Accounts *a;

        CHECK_EQ(accounts_new(NULL, &a), 0);
        CHECK_EQ(charge(a, ALICE, RESOURCE_CALLS, 1000000, &c, NULL), 0);
        CHECK_EQ(accounts_limit(a, ALICE, RESOURCE_CALLS), UINT64_MAX);
        charge_release(&c);
        accounts_free(a);
}

static void test_list(void) {
        Accounts *a = accounts_of(10, 100);
        Charge vms = {}, ports = {}, other = {};
        Usage u;
        size_t i = 0;

        CHECK(!accounts_next(a, &i, &u));
        CHECK_EQ(charge(a, ALICE, RESOURCE_VMS, 3, &vms, NULL), 0);
        CHECK_EQ(charge(a, ALICE, RESOURCE_PORTS, 1, &ports, NULL), 0);
        CHECK_EQ(charge(a, 0, RESOURCE_VMS, 2, &other, NULL), 0);
        charge_release(&ports);
        i = 0;
        CHECK(accounts_next(a, &i, &u));
        CHECK(u.uid == ALICE && u.resource == RESOURCE_VMS && u.used == 3 && u.limit == 10);
        CHECK(accounts_next(a, &i, &u));
        CHECK(u.uid == 0 && u.resource == RESOURCE_VMS && u.used == 2 && u.limit == 100);
        CHECK(!accounts_next(a, &i, &u));
        charge_release(&vms);
        charge_release(&other);
        accounts_free(a);
}

static void test_names(void) {
        for (Resource r = 0; r < _RESOURCE_MAX; r++) {
                CHECK_EQ(resource_from_string(resource_to_string(r)), r);
                CHECK(resource_limits_default[r].per_user > 0);
                /* One user alone leaves something for others, and root. */
                CHECK(resource_limits_default[r].per_user <= resource_limits_default[r].total / 4);
        }
        CHECK((int)resource_from_string("CowsPerUser") < 0);
}

int main(void) {
        test_own_limit();
        test_reserve();
        test_grow();
        test_without_limits();
        test_list();
        test_names();
        return EXIT_SUCCESS;
}
