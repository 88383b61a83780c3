/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "vmfile-keys.h"
#include "util/nearest.h"
#include "vmfile.h"

static const char *const vmfile_block_table[] = {
        [VMFILE_BLOCK_FILE] = "the file",
        [VMFILE_BLOCK_VM] = "vm",
        [VMFILE_BLOCK_IMAGE_URL] = "image-url",
        [VMFILE_BLOCK_NETWORK] = "network",
        [VMFILE_BLOCK_CLOUD_INIT] = "cloud-init",
        [VMFILE_BLOCK_SSH] = "ssh",
        [VMFILE_BLOCK_LIMITS] = "limits",
        [VMFILE_BLOCK_SHELL] = "provision \"shell\"",
        [VMFILE_BLOCK_COPY] = "provision \"file\"",
};
DEFINE_STRING_TABLE(vmfile_block, VmfileBlock, _VMFILE_BLOCK_MAX);

static const char *const vmfile_restart_table[] = {
        [VMFILE_RESTART_NO] = "no",
        [VMFILE_RESTART_ON_FAILURE] = "on-failure",
        [VMFILE_RESTART_ALWAYS] = "always",
};
DEFINE_STRING_TABLE(vmfile_restart, VmfileRestart, _VMFILE_RESTART_MAX);

static const char *const vmfile_ready_table[] = {
        [VMFILE_READY_RUNNING] = "running",
        [VMFILE_READY_SSH] = "ssh",
        [VMFILE_READY_CLOUD_INIT] = "cloud-init",
};
DEFINE_STRING_TABLE(vmfile_ready, VmfileReady, _VMFILE_READY_MAX);

#define VM(field) offsetof(VmfileVm, field)
#define STEP(field) offsetof(VmfileStep, field)
#define NO_BLOCK _VMFILE_BLOCK_INVALID

/* A key of CreateVM, by the same name. */
#define SPEC(block, key, size, arg, text) \
        { block, key, VMFILE_KIND_SPEC, key, size, VMFILE_NOWHERE, NO_BLOCK, NULL, 0, 0, arg, text }
/* One that CreateVM does not know, or that becomes a descriptor on its way there. */
#define FIELD(block, key, kind, bus, offset, flags, arg, text) \
        { block, key, kind, bus, 0, offset, NO_BLOCK, NULL, 0, flags, arg, text }
#define CHOICE(block, key, offset, table, arg, text) \
        { block, key, VMFILE_KIND_CHOICE, NULL, 0, offset, NO_BLOCK, table, ELEMENTSOF(table), 0, arg, text }
#define BLOCK(block, key, kind, bus, offset, inner, flags, arg, text) \
        { block, key, kind, bus, 0, offset, inner, NULL, 0, flags, arg, text }

#define IN_FILE VMFILE_BLOCK_FILE
#define IN_VM VMFILE_BLOCK_VM

const VmfileKey vmfile_keys[] = {
        BLOCK(IN_FILE, "vm", VMFILE_KIND_VM, NULL, VMFILE_NOWHERE, VMFILE_BLOCK_VM, VMFILE_KEY_REPEAT,
                        "NAME", "A virtual machine"),

        FIELD(IN_VM, "image", VMFILE_KIND_PATH, "image", VM(image), 0, "PATH", "Disk image of the host"),
        BLOCK(IN_VM, "image-url", VMFILE_KIND_URL, NULL, VM(image_url), VMFILE_BLOCK_IMAGE_URL, 0, "URL",
                        "Disk image to download"),
        FIELD(VMFILE_BLOCK_IMAGE_URL, "sha256", VMFILE_KIND_DIGEST, NULL, VM(sha256), 0, "DIGEST",
                        "What the download must be"),
        SPEC(IN_VM, "image-format", 0, "FORMAT", "raw or qcow2"),
        SPEC(IN_VM, "vcpus", 0, "NUMBER", "Virtual CPUs"),
        SPEC(IN_VM, "memory", MIB, "SIZE", "Guest RAM in MB"),
        FIELD(IN_VM, "disk", VMFILE_KIND_DISK, "disk", VMFILE_NOWHERE, VMFILE_KEY_REPEAT, "[NAME] SIZE",
                        "Size of the disk in GB; with a name, a further disk"),
        BLOCK(IN_VM, "network", VMFILE_KIND_NETWORK, "network", VMFILE_NOWHERE, VMFILE_BLOCK_NETWORK, 0,
                        "MODE", "user, tap or none"),
        FIELD(VMFILE_BLOCK_NETWORK, "bridge", VMFILE_KIND_STRING, NULL, VM(bridge), 0, "NAME",
                        "Bridge of the host, for tap"),
        FIELD(IN_VM, "forward", VMFILE_KIND_FORWARD, NULL, VMFILE_NOWHERE, VMFILE_KEY_REPEAT, "HOST GUEST",
                        "TCP port of the host that leads to one of the guest"),

        BLOCK(IN_VM, "cloud-init", VMFILE_KIND_BLOCK, "cloud-init", VM(has_cloud_init),
                        VMFILE_BLOCK_CLOUD_INIT, 0, NULL, "What the guest is told at its first boot"),
        SPEC(VMFILE_BLOCK_CLOUD_INIT, "hostname", 0, "NAME", "Host name"),
        FIELD(VMFILE_BLOCK_CLOUD_INIT, "ssh-key", VMFILE_KIND_PATH, "ssh-key", VM(ssh_key), 0, "PATH",
                        "Public key to let in"),
        FIELD(VMFILE_BLOCK_CLOUD_INIT, "user-data", VMFILE_KIND_PATH, "user-data", VM(user_data), 0, "PATH",
                        "Cloud-config to use instead of our own"),

        BLOCK(IN_VM, "ssh", VMFILE_KIND_BLOCK, NULL, VM(has_ssh), VMFILE_BLOCK_SSH, 0, NULL,
                        "How to log in"),
        SPEC(VMFILE_BLOCK_SSH, "user", 0, "NAME", "Account"),
        FIELD(VMFILE_BLOCK_SSH, "private-key", VMFILE_KIND_PATH, NULL, VM(private_key), 0, "PATH",
                        "Key to log in with"),

        BLOCK(IN_VM, "provision", VMFILE_KIND_PROVISION, NULL, VMFILE_NOWHERE, NO_BLOCK, VMFILE_KEY_REPEAT,
                        "TYPE", "A step to take in the guest after boot: shell or file"),
        FIELD(VMFILE_BLOCK_SHELL, "inline", VMFILE_KIND_STRING, NULL, STEP(command), 0, "COMMAND",
                        "Command to run"),
        FIELD(VMFILE_BLOCK_SHELL, "script", VMFILE_KIND_PATH, NULL, STEP(script), 0, "PATH",
                        "Script to upload and run"),
        FIELD(VMFILE_BLOCK_SHELL, "env", VMFILE_KIND_ENV, NULL, STEP(env), VMFILE_KEY_REPEAT,
                        "NAME=VALUE...", "Environment variables"),
        FIELD(VMFILE_BLOCK_COPY, "source", VMFILE_KIND_PATH, NULL, STEP(source), 0, "PATH",
                        "File or folder of the host"),
        FIELD(VMFILE_BLOCK_COPY, "destination", VMFILE_KIND_GUEST_PATH, NULL, STEP(destination), 0, "PATH",
                        "Where it goes in the guest"),
        FIELD(VMFILE_BLOCK_COPY, "mode", VMFILE_KIND_MODE, NULL, STEP(mode), 0, "MODE",
                        "Permissions, in octal"),

        SPEC(IN_VM, "machine", 0, "TYPE", "q35, microvm, or a version of these"),
        SPEC(IN_VM, "firmware", 0, "KIND", "bios or uefi"),
        FIELD(IN_VM, "kernel", VMFILE_KIND_PATH, "kernel", VM(kernel), 0, "PATH", "Kernel to boot directly"),
        FIELD(IN_VM, "initrd", VMFILE_KIND_PATH, "initrd", VM(initrd), 0, "PATH",
                        "Initial RAM disk for the kernel"),
        SPEC(IN_VM, "append", 0, "TEXT", "Kernel command line"),
        SPEC(IN_VM, "accel", 0, "ACCEL", "auto, kvm or tcg"),
        SPEC(IN_VM, "cpu", 0, "MODEL", "CPU model"),
        SPEC(IN_VM, "display", 0, "KIND", "vnc or none"),
        SPEC(IN_VM, "balloon", 0, "[BOOLEAN]", "Whether there is a balloon device"),
        SPEC(IN_VM, "console-log-max", MIB, "SIZE", "Console output to keep, in MB"),

        BLOCK(IN_VM, "limits", VMFILE_KIND_BLOCK, NULL, VMFILE_NOWHERE, VMFILE_BLOCK_LIMITS, 0, NULL,
                        "What QEMU may use of the host"),
        SPEC(VMFILE_BLOCK_LIMITS, "cpu-quota", 0, "PERCENT", "CPU time; 100% is one CPU"),
        SPEC(VMFILE_BLOCK_LIMITS, "cpu-weight", 0, "WEIGHT", "Share of contended CPUs"),
        SPEC(VMFILE_BLOCK_LIMITS, "io-weight", 0, "WEIGHT", "Share of contended disks"),
        SPEC(VMFILE_BLOCK_LIMITS, "memory-max", MIB, "SIZE", "Memory in MB beyond which QEMU is killed"),
        SPEC(VMFILE_BLOCK_LIMITS, "memory-high", MIB, "SIZE",
                        "Memory in MB beyond which QEMU is slowed down"),
        SPEC(VMFILE_BLOCK_LIMITS, "tasks-max", 0, "NUMBER", "Threads of QEMU"),

        FIELD(IN_VM, "autostart", VMFILE_KIND_FLAG, NULL, VM(autostart), 0, "[BOOLEAN]",
                        "Whether it is started at boot"),
        FIELD(IN_VM, "depends-on", VMFILE_KIND_NAMES, NULL, VM(depends_on), VMFILE_KEY_REPEAT, "NAME...",
                        "VMs that must be ready before it is started"),
        CHOICE(IN_VM, "restart", VM(restart), vmfile_restart_table, "WHEN", "no, on-failure or always"),
        CHOICE(IN_VM, "ready", VM(ready), vmfile_ready_table, "STAGE",
                        "When it counts as up: running, ssh or cloud-init"),
};
const size_t vmfile_n_keys = ELEMENTSOF(vmfile_keys);

const VmfileKey *vmfile_key_find(VmfileBlock in, const char *name) {
        for (size_t i = 0; i < ELEMENTSOF(vmfile_keys); i++)
                if (vmfile_keys[i].in == in && streq(vmfile_keys[i].name, name))
                        return &vmfile_keys[i];
        return NULL;
}

const char *vmfile_key_nearest(VmfileBlock in, const char *name) {
        const char *found = NULL;
        size_t best = SIZE_MAX;

        for (size_t i = 0; i < ELEMENTSOF(vmfile_keys); i++)
                if (vmfile_keys[i].in == in)
                        word_nearer(name, vmfile_keys[i].name, &best, &found);
        return found;
}
