/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scopes that PID 1 stops, does not let go, or lets go when nobody expects it. */
#include <stdio.h>

#include "test-systemd-bed.h"
#include "util/string-util.h"

#define N_TURNS 64 /* JOBS_MAX of systemd.c */
#define UNIT_PATH SYSTEMD_PATH "/unit/vmctl_2da_2escope"

static void remove_unit(Bed *b, const char *unit) {
        bed_signal(b, BEFORE, "UnitRemoved", "so", unit, SYSTEMD_PATH "/unit/a");
}

/* Ends it, and has PID 1 find a process in it that it does not get rid of. */
static void end_stuck(Bed *b, ScopeWatch *w) {
        systemd_end_scope(w);
        bed_settle(b);
        bed_reply(b, BED_LOOK, "a(sus)", 1, "/vmctl.slice/a", 5, "/usr/bin/qemu");
}

static void watch_many(Bed *b, ScopeWatch *watches[], unsigned n) {
        for (unsigned i = 0; i < n; i++) {
                char unit[64];

                (void)snprintf(unit, sizeof(unit), "vmctl-%u.scope", i);
                CHECK_EQ(systemd_watch_scope(b->systemd, unit, false, &watches[i]), 0);
        }
}

static void unwatch_many(ScopeWatch *watches[], unsigned n) {
        for (unsigned i = 0; i < n; i++)
                systemd_unwatch_scope(watches[i]);
}

/* Scopes that are never removed are in nobody's way for ever. One that is removed at last is told of. */
static void test_stuck(void) {
        ScopeWatch *watches[N_TURNS + 2];
        Bed b;

        bed_init(&b);
        watch_many(&b, watches, N_TURNS + 2);
        for (unsigned i = 0; i < N_TURNS; i++)
                end_stuck(&b, watches[i]);
        CHECK_EQ(b.n_calls[BED_STOP], N_TURNS);
        end_stuck(&b, watches[N_TURNS]);
        CHECK_EQ(b.n_calls[BED_STOP], N_TURNS); /* it waits for its turn */
        CHECK(bed_pass_deadline(&b));
        CHECK_EQ(b.n_calls[BED_STOP], N_TURNS + 1);
        end_stuck(&b, watches[N_TURNS + 1]);
        CHECK_EQ(b.n_calls[BED_STOP], N_TURNS + 2);
        CHECK_EQ(b.removed, 0);
        remove_unit(&b, "vmctl-0.scope"); /* which has no turn any more */
        CHECK_EQ(b.removed, 1);
        CHECK_STREQ(b.last, "vmctl-0.scope");
        CHECK_EQ(b.systemd->n_jobs, 2);
        CHECK(bed_pass_deadline(&b));
        CHECK_EQ(b.systemd->n_jobs, 0);
        CHECK(!bed_pass_deadline(&b)); /* nothing wakes an idle service */
        unwatch_many(watches, N_TURNS + 2);
        bed_done(&b);
}

/* A turn that ends in time takes its deadline along; that of the next one is its own. */
static void test_in_time(void) {
        ScopeWatch *watches[2];
        Bed b;

        bed_init(&b);
        watch_many(&b, watches, 2);
        end_stuck(&b, watches[0]);
        end_stuck(&b, watches[1]);
        TAILQ_FIRST(&b.systemd->lasting)->deadline -= 30 * USEC_PER_SEC; /* it began so much earlier */
        remove_unit(&b, "vmctl-0.scope");
        CHECK_EQ(b.systemd->n_jobs, 1);
        remove_unit(&b, "vmctl-1.scope");
        CHECK_EQ(b.removed, 2);
        CHECK_EQ(b.systemd->n_jobs, 0);
        CHECK(!bed_pass_deadline(&b));
        unwatch_many(watches, 2);
        bed_done(&b);
}

/* The timer is the oldest turn's, and goes on to the next one's. */
static void test_one_after_the_other(void) {
        ScopeWatch *watches[2];
        Bed b;

        bed_init(&b);
        watch_many(&b, watches, 2);
        end_stuck(&b, watches[0]);
        end_stuck(&b, watches[1]);
        TAILQ_NEXT(TAILQ_FIRST(&b.systemd->lasting), link)->deadline += 30 * USEC_PER_SEC;
        CHECK(bed_pass_deadline(&b));
        CHECK_EQ(b.systemd->n_jobs, 1);
        CHECK(bed_pass_deadline(&b));
        CHECK_EQ(b.systemd->n_jobs, 0);
        CHECK(!bed_pass_deadline(&b));
        unwatch_many(watches, 2);
        bed_done(&b);
}

/* PID 1 says it twice, or of a scope whose end nobody awaits. */
static void test_removed_twice(void) {
        ScopeWatch *w;
        Bed b;

        bed_init(&b);
        CHECK_EQ(systemd_watch_scope(b.systemd, UNIT, false, &w), 0);
        remove_unit(&b, UNIT);
        CHECK_EQ(b.removed, 0);
        end_stuck(&b, w);
        remove_unit(&b, UNIT);
        remove_unit(&b, UNIT);
        CHECK_EQ(b.removed, 1);
        CHECK_EQ(b.systemd->n_jobs, 0);
        systemd_unwatch_scope(w);
        remove_unit(&b, UNIT);
        CHECK_EQ(b.removed, 1);
        CHECK_EQ(systemd_watch_scope(b.systemd, UNIT, false, &w), 0); /* of the next run */
        remove_unit(&b, UNIT);
        CHECK_EQ(b.removed, 1);
        systemd_unwatch_scope(w);
        bed_done(&b);
}

/* --- PID 1 stops a scope of its own accord */

static void begin_job(Bed *b) {
        bed_signal(b, BEFORE, "JobNew", "uos", 7, JOB, UNIT);
}

static ScopeWatch *follow(Bed *b) {
        ScopeWatch *w;

        CHECK_EQ(systemd_watch_scope(b->systemd, UNIT, false, &w), 0);
        begin_job(b);
        CHECK_EQ(b->n_calls[BED_LIST], 1);
        return w;
}

/* A job that waits for other units is no stop yet; the change of the state is. */
static void test_changed(void) {
        ScopeWatch *w;
        Bed b;

        bed_init(&b);
        w = follow(&b);
        bed_list(&b, UNIT, "active", "stop");
        CHECK_EQ(b.stop_requests, 0);
        bed_change_state(&b, UNIT_PATH, NULL);     /* something else has changed */
        bed_change_state(&b, UNIT_PATH, "active"); /* not to this */
        bed_change_state(&b, SYSTEMD_PATH "/unit/other_2escope", "deactivating"); /* not ours */
        bed_change_state(&b, SYSTEMD_PATH "/job/7", "deactivating");              /* no unit */
        CHECK_EQ(b.stop_requests, 0);
        bed_change_state(&b, UNIT_PATH, "deactivating");
        CHECK_EQ(b.stop_requests, 1);
        CHECK_STREQ(b.last, UNIT);
        bed_change_state(&b, UNIT_PATH, "deactivating"); /* twice */
        CHECK_EQ(b.stop_requests, 1);
        CHECK_EQ(b.systemd->matches[SYSTEMD_UNIT_CHANGED].users, 0);
        systemd_unwatch_scope(w);
        bed_done(&b);
}

/* The state changes before the survey is there, which says the same. */
static void test_changed_early(void) {
        ScopeWatch *w;
        Bed b;

        bed_init(&b);
        w = follow(&b);
        bed_change_state(&b, UNIT_PATH, "deactivating");
        CHECK_EQ(b.stop_requests, 1);
        bed_fail(&b, BED_LIST, SD_BUS_ERROR_FAILED); /* nobody waits for it any more */
        CHECK_EQ(b.stop_requests, 1);
        systemd_unwatch_scope(w);
        bed_done(&b);
}

/* A job that is over leaves nothing that is listened to. */
static void test_job_over(void) {
        ScopeWatch *w;
        Bed b;

        bed_init(&b);
        w = follow(&b);
        bed_list(&b, UNIT, "active", "stop");
        bed_signal(&b, BEFORE, "JobRemoved", "uoss", 7, JOB, UNIT, "canceled");
        bed_list(&b, UNIT, "active", "");
        CHECK_EQ(b.systemd->matches[SYSTEMD_UNIT_CHANGED].users, 0);
        CHECK_EQ(b.systemd->matches[SYSTEMD_JOB_REMOVED].users, 0);
        bed_change_state(&b, UNIT_PATH, "deactivating");
        CHECK_EQ(b.stop_requests, 0);
        systemd_unwatch_scope(w);
        bed_done(&b);
}

/* The survey tells of a stop that began before it. */
static void test_surveyed(void) {
        ScopeWatch *w;
        Bed b;

        bed_init(&b);
        w = follow(&b);
        bed_list(&b, UNIT, "deactivating", "stop");
        CHECK_EQ(b.stop_requests, 1);
        bed_change_state(&b, UNIT_PATH, "deactivating");
        CHECK_EQ(b.stop_requests, 1);
        systemd_unwatch_scope(w);
        bed_done(&b);
}

int main(void) {
        test_stuck();
        test_in_time();
        test_one_after_the_other();
        test_removed_twice();
        test_changed();
        test_changed_early();
        test_job_over();
        test_surveyed();
        return 0;
}
