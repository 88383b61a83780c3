/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* From what a VMFile says of a VM, and what the service says of it, to what is to be done: without a bus, a
 * file or a terminal. */

#include "spec/vmfile.h"
#include "json/json.h"

typedef enum ConvergeAction {
        CONVERGE_PULL, /* so that the image is there before the old VM is gone */
        CONVERGE_DESTROY,
        CONVERGE_STOP,
        CONVERGE_CREATE,
        CONVERGE_SET_LIMITS,
        CONVERGE_UPDATE,
        CONVERGE_START,
        CONVERGE_RESUME,
        CONVERGE_PROVISION,
        CONVERGE_WAIT,
        _CONVERGE_ACTION_MAX,
        _CONVERGE_ACTION_INVALID = -EINVAL,
} ConvergeAction;
DECLARE_STRING_TABLE(converge_action, ConvergeAction);

/* When steps are run. */
typedef enum ConvergeProvision {
        CONVERGE_AUTO,    /* after a start, and where an earlier run has not come to its end */
        CONVERGE_CHANGED, /* those that have changed or never run */
        CONVERGE_ALWAYS,
        CONVERGE_NEVER,
        _CONVERGE_PROVISION_MAX,
        _CONVERGE_PROVISION_INVALID = -EINVAL,
} ConvergeProvision;
DECLARE_STRING_TABLE(converge_provision, ConvergeProvision);

/* What it takes for a setting to become what the file says. */
typedef enum ConvergeEffect {
        CONVERGE_LIVE,    /* nothing */
        CONVERGE_STOPPED, /* the VM may not run */
        CONVERGE_REBUILD, /* a new VM */
        _CONVERGE_EFFECT_MAX,
        _CONVERGE_EFFECT_INVALID = -EINVAL,
} ConvergeEffect;

typedef struct ConvergeChange {
        const char *name;   /* in the VMFile; static */
        const SpecKey *key; /* NULL for files and the image */
        char *from, *to;    /* for people; "" where there is nothing */
        ConvergeEffect effect;
} ConvergeChange;

/* What is wanted. */
typedef struct ConvergeWant {
        const VmfileVm *vm;            /* borrowed */
        VmSpec spec;                   /* the whole of it, with origin, forward, disks and ssh-key */
        char *image, *kernel, *initrd; /* paths as the kernel has them; NULL: none */
        char **fingerprints;           /* of the steps, in their order; NULL: unknown */
} ConvergeWant;

/* `ssh_key` is the text of that file, or NULL. -EINVAL with a message where CreateVM would refuse. */
int converge_want_init(ConvergeWant *w, const VmfileVm *vm, const char *origin, const char *ssh_key,
                Error **reterr);
void converge_want_done(ConvergeWant *w);

/* What there is. */
typedef struct ConvergeHave {
        const Json *properties;               /* of the VM, as on the bus; NULL: it isn't there */
        const char *image_url, *image_sha256; /* of its image; "" or NULL: unknown */
        bool origin_gone;                     /* the file that it came from is not there any more */
        uid_t user;                           /* who we are to the service */
} ConvergeHave;

typedef struct ConvergePlan {
        ConvergeAction actions[_CONVERGE_ACTION_MAX]; /* in their order, each at most once */
        size_t n_actions;
        ConvergeChange *changes;
        size_t n_changes;
        size_t n_steps;    /* that are to be run, as far as can be told */
        size_t n_left;     /* steps that have changed and are not run */
        bool only_changed; /* of the steps */
        bool runs;         /* it runs now, so what needs it stopped is left as it is */
        const char *note;  /* why nothing is done, static; or NULL */
} ConvergePlan;

/* -EINVAL and the like with a message where that can't be done: the VM is another project's, or in a state
 * that does not last. *ret is filled in all cases. */
int converge_up(const ConvergeWant *w, const ConvergeHave *h, ConvergeProvision mode, bool wait,
                ConvergePlan *ret, Error **reterr);
int converge_down(const ConvergeWant *w, const ConvergeHave *h, bool destroy, ConvergePlan *ret,
                Error **reterr);
/* The first part of a reload: the second is converge_up() of a VM that isn't there. */
int converge_remove(const ConvergeWant *w, const ConvergeHave *h, ConvergePlan *ret, Error **reterr);
int converge_provision(const ConvergeWant *w, const ConvergeHave *h, bool only_changed, ConvergePlan *ret,
                Error **reterr);
void converge_plan_done(ConvergePlan *p);

bool converge_has(const ConvergePlan *p, ConvergeAction a);
/* Lets it end only when the VM is as ready as the file asks for. */
void converge_add_wait(ConvergePlan *p, const VmfileVm *vm);

/* How many changes there are that have this effect. */
size_t converge_count(const ConvergePlan *p, ConvergeEffect effect);
