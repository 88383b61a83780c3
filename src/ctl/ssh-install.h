/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The VMs in the user's own configuration of OpenSSH. */

#include "ctl.h"

/* Each reports failure. */
int ssh_install(Ctl *c);
int ssh_uninstall(Ctl *c);

/* Renews the entries. A user who has not installed them gets none: -ENOENT, which is not reported. */
int ssh_update(Ctl *c);

/* The same for those who have made or removed a VM, so that lists of hosts are up to date, too, where the
 * entries are those of this service. No harm is done if that fails: ssh will try again. */
void ssh_refresh(Ctl *c);
