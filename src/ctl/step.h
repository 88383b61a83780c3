/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Provision steps of a VMFile on their way to the service: what is known of their content, and what travels.
 */

#include <systemd/sd-bus.h>

#include "spec/vmfile.h"

/* SHA-256 in hexadecimal over all that makes the step what it is: its kind, the content of its file or
 * folder with names and modes, destination, mode, variables. The caller frees. */
int step_fingerprint(const VmfileStep *step, char **ret, Error **reterr);

/* Appends the step's a{sv}, with what it needs opened; `fingerprint` may be NULL. */
int step_append(sd_bus_message *m, const VmfileStep *step, const char *fingerprint, Error **reterr);

/* The same for a step that has run and is left out: it only keeps its place. */
int step_append_done(sd_bus_message *m, const char *fingerprint, Error **reterr);

static inline bool step_has_file(const VmfileStep *step) {
        return step->type != VMFILE_STEP_INLINE;
}
