/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A worker over a launcher that says things early, late, or is lost. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "task.h"
#include "util/fd-util.h"
#include "util/test.h"
#include "worker.h"

#define REQUESTER 1000

/* --- Instead of launcher.c */

struct Launched {
        const LaunchHandlers *handlers;
        void *userdata;
        int output; /* what the program has as its standard output */
        unsigned killed;
        bool ended, freed;
};
static Launched launched;
static int run_result;

int launcher_run(Launcher *l, const LaunchSpec *spec, const LaunchHandlers *handlers, void *userdata,
                Launched **ret) {
        launched = (Launched){ .handlers = handlers, .userdata = userdata, .output = -EBADF };
        if (run_result < 0)
                return run_result;
        for (size_t i = 0; i < spec->n_files; i++)
                if (spec->files[i].target == STDOUT_FILENO)
                        launched.output = fcntl(spec->files[i].fd, F_DUPFD_CLOEXEC, 3);
        CHECK(launched.output >= 0);
        *ret = &launched;
        return 0;
}

void launched_kill(Launched *c) {
        c->killed++;
}

bool launched_has_ended(const Launched *c) {
        return c->ended;
}

Launched *launched_free(Launched *c) {
        if (c)
                c->freed = true;
        return NULL;
}

/* --- */

typedef struct Fixture {
        Core core;
        Worker *worker;
        unsigned done, gone;
        bool has_result;
        ErrorCode error;
} Fixture;

static void on_done(void *userdata, const Json *result, const Error *error) {
        Fixture *f = userdata;

        CHECK(!result != !error);
        f->done++;
        f->has_result = result && json_get_boolean(result, "right") == 1;
        f->error = error_code(error);
        f->worker = worker_free(f->worker);
}

static void on_gone(void *userdata) {
        Fixture *f = userdata;

        f->gone++;
        f->worker = worker_free(f->worker);
}

static int begin(Fixture *f) {
        static const WorkerHandlers handlers = { .done = on_done };
        const WorkerSpec spec = {
                .program = LAUNCH_IMAGE, .requester = REQUESTER, .timeout_usec = (3600 * USEC_PER_SEC)
        };
        _cleanup_error_ Error *e = NULL;

        return worker_run(&f->core, &spec, "{}", 2, &handlers, f, &f->worker, &e);
}

static void fixture_init(Fixture *f) {
        *f = (Fixture){};
        run_result = 0;
        CHECK(sd_event_new(&f->core.event) >= 0);
        CHECK_EQ(accounts_new(NULL, &f->core.accounts), 0);
        CHECK_EQ(uid_pool_new(0, 0, -EBADF, &f->core.uids), 0);
        CHECK_EQ(begin(f), 0);
}

static void check_charged(const Fixture *f, bool charged) {
        CHECK_EQ(accounts_used(f->core.accounts, REQUESTER, RESOURCE_WORKERS), charged);
}

static void fixture_done(Fixture *f) {
        worker_free(f->worker);
        CHECK(launched.freed || run_result < 0);
        check_charged(f, false);
        safe_close(launched.output);
        uid_pool_free(f->core.uids);
        accounts_free(f->core.accounts);
        sd_event_unref(f->core.event);
}

static void settle(const Fixture *f) {
        int r;

        do
                CHECK((r = sd_event_run(f->core.event, 0)) >= 0);
        while (r > 0);
}

static void say(const Fixture *f, const char *text) {
        CHECK_EQ(write_all(launched.output, text, strlen(text)), 0);
        settle(f);
}

static void hang_up(const Fixture *f) {
        launched.output = safe_close(launched.output);
        settle(f);
}

static void end(const Fixture *f, int error, int status) {
        launched.ended = true;
        launched.handlers->ended(&(LaunchEnd){ .error = error, .code = CLD_EXITED, .status = status },
                        launched.userdata);
        settle(f);
}

/* Its end is told before what it has said is read. */
static void test_ended_early(void) {
        Fixture f;

        fixture_init(&f);
        CHECK_EQ(write_all(launched.output, "{\"result\":{\"right\":true}}\n", 26), 0);
        launched.ended = true;
        launched.handlers->ended(&(LaunchEnd){ .code = CLD_EXITED }, launched.userdata);
        CHECK_EQ(f.done, 0);
        hang_up(&f);
        CHECK_EQ(f.done, 1);
        CHECK(f.has_result);
        fixture_done(&f);
}

/* The last counts. */
static void test_says_it_twice(void) {
        Fixture f;

        fixture_init(&f);
        say(&f,
                        "{\"error\":\"Failed\",\"message\":\"no\"}\n{\"phase\":\"x\"}\n{\"result\":{"
                        "\"right\":true}}\n");
        hang_up(&f);
        CHECK_EQ(f.done, 0);
        check_charged(&f, true);
        end(&f, 0, 0);
        CHECK_EQ(f.done, 1);
        CHECK(f.has_result);
        fixture_done(&f);
}

/* How it has ended is lost; what it said last it said when all was done. */
static void test_lost_launcher(void) {
        Fixture f;

        for (int said = 0; said < 2; said++) {
                fixture_init(&f);
                say(&f, said ? "{\"result\":{\"right\":true}}\n" : "{\"phase\":\"x\"}\n");
                hang_up(&f);
                end(&f, -ECONNRESET, 0);
                CHECK_EQ(f.done, 1);
                CHECK_EQ(f.has_result, said);
                fixture_done(&f);
        }
}

/* A result counts for nothing if it ends with a failure. */
static void test_failed_after_all(void) {
        Fixture f;

        fixture_init(&f);
        say(&f, "{\"result\":{\"right\":true}}\n");
        hang_up(&f);
        end(&f, 0, 1);
        CHECK_EQ(f.done, 1);
        CHECK(!f.has_result);
        CHECK_EQ(f.error, ERROR_FAILED);
        fixture_done(&f);
}

static void test_never_started(void) {
        Fixture f;

        fixture_init(&f);
        hang_up(&f); /* with the request that had it */
        end(&f, -ENOENT, 0);
        CHECK_EQ(f.done, 1);
        CHECK(!f.has_result);
        fixture_done(&f);
}

static void test_cannot_be_asked(void) {
        Fixture f;

        fixture_init(&f);
        f.worker = worker_free(f.worker);
        CHECK(launched.killed > 0);
        safe_close(launched.output);
        run_result = -ECONNREFUSED;
        CHECK(begin(&f) < 0);
        CHECK(!f.worker);
        fixture_done(&f);
}

/* Before anything was heard of it; it is charged for until it is gone, and told so once, also when killed
 * twice. */
static void test_killed(void) {
        Fixture f;

        fixture_init(&f);
        CHECK_EQ(worker_kill(f.worker, on_gone, &f), 1);
        CHECK_EQ(worker_kill(f.worker, on_gone, &f), 1);
        CHECK(launched.killed > 0);
        say(&f, "{\"result\":{\"right\":true}}\n");
        hang_up(&f);
        CHECK_EQ(f.gone, 0);
        check_charged(&f, true);
        end(&f, -ECONNRESET, 0);
        CHECK_EQ(f.gone, 1);
        CHECK_EQ(f.done, 0);
        fixture_done(&f);
}

/* It says more than anybody reads, and takes its time to die: nobody uses its files meanwhile. */
static void test_says_too_much(void) {
        static char much[4096];
        Fixture f;

        memset(much, 'x', sizeof(much));
        fixture_init(&f);
        for (size_t n = 0; n <= TASK_OUTPUT_MAX && launched.killed == 0; n += sizeof(much)) {
                CHECK_EQ(write_all(launched.output, much, sizeof(much)), 0);
                settle(&f);
        }
        CHECK(launched.killed > 0);
        CHECK_EQ(f.done, 0);
        check_charged(&f, true);
        end(&f, 0, 0);
        CHECK_EQ(f.done, 1);
        CHECK(!f.has_result);
        fixture_done(&f);
}

int main(void) {
        test_ended_early();
        test_says_it_twice();
        test_lost_launcher();
        test_failed_after_all();
        test_never_started();
        test_cannot_be_asked();
        test_killed();
        test_says_too_much();
        return 0;
}
