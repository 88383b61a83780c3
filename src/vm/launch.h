/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* All that a QEMU and its shim are started with: the command lines, and every file and socket opened
 * beforehand. */

#include "core/config.h"
#include "core/launcher.h"
#include "host/host.h"
#include "spec/vm-record.h"

#define LAUNCH_FDS_MAX 64 /* a disk takes two */

/* What carries a VM's network. */
typedef enum NetworkBackend {
        NETWORK_BACKEND_NONE,
        NETWORK_BACKEND_SLIRP, /* QEMU, which is in the host's network for it */
        NETWORK_BACKEND_PASST,
        _NETWORK_BACKEND_MAX,
        _NETWORK_BACKEND_INVALID = -EINVAL,
} NetworkBackend;

typedef struct Launch {
        char **options; /* the shim's, QEMU's command line behind "--" */
        LaunchFile files[LAUNCH_FDS_MAX];
        size_t n_files; /* all owned */
        uid_t uid;      /* 0: ours */
        int monitor_fd; /* our end of the monitor */
        int control_fd; /* our end of the shim's control socket */
        int runtime_fd; /* /run/vmctl/NAME */
        int vnc_fd;     /* listening socket for QEMU, to be handed over by QMP; -EBADF: none */
        bool kvm;
        uint64_t grow_to; /* bytes; 0: the disk has its size */
} Launch;

typedef struct LaunchInput {
        const Config *config;
        const VmRecord *record;
        const Host *host;
        int folder_fd;  /* of the VM */
        int runtime_fd; /* of all VMs */
        bool kvm;
        NetworkBackend network;
} LaunchInput;

/* Opens and makes everything. What fails leaves nothing open; the runtime folder is made anew by the next
 * start and removed with the VM. */
int launch_new(const LaunchInput *in, Launch **ret, Error **reterr);
Launch *launch_free(Launch *l);
DEFINE_CLEANUP(Launch *, launch_free);
