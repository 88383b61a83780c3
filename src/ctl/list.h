/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The reply to ListVMs, read without a copy: strings are the message's. */

#include "ctl.h"

typedef struct ListedVM {
        const char *name, *path, *state, *failure, *backend, *network;
        uint32_t owner, vcpus, pid;
        uint16_t ssh_port;
        uint64_t memory, started_usec;
} ListedVM;

/* Asks for the list; reports failure. */
int vm_list_fetch(Ctl *c, sd_bus_message **ret);

/* Enters the list, then reads one VM at a time: 1, 0 at the end, or a negative errno. */
int vm_list_begin(sd_bus_message *reply);
int vm_list_next(sd_bus_message *reply, ListedVM *ret);
