/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What VMs have to tell. */

#include "util/macro.h"

/* What changed, for whoever tells clients. */
typedef enum VmChange {
        VM_CHANGE_STATE = 1 << 0,   /* state, failure, times */
        VM_CHANGE_PROCESS = 1 << 1, /* PID, attachment, sockets, accelerator */
        VM_CHANGE_QMP = 1 << 2,     /* run state */
        VM_CHANGE_SPEC = 1 << 3,
        VM_CHANGE_COUNTERS = 1 << 4, /* resets, I/O errors, reason of the shutdown */
        VM_CHANGE_WARNINGS = 1 << 5,
        VM_CHANGE_PROVISION = 1 << 6,
} VmChange;

/* Something that QEMU reported, with up to four details. */
typedef struct VmEventField {
        const char *key;
        const char *string; /* or NULL, then `boolean` counts */
        bool boolean;
} VmEventField;
#define VM_EVENT_FIELDS_MAX 4
typedef struct VmEvent {
        const char *name;
        VmEventField fields[VM_EVENT_FIELDS_MAX]; /* up to the first without a key */
} VmEvent;
