/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the service could not read when it started, as far as the caller may know. Strings are the message's.
 */

#include "ctl.h"
#include "json/json.h"

typedef struct BrokenRecord {
        const char *kind; /* "vm", "image" */
        const char *name, *path, *reason;
} BrokenRecord;

typedef struct BrokenList {
        sd_bus_message *reply;
        BrokenRecord *records;
        size_t n;
} BrokenList;

/* Of this kind; NULL: all. Reports failure. */
int broken_list_fetch(Ctl *c, const char *kind, BrokenList *ret);
void broken_list_done(BrokenList *l);
const BrokenRecord *broken_list_find(const BrokenList *l, const char *name); /* NULL: there is none */

/* The call that removes one, for where there is no object of that name; and whether it failed because there
 * is no broken one either, or the service is too old to know. */
int broken_new_removal(Ctl *c, const char *kind, const char *name, sd_bus_message **ret);
bool broken_is_none(const Error *e);

/* Which it is, and why, on standard error. */
const char *broken_hint(const Ctl *c, const BrokenRecord *b);

void broken_complain(const Ctl *c, const BrokenRecord *b);

/* An object beside those that VMs and images are. */
void broken_write(JsonWriter *w, const BrokenRecord *b);
