/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What this host can run: QEMU's version and machine types, asked of QEMU itself, and again when its binary
 * has changed, so that an upgrade needs no restart; passt, tried in the same way; KVM, looked at each time;
 * UEFI firmware. */

#include <systemd/sd-event.h>

#include "util/error.h"

typedef struct Host Host;

/* other_users: QEMU runs as users who are not us and in no group. */
int host_new(sd_event *event, const char *qemu, bool other_users, Host **ret);
Host *host_free(Host *h);
DEFINE_CLEANUP(Host *, host_free);

/* Makes sure that what is known holds for the QEMU that is installed, and the KVM that is there, now. 1: it
 * does, go on; 0: QEMU is being asked, wait for the callback and call again; negative: no memory and the
 * like. One asker is one `userdata`; host_forget() takes it back. */
typedef void (*host_done_t)(void *userdata);
int host_ensure(Host *h, host_done_t done, void *userdata);
void host_forget(Host *h, void *userdata);

/* After host_ensure() said 1. 0, or -ENOENT and the like with the error that says why QEMU cannot be used.
 */
int host_check_qemu(const Host *h, Error **reterr);

const char *host_qemu_version(const Host *h); /* "7.2.22" */

/* Resolves "q35" to the version that a new VM gets and checks the others. *ret is borrowed. */
int host_resolve_machine(const Host *h, const char *asked, const char **ret, Error **reterr);

/* KVM works here: /dev/kvm opens, also for QEMU, makes a VM, and the CPU has vmx or svm. If not, *ret_reason
 * (borrowed, may be NULL) says why. */
bool host_has_kvm(const Host *h, const char **ret_reason);
gid_t host_kvm_gid(const Host *h); /* the group that QEMU needs to open /dev/kvm; 0: none */

/* passt can be the network of VMs; as host_has_kvm(). */
bool host_has_passt(const Host *h, const char **ret_reason);

/* UEFI code and a template of its variables; borrowed. -ENOENT with an error. */
int host_uefi(const Host *h, const char **ret_code, const char **ret_vars, Error **reterr);
