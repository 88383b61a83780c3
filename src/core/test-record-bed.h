/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A store in a folder of its own, with things of which there are records. */

#include <systemd/sd-id128.h>

#include "record-store.h"

typedef struct Thing {
        RecordName *name;
        Record *record;
        char uuid[SD_ID128_UUID_STRING_MAX];
        uint64_t a, b; /* two fields, to be changed one by one */
} Thing;

Thing *thing_free(Thing *t);
DEFINE_CLEANUP(Thing *, thing_free);

typedef struct Bed {
        sd_event *event;
        RecordStore *store;
        char folder[32];
        int fd;
        Thing *things[8]; /* that were loaded */
        size_t n_things;
} Bed;

extern const RecordType by_name, by_uuid;

void bed_new(Bed *bed, const RecordType *type);
void bed_open(Bed *bed, const RecordType *type); /* the next instance of the service, behind bed_close() */
void bed_close(Bed *bed);
void bed_done(Bed *bed);

void run_out(Bed *bed); /* until nothing is left that could happen */
void run_until(Bed *bed, const unsigned *n);

bool there(const Bed *bed, const char *path);
size_t count_folders(const Bed *bed);
void check_on_disk(Bed *bed, const RecordType *type, uint64_t a, uint64_t b); /* what the next one finds */

/* One change of a thing, and what became of it. */
typedef struct Try {
        Thing *thing;
        uint64_t a, b; /* 0: stays */
        int gate;      /* the child waits there; 0: it does not */
        unsigned completed;
        int result;
        void (*then)(struct Try *t);
} Try;
extern const RecordChange trying;

/* What became of a removal. */
typedef struct Told {
        unsigned n;
        int result;
} Told;
void on_removed(void *userdata, int r, const Error *error);

int make_draft(Bed *bed, const char *name, Thing **ret);
Thing *make(Bed *bed, const RecordType *type, const char *name); /* on disk: a and b are 1 */
void change(Thing *thing, Try *t);
