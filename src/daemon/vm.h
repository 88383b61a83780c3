/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM: its record, the QEMU that runs for it, if any, and the one operation that is under way.
 *
 * What state a VM is in is never stored but derived (vm_state()), from the process, what QMP says of it, and
 * the operation. The files vm-create.c, vm-start.c, vm-stop.c, vm-run.c and vm-remove.c each hold one
 * operation. */

#include "host.h"
#include "job.h"
#include "process.h"
#include "record-store.h"
#include "spec/vm-record.h"
#include "systemd.h"
#include "waiters.h"

typedef struct Manager Manager;
typedef struct Vm Vm;
typedef struct VmCreate VmCreate;
typedef struct VmStart VmStart;
typedef struct VmStop VmStop;
typedef struct VmRemoval VmRemoval;
typedef struct VmSave VmSave;
typedef struct VmGuest VmGuest;

typedef enum VmState {
        VM_PREPARING,
        VM_PREPARED,
        VM_STARTING,
        VM_RUNNING,
        VM_SUSPENDED,
        VM_STOPPING,
        VM_STOPPED,
        VM_FAILED,
        _VM_STATE_MAX,
        _VM_STATE_INVALID = -EINVAL,
} VmState;
DECLARE_STRING_TABLE(vm_state, VmState);

typedef enum VmFailure {
        VM_FAILURE_NONE,
        VM_FAILURE_EXIT_CODE,
        VM_FAILURE_SIGNAL,
        VM_FAILURE_OOM,
        VM_FAILURE_GUEST_PANIC,
        VM_FAILURE_INTERNAL_ERROR,
        VM_FAILURE_TIMEOUT,
        VM_FAILURE_QMP,
        _VM_FAILURE_MAX,
        _VM_FAILURE_INVALID = -EINVAL,
} VmFailure;
DECLARE_STRING_TABLE(vm_failure, VmFailure);

/* What changed, for whoever tells clients. */
typedef enum VmChange {
        VM_CHANGE_STATE = 1 << 0,   /* state, failure, times */
        VM_CHANGE_PROCESS = 1 << 1, /* PID, attachment, sockets, accelerator */
        VM_CHANGE_QMP = 1 << 2,     /* run state */
        VM_CHANGE_SPEC = 1 << 3,
        VM_CHANGE_COUNTERS = 1 << 4, /* resets, I/O errors, reason of the shutdown */
        VM_CHANGE_WARNINGS = 1 << 5,
        VM_CHANGE_PROVISION = 1 << 6,
} VmChange;

/* Something that QEMU reported, with up to four details. */
typedef struct VmEventField {
        const char *key;
        const char *string; /* or NULL, then `boolean` counts */
        bool boolean;
} VmEventField;
#define VM_EVENT_FIELDS_MAX 4
typedef struct VmEvent {
        const char *name;
        VmEventField fields[VM_EVENT_FIELDS_MAX]; /* up to the first without a key */
} VmEvent;

struct Vm {
        Manager *manager; /* borrowed */
        VmRecord record;
        RecordName *taken; /* owned */
        Record *stored;    /* owned: the folder */
        char *unit;        /* name of the scope */

        Process *process; /* owned; NULL while there is no QEMU */
        char *status;     /* QMP's run state; NULL: not known yet */
        bool came_up;     /* QMP has said that it runs */
        bool ending;      /* somebody asked for the process's end */
        bool kvm;
        bool unattached; /* it may run, in its scope, but could not be taken over */
        bool panicked, internal_error;
        ScopeWatch *scope_watch; /* owned; there while the scope may exist */
        sd_event_source *linger; /* owned; for a process that was killed and does not go */

        VmCreate *create; /* owned; at most one of these four at a time */
        VmStart *start;
        VmStop *stop;
        VmRemoval *removal;
        VmSave *save;    /* owned; vm.json being written */
        VmGuest *guests; /* owned; jobs in the guest */
        Waiters *gone;   /* owned; those who wait for the process's end */

        VmState announced;
        VmChange changes; /* not yet told */
        bool ever_started;
        VmFailure failure;
        char *failure_message;
        uint64_t started_at, state_changed_at; /* usec, CLOCK_REALTIME */
        char *shutdown_reason;
        uint32_t resets, io_errors;
        char **warnings;
};

/* A VM of this record, which is taken over (also on failure). */
int vm_new(Manager *manager, VmRecord *record, Vm **ret);
Vm *vm_free(Vm *vm);
DEFINE_CLEANUP(Vm *, vm_free);

VmState vm_state(const Vm *vm);
static inline const char *vm_name(const Vm *vm) {
        return vm->record.name;
}

/* Notes what changed and has it told at the end of this turn of the loop; vm_flush() tells it now, so that a
 * client hears of a change before it gets the reply to the call that caused it. */
void vm_changed(Vm *vm, VmChange what);
void vm_flush(Vm *vm);
void vm_set_failure(Vm *vm, VmFailure failure, const char *message);
int vm_warn(Vm *vm, const char *format, ...) _printf_(2, 3); /* log once and keep for clients */

/* The folder of the VM: "state_dir/vms/NAME/FILE"; `file` NULL: the folder. Of its sockets:
 * "runtime_dir/NAME/FILE". The caller frees the result; NULL when memory is short. */
char *vm_path(const Vm *vm, const char *file);
char *vm_runtime_path(const Vm *vm, const char *file);

/* The operations. Each either fails with a negative errno and an error, and then calls nobody, or returns 0
 * and calls `done` exactly once, possibly before it returns. `done` may be NULL. What is the case already is
 * a success. */
int vm_start(Vm *vm, waiter_t done, void *userdata, Error **reterr);
int vm_kill(Vm *vm, waiter_t done, void *userdata, Error **reterr);
int vm_remove(Vm *vm, waiter_t done, void *userdata, Error **reterr);
int vm_suspend(Vm *vm, waiter_t done, void *userdata, Error **reterr);
int vm_resume(Vm *vm, waiter_t done, void *userdata, Error **reterr);
int vm_reset(Vm *vm, waiter_t done, void *userdata, Error **reterr);

/* The graceful one is a job. timeout_usec 0: the default. */
int vm_stop(Vm *vm, uint64_t timeout_usec, uint32_t *ret_job, Error **reterr);

/* `spec` is the whole new definition, taken over on success; `done` is called when it is on disk and, for
 * limits of a running VM, in force. */
int vm_update(Vm *vm, VmSpec *spec, waiter_t done, void *userdata, Error **reterr);

/* Making a VM: takes record->name, owner and spec as asked for (taken over, also on failure) and the
 * descriptors (borrowed; -EBADF: not given); hands out the rest. The VM exists at once, preparing; when
 * making it fails it is removed again before `done` is called. */
int vm_create(Manager *manager, VmRecord *record, const int files[static _VM_FILE_MAX], waiter_t done,
                void *userdata, Error **reterr);

/* The same as a job, with an image that is pulled first. */
typedef struct PullOptions PullOptions;
int vm_create_from_url(Manager *manager, VmRecord *record, const int files[static _VM_FILE_MAX],
                const PullOptions *options, Job **ret, Error **reterr);

/* Takes over what an earlier instance of the service left running (vm-attach.c): once for each VM, at
 * start-up, with the monitor's descriptor out of the store (taken over; -EBADF: there is none), and what PID
 * 1 says of the VM's scope. A failure is this VM's alone, and shown there. */
typedef enum VmScope { VM_SCOPE_NONE, VM_SCOPE_THERE, VM_SCOPE_UNKNOWN } VmScope;
void vm_attach(Vm *vm, int monitor_fd, VmScope scope);

/* For the operations among each other. */
void vm_start_executed(VmStart *s);
void vm_start_scope_free(VmStart *s);
void vm_start_scope_in_use(VmStart *s, pid_t pid, const char *command);
void vm_start_monitor_closed(VmStart *s);
void vm_start_fail(VmStart *s, const Error *error); /* ends the process, if there is one, then tells */
void vm_start_process_ended(VmStart *s, const ProcessEnd *end);
VmStart *vm_start_free(VmStart *s);

VmStop *vm_stop_free(VmStop *s);
void vm_stop_finished(Vm *vm);                        /* the process has ended */
int vm_stop_continue(Vm *vm, uint64_t deadline_usec); /* after a restart of the service; CLOCK_MONOTONIC */
uint64_t vm_stop_deadline(const VmStop *s);

VmCreate *vm_create_free(VmCreate *c);
void vm_create_cancel(Vm *vm);
VmRemoval *vm_removal_free(VmRemoval *r);
void vm_removal_scope_free(VmRemoval *r);

void vm_scope_removed(Vm *vm); /* the scope's name is free again */
void vm_scope_in_use(Vm *vm, pid_t pid, const char *command);
void vm_end_process(Vm *vm);                     /* SIGKILL; its end is reported as any other */
int vm_save_run_state(Vm *vm);                   /* what a restarted service must know of the process */
void vm_save_end(Vm *vm);                        /* ... and of its end */
void vm_note_status(Vm *vm, const char *status); /* QMP's run state, as it becomes known */
void vm_query_status(Vm *vm);
int vm_set_not_attached(const Vm *vm, Error **reterr); /* why QEMU cannot be asked now */
int vm_save(Vm *vm, waiter_t done, void *userdata);    /* vm.json, durably, without blocking */
VmSave *vm_save_free(VmSave *s);
char *vm_last_words(const Vm *vm); /* what QEMU said last on its standard error, one line; NULL: nothing */

extern const ProcessHandlers vm_process_handlers; /* vm-run.c; userdata is the Vm */
