/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Where things stand on the bus. */

#define BUS_NAME "org.vmctl1"
#define BUS_PATH_MANAGER "/org/vmctl1"
#define BUS_PATH_VM "/org/vmctl1/vm"
#define BUS_PATH_IMAGE "/org/vmctl1/image"
#define BUS_PATH_JOB "/org/vmctl1/job"
