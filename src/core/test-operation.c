/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The base of all operations: one completion, parents and children, deadlines, charges, and the table of
 * what may be beside what. */
#include "fake.h"
#include "operation.h"
#include "util/test.h"

#define USER 1000
#define UUID "6f0c38a4-7f1c-4a3e-8f12-6e2f0d1d8b1a"

static sd_event *event;
static Operations o;
static Accounts *accounts;
static unsigned freed, finished;
static JobResult last_result;

static void on_job(void *userdata, Job *job) {
}
static void on_job_finished(void *userdata, Job *job) {
        finished++;
        last_result = job->result;
}
static const OperationHooks hooks = { .job = { on_job, on_job, on_job_finished } };

/* What a test operation does when it is asked to end. */
typedef enum Answer { AT_ONCE, LATER, NEVER } Answer;

typedef struct Probe {
        Operation op;
        Answer answer;
        unsigned asked;
} Probe;

static bool cancel(Operation *op) {
        Probe *p = (Probe *)op;

        p->asked++;
        if (p->answer == AT_ONCE)
                operation_fail(op, op->reason);
        return p->answer != NEVER;
}

static void done(Operation *op) {
        freed++;
}

static OperationType types[_OPERATION_KIND_MAX];

typedef struct Told {
        unsigned n;
        int r;
        ErrorCode code;
} Told;

static void on_told(void *userdata, int r, const Error *error) {
        Told *t = userdata;

        t->n++;
        t->r = r;
        t->code = error ? error_code(error) : 0;
}

static void turn(void) {
        while (sd_event_run(event, 0) > 0)
                ;
}

static void set_up(void) {
        static ResourceLimit limits[_RESOURCE_MAX];

        for (int i = 0; i < _RESOURCE_MAX; i++)
                limits[i] = (ResourceLimit){ 8, 64 };
        fake_reset(event);
        CHECK_EQ(accounts_new(limits, &accounts), 0);
        CHECK_EQ(operations_init(&o, event, accounts, &hooks, NULL), 0);
        freed = finished = 0;
        for (int i = 0; i < _OPERATION_KIND_MAX; i++)
                types[i] = (OperationType){ i, sizeof(Probe), cancel, done };
}

static void tear_down(void) {
        turn();
        CHECK(!o.running && !o.ended);
        CHECK_EQ(o.jobs.n, 0);
        CHECK_EQ(accounts_total(accounts, RESOURCE_OPERATIONS), 0);
        operations_done(&o);
        accounts_free(accounts);
}

static Probe *begin(OperationKind kind, Operation *parent, uint64_t timeout, Answer answer) {
        const OperationSpec spec = {
                .requester = USER,
                .target = JOB_TARGET_VM,
                .target_name = "web",
                .target_uuid = UUID,
                .target_owner = USER,
                .parent = parent,
                .timeout_usec = timeout,
                .late = "It took too long",
        };
        Operation *op;

        CHECK_EQ(operation_new(&o, &types[kind], &spec, &op, NULL), 0);
        ((Probe *)op)->answer = answer;
        return (Probe *)op;
}

static void test_completion(void) {
        Told first = {}, second = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_START, NULL, 0, LATER);
        CHECK_EQ(operation_announce(&p->op, NULL), 0);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &first, NULL), 0);
        CHECK_EQ(operation_join(&p->op, 7, on_told, &second, NULL), 0);
        CHECK(job_is_of(p->op.job, 7) && job_is_of(p->op.job, USER) && !job_is_of(p->op.job, 8));
        CHECK_EQ(accounts_used(accounts, USER, RESOURCE_OPERATIONS), 1);
        operation_complete(&p->op, NULL);
        CHECK_EQ(first.n + second.n, 2);
        CHECK_EQ(accounts_used(accounts, USER, RESOURCE_OPERATIONS), 0);
        CHECK_EQ(freed, 0); /* who is in the middle of it can still look at it */
        turn();
        CHECK_EQ(freed, 1);
        CHECK_EQ(finished, 1);
        CHECK_EQ(last_result, JOB_DONE);
        tear_down();
}

/* Whoever asks for the same as somebody, or as they themselves did, holds as much as if it were their own.
 */
static void test_joining_is_charged(void) {
        _cleanup_error_ Error *e = NULL;
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_START, NULL, 0, LATER);
        for (unsigned i = 0; i < 8; i++)
                CHECK_EQ(operation_join(&p->op, 7, on_told, &told, NULL), 0);
        CHECK_EQ(operation_join(&p->op, 7, on_told, &told, &e), -EDQUOT);
        CHECK_EQ(error_code(e), ERROR_QUOTA_EXCEEDED);
        CHECK_EQ(operation_join(&p->op, USER, on_told, &told, NULL), 0);
        CHECK_EQ(accounts_used(accounts, USER, RESOURCE_OPERATIONS), 2);
        CHECK_EQ(accounts_used(accounts, 7, RESOURCE_OPERATIONS), 8);
        operation_complete(&p->op, NULL);
        CHECK_EQ(told.n, 9);
        CHECK_EQ(accounts_total(accounts, RESOURCE_OPERATIONS), 0);
        p = begin(OPERATION_START, NULL, 0, LATER);
        CHECK_EQ(operation_join(&p->op, 7, on_told, &told, NULL), 0);
        operation_drop(&p->op, NULL);
        CHECK_EQ(told.n, 9);
        tear_down();
}

/* Also when memory was short for the error itself. */
static void test_failure_without_error(void) {
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_START, NULL, 0, LATER);
        CHECK_EQ(operation_announce(&p->op, NULL), 0);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &told, NULL), 0);
        operation_fail(&p->op, NULL);
        CHECK_EQ(told.n, 1);
        CHECK_EQ(told.r, -ENOMEM);
        turn();
        CHECK_EQ(last_result, JOB_FAILED);
        tear_down();
}

static void test_drop(void) {
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_START, NULL, 0, LATER);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &told, NULL), 0);
        operation_drop(&p->op, NULL);
        turn();
        CHECK_EQ(told.n, 0);
        CHECK_EQ(freed, 1);
        tear_down();
}

/* A cancel is a question: the end comes when the operation is at its end. It is asked once. */
static void test_cancel(void) {
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_START, NULL, 0, LATER);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &told, NULL), 0);
        CHECK(operation_cancel_for(&p->op, ERROR_CANCELED, "No more of %s", "it"));
        CHECK(!operation_cancel_for(&p->op, ERROR_CANCELED, "Once more"));
        turn();
        CHECK_EQ(told.n, 0);
        CHECK_EQ(p->asked, 1);
        CHECK_STREQ(error_message(p->op.reason), "No more of it");
        operation_fail(&p->op, p->op.reason);
        CHECK_EQ(told.n, 1);
        CHECK_EQ(told.code, ERROR_CANCELED);
        CHECK(!operation_cancel_for(&p->op, ERROR_CANCELED, "Too late"));

        p = begin(OPERATION_START, NULL, 0, NEVER);
        CHECK(!operation_cancel_for(&p->op, ERROR_CANCELED, "It cannot be"));
        CHECK(!p->op.canceled);
        operation_complete(&p->op, NULL);
        tear_down();
}

/* A part is not charged, goes with the whole, and the whole ends after it. */
static void test_parts(void) {
        Probe *whole, *part, *other;
        Told told = {};

        set_up();
        whole = begin(OPERATION_CREATE, NULL, 0, LATER);
        part = begin(OPERATION_MAKE, &whole->op, 0, LATER);
        other = begin(OPERATION_START, &whole->op, 0, AT_ONCE);
        CHECK_EQ(operation_wait(&other->op, NULL, on_told, &told, NULL), 0);
        CHECK_EQ(accounts_used(accounts, USER, RESOURCE_OPERATIONS), 1);
        CHECK_EQ(whole->op.n_children, 2);
        CHECK(operation_cancel_for(&whole->op, ERROR_CANCELED, "All of it"));
        CHECK_EQ(part->asked, 1);
        CHECK_EQ(told.n, 1);
        CHECK_EQ(whole->op.n_children, 1);
        operation_fail(&part->op, part->op.reason);
        CHECK_EQ(whole->op.n_children, 0);
        operation_fail(&whole->op, whole->op.reason);
        tear_down();
}

static void test_deadline(void) {
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_PULL, NULL, USEC_PER_SEC, AT_ONCE);
        CHECK_EQ(operation_announce(&p->op, NULL), 0);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &told, NULL), 0);
        turn();
        CHECK_EQ(told.n, 0);
        CHECK(fake_pass_deadline());
        CHECK_EQ(told.n, 1);
        CHECK_EQ(told.code, ERROR_TIMEOUT);
        turn();
        CHECK_EQ(last_result, JOB_TIMEOUT);
        tear_down();
}

/* The deadline of one that is on its way to its end changes nothing: waiters hear why it was canceled. */
static void test_deadline_of_a_canceled_one(void) {
        Told told = {};
        Probe *p;

        set_up();
        p = begin(OPERATION_PULL, NULL, USEC_PER_SEC, LATER);
        CHECK_EQ(operation_announce(&p->op, NULL), 0);
        CHECK_EQ(operation_wait(&p->op, NULL, on_told, &told, NULL), 0);
        CHECK(operation_cancel_for(&p->op, ERROR_CANCELED, "It was canceled"));
        CHECK(fake_pass_deadline());
        CHECK_EQ(p->asked, 1);
        operation_fail(&p->op, p->op.reason);
        CHECK_EQ(told.code, ERROR_CANCELED);
        turn();
        CHECK_EQ(last_result, JOB_CANCELED);
        tear_down();
}

static void test_quota(void) {
        const OperationSpec spec = { .requester = USER, .target_name = "web" };
        _cleanup_error_ Error *e = NULL;
        Operation *all[9];

        set_up();
        for (size_t i = 0; i < 8; i++)
                CHECK_EQ(operation_new(&o, &types[OPERATION_PULL], &spec, &all[i], NULL), 0);
        CHECK(operation_new(&o, &types[OPERATION_PULL], &spec, &all[8], &e) < 0);
        CHECK_EQ(error_code(e), ERROR_QUOTA_EXCEEDED);
        for (size_t i = 0; i < 8; i++)
                operation_complete(all[i], NULL);
        tear_down();
}

/* --- The table, as it is told to users: what happens to the second when the first is under way */

typedef enum Outcome { RUNS, JOINS, CALLS_OFF, IS_REFUSED, IS_BUSY } Outcome;

static const struct {
        OperationKind there, new;
        Outcome outcome;
        const char *message;
} meetings[] = {
        { OPERATION_START, OPERATION_START, JOINS, NULL },
        { OPERATION_STOP, OPERATION_START, IS_REFUSED, "VM 'web' cannot be started while it is stopping" },
        { OPERATION_REMOVE, OPERATION_START, IS_REFUSED,
                        "VM 'web' cannot be started while it is being destroyed" },
        { OPERATION_MAKE, OPERATION_START, IS_REFUSED, "VM 'web' cannot be started while it is preparing" },
        { OPERATION_UPDATE, OPERATION_START, RUNS, NULL },
        { OPERATION_START, OPERATION_STOP, CALLS_OFF, "VM 'web' was stopped while it started" },
        { OPERATION_STOP, OPERATION_STOP, JOINS, NULL },
        { OPERATION_KILL, OPERATION_STOP, RUNS, NULL },
        { OPERATION_REMOVE, OPERATION_STOP, IS_REFUSED,
                        "VM 'web' cannot be stopped while it is being destroyed" },
        { OPERATION_START, OPERATION_KILL, CALLS_OFF, "VM 'web' was killed while it started" },
        { OPERATION_STOP, OPERATION_KILL, RUNS, NULL },
        { OPERATION_KILL, OPERATION_KILL, JOINS, NULL },
        { OPERATION_MAKE, OPERATION_REMOVE, CALLS_OFF, "VM 'web' was destroyed while it was made" },
        { OPERATION_START, OPERATION_REMOVE, CALLS_OFF, "VM 'web' was destroyed while it started" },
        { OPERATION_PROVISION, OPERATION_REMOVE, CALLS_OFF,
                        "VM 'web' was destroyed while it was provisioned" },
        { OPERATION_STOP, OPERATION_REMOVE, RUNS, NULL },
        { OPERATION_REMOVE, OPERATION_REMOVE, JOINS, NULL },
        { OPERATION_UPDATE, OPERATION_UPDATE, RUNS, NULL },
        { OPERATION_REMOVE, OPERATION_UPDATE, IS_REFUSED,
                        "VM 'web' cannot be changed while it is being destroyed" },
        { OPERATION_START, OPERATION_COMMAND, IS_REFUSED,
                        "VM 'web' cannot be commanded while it is starting" },
        { OPERATION_WAIT_READY, OPERATION_WAIT_READY, RUNS, NULL },
        { OPERATION_PROVISION, OPERATION_PROVISION, IS_BUSY,
                        "VM 'web' cannot be provisioned while it is being provisioned" },
};

static void test_meetings(void) {
        for (size_t i = 0; i < ELEMENTSOF(meetings); i++) {
                Outcome outcome = meetings[i].outcome;
                _cleanup_error_ Error *e = NULL;
                Operation *same = NULL;
                Probe *there;
                int r;

                set_up();
                there = begin(meetings[i].there, NULL, 0, LATER);
                r = operation_admit(&o, meetings[i].new, UUID, "web", &same, &e);
                CHECK_EQ(r > 0, outcome == JOINS);
                CHECK_EQ(r < 0, outcome == IS_REFUSED || outcome == IS_BUSY);
                if (outcome == JOINS)
                        CHECK(same == &there->op);
                if (r < 0) {
                        CHECK_STREQ(error_message(e), meetings[i].message);
                        CHECK_EQ(error_code(e), outcome == IS_BUSY ? ERROR_BUSY : ERROR_INVALID_STATE);
                }
                CHECK_EQ(there->op.canceled, outcome == CALLS_OFF);
                if (outcome == CALLS_OFF)
                        CHECK_STREQ(error_message(there->op.reason), meetings[i].message);

                /* Another VM is another matter. */
                CHECK_EQ(operation_admit(&o, meetings[i].new, "another", "db", &same, NULL), 0);
                operation_complete(&there->op, NULL);
                tear_down();
        }
}

/* One that was called off does not do any more what a second one wants. */
static void test_join_canceled(void) {
        Operation *same;
        Probe *there;

        set_up();
        there = begin(OPERATION_START, NULL, 0, LATER);
        CHECK(operation_cancel_for(&there->op, ERROR_CANCELED, "No more"));
        CHECK_EQ(operation_admit(&o, OPERATION_START, UUID, "web", &same, NULL),
                        -error_code_errno(ERROR_INVALID_STATE));
        operation_fail(&there->op, there->op.reason);
        tear_down();
}

/* Whoever hears of an end may begin the next one. */
static void begin_again(void *userdata, int r, const Error *error) {
        Probe **next = userdata;

        *next = begin(OPERATION_START, NULL, 0, AT_ONCE);
}

static void test_reentrance(void) {
        Probe *p, *next = NULL;

        set_up();
        p = begin(OPERATION_START, NULL, 0, AT_ONCE);
        CHECK_EQ(operation_wait(&p->op, NULL, begin_again, &next, NULL), 0);
        CHECK(operation_cancel_for(&p->op, ERROR_CANCELED, "No more"));
        CHECK(next && !next->op.completed && next->asked == 0);
        CHECK(operation_find(&o, UUID, 1U << OPERATION_START) == &next->op);
        operation_complete(&next->op, NULL);
        tear_down();
}

/* At the end of the service clients hear that, whatever they wait for; operations do not go on, and are not
 * called off, but commands, which hold nothing. */
static void test_end_of_service(void) {
        Told client = {}, joined = {}, part = {}, commander = {};
        _cleanup_error_ Error *why = NULL;
        Probe *whole, *start, *command;

        set_up();
        (void)error_set(&why, ERROR_SERVICE_ENDING, "No more");
        whole = begin(OPERATION_CREATE, NULL, 0, LATER);
        start = begin(OPERATION_START, &whole->op, 0, LATER);
        command = begin(OPERATION_COMMAND, NULL, 0, AT_ONCE);
        CHECK_EQ(operation_announce(&whole->op, NULL), 0);
        CHECK_EQ(operation_wait(&whole->op, NULL, on_told, &client, NULL), 0);
        CHECK_EQ(operation_wait(&start->op, &whole->op, on_told, &part, NULL), 0);
        CHECK_EQ(operation_join(&start->op, 7, on_told, &joined, NULL), 0);
        CHECK_EQ(operation_join(&command->op, USER, on_told, &commander, NULL), 0);
        operations_end(&o, why);
        CHECK_EQ(client.n, 1);
        CHECK_EQ(client.r, -ESHUTDOWN);
        CHECK_EQ(client.code, ERROR_SERVICE_ENDING);
        CHECK_EQ(joined.n, 1);
        CHECK_EQ(commander.n, 1);
        CHECK_EQ(part.n, 0);
        CHECK_EQ(whole->asked + start->asked, 0);
        CHECK_EQ(command->asked, 1);
        operations_done(&o);
        CHECK_EQ(freed, 3);
        CHECK_EQ(finished, 0);
        CHECK_EQ(accounts_total(accounts, RESOURCE_OPERATIONS), 0);
        accounts = accounts_free(accounts);
}

static bool is_busy(void) {
        return false;
}

int main(void) {
        fake_is_busy = is_busy;
        CHECK_EQ(sd_event_new(&event), 0);
        test_completion();
        test_joining_is_charged();
        test_failure_without_error();
        test_drop();
        test_cancel();
        test_parts();
        test_deadline();
        test_deadline_of_a_canceled_one();
        test_quota();
        test_meetings();
        test_join_canceled();
        test_reentrance();
        test_end_of_service();
        sd_event_unref(event);
        return EXIT_SUCCESS;
}
