/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What plans are made from: the definitions of a project, and what the service has of them. */

#include "converge-run.h"
#include "project.h"

typedef struct ConvergeSet {
        Project project;
        ConvergeItem *items; /* in the order of the file */
        size_t n;
} ConvergeSet;

typedef enum ConvergeLoadFlags {
        CONVERGE_LOAD_FILES = 1 << 0, /* what the definitions name on this host must be there */
        CONVERGE_LOAD_STEPS = 1 << 1, /* the content of steps is looked at */
} ConvergeLoadFlags;

/* Reads the VMFile (NULL: that of this folder) and asks the service. `names`: only these VMs; empty: all.
 * Returns 0, EXIT_USAGE for a name that isn't in the file, or a negative errno; reports all. */
int converge_load(Ctl *c, const char *path, const char *const *names, ConvergeLoadFlags flags,
                ConvergeSet *ret);
void converge_set_done(ConvergeSet *s);

/* Who waits for whom: VMs for those that they depend on, or, `reverse`, those for the ones that need them.
 */
int converge_order(ConvergeSet *s, bool reverse);
