/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Removes VMs and images whose record cannot be read. Whose they are is not known, so that is up to those
 * who may manage everybody's. */

#include "manager.h"

/* The one of this name, or in the folder of this name; NULL: there is none. */
const RecordBroken *broken_find(const Manager *m, JobTarget kind, const char *name);

/* What still runs for a VM is ended first. Fails with a negative errno and an error, and then calls nobody,
 * or returns 0 and calls `done` once, when the files are gone. ERROR_NO_SUCH_VM, ERROR_NO_SUCH_IMAGE,
 * ERROR_IMAGE_IN_USE; later ERROR_TIMEOUT (nothing is gone then), ERROR_IO. */
int broken_remove(Manager *m, JobTarget kind, const char *name, uid_t requester, waiter_t done,
                void *userdata, Error **reterr);

void broken_scope_removed(Manager *m, const char *unit); /* for SystemdHandlers */
