/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What is done in a guest over SSH, each time by a vmctl-ssh of its own: waiting until the guest is ready,
 * and provisioning it. Each is a job, and ends with the VM's process at the latest. */

#include "vm.h"

#define PROVISION_STEPS_MAX 256 /* as vmctl-ssh has it */
#define GUEST_WAIT_DEFAULT (120 * USEC_PER_SEC)

typedef enum GuestStage {
        GUEST_RUNNING,    /* QEMU runs */
        GUEST_SSHD,       /* an SSH server greets */
        GUEST_SSH,        /* somebody can log in */
        GUEST_CLOUD_INIT, /* and cloud-init has ended */
        _GUEST_STAGE_MAX,
        _GUEST_STAGE_INVALID = -EINVAL,
} GuestStage;
DECLARE_STRING_TABLE(guest_stage, GuestStage);

typedef struct ProvisionStep {
        char *fingerprint; /* of what it does, as the client names it; NULL: unknown, so it is always run */
        char *request;     /* the step as vmctl-ssh takes it, a JSON object without "file" */
        int fd;            /* owned: its file, or -EBADF */
} ProvisionStep;

typedef struct GuestOptions {
        GuestStage stage;
        uint64_t wait_usec;   /* for the guest to get there */
        int private_key;      /* borrowed; -EBADF: the one that was generated for the VM */
        ProvisionStep *steps; /* borrowed */
        size_t n_steps;
        bool only_changed; /* leave out steps that have run with this fingerprint */
} GuestOptions;

void provision_steps_free(ProvisionStep *steps, size_t n);

/* Begins the job; what is the case already makes one that ends at once. One provisioning at a time. */
int vm_guest_wait(Vm *vm, uid_t requester, const GuestOptions *options, Job **ret, Error **reterr);
int vm_guest_provision(Vm *vm, uid_t requester, const GuestOptions *options, Job **ret, Error **reterr);

/* The log of provisionings, from its beginning, for reading. -ENOENT: there was none. */
int vm_open_provision_log(const Vm *vm);

void vm_guests_end(Vm *vm); /* the process has ended: so do the jobs */
