/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What QEMU can see: a root that holds /usr, a few device nodes, its own /proc entry and an empty /tmp, in
 * mount and IPC namespaces of its own. The shim enters it itself and QEMU inherits it. */

#include "options.h"

/* Builds the new root in namespaces of their own; all paths still mean what they meant before. Without
 * root's rights this takes a user namespace in which we stay who we are. On failure the caller may go on
 * without. */
int sandbox_build(const Options *o, Error **reterr_error);

/* Makes it the root, and detaches everything else. */
int sandbox_enter(Error **reterr_error);
