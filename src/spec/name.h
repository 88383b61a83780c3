/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Names that people give to VMs, images and disks. They become names of units, folders and hosts. */

#include "util/error.h"

#define VM_NAME_MAX 64

/* 1 to 64 letters, digits, '-', '_', '.'; neither '.' nor '-' first. */
bool vm_name_is_valid(const char *name);
int vm_name_check(const char *name, Error **reterr); /* ERROR_INVALID_NAME */
