/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What a VM is asked to be. One table of keys (vm_spec_keys) names every property of a definition with its
 * type and bounds; D-Bus options, stored files and, later, VMFile.kdl go through it alike. */

#include "name.h"
#include "util/string-util.h"
#include "vm-lists.h"
#include "json/json.h"

#define VM_VCPUS_MAX 255           /* what an x2APIC-less q35 guest can have */
#define VM_MEMORY_MIN (8 * MIB)    /* below this no firmware finishes */
#define VM_MEMORY_MAX (8192 * GIB) /* a typing error is more likely than a larger machine */
#define VM_CONSOLE_LOG_MIN (64 * KIB)
#define VM_CONSOLE_LOG_MAX (4 * GIB)
#define VM_CONSOLE_LOG_DEFAULT (16 * MIB)

typedef enum VmNetwork {
        VM_NETWORK_USER,
        VM_NETWORK_NONE,
        _VM_NETWORK_MAX,
        _VM_NETWORK_INVALID = -EINVAL,
} VmNetwork;

typedef enum VmFirmware {
        VM_FIRMWARE_BIOS,
        VM_FIRMWARE_UEFI,
        _VM_FIRMWARE_MAX,
        _VM_FIRMWARE_INVALID = -EINVAL,
} VmFirmware;

typedef enum VmAccelerator {
        VM_ACCELERATOR_AUTO,
        VM_ACCELERATOR_KVM,
        VM_ACCELERATOR_TCG,
        _VM_ACCELERATOR_MAX,
        _VM_ACCELERATOR_INVALID = -EINVAL,
} VmAccelerator;

typedef enum VmDisplay {
        VM_DISPLAY_VNC,
        VM_DISPLAY_NONE,
        _VM_DISPLAY_MAX,
        _VM_DISPLAY_INVALID = -EINVAL,
} VmDisplay;

DECLARE_STRING_TABLE(vm_network, VmNetwork);
DECLARE_STRING_TABLE(vm_firmware, VmFirmware);
DECLARE_STRING_TABLE(vm_accelerator, VmAccelerator);
DECLARE_STRING_TABLE(vm_display, VmDisplay);

/* Zero means: no limit of its own, or the default that vm_limits_resolve() puts in. */
typedef struct VmLimits {
        uint32_t cpu_quota;   /* percent of one CPU */
        uint64_t cpu_weight;  /* 1 to 10000 */
        uint64_t io_weight;   /* 1 to 10000 */
        uint64_t memory_max;  /* bytes */
        uint64_t memory_high; /* bytes */
        uint64_t tasks_max;
} VmLimits;

typedef struct VmSpec {
        uint32_t vcpus;
        uint64_t memory; /* bytes */
        uint64_t disk;   /* bytes; 0: as large as the image */
        VmNetwork network;
        VmFirmware firmware;
        VmAccelerator accelerator;
        VmDisplay display;
        bool balloon;
        bool cloud_init;
        bool start;               /* only an order of CreateVM, not stored */
        char *hostname;           /* owned, as all below; NULL: the VM's name */
        char *user;               /* NULL: "vm" */
        char *ssh_key;            /* NULL: a pair is generated when a seed is made */
        char *machine;            /* as asked for until it is resolved to a versioned type at create */
        char *cpu;                /* NULL: by accelerator */
        char *append;             /* kernel command line */
        char *origin;             /* the VMFile that defines it, an absolute path */
        char *forward;            /* "8080:80,8443:443": TCP ports of the host's loopback, of the guest */
        char *disks;              /* "data:10737418240,logs:1073741824": more disks, of these bytes */
        char *image_format;       /* as asked for, then as found */
        char *image_name;         /* orders of CreateVM, not stored: an image of the store by its name, */
        char *image_url;          /* or by where it was pulled from */
        uint64_t console_log_max; /* bytes */
        VmLimits limits;
        uint64_t given; /* bit i: key i of the table was set by somebody */
} VmSpec;

/* Files that travel as descriptors and so are no part of the struct. */
typedef enum VmFile {
        VM_FILE_IMAGE,
        VM_FILE_KERNEL,
        VM_FILE_INITRD,
        VM_FILE_USER_DATA,
        _VM_FILE_MAX,
        _VM_FILE_INVALID = -EINVAL,
} VmFile;
DECLARE_STRING_TABLE(vm_file, VmFile);

typedef enum SpecType {
        SPEC_BOOLEAN,  /* bool,     D-Bus b */
        SPEC_UNSIGNED, /* uint32_t, D-Bus u */
        SPEC_SIZE,     /* uint64_t, D-Bus t */
        SPEC_STRING,   /* char *,   D-Bus s */
        SPEC_ENUM,     /* int,      D-Bus s */
        SPEC_FILE,     /* VmFile,   D-Bus h */
} SpecType;

typedef enum SpecFlags {
        SPEC_UPDATE = 1 << 0,       /* may change while the VM is stopped */
        SPEC_LIMIT = 1 << 1,        /* may change at any time */
        SPEC_NOT_STORED = 1 << 2,   /* means something to CreateVM alone */
        SPEC_ZERO_IS_NONE = 1 << 3, /* 0 is valid besides min..max */
        SPEC_BYTES = 1 << 4,        /* the number counts these */
} SpecFlags;

typedef struct SpecKey {
        const char *name;
        SpecType type;
        SpecFlags flags;
        size_t offset; /* in VmSpec; the VmFile for SPEC_FILE */
        uint64_t min, max;
        const char *const *names;                        /* SPEC_ENUM: the max + 1 strings */
        int (*check)(const char *value, Error **reterr); /* SPEC_STRING, may be NULL */
} SpecKey;

extern const SpecKey vm_spec_keys[];
extern const size_t vm_spec_n_keys;

const SpecKey *spec_key_find(const char *name); /* NULL when there is none */
static inline const void *spec_key_field(const SpecKey *k, const VmSpec *s) {
        return (const uint8_t *)s + k->offset;
}

/* Sets one key after checking it; the message names key, value and bounds. A number for SPEC_BOOLEAN (0, 1),
 * SPEC_UNSIGNED and SPEC_SIZE, a string for SPEC_STRING and SPEC_ENUM. -EINVAL, -ENOMEM. */
int vm_spec_set_number(VmSpec *s, const SpecKey *k, uint64_t value, Error **reterr);
int vm_spec_set_string(VmSpec *s, const SpecKey *k, const char *value, Error **reterr);
bool vm_spec_has(const VmSpec *s, const char *key); /* was it given? */

void vm_spec_init(VmSpec *s); /* the defaults */
void vm_spec_done(VmSpec *s);
int vm_spec_copy(const VmSpec *s, VmSpec *ret);

/* Changes `onto` in all that differs between `from` and `to`. Returns the flags that all of these keys have
 * (~0: nothing differs), or -ENOMEM with `onto` half changed. */
int vm_spec_rebase(const VmSpec *from, const VmSpec *to, VmSpec *onto);

/* What single keys cannot tell: combinations. `files` has a bit for each VmFile that is given. */
int vm_spec_check(const VmSpec *s, unsigned files, Error **reterr);

void vm_spec_write(const VmSpec *s, JsonWriter *w); /* one object */
int vm_spec_read(const Json *object, VmSpec *s,
                Error **reterr); /* into an initialised spec; unknown keys fail */

/* The limits with the defaults filled in, for QEMU under this accelerator. */
VmLimits vm_limits_resolve(const VmSpec *s, bool tcg);
#define VM_TCG_CACHE (256 * MIB) /* translated code of one QEMU, given to it as tb-size */

/* 1 to 64 letters, digits, '-', '_', '.'; neither '.' nor '-' first. */
bool vm_name_is_valid(const char *name);
int vm_name_check(const char *name, Error **reterr);
