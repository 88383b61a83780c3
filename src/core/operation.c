/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdarg.h>
#include <stdio.h>

#include "message-ids.h"
#include "operation.h"
#include "util/log.h"

static const char *const operation_kind_table[] = {
        [OPERATION_CREATE] = "create",
        [OPERATION_MAKE] = "make",
        [OPERATION_START] = "start",
        [OPERATION_STOP] = "stop",
        [OPERATION_KILL] = "kill",
        [OPERATION_REMOVE] = "destroy",
        [OPERATION_UPDATE] = "update",
        [OPERATION_COMMAND] = "command",
        [OPERATION_WAIT_READY] = "wait",
        [OPERATION_PROVISION] = "provision",
        [OPERATION_PULL] = "pull",
        [OPERATION_IMPORT] = "import",
        [OPERATION_EXPORT] = "export",
        [OPERATION_INSPECT] = "inspect",
        [OPERATION_IMAGE_CHANGE] = "change",
        [OPERATION_IMAGE_REMOVE] = "remove",
};
DEFINE_STRING_TABLE(operation_kind, OperationKind, _OPERATION_KIND_MAX);

/* For messages: "VM 'web' cannot be <done> while it is <doing>", "VM 'web' was <done> while it <did>". */
static const struct {
        const char *done, *doing, *did;
} words[_OPERATION_KIND_MAX] = {
        [OPERATION_CREATE] = { "created", "being created", "was created" },
        [OPERATION_MAKE] = { "created", "preparing", "was made" },
        [OPERATION_START] = { "started", "starting", "started" },
        [OPERATION_STOP] = { "stopped", "stopping", "stopped" },
        [OPERATION_KILL] = { "killed", "being killed", "was killed" },
        [OPERATION_REMOVE] = { "destroyed", "being destroyed", "was destroyed" },
        [OPERATION_UPDATE] = { "changed", "being changed", "was changed" },
        [OPERATION_COMMAND] = { "commanded", "carrying out a command", "carried out a command" },
        [OPERATION_WAIT_READY] = { "waited for", "being waited for", "was waited for" },
        [OPERATION_PROVISION] = { "provisioned", "being provisioned", "was provisioned" },
        [OPERATION_PULL] = { "pulled", "being pulled", "was pulled" },
        [OPERATION_IMPORT] = { "imported", "being imported", "was imported" },
        [OPERATION_EXPORT] = { "exported", "being exported", "was exported" },
        [OPERATION_INSPECT] = { "inspected", "being inspected", "was inspected" },
        [OPERATION_IMAGE_CHANGE] = { "changed", "being changed", "was changed" },
        [OPERATION_IMAGE_REMOVE] = { "removed", "being removed", "was removed" },
};

/* What happens to a new operation on an object for which another is under way. */
typedef enum Beside {
        RUN,       /* both go on */
        JOIN,      /* the new one is the other one */
        SUPERSEDE, /* the other one is called off; where it cannot be any more, both go on */
        REFUSE,    /* ERROR_INVALID_STATE */
        BUSY,      /* ERROR_BUSY: try again when the other one is over */
} Beside;

/* [the new one][the one that is there]; what is not mentioned runs beside. */
static const uint8_t beside[_OPERATION_KIND_MAX][_OPERATION_KIND_MAX] = {
        [OPERATION_START] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = JOIN,
                        [OPERATION_STOP] = REFUSE,
                        [OPERATION_KILL] = REFUSE,
                        [OPERATION_REMOVE] = REFUSE },
        [OPERATION_STOP] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = SUPERSEDE,
                        [OPERATION_STOP] = JOIN,
                        [OPERATION_REMOVE] = REFUSE },
        [OPERATION_KILL] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = SUPERSEDE,
                        [OPERATION_KILL] = JOIN },
        [OPERATION_REMOVE] = { [OPERATION_MAKE] = SUPERSEDE,
                        [OPERATION_START] = SUPERSEDE,
                        [OPERATION_REMOVE] = JOIN,
                        [OPERATION_WAIT_READY] = SUPERSEDE,
                        [OPERATION_PROVISION] = SUPERSEDE },
        [OPERATION_UPDATE] = { [OPERATION_MAKE] = REFUSE, [OPERATION_REMOVE] = REFUSE },
        [OPERATION_COMMAND] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = REFUSE,
                        [OPERATION_KILL] = REFUSE,
                        [OPERATION_REMOVE] = REFUSE },
        [OPERATION_WAIT_READY] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = REFUSE,
                        [OPERATION_STOP] = REFUSE,
                        [OPERATION_KILL] = REFUSE,
                        [OPERATION_REMOVE] = REFUSE },
        [OPERATION_PROVISION] = { [OPERATION_MAKE] = REFUSE,
                        [OPERATION_START] = REFUSE,
                        [OPERATION_STOP] = REFUSE,
                        [OPERATION_KILL] = REFUSE,
                        [OPERATION_REMOVE] = REFUSE,
                        [OPERATION_PROVISION] = BUSY },
        [OPERATION_EXPORT] = { [OPERATION_IMAGE_REMOVE] = REFUSE },
        [OPERATION_IMAGE_CHANGE] = { [OPERATION_IMAGE_CHANGE] = BUSY, [OPERATION_IMAGE_REMOVE] = REFUSE },
        [OPERATION_IMAGE_REMOVE] = { [OPERATION_IMAGE_CHANGE] = BUSY, [OPERATION_IMAGE_REMOVE] = JOIN },
};

static bool is_about(const Operation *op, const char *target_uuid) {
        return streq_ptr(op->target_uuid, target_uuid);
}

static const char *label(const Operation *op) {
        return op->target == JOB_TARGET_VM ? "VM" : "Image";
}

static int refuse(const Operation *other, OperationKind kind, const char *name, Error **reterr) {
        return error_set(reterr, beside[kind][other->type->kind] == BUSY ? ERROR_BUSY : ERROR_INVALID_STATE,
                        "%s '%s' cannot be %s while it is %s", label(other), name, words[kind].done,
                        words[other->type->kind].doing);
}

/* Whoever hears of an end may begin or end other operations, so the list is read anew after each. */
static void supersede(Operations *o, OperationKind kind, const char *target_uuid, const char *target_name) {
        bool again = true;

        while (again) {
                again = false;
                for (Operation *op = o->running; op && !again; op = op->next)
                        if (is_about(op, target_uuid) && beside[kind][op->type->kind] == SUPERSEDE)
                                again = operation_cancel_for(op, ERROR_CANCELED,
                                                "%s '%s' was %s while it %s", label(op), target_name,
                                                words[kind].done, words[op->type->kind].did);
        }
}

int operation_admit(Operations *o, OperationKind kind, const char *target_uuid, const char *target_name,
                Operation **ret, Error **reterr) {
        Operation *same = NULL;

        for (Operation *op = o->running; op; op = op->next) {
                if (!is_about(op, target_uuid))
                        continue;
                switch ((Beside)beside[kind][op->type->kind]) {
                case RUN:
                case SUPERSEDE:
                        break;
                case JOIN:
                        /* One that was called off ends, but not as it is wanted now. */
                        if (op->canceled)
                                return refuse(op, kind, target_name, reterr);
                        same = op;
                        break;
                case REFUSE:
                case BUSY:
                        return refuse(op, kind, target_name, reterr);
                }
        }
        if (same) {
                *ret = same;
                return 1;
        }
        supersede(o, kind, target_uuid, target_name);
        return 0;
}

static void release_charges(Operation *op) {
        charge_release(&op->charge);
        while (op->n_joined > 0)
                charge_release(&op->joined[--op->n_joined]);
}

/* The last thing that happens to it. */
static void operation_free(Operation *op) {
        assert(!op->job);
        sd_event_source_disable_unref(op->deadline);
        release_charges(op);
        free(op->joined);
        free(op->parts);
        free(op->clients);
        error_free(op->reason);
        free(op->target_name);
        free(op->target_uuid);
        free(op);
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        Operation *op = userdata;

        /* One that is being canceled keeps its reason. */
        (void)operation_cancel_for(op, ERROR_TIMEOUT, "%s", op->late);
        return 0;
}

int operation_set_deadline(Operation *op, uint64_t timeout_usec, const char *late) {
        op->late = late;
        op->deadline = sd_event_source_disable_unref(op->deadline);
        if (timeout_usec == 0)
                return 0;
        return sd_event_add_time_relative(op->operations->event, &op->deadline, CLOCK_MONOTONIC,
                        timeout_usec, 100 * USEC_PER_MSEC, on_deadline, op);
}

static int set_up(Operation *op, const OperationSpec *spec, Error **reterr) {
        int r;

        if (!spec->parent) {
                r = charge(op->operations->accounts, spec->requester, RESOURCE_OPERATIONS, 1, &op->charge,
                                reterr);
                if (r < 0)
                        return r;
        }
        r = free_and_strdup(&op->target_name, spec->target_name);
        if (r >= 0)
                r = free_and_strdup(&op->target_uuid, spec->target_uuid);
        if (r >= 0)
                r = operation_set_deadline(op, spec->timeout_usec, spec->late);
        return r < 0 ? error_set_errno(reterr, r, "There is no place for another operation") : 0;
}

int operation_new(Operations *o, const OperationType *type, const OperationSpec *spec, Operation **ret,
                Error **reterr) {
        Operation *op = calloc(1, type->size);
        int r;

        if (!op)
                return error_set_errno(reterr, -ENOMEM, "There is no place for another operation");
        *op = (Operation){
                .type = type,
                .operations = o,
                .requester = spec->requester,
                .target = spec->target,
                .target_owner = spec->target_owner,
        };
        r = set_up(op, spec, reterr);
        if (r < 0) {
                operation_free(op);
                return r;
        }
        op->parent = spec->parent;
        if (op->parent)
                op->parent->n_children++;
        op->next = o->running;
        o->running = op;
        *ret = op;
        return 0;
}

int operation_announce(Operation *op, Error **reterr) {
        const JobSpec spec = {
                .kind = operation_kind_to_string(op->type->kind),
                .target = op->target,
                .target_name = op->target_name,
                .owner = op->target_owner,
                .requester = op->requester,
                .operation = op,
        };
        int r = job_new(&op->operations->jobs, &spec, &op->job);

        return r < 0 ? error_set_errno(reterr, r, "There is no place for another job") : 0;
}

void operation_set_progress(const Operation *op, const JobProgress *p) {
        while (!op->job && op->parent)
                op = op->parent;
        job_set_progress(op->job, p);
}

int operation_wait(Operation *op, const Operation *asked_by, waiter_t done, void *userdata, Error **reterr) {
        int r;

        assert(!op->completed);
        r = waiters_add(asked_by ? &op->parts : &op->clients, done, userdata);
        return r < 0 ? error_set_errno(reterr, r, "There is no place for another who waits") : 0;
}

static int no_place_to_join(Error **reterr, int r) {
        return error_set_errno(reterr, r, "There is no place for another who asks for the same");
}

int operation_join(Operation *op, uid_t requester, waiter_t done, void *userdata, Error **reterr) {
        Charge *grown = reallocarray(op->joined, op->n_joined + 1, sizeof(Charge));
        _cleanup_charge_ Charge one = {};
        int r;

        if (!grown)
                return no_place_to_join(reterr, -ENOMEM);
        op->joined = grown;
        r = charge(op->operations->accounts, requester, RESOURCE_OPERATIONS, 1, &one, reterr);
        if (r < 0)
                return r;
        r = op->job ? job_join(op->job, requester) : 0;
        if (r < 0)
                return no_place_to_join(reterr, r);
        r = operation_wait(op, NULL, done, userdata, reterr);
        if (r >= 0)
                op->joined[op->n_joined++] = charge_take(&one);
        return r;
}

/* Whoever hears of an end may begin or end other operations, so the list is read anew after each. */
static void cancel_all(Operations *o, const Operation *parent, const char *target_uuid, uint32_t kinds,
                const Error *why) {
        bool again = true;

        while (again) {
                again = false;
                for (Operation *op = o->running; op && !again; op = op->next)
                        if (parent ? op->parent == parent
                                   : (kinds & 1U << op->type->kind) && is_about(op, target_uuid))
                                again = operation_cancel(op, why);
        }
}

bool operation_cancel(Operation *op, const Error *why) {
        if (op->completed || op->canceled || !op->type->cancel)
                return false;
        error_free(op->reason);
        op->reason = error_copy(why);
        op->canceled = true;
        if (!op->type->cancel(op)) {
                op->canceled = false;
                return false;
        }
        if (!op->completed)
                cancel_all(op->operations, op, NULL, 0, op->reason);
        return true;
}

bool operation_cancel_for(Operation *op, ErrorCode code, const char *format, ...) {
        _cleanup_error_ Error *why = NULL;
        _cleanup_free_ char *text = NULL;
        va_list ap;

        va_start(ap, format);
        if (vasprintf(&text, format, ap) < 0)
                text = NULL;
        va_end(ap);
        (void)error_set(&why, code, "%s", text ?: "It was canceled");
        return operation_cancel(op, why);
}

static void take_out(Operation *op) {
        for (Operation **p = &op->operations->running; *p; p = &(*p)->next)
                if (*p == op) {
                        *p = op->next;
                        return;
                }
}

static void end(Operation *op, int r, JobResult result, const Error *error) {
        Operations *o = op->operations;

        assert(!op->completed);
        assert(op->n_children == 0);
        op->completed = true;
        op->deadline = sd_event_source_disable_unref(op->deadline);
        release_charges(op);
        take_out(op);
        if (op->parent)
                op->parent->n_children--;
        op->job = job_finish(op->job, result, error);
        op->next = o->ended;
        o->ended = op;
        operations_schedule_flush(o);
        waiters_fire(&op->parts, r, error);
        waiters_fire(&op->clients, r, error);
}

/* Whether a reader of the journal is to know of it: what changes something that lasts, and each thing once.
 * A creation that has succeeded was told of by its parts. */
static bool is_news(const Operation *op, bool failed) {
        switch (op->type->kind) {
        case OPERATION_MAKE:
        case OPERATION_START:
                return !failed || !op->parent;
        case OPERATION_CREATE:
                return failed;
        case OPERATION_COMMAND:
        case OPERATION_WAIT_READY:
        case OPERATION_INSPECT:
                return false;
        default:
                return !op->parent;
        }
}

static const Job *job_of(const Operation *op) {
        while (!op->job && op->parent)
                op = op->parent;
        return op->job;
}

/* Nor is one user's news to be in the way of others'. */
static int level_of(const Operation *op, bool failed) {
        uint64_t now = 0;
        bool last;

        if (!is_news(op, failed))
                return LOG_DEBUG;
        (void)sd_event_now(op->operations->event, CLOCK_MONOTONIC, &now);
        if (!log_share_take(&op->operations->log_share, op->requester, now, &last))
                return LOG_DEBUG;
        if (last)
                log_notice("User %u had %i operations within %i s: the rest of them is left out",
                                (unsigned)op->requester, LOG_SHARE_MAX, LOG_SHARE_INTERVAL_SEC);
        return LOG_INFO;
}

static void log_end(const Operation *op, bool failed, const Error *error) {
        int level = level_of(op, failed);
        bool is_vm = op->target == JOB_TARGET_VM;
        const Job *job = job_of(op);
        const LogSubject subject = {
                .vm_name = is_vm ? op->target_name : NULL,
                .vm_uuid = is_vm ? op->target_uuid : NULL,
                .vm_owner = is_vm ? &op->target_owner : NULL,
                .job_id = job ? job->id : 0,
                .message_id = failed ? MESSAGE_OPERATION_FAILED : MESSAGE_OPERATION_DONE,
        };
        const char *done = words[op->type->kind].done, *what = is_vm ? "VM" : "Image";

        if (failed)
                log_at(level, &subject, "%s '%s' could not be %s for user %u: %s", what, op->target_name,
                                done, (unsigned)op->requester,
                                error ? error_message(error) : "out of memory");
        else
                log_at(level, &subject, "%s '%s' was %s for user %u", what, op->target_name, done,
                                (unsigned)op->requester);
}

static void end_failed(Operation *op, const Error *error) {
        end(op, error ? -error_code_errno(error_code(error)) : -ENOMEM,
                        error ? job_result_of(error) : JOB_FAILED, error);
}

void operation_complete(Operation *op, const Error *error) {
        if (error) {
                operation_fail(op, error);
                return;
        }
        log_end(op, false, NULL);
        end(op, 0, JOB_DONE, NULL);
}

void operation_fail(Operation *op, const Error *error) {
        log_end(op, true, error);
        end_failed(op, error);
}

void operation_drop(Operation *op, Error *const *why) {
        free(TAKE_PTR(op->parts));
        free(TAKE_PTR(op->clients));
        end_failed(op, why ? *why : NULL);
}

Operation *operation_find(const Operations *o, const char *target_uuid, uint32_t kinds) {
        for (Operation *op = o->running; op; op = op->next)
                if ((kinds & 1U << op->type->kind) && is_about(op, target_uuid))
                        return op;
        return NULL;
}

void operations_cancel(Operations *o, const char *target_uuid, uint32_t kinds, const Error *why) {
        cancel_all(o, NULL, target_uuid, kinds, why);
}

void operations_collect(Operations *o) {
        while (o->ended) {
                Operation *op = o->ended;

                o->ended = op->next;
                if (op->type->done)
                        op->type->done(op);
                operation_free(op);
        }
}

static int on_flush(sd_event_source *s, void *userdata) {
        Operations *o = userdata;

        if (o->hooks->flush)
                o->hooks->flush(o->userdata);
        jobs_collect(&o->jobs);
        operations_collect(o);
        return 0;
}

void operations_schedule_flush(Operations *o) {
        (void)sd_event_source_set_enabled(o->flush, SD_EVENT_ONESHOT);
}

/* The flush is there from the start, so that nothing that has changed stays untold where memory is short. */
int operations_init(Operations *o, sd_event *event, Accounts *accounts, const OperationHooks *hooks,
                void *userdata) {
        int r;

        *o = (Operations){
                .event = event,
                .accounts = accounts,
                .jobs = { .hooks = &hooks->job, .userdata = userdata },
                .hooks = hooks,
                .userdata = userdata,
        };
        r = sd_event_add_defer(event, &o->flush, on_flush, o);
        return r < 0 ? r : sd_event_source_set_enabled(o->flush, SD_EVENT_OFF);
}

/* A command to QEMU undoes nothing when it is called off, and whoever wants its answer hears of that. */
void operations_end(Operations *o, const Error *why) {
        for (Operation *op = o->running, *next; op; op = next) {
                next = op->next;
                waiters_fire(&op->clients, -error_code_errno(error_code(why)), why);
                if (op->type->kind == OPERATION_COMMAND)
                        (void)operation_cancel(op, why);
        }
}

void operations_done(Operations *o) {
        operations_collect(o);
        while (o->running) {
                Operation *op = o->running;

                o->running = op->next;
                op->job = NULL; /* it goes with all of them */
                if (op->type->done)
                        op->type->done(op);
                operation_free(op);
        }
        jobs_done(&o->jobs);
        o->flush = sd_event_source_disable_unref(o->flush);
        o->log_share = log_share_free(o->log_share);
}
