/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What makes vm@NAME.service the unit of a VM in a file: a drop-in, and a link if it is to start at boot. */

#include "spec/boot-file.h"

/* Writes them below dir_fd. */
int boot_unit_write(int dir_fd, const BootFile *f, const VmfileVm *vm, bool system);
