/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* Everything that takes more than a turn of the loop. An operation is bound to who asked for it and to what
 * it is about, by the UUID: names may stand for something else by the time it goes on. What may run beside
 * what on one object is one table (operation.c).
 *
 * It lives from operation_new() until the turn of the loop after its one completion. A type of operation is
 * a struct that begins with an Operation, with an enum of its steps; callbacks store what they got and call
 * its step(), which alone moves on and, at the end, calls operation_complete(). To cancel is to ask: the
 * operation undoes what it did, waits for its children and for what runs for it, and completes. So nothing
 * that a waiter holds is ever freed by a cancel. */

#include <systemd/sd-event.h>

#include "accounts.h"
#include "job.h"
#include "log-share.h"
#include "waiters.h"

typedef struct Operation Operation;

typedef enum OperationKind {
        OPERATION_CREATE, /* of VMs: all that a client asks for at once: pull, make, start */
        OPERATION_MAKE,   /* its files and record */
        OPERATION_START,
        OPERATION_STOP,
        OPERATION_KILL,
        OPERATION_REMOVE,
        OPERATION_UPDATE,
        OPERATION_COMMAND, /* one that QEMU carries out at once: suspend, resume, reset */
        OPERATION_WAIT_READY,
        OPERATION_PROVISION,
        OPERATION_PULL, /* of images */
        OPERATION_IMPORT,
        OPERATION_EXPORT,
        OPERATION_INSPECT,
        OPERATION_IMAGE_CHANGE, /* its name, or whom it is for */
        OPERATION_IMAGE_REMOVE,
        _OPERATION_KIND_MAX,
        _OPERATION_KIND_INVALID = -EINVAL,
} OperationKind;
DECLARE_STRING_TABLE(operation_kind, OperationKind); /* as Job.Kind: "stop" */

typedef struct OperationHooks {
        JobHooks job;
        void (*flush)(void *userdata); /* the end of a turn of the loop, before ends of jobs are told; or
                                          NULL */
} OperationHooks;

typedef struct OperationType {
        OperationKind kind;
        size_t size; /* of the struct that begins with an Operation */

        /* Undo, and complete when that is done, perhaps at once, with op->reason as the error. Called once;
         * the children are canceled after it, and while any of them is left the operation must wait. False:
         * it has passed its point of no return, and is not canceled. NULL: it never can be. */
        bool (*cancel)(Operation *op);

        /* Frees the contents, never the struct. Nothing of it may run any more. May be NULL. */
        void (*done)(Operation *op);
} OperationType;

/* All that are under way, with their jobs. */
typedef struct Operations {
        sd_event *event;    /* borrowed */
        Accounts *accounts; /* borrowed */
        Jobs jobs;
        Operation *running;     /* owned */
        Operation *ended;       /* owned: completed, to be freed */
        sd_event_source *flush; /* at the end of a turn of the loop */
        LogShare *log_share;    /* owned */
        const OperationHooks *hooks;
        void *userdata;
} Operations;

struct Operation {
        const OperationType *type;
        Operations *operations; /* borrowed */
        uid_t requester;

        JobTarget target;
        char *target_name; /* as it was then, for people */
        char *target_uuid; /* NULL: it is not there yet */
        uid_t target_owner;

        Operation *parent; /* borrowed, and alive until we have completed; NULL: nobody's part */
        unsigned n_children;

        Job *job;         /* as clients see it; NULL: they do not */
        Waiters *parts;   /* owned: other operations that wait for it */
        Waiters *clients; /* owned: those outside that do, and are told of the service's end, too */
        Charge charge;
        Charge *joined; /* owned: those of who asked for the same later */
        size_t n_joined;
        sd_event_source *deadline; /* owned */
        const char *late;          /* static: why it is canceled when that has passed */
        Error *reason;             /* owned: why it was canceled */
        bool canceled, completed;
        Operation *next;
};

typedef struct OperationSpec {
        uid_t requester;
        JobTarget target;
        const char *target_name;
        const char *target_uuid; /* NULL: not there yet */
        uid_t target_owner;
        Operation *parent;     /* or NULL. A part is not charged: the whole is. */
        uint64_t timeout_usec; /* 0: none. When it is over, the operation is canceled with `late`. */
        const char *late;      /* static: what the error says then */
} OperationSpec;

int operations_init(Operations *o, sd_event *event, Accounts *accounts, const OperationHooks *hooks,
                void *userdata);

/* The service ends: the clients that wait are told `why`, other operations are not. What is under way is
 * left as a crash would leave it, for the next start to take up. */
void operations_end(Operations *o, const Error *why);
void operations_done(Operations *o); /* after that */

/* Asks the table whether an operation of this kind may begin on an object. 0: it may, and what it supersedes
 * was canceled (and may still be on its way to its end). 1: one of the same kind is under way that does
 * what is wanted: join *ret by operation_wait(). ERROR_INVALID_STATE, ERROR_BUSY: it may not. */
int operation_admit(Operations *o, OperationKind kind, const char *target_uuid, const char *target_name,
                Operation **ret, Error **reterr);

/* A new one, zeroed behind the base; charged to the requester, who may have too many (ERROR_QUOTA_EXCEEDED).
 * Clients do not see it before operation_announce(), so what fails until then can simply be completed. */
int operation_new(Operations *o, const OperationType *type, const OperationSpec *spec, Operation **ret,
                Error **reterr);

/* Shows it to clients, as a job. */
int operation_announce(Operation *op, Error **reterr);

/* From now on, in place of one that it has: see OperationSpec. */
int operation_set_deadline(Operation *op, uint64_t timeout_usec, const char *late);

/* How far it is, in its own job or that of what it is a part of. */
void operation_set_progress(const Operation *op, const JobProgress *p);

/* Has `done` called at its completion, exactly once, in the order of the calls, those of operations first.
 * asked_by: the operation that waits, which is not told when the service ends; NULL: a client, who is. A
 * NULL `done` is nobody. */
int operation_wait(Operation *op, const Operation *asked_by, waiter_t done, void *userdata, Error **reterr);

/* The same for another client, who asks for what is under way: they hear of its job's end, too, and are
 * charged as for one of their own (ERROR_QUOTA_EXCEEDED). */
int operation_join(Operation *op, uid_t requester, waiter_t done, void *userdata, Error **reterr);

/* Asks it to end early. `why` is copied: what its waiters hear if it does. False: it has ended, is
 * being canceled already, or cannot be. */
bool operation_cancel(Operation *op, const Error *why);
bool operation_cancel_for(Operation *op, ErrorCode code, const char *format, ...) _printf_(3, 4);

/* The one completion: tells waiters and clients. `error` NULL: it is done. No child may be left. The
 * operation is out of all lists when the waiters hear, and freed at the end of the turn. */
void operation_complete(Operation *op, const Error *error);

/* The same for what has failed: also where memory was short for the error (NULL). */
void operation_fail(Operation *op, const Error *error);

/* One that did not begin after all, for the reason in *why (`why` may be NULL): nobody who waits for it is
 * told, that is the caller's to do. */
void operation_drop(Operation *op, Error *const *why);

/* The first that is under way for this object, of one of the kinds in the mask (1U << kind). */
Operation *operation_find(const Operations *o, const char *target_uuid, uint32_t kinds);

/* Has those that are about an object, and can be, canceled; of the kinds in the mask. */
void operations_cancel(Operations *o, const char *target_uuid, uint32_t kinds, const Error *why);

void operations_collect(Operations *o); /* frees what has completed */

/* Has the flush come at the end of this turn of the loop. */
void operations_schedule_flush(Operations *o);
