/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM's definition as a QEMU command line. A pure function: what is open already comes in as descriptor
 * numbers.
 *
 * Every device has an address of its own on the PCI bus that never changes, so that a guest sees the same
 * machine whatever is added later; four root ports stay empty for devices that are plugged in while the
 * guest runs. */

#include "spec/vm-lists.h"
#include "spec/vm-record.h"

/* The fdsets. A set holds a read-write and a read-only descriptor, in this order, where QEMU reopens the
 * file to drop a right. */
enum { SET_OVERLAY = 1, SET_BASE, SET_SEED, SET_VARS, SET_DISKS };

/* Numbers in QEMU's table; -1: there is none. */
typedef struct QemuFds {
        int monitor, monitor_listen, agent_listen, serial;
        int network; /* a socket to who carries it; -1: QEMU does so itself */
        int overlay_rw, overlay_ro, base, seed, kernel, initrd, vars_rw, vars_ro;
        int disks_rw[VM_DISKS_MAX], disks_ro[VM_DISKS_MAX]; /* by their place in the definition */
} QemuFds;

typedef struct QemuMachine {
        const char *binary;
        const VmRecord *record;
        const char *uefi_code; /* with firmware "uefi" */
        bool kvm;
        bool paused; /* start stopped: something must be done before the guest runs */
        QemuFds fds;
} QemuMachine;

int qemu_command(const QemuMachine *m, char ***ret);
