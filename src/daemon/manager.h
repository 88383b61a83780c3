/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The service: the indexes of VMs and ports, and the start-up that fills them from
 * disk. */

#include <systemd/sd-bus.h>

#include "clients.h"
#include "core.h"
#include "host.h"
#include "image-store.h"
#include "machine-names.h"
#include "record-store.h"
#include "systemd.h"
#include "vm.h"

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
        Core core;
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

/* systemd_bus: a connection for PID 1 alone. */
int manager_new(sd_event *event, sd_bus *bus, sd_bus *systemd_bus, Config *config, const ManagerHooks *hooks,
                Manager **ret);
Manager *manager_free(Manager *m);
DEFINE_CLEANUP(Manager *, manager_free);

extern const RecordType manager_vm_records; /* manager-load.c */

/* Reads all VMs and takes over those that run. A VM that cannot be read is reported and left alone. */
int manager_load(Manager *m);

Vm *manager_find_vm(const Manager *m, const char *name); /* NULL when there is none */
int manager_get_vm(const Manager *m, const char *name, Vm **ret, Error **reterr);
int manager_get_vm_by_pid(const Manager *m, pid_t pid, Vm **ret, Error **reterr);

/* Puts the VM in (taken over, also on failure), without a word; takes it out and frees it, with its user ID
 * and port, without a word, or telling that it has gone. Nothing is under way for it then: what still waits
 * for QEMU or the disk is called off. */
int manager_add_vm(Manager *m, Vm *vm);
void manager_forget_vm(Manager *m, Vm *vm);
void manager_remove_vm(Manager *m, Vm *vm);

/* May somebody use this name, as far as the machine's own VMs go? ERROR_VM_EXISTS. */
int manager_check_name(const Manager *m, const char *name, uid_t owner, Error **reterr);

/* A port that nobody has, kept for the VM and charged to its owner, beside the one that it has. It becomes
 * the VM's by manager_settle_port(), or goes by manager_drop_port(). */
int manager_pick_port(Vm *vm, uint16_t *ret, Error **reterr);
void manager_settle_port(Vm *vm, uint16_t port);
void manager_drop_port(Vm *vm, uint16_t port);
int manager_give_port(Vm *vm, Error **reterr); /* picks and settles */
bool manager_port_is_taken(const Vm *vm);      /* somebody listens at the VM's port */
int manager_pick_mac(const Manager *m, char **ret);
