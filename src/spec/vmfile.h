/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* VMFile.kdl: the VMs of a project, or of the machine's boot, as one file defines them. Reading a file opens
 * nothing that it names: paths are made absolute, and whoever uses them finds out what is there. */

#include "kdl/kdl.h"
#include "vm-spec.h"

#define VMFILE_NAME "VMFile.kdl"
#define VMFILE_VENDOR_FOLDER VMCTL_HELPER_DIR "/vms" /* as /etc/vmctl, for packages */
#define VMFILE_VMS_MAX 256                           /* of one file */
#define VMFILE_STEPS_MAX 256 /* of one VM; so for disks and forwards, of which QEMU takes fewer */
#define VMFILE_DISKS_MAX 16  /* spare PCIe root ports are what limits them */
#define VMFILE_FORWARDS_MAX 256

typedef enum VmfileStepType {
        VMFILE_STEP_INLINE, /* a command */
        VMFILE_STEP_SCRIPT, /* a file of ours, run in the guest */
        VMFILE_STEP_FILE,   /* a file or folder of ours, put into the guest */
        _VMFILE_STEP_TYPE_MAX,
        _VMFILE_STEP_TYPE_INVALID = -EINVAL,
} VmfileStepType;

typedef enum VmfileRestart {
        VMFILE_RESTART_NO,
        VMFILE_RESTART_ON_FAILURE,
        VMFILE_RESTART_ALWAYS,
        _VMFILE_RESTART_MAX,
        _VMFILE_RESTART_INVALID = -EINVAL,
} VmfileRestart;

typedef enum VmfileReady {
        VMFILE_READY_RUNNING,
        VMFILE_READY_SSH,
        VMFILE_READY_CLOUD_INIT,
        _VMFILE_READY_MAX,
        _VMFILE_READY_INVALID = -EINVAL,
} VmfileReady;

DECLARE_STRING_TABLE(vmfile_restart, VmfileRestart);
DECLARE_STRING_TABLE(vmfile_ready, VmfileReady);

#define VMFILE_MODE_UNSET UINT32_MAX

typedef struct VmfileStep {
        VmfileStepType type;
        char *command;     /* INLINE */
        char *source;      /* SCRIPT, FILE: an absolute path of the host */
        char *script;      /* only while the file is read; becomes source */
        char *destination; /* FILE: an absolute path of the guest */
        uint32_t mode;     /* FILE: permission bits, or VMFILE_MODE_UNSET */
        char **env;        /* "NAME=value"; NULL: none */
        unsigned line;
} VmfileStep;

typedef struct VmfileForward {
        uint16_t host, guest; /* TCP ports */
} VmfileForward;

typedef struct VmfileDisk {
        char *name;
        uint64_t size; /* bytes */
} VmfileDisk;

/* All paths are absolute. What is NULL was not given. */
typedef struct VmfileVm {
        char *name;
        VmSpec spec; /* checked */
        char *image;
        char *image_url;
        char *sha256; /* of image_url, in lower case */
        char *kernel;
        char *initrd;
        char *user_data;
        char *ssh_key;     /* the file with the public key */
        char *bridge;      /* network "tap" */
        char *private_key; /* to log in with */
        bool has_ssh;      /* there is an ssh block, a cloud-init block */
        bool has_cloud_init;
        VmfileStep *steps;
        size_t n_steps;
        VmfileForward *forwards;
        size_t n_forwards;
        VmfileDisk *disks; /* besides the first one */
        size_t n_disks;
        char **depends_on;
        bool autostart;
        int restart; /* VmfileRestart */
        int ready;   /* VmfileReady; by default VMFILE_READY_SSH with an ssh block, else RUNNING */
        unsigned line;
        KdlSpan span; /* of the name */
} VmfileVm;

typedef struct Vmfile {
        VmfileVm *vms; /* in the order of the file */
        size_t n_vms;
} Vmfile;

typedef struct VmfileOptions {
        const char *folder;        /* absolute: what relative paths start from */
        const char *home;          /* what "~" stands for; NULL: nothing, so that it is an error */
        bool foreign_dependencies; /* depends-on may name VMs of other files */
} VmfileOptions;

/* `d` must be of this text and gets errors and warnings. -EBADMSG: there were errors; -EFBIG; -ENOMEM. */
int vmfile_parse(const char *text, size_t len, const VmfileOptions *o, Vmfile **ret, KdlDiagnostics *d);

Vmfile *vmfile_free(Vmfile *f);
DEFINE_CLEANUP(Vmfile *, vmfile_free);
#define _cleanup_vmfile_ _cleanup_(vmfile_freep)

const VmfileVm *vmfile_find(const Vmfile *f, const char *name); /* NULL when there is none */
