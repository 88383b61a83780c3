/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a VM's owner may open of its files, by a list of access (core/file-acl.h). */

#include "vm.h"

#define PROVISION_LOG "provision.log" /* what steps have printed */

/* R_OK, W_OK; 0: nothing. `file` stands in the VM's folder. */
int vm_share_access(const char *file);

/* After an update of a vmctl that gave them away, or from a backup without lists, they are the service's
 * alone. */
void vm_share_files(const Vm *vm);
