/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the files of the reader share. */

#include "vmfile-keys.h"
#include "vmfile.h"

typedef struct VmfileReader {
        const VmfileOptions *options;
        KdlDiagnostics *d;
        Vmfile *file;
        uint8_t ports[(UINT16_MAX + 1) / 8]; /* a bit for each that is forwarded */
        int r;                               /* -ENOMEM, or 0 */
} VmfileReader;

/* A key with its values: a node, or a property of the node that its block belongs to. */
typedef struct VmfileSetting {
        const KdlString *name;
        const KdlNode *node; /* NULL for a property */
        const KdlValue *values[2];
        size_t n_values; /* may be more than are here */
        KdlSpan span;
} VmfileSetting;

#define vmfile_error(r, span, ...) kdl_diagnostics_add((r)->d, KDL_LEVEL_ERROR, span, __VA_ARGS__)
#define vmfile_hint(r, ...) kdl_diagnostics_hint((r)->d, __VA_ARGS__)

/* Each sets what the key says in `base`, a VmfileVm or a VmfileStep, or adds errors. */
void vmfile_set_value(VmfileReader *r, const VmfileKey *k, const VmfileSetting *s, VmfileVm *vm, void *base);

/* A string without NULs, or NULL after an error. */
const char *vmfile_string(VmfileReader *r, const KdlValue *v);
/* Sets *field to a copy. */
void vmfile_keep(VmfileReader *r, char **field, const char *s);

/* What single settings cannot tell. The spans are those of the node's name and its first value. */
void vmfile_check(VmfileReader *r);
void vmfile_check_step(VmfileReader *r, VmfileStep *step, KdlSpan span);
void vmfile_check_network(VmfileReader *r, const VmfileVm *vm, const KdlValue *mode);
