/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Giving up the network, for good, for this process and all its children. */

#include "util/error.h"

/* From here on no socket can be made: an image that names a server is then no more than a broken one. Needs
 * no_new_privs, as confine() sets it. */
int no_network(Error **reterr);
