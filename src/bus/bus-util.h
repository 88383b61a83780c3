/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What the bus faces share: replies, and definitions as a{sv}. */

#include <systemd/sd-bus.h>

#include "core/waiters.h"
#include "spec/vm-record.h"

/* Replies with the error's D-Bus name. Returns what a method handler is to return. `e` may be NULL. */
int bus_reply_error(sd_bus_message *call, const Error *e);

/* A waiter_t that answers a call without values. userdata: a reference to the call, which it drops. */
void bus_reply_done(void *userdata, int r, const Error *error);

/* An option of a method: 's' is stored as a borrowed const char *, 'b' as a bool, 'u' as a uint32_t, 't' as
 * a uint64_t, 'h' as a borrowed descriptor. */
typedef struct BusOption {
        const char *name;
        char type;
        void *value;
} BusOption;

/* Reads an a{sv} of these options; others are refused by name. */
int bus_read_options(sd_bus_message *m, const BusOption *table, size_t n, Error **reterr);

/* Appends a JSON object as an a{sv}: strings, booleans, unsigned numbers, and arrays of such objects. */
int bus_append_json_dict(sd_bus_message *m, const Json *object);

/* Reads an a{sv} of definition keys into an initialised spec and, where `files` is not NULL, borrowed
 * descriptors. Only keys that have one of the flags of `allowed` count (0: all); others are refused by name.
 */
int bus_read_spec(sd_bus_message *m, SpecFlags allowed, VmSpec *s, int *files, Error **reterr);

/* Appends the record's definition as an a{sv}, descriptors as the paths of their files, and the name that
 * its image has in the store now, unless that is NULL. */
int bus_append_spec(sd_bus_message *m, const VmRecord *rec, const char *image_name);
