/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The VMs that there are, and what no two of them have: names, ports, MAC addresses. */

#include "vm.h"

/* Takes the name for a VM to come, and charges its owner for it: ERROR_INVALID_NAME, ERROR_VM_EXISTS,
 * ERROR_QUOTA_EXCEEDED. */
int vm_reserve(Manager *manager, const char *name, uid_t owner, VmPlace *ret, Error **reterr);
Vm *manager_find_vm(const Manager *m, const char *name); /* NULL when there is none */
int manager_get_vm(const Manager *m, const char *name, Vm **ret, Error **reterr);
int manager_get_vm_by_pid(const Manager *m, pid_t pid, Vm **ret, Error **reterr);

/* Puts the VM in (taken over, also on failure), without a word; takes it out and frees it, with its user ID
 * and port, without a word, or telling that it has gone. Nothing is under way for it then: what still waits
 * for QEMU or the disk is called off. */
int manager_add_vm(Manager *m, Vm *vm);
void manager_forget_vm(Manager *m, Vm *vm);
void manager_remove_vm(Manager *m, Vm *vm);

/* A port that nobody has, kept for the VM and charged to its owner, beside the one that it has. It becomes
 * the VM's by manager_settle_port(), or goes by manager_drop_port(). */
int manager_pick_port(Vm *vm, uint16_t *ret, Error **reterr);
void manager_settle_port(Vm *vm, uint16_t port);
void manager_drop_port(Vm *vm, uint16_t port);
int manager_give_port(Vm *vm, Error **reterr); /* picks and settles */
bool manager_port_is_taken(const Vm *vm);      /* somebody listens at the VM's port */
int manager_pick_mac(const Manager *m, char **ret);
