/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A method call from its arrival to its dispatch. It is bound when it arrives: to who calls, and to the very
 * object that has the name then. That is what polkit is asked about, and what the method gets; a name that
 * stands for something else by then is no object any more. */

#include <systemd/sd-bus.h>

#include "clients.h"
#include "core/job.h"

/* What a method needs of its caller. */
typedef enum AccessRule {
        RULE_OPEN,    /* anybody may */
        RULE_FILTER,  /* anybody may, but sees only what they may see */
        RULE_VISIBLE, /* must be allowed to see the object */
        RULE_CREATE,
        RULE_BROKEN,    /* what cannot be read is nobody's: for those who manage all */
        RULE_IMAGE_ADD, /* for oneself, or for all of the host */

        /* from here on of a VM, an image or a job */
        RULE_IMAGE_READ, /* by whom it is for */
        RULE_IMAGE_MANAGE,
        RULE_IMAGE_SHARE,
        RULE_MANAGE,
        RULE_CONSOLE,
        RULE_DEBUG,
} AccessRule;

typedef enum CallObject {
        CALL_OBJECT_NONE, /* the manager, or a folder of the tree */
        CALL_OBJECT_MISSING,
        CALL_OBJECT_VM,
        CALL_OBJECT_IMAGE,
        CALL_OBJECT_JOB,
} CallObject;

typedef struct CallTarget {
        CallObject kind;
        char *id;   /* owned: the UUID, or a job's number; NULL for none */
        char *name; /* owned: of a VM or an image, as it was; of a job, that of its own target */
        bool is_image;
        uid_t owner;
        bool own;    /* the caller's, or a job that he asked for */
        bool shared; /* an image that everybody may use, or that is to become one */
} CallTarget;

typedef enum CallState {
        CALL_ARRIVED, /* the bus was asked who calls */
        CALL_WAITING, /* for its turn to be asked about */
        CALL_ASKED,   /* polkit was */
        CALL_READY,   /* for its turn to be dispatched */
} CallState;

typedef struct BusCall BusCall;
struct BusCall {
        struct Access *access;   /* borrowed */
        sd_bus_message *message; /* owned */
        Client *client;          /* borrowed: it takes its calls with it when it leaves */
        uid_t uid;               /* whose, once the bus has said it */
        AccessRule rule;
        CallTarget target;
        CallState state;
        bool inspect;        /* may see what is others' */
        uint64_t needs;      /* bytes for its answer, of which there were fewer; 0: that was not tried */
        const char *refusal; /* static: what it is answered when its turn comes; NULL: it is dispatched */
        const char *refusal_name; /* static: that error's */
        Charge calls, bytes, descriptors, question;
        sd_bus_slot *slot; /* polkit's answer */
        BusCall *next;
};

BusCall *bus_call_free(BusCall *c);
void call_target_done(CallTarget *t);
