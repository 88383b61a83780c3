/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Giving up all rights that neither the shim nor QEMU needs, for good. */

#include "options.h"

/* What only root may set: to be called before the sandbox is entered. */
int privileges_prepare(const Options *o, Error **reterr_error);

/* Becomes --uid, --gid and the --groups alone if they are given; drops every capability, locks them out and
 * sets the limits that QEMU inherits. Makes us undumpable: QEMU has our uid, and must neither trace us nor
 * reach our descriptors through /proc. */
int privileges_drop(const Options *o, Error **reterr_error);
