/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* org.vmctl1.VM on the bus. */

#include "bus-face.h"

/* Registers the objects below /org/vmctl1/vm, for the connection's life. */
int vm_bus_add(BusFace *face);

void vm_bus_new(Manager *m, Vm *vm);
void vm_bus_removed(Manager *m, const char *name, uid_t owner);
void vm_bus_changed(Manager *m, Vm *vm, VmChange what);
void vm_bus_event(Manager *m, Vm *vm, const VmEvent *event);
