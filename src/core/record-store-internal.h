/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What record-store.c (the store, its index and its start) and record.c (one record) share. */

#include "record-store.h"

typedef struct Task Task;

struct RecordName {
        RecordStore *store; /* borrowed; NULL: it is gone */
        char *name;
        void *object; /* borrowed */
        bool broken;
        bool released; /* by its owner; kept by `pins` */
        unsigned pins; /* records whose child may make the folder of this name */
};

struct RecordStore {
        sd_event *event;
        int fd;
        char *path;
        const RecordType *type;
        void *userdata;
        RecordName **names; /* sorted; each belongs to whoever reserved it, those of broken records to us */
        size_t n_names;
        RecordBroken *broken;
        size_t n_broken;
        Record *records;  /* all that there are; those that are being deleted are ours */
        char **left_over; /* folders that are to be deleted, and could not be yet */
        Task *sweep;      /* deletes them */
};

void record_name_pin(RecordName *n);
void record_name_unpin(RecordName *n);

/* One that was found on disk, for type->load. */
int record_adopt(RecordStore *s, const char *folder, const char *uuid, Record **ret);

/* Nobody is waiting for this folder to be deleted any more: another try comes when one more is deleted. */
void record_store_leave_over(RecordStore *s, const char *folder);
void record_store_sweep(RecordStore *s);

/* The store goes: the record is left to its object, or freed if it is being deleted. */
void record_orphan(Record *r);
