/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What all VMs have in common: the parts of the service that they are made with, and their index
 * (vm-index.h). */

#include <systemd/sd-bus.h>

#include "core/core.h"
#include "core/record-store.h"
#include "host/host.h"
#include "host/systemd.h"
#include "image/image-store.h"
#include "machine-names.h"
#include "vm-event.h"

typedef struct Clients Clients;
typedef struct Manager Manager;
typedef struct Vm Vm;

/* The bus face, told of what happens in the core. */
typedef struct ManagerHooks {
        void (*vm_new)(Manager *m, Vm *vm);
        void (*vm_removed)(Manager *m, const char *name, uid_t owner);
        void (*vm_changed)(Manager *m, Vm *vm, VmChange what);
        void (*vm_event)(Manager *m, Vm *vm, const VmEvent *event);
        ImageHooks image; /* userdata is the Manager, also of this one: */
        JobHooks job;
} ManagerHooks;

struct Manager {
        Core *core; /* owned */
        OperationHooks operation_hooks;
        sd_bus *bus;
        Host *host;
        Systemd *systemd;
        const ManagerHooks *hooks;
        Clients *clients;            /* owned */
        MachineNames *machine_names; /* owned */
        ImageStore *images;          /* owned */

        RecordStore *records; /* owned; what is on disk of VMs */
        int vms_fd;           /* folder */
        Vm **vms;             /* owned, sorted by name */
        size_t n_vms;
        Vm **ports; /* borrowed; one place for each port of the range */
};
