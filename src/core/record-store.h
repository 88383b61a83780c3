/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* What is kept on disk of things that have a name: one folder for each record below the store's folder, and
 * in it one document, versioned JSON with a checksum (record-seal.h), beside whatever files the thing needs.
 * The store knows nothing of what the records are of.
 *
 * Two handles, both owned by the object that the record is of:
 *  - RecordName: that the name is taken. It is there from the moment on that somebody wants the name, before
 *    anything is on disk, and all names are the index of the store.
 *  - Record: the folder. It begins as a draft, ".new-UUID", becomes stored by one rename in a child, and
 * ends as ".old-UUID" by one rename, which a child then deletes.
 *
 * Everything that waits for a disk happens in child processes, at most one for each record at a time. A
 * killed child is awaited before its files are used or deleted, or their name is given to somebody else.
 * Whatever dies in the middle leaves folders with these prefixes, which the next instance deletes. One that
 * could not be deleted is once more when another record's has been.
 *
 * Callbacks are called from the loop, never from within the function that was given them; the exception are
 * record_free(), record_remove() and record_store_free(), which complete what was begun earlier. In a
 * callback everything is allowed, freeing the record and the store included. */

#include <systemd/sd-event.h>

#include "waiters.h"
#include "json/json.h"

typedef struct Record Record;
typedef struct RecordName RecordName;
typedef struct RecordStore RecordStore;

#define RECORD_CHANGES_MAX 64 /* waiting for one record: each holds a call of a client */

typedef struct RecordType {
        const char *document; /* "vm.json" */
        const char *kind;     /* for messages: "VM", as in "There already is a VM 'web'" */
        bool folder_is_name;  /* a stored folder is called as the record, which is never renamed; else by the
                                 UUID */
        size_t size_max;      /* bytes of a document */
        unsigned sealed_since; /* documents of earlier versions carry no checksum; 1: all do */
        ErrorCode exists;      /* ERROR_VM_EXISTS: the name is taken */
        int (*check_name)(const char *name, Error **reterr);

        /* A record was read. It is stored, and its "name" or "uuid" is that of the folder. The callback
         * reserves the name and makes the object, which takes *record over (TAKE_PTR). What fails, for
         * whatever reason, becomes a broken record with this error; it does not end the loading. */
        int (*load)(void *userdata, Record **record, const Json *document, Error **reterr);

        /* What people call it, also before it has its name here. */
        const char *(*name)(const void *object);

        /* The document as memory has it now. Written when a change failed so late that the disk might have
         * it nevertheless: then nobody finds it there after a restart. */
        int (*format)(void *object, char **ret, size_t *ret_len);
} RecordType;

/* --- The store ------------------------------------------------------------------------------------------
 */

/* dir_fd is duplicated; `path` is where it lies, for messages. `type` must stay. */
int record_store_new(sd_event *event, int dir_fd, const char *path, const RecordType *type, void *userdata,
                RecordStore **ret);

/* Kills all children. What is under way is completed with ERROR_CANCELED. Handles that objects still have
 * stay valid: freeing them is all that can be done with them. */
RecordStore *record_store_free(RecordStore *s);
DEFINE_CLEANUP(RecordStore *, record_store_free);

/* Once, before anybody is served: one pass over the folders, calling type->load. What earlier instances left
 * half made or half deleted is deleted by a child: exactly the folders that were there now, so nothing that
 * is made from now on is in danger. Fails only if the store's folder cannot be read. */
int record_store_load(RecordStore *s);

/* What cannot be read. Its name stays taken, and whose it is is not known: the owner in a broken document
 * means nothing. */
typedef struct RecordBroken {
        char *name;   /* as its document or folder says */
        char *folder; /* in the store's */
        char *path;   /* of the document */
        char *reason; /* for people */
} RecordBroken;
const RecordBroken *record_store_broken(const RecordStore *s, size_t *ret_n); /* sorted by name */

/* The first one of this name, else the one in the folder of this name; NULL: there is none. Valid until one
 * is removed. */
const RecordBroken *record_store_find_broken(const RecordStore *s, const char *name);

/* As record_remove(): the folder of the document `path` loses its name, which is free then unless another
 * broken record has it, too. ERROR_FAILED: that one is not there any more. */
int record_store_remove_broken(
                RecordStore *s, const char *path, waiter_t done, void *userdata, Error **reterr);

/* --- Names: the index ------------------------------------------------------------------------------------
 */

/* Takes a name, for an object that is there or (NULL) will come. ERROR_INVALID_NAME (by type->check_name);
 * type->exists, for a broken record with a message that says so. */
int record_name_reserve(RecordStore *s, const char *name, void *object, RecordName **ret, Error **reterr);

/* Gives the name up; the object is not found by it any more. The name can be taken again at once, unless a
 * child that was killed may still make the folder of this name. Returns NULL. */
RecordName *record_name_free(RecordName *n);
DEFINE_CLEANUP(RecordName *, record_name_free);

const char *record_name(const RecordName *n);
void record_name_set_object(RecordName *n, void *object); /* NULL: reserved only */

/* By a reservation, an object, what is broken, or what is not gone yet. */
bool record_name_is_taken(const RecordStore *s, const char *name);

void *record_store_find(const RecordStore *s, const char *name); /* the object; NULL: none */

/* All objects, sorted by name: for (size_t i = 0; (object = record_store_next(s, &i));). Nothing may be
 * reserved or freed meanwhile. */
void *record_store_next(const RecordStore *s, size_t *i);

/* --- Records ---------------------------------------------------------------------------------------------
 */

/* How a document changes. Called with the userdata given to record_commit() or record_write(). */
typedef struct RecordChange {
        /* The new document: a JSON object with "version", "name" and "uuid", without a checksum. Called when
         * it is this change's turn, when those before it are completed and thus in memory: memory's state
         * plus this change. It may find that the change does not fit any more; it must not call the store.
         */
        int (*format)(void *userdata, char **ret, size_t *ret_len, Error **reterr);

        /* NULL, or work in the child before the document is written, as for linking files into the folder
         * (record_fd()). Returns a negative errno. It runs in a fork: nothing that it does to memory stays.
         */
        int (*work)(void *userdata);

        /* Exactly once, if record_commit() or record_write() returned 0: with 0 the change is on disk, and
         * this is where it is applied to memory. With an error it is not, and memory is not touched:
         * ERROR_IO, ERROR_NO_SPACE, ERROR_TIMEOUT, ERROR_CANCELED (removed or freed first), or what format
         * said. */
        void (*done)(void *userdata, int r, const Error *error);
} RecordChange;

/* A draft: makes the folder ".new-UUID" (mode 0700) at once. `object` is passed to type->format. */
int record_new(RecordStore *s, const char *uuid, void *object, Record **ret, Error **reterr);
void record_set_object(Record *r, void *object); /* for type->load */

/* For drafts: cleans up, by a child that is awaited (see record_remove()). For stored records: only forgets,
 * what is on disk stays. Changes under way are completed with ERROR_CANCELED before it returns. */
Record *record_free(Record *r);
DEFINE_CLEANUP(Record *, record_free);

int record_fd(const Record *r);             /* the folder, borrowed; drafts only, else -EBADF */
const char *record_folder(const Record *r); /* in the store's: ".new-UUID", "web", UUID */

/* The draft becomes stored: `work`, the document, the folder's final name, all durable. `name` is needed
 * where folder_is_name (NULL else); the store holds it taken until the folder is there or certainly is not.
 * Fails at once, calling nobody, or returns 0 and calls change->done. After a failure the draft can only be
 * freed. */
int record_commit(Record *r, RecordName *name, const RecordChange *change, void *userdata, Error **reterr);

/* Changes a stored record's document. Changes queue behind each other and have each its own result. Fails at
 * once, calling nobody, or returns 0 and calls change->done. ERROR_BUSY: RECORD_CHANGES_MAX are waiting;
 * ERROR_INVALID_STATE: a draft. */
int record_write(Record *r, const RecordChange *change, void *userdata, Error **reterr);
bool record_is_changing(const Record *r); /* some change is not completed yet */

/* The folder loses its name in this call, and changes are completed with ERROR_CANCELED; then the files are
 * deleted by a child, and `done` (or NULL) is told. On success *r is taken over and NULL; a failure leaves
 * all as it was. Drafts too. The RecordName is not touched. When deleting fails this is logged, and the next
 * instance tries again. */
int record_remove(Record **r, waiter_t done, void *userdata, Error **reterr);
