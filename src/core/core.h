/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What all of the service stands on, and knows nothing of VMs, images or clients: the loop, the settings,
 * who is charged for what, user IDs, and the operations that are under way. */

#include "accounts.h"
#include "config.h"
#include "launcher.h"
#include "operation.h"
#include "uid-pool.h"

typedef struct Core {
        sd_event *event; /* referenced */
        Config config;   /* owned */
        Accounts *accounts;
        Operations operations;
        int runtime_fd; /* runtime_dir, which is there now */
        UidPool *uids;
        Launcher *launcher;
} Core;

/* Takes the settings over, also on failure. `hooks` is borrowed. */
int core_new(sd_event *event, Config *config, const OperationHooks *hooks, void *userdata, Core **ret);
Core *core_free(Core *c);
DEFINE_CLEANUP(Core *, core_free);

/* Opens a folder; it is made, with those above it for a user who is new. Negative errno, which is logged. */
int core_open_folder(const char *path, mode_t mode);
mode_t core_folder_mode(const Core *c); /* of folders that others may pass through, on a system's service */
