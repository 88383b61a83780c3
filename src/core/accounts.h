/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What each user makes the service hold, and how much of it they may. Whatever a caller can make us keep is
 * charged to their user ID when it begins and given back when it ends. One user's limit lies far below that
 * of all users together, which lies below what the service, the bus or PID 1 can bear; the last part of it
 * is root's, who has no limit of their own. So nobody but root can take what root needs. */

#include <sys/types.h>

#include "util/error.h"
#include "util/string-util.h"

typedef enum Resource {
        RESOURCE_CALLS,       /* method calls that wait for their turn */
        RESOURCE_CALL_BYTES,  /* and the bytes of these */
        RESOURCE_DESCRIPTORS, /* and those that came with them */
        RESOURCE_QUESTIONS,   /* to polkit */
        RESOURCE_UNREAD,      /* bytes on their way to clients, as far as we know */
        RESOURCE_PINGS,       /* to clients, who have not answered yet */
        RESOURCE_OPERATIONS,  /* under way */
        RESOURCE_WORKERS,     /* processes */
        RESOURCE_READERS,     /* processes that hand out logs */
        RESOURCE_VMS,
        RESOURCE_PORTS,
        RESOURCE_IMAGES,
        _RESOURCE_MAX,
        _RESOURCE_INVALID = -EINVAL,
} Resource;
DECLARE_STRING_TABLE(resource, Resource); /* the setting in vmctld.conf: "CallsPerUser" */

typedef struct ResourceLimit {
        uint64_t per_user; /* of everybody but root */
        uint64_t total;    /* of everybody together; an eighth of it is kept for root */
} ResourceLimit;

/* What a system's service begins with, before vmctld.conf. */
extern const ResourceLimit resource_limits_default[_RESOURCE_MAX];

typedef struct Accounts Accounts;

/* `limits` is borrowed; NULL: nothing is limited, as on a user's own bus. */
int accounts_new(const ResourceLimit *limits, Accounts **ret);
Accounts *accounts_free(Accounts *a);
DEFINE_CLEANUP(Accounts *, accounts_free);

/* Something that is held. Embedded; {} holds nothing. */
typedef struct Charge {
        Accounts *accounts; /* borrowed; NULL: nothing is held */
        uid_t uid;
        Resource resource;
        uint64_t amount;
} Charge;

/* Charges uid for it: ERROR_QUOTA_EXCEEDED when their limit, or that of all, would be passed; -ENOMEM. */
int charge(Accounts *a, uid_t uid, Resource resource, uint64_t amount, Charge *ret, Error **reterr);

/* The same for what is there already, whatever the limits say: -ENOMEM. */
int charge_anyway(Accounts *a, uid_t uid, Resource resource, uint64_t amount, Charge *ret);

/* Adds to a charge, or takes from it. Growing can fail as above, and changes nothing then. */
int charge_grow(Charge *c, uint64_t amount, Error **reterr);
int charge_grow_anyway(Charge *c, uint64_t amount);
void charge_shrink(Charge *c, uint64_t amount);

/* Gives it back, once. */
void charge_release(Charge *c);
#define _cleanup_charge_ _cleanup_(charge_release)

/* The charge is whoever's it is handed to. */
static inline Charge charge_take(Charge *c) {
        Charge taken = *c;

        *c = (Charge){};
        return taken;
}

bool charge_fits(const Accounts *a, uid_t uid, Resource resource, uint64_t amount);

/* How much this user holds, and all together. */
uint64_t accounts_used(const Accounts *a, uid_t uid, Resource resource);
uint64_t accounts_limit(const Accounts *a, uid_t uid, Resource resource); /* what they may hold */
uint64_t accounts_total(const Accounts *a, Resource resource);

/* All that is held, one after the other: *i begins with 0. */
typedef struct Usage {
        uid_t uid;
        Resource resource;
        uint64_t used, limit; /* UINT64_MAX: there is none */
} Usage;
bool accounts_next(const Accounts *a, size_t *i, Usage *ret);
