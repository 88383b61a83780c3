/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The VMs in the user's own configuration of OpenSSH. */

#include "ctl.h"

/* Each reports failure. */
int ssh_install(Ctl *c);
int ssh_uninstall(Ctl *c);

/* Renews the entries. A user who has not installed them gets none: -ENOENT, which is not reported. */
int ssh_update(Ctl *c);
