/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The table of all that can stand in a VMFile. Reader, hints and manual page go by it; where a key is
 * one of CreateVM, its type, its bounds and its name on the bus are those of vm_spec_keys. */

#include "vm-spec.h"

/* What a key may stand in. */
typedef enum VmfileBlock {
        VMFILE_BLOCK_FILE,
        VMFILE_BLOCK_VM,
        VMFILE_BLOCK_IMAGE_URL,
        VMFILE_BLOCK_NETWORK,
        VMFILE_BLOCK_CLOUD_INIT,
        VMFILE_BLOCK_SSH,
        VMFILE_BLOCK_LIMITS,
        VMFILE_BLOCK_SHELL, /* provision "shell" */
        VMFILE_BLOCK_COPY,  /* provision "file" */
        _VMFILE_BLOCK_MAX,
        _VMFILE_BLOCK_INVALID = -EINVAL,
} VmfileBlock;
DECLARE_STRING_TABLE(vmfile_block, VmfileBlock);

typedef enum VmfileKind {
        VMFILE_KIND_SPEC,       /* as the key of vm_spec_keys */
        VMFILE_KIND_STRING,     /* char * */
        VMFILE_KIND_PATH,       /* char *, made absolute */
        VMFILE_KIND_GUEST_PATH, /* char *, absolute */
        VMFILE_KIND_URL,        /* char * */
        VMFILE_KIND_DIGEST,     /* char * */
        VMFILE_KIND_FLAG,       /* bool */
        VMFILE_KIND_CHOICE,     /* int, one of `names` */
        VMFILE_KIND_MODE,       /* uint32_t */
        VMFILE_KIND_ENV,        /* char ** */
        VMFILE_KIND_NAMES,      /* char ** */
        VMFILE_KIND_FORWARD,
        VMFILE_KIND_DISK,
        VMFILE_KIND_NETWORK,
        VMFILE_KIND_BLOCK, /* bool: it is there; or nothing */
        VMFILE_KIND_PROVISION,
        VMFILE_KIND_VM,
        _VMFILE_KIND_MAX,
        _VMFILE_KIND_INVALID = -EINVAL,
} VmfileKind;

typedef enum VmfileKeyFlags {
        VMFILE_KEY_REPEAT = 1 << 0, /* may stand more than once */
} VmfileKeyFlags;

#define VMFILE_NOWHERE SIZE_MAX

typedef struct VmfileKey {
        VmfileBlock in;
        const char *name;
        VmfileKind kind;
        const char *spec;  /* its name in vm_spec_keys and on the bus, or NULL */
        uint64_t unit;     /* of a bare number, for a size */
        size_t offset;     /* in VmfileVm or VmfileStep, by where it stands; or VMFILE_NOWHERE */
        VmfileBlock block; /* what its settings are, which stand between braces or as properties */
        const char *const *names;
        size_t n_names;
        VmfileKeyFlags flags;
        const char *argument; /* as the manual page calls it, or NULL */
        const char *help;
} VmfileKey;

extern const VmfileKey vmfile_keys[];
extern const size_t vmfile_n_keys;

const VmfileKey *vmfile_key_find(VmfileBlock in, const char *name);
/* A name in `in` that may be meant; NULL when none is near. */
const char *vmfile_key_nearest(VmfileBlock in, const char *name);
