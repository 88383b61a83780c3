/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* A VM: its record, the QEMU that runs for it, if any, and the operations that are under way.
 *
 * What state a VM is in is never stored but derived (vm_state()), from the process, what QMP says of it, and
 * the operations. The files vm-make.c, vm-start.c, vm-stop.c, vm-command.c, vm-update.c, vm-guest.c and
 * vm-remove.c each hold one kind of operation or two, creation.c the whole that a client asks for at once.
 */

#include "core/record-store.h"
#include "core/waiters.h"
#include "host/systemd.h"
#include "manager.h"
#include "process.h"
#include "spec/vm-record.h"
#include "util/log.h"

/* From SIGKILL until whoever waits for the end hears that there is none. A process that is killed ends
 * within seconds, also one of much memory, or else hangs in the kernel. Below the 25 s of D-Bus clients. */
#define VM_END_TIMEOUT (20 * USEC_PER_SEC)

typedef struct Vm Vm;
typedef struct VmMake VmMake;
typedef struct VmStart VmStart;
typedef struct VmStop VmStop;
typedef struct VmRemoval VmRemoval;

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
DECLARE_STRING_TABLE(network_backend, NetworkBackend);

/* A name that is taken for a VM, and its place among its owner's. {} is none. */
typedef struct VmPlace {
        RecordName *name;
        Charge charge;
} VmPlace;

struct Vm {
        Manager *manager; /* borrowed */
        VmRecord record;  /* as it is on disk */
        Record *stored;   /* owned: its folder; NULL: it is not made yet, or not there any more */
        VmPlace place;    /* owned */
        Charge port;      /* that the SSH port is charged for */
        char *unit;       /* name of the scope */

        Process *process; /* owned; NULL while there is no QEMU */
        char *status;     /* QMP's run state; NULL: not known yet */
        bool came_up;     /* QMP has said that it runs */
        bool ending;      /* somebody asked for the process's end */
        bool killed;      /* and QEMU has its SIGKILL */
        bool kvm;
        NetworkBackend network;
        bool limits_changing; /* PID 1 may have others than the record */
        bool unattached;      /* it may run, in its scope, but could not be taken over */
        bool panicked, internal_error;
        ScopeWatch *scope_watch; /* owned; there while the scope may exist */
        pid_t left_session;      /* of the last run, of which there may be processes in the scope; 0: none */
        sd_event_source *linger; /* owned; for a process that was killed and does not go */

        VmMake *make; /* borrowed, as these are: under way, or NULL; they have ended before the VM goes */
        VmStart *start;
        VmStop *stop;
        VmRemoval *removal;
        Operation *kill;

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

void vm_place_done(VmPlace *place); /* gives both back */

/* A VM of this record, in this place; both are taken over (also on failure). */
int vm_new(Manager *manager, VmRecord *record, VmPlace *place, Vm **ret);
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

/* To the journal, with the fields that say which VM. message_id: one of message-ids.h, or NULL. */
LogSubject vm_log_subject(const Vm *vm, const char *message_id);
#define vm_log(level, vm, message_id, ...)                                  \
        do {                                                                \
                const LogSubject subject_ = vm_log_subject(vm, message_id); \
                log_at(level, &subject_, __VA_ARGS__);                      \
        } while (false)
/* ... and kept for clients, once */
int vm_warn(Vm *vm, const char *message_id, const char *format, ...) _printf_(3, 4);

/* The folder of the VM: "state_dir/vms/NAME/FILE"; `file` NULL: the folder. Of its sockets:
 * "runtime_dir/NAME/FILE". The caller frees the result; NULL when memory is short. */
char *vm_path(const Vm *vm, const char *file);
char *vm_runtime_path(const Vm *vm, const char *file);

/* The operations, each for whoever asked (their uid). Each either fails with a negative errno and an error,
 * and then calls nobody, or returns 0 and calls `done` exactly once, possibly before it returns. `done` may
 * be NULL. What is the case already is a success. */
int vm_start(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);
int vm_kill(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);
int vm_remove(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);
int vm_suspend(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);
int vm_resume(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);
int vm_reset(Vm *vm, uid_t requester, waiter_t done, void *userdata, Error **reterr);

/* A QMP command as text, for people who debug. `done` has the reply, as qmp_call_raw() does. */
int vm_qmp(Vm *vm, uid_t requester, const char *command, qmp_raw_reply_t done, void *userdata,
                Error **reterr);

/* The graceful one is a job. timeout_usec 0: the default. */
int vm_stop(Vm *vm, uid_t requester, uint64_t timeout_usec, Job **ret, Error **reterr);

/* Makes of the definition, as it is when this one's turn comes, what differs between `from` and `to` (taken
 * over, also on failure). `done` is called when that is on disk and, for limits of a running VM, in force;
 * what fails of these is neither. */
int vm_update(Vm *vm, uid_t requester, VmSpec *from, VmSpec *to, waiter_t done, void *userdata,
                Error **reterr);
bool vm_update_is_written(const Vm *vm); /* a change of the definition, at this moment */
int vm_update_continue(Vm *vm);          /* after a restart: PID 1 gets the limits that were written down */

/* Makes a VM: takes record->name, owner and spec as asked for (taken over, also on failure) and the
 * descriptors (borrowed; -EBADF: not given), and hands out the rest. It is in the index at once, preparing;
 * when making it fails it is gone again before `done` is called. With spec.start it is started, too: when
 * that fails, or is called off, the VM stays. */
int vm_create(Manager *manager, uid_t requester, VmRecord *record, const int files[static _VM_FILE_MAX],
                waiter_t done, void *userdata, Error **reterr);

/* The same as a job, with an image that is pulled first. The name is taken from now on. */
typedef struct PullOptions PullOptions;
int vm_create_from_url(Manager *manager, uid_t requester, VmRecord *record,
                const int files[static _VM_FILE_MAX], const PullOptions *options, Job **ret, Error **reterr);

/* Takes over what an earlier instance of the service left running (vm-attach.c): once for each VM, at
 * start-up, with the monitor's descriptor out of the store (taken over; -EBADF: there is none), and what PID
 * 1 says of the VM's scope. A failure is this VM's alone, and shown there. */
typedef enum VmScope { VM_SCOPE_NONE, VM_SCOPE_THERE, VM_SCOPE_UNKNOWN } VmScope;
void vm_attach(Vm *vm, int monitor_fd, VmScope scope);

/* For the operations among each other. */
OperationSpec vm_operation(const Vm *vm, uid_t requester, Operation *parent); /* one about this VM */
int vm_start_for(Vm *vm, uid_t requester, Operation *parent, waiter_t done, void *userdata, Error **reterr);
void vm_start_launched(VmStart *s);
void vm_start_executed(VmStart *s);
void vm_start_scope_free(VmStart *s);
void vm_start_updated(Manager *m, const char *uuid); /* what vm_update_is_written() told of is over */
void vm_start_scope_in_use(VmStart *s, pid_t pid, const char *command);
void vm_start_monitor_closed(VmStart *s);
void vm_start_fail(VmStart *s, const Error *error); /* ends the process, if there is one, then tells */
void vm_start_process_ended(VmStart *s, const ProcessEnd *end);

/* A step of the graceful stop, as run.json has it. */
typedef enum VmStopStep {
        VM_STOP_POWERDOWN, /* the guest was asked */
        VM_STOP_TERMINATE, /* QEMU has its SIGTERM */
        VM_STOP_KILL,
        _VM_STOP_STEP_MAX,
        _VM_STOP_STEP_INVALID = -EINVAL,
} VmStopStep;
DECLARE_STRING_TABLE(vm_stop_step, VmStopStep);
void vm_stop_finished(Vm *vm); /* the process has ended, and so do stop and kill */
int vm_stop_continue(Vm *vm, VmStopStep step, uint64_t deadline_usec); /* after a restart; CLOCK_MONOTONIC */
uint64_t vm_stop_deadline(const VmStop *s);
VmStopStep vm_stop_step(const VmStop *s);

/* Begins with the place (taken over on success) and the descriptors (borrowed); *ret is there until it is
 * made or `done` hears that it is not. */
int vm_make(Manager *m, Operation *parent, VmRecord *record, VmPlace *place,
                const int files[static _VM_FILE_MAX], waiter_t done, void *userdata, Vm **ret,
                Error **reterr);

/* Descriptors for files of a VM: copies, and their end. */
int vm_files_dup(const int files[static _VM_FILE_MAX], int ret[static _VM_FILE_MAX]);
void vm_files_close(int files[static _VM_FILE_MAX]);

void vm_removal_scope_free(VmRemoval *r);
void vm_removal_process_ended(VmRemoval *r);

void vm_commands_end(Vm *vm);  /* the process has ended: nobody answers any more */
void vm_scope_removed(Vm *vm); /* the scope's name is free again */
void vm_scope_in_use(Vm *vm, pid_t pid, const char *command); /* ... or cannot be made free */
void vm_end_process(Vm *vm);                                  /* SIGKILL; its end is reported as any other */
int vm_set_hangs(Vm *vm, Error **reterr);        /* ... which does not come; also as a warning */
int vm_save_run_state(Vm *vm);                   /* what a restarted service must know of the process */
void vm_save_end(Vm *vm);                        /* ... and of its end */
void vm_save(Vm *vm);                            /* whichever of them it is */
void vm_note_status(Vm *vm, const char *status); /* QMP's run state, as it becomes known */
void vm_query_status(Vm *vm);
int vm_set_not_attached(const Vm *vm, Error **reterr); /* why QEMU cannot be asked now */
void vm_passt_ended(Vm *vm);                           /* ... before QEMU */
char *vm_last_words(const Vm *vm); /* what QEMU said last on its standard error, one line; NULL: nothing */

extern const ProcessHandlers vm_process_handlers; /* vm-run.c; userdata is the Vm */
