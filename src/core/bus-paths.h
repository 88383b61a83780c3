/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Where things stand on the bus. */

#include <stdint.h>

#define BUS_NAME "org.vmctl1"
/* The bus itself; what it sends is told by the name alone. Whose signals are to be believed must be looked
 * at: the bus hands on what is addressed to us whoever sends it, and sd-bus takes each unique name for any
 * other name that a match asks for. */
#define BUS_DRIVER "org.freedesktop.DBus"
#define BUS_PATH_MANAGER "/org/vmctl1"
#define BUS_PATH_VM "/org/vmctl1/vm"
#define BUS_PATH_IMAGE "/org/vmctl1/image"
#define BUS_PATH_JOB "/org/vmctl1/job"

/* Of one object. The caller frees it; NULL: out of memory. */
char *bus_vm_path(const char *name);
char *bus_image_path(const char *name);
char *bus_job_path(uint32_t id);
