/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A PID 1 that executes itself anew while it makes a scope, and scopes that are there already. */
#include "test-systemd-bed.h"

typedef struct Fixture {
        Bed bed;
        unsigned told;
        int result;
        ScopeJob *job;
} Fixture;

static void fixture_init(Fixture *f) {
        *f = (Fixture){};
        bed_init(&f->bed);
}

static void fixture_done(Fixture *f) {
        scope_job_free(f->job);
        bed_done(&f->bed);
}

static void on_done(void *userdata, int r, const Error *error) {
        Fixture *f = userdata;

        f->told++;
        f->result = r;
        f->job = scope_job_free(f->job);
}

static void start(Fixture *f) {
        const ScopeSpec spec = { .unit = UNIT, .shim = 5 };

        CHECK_EQ(systemd_start_scope(f->bed.systemd, &spec, on_done, f, &f->job), 0);
        bed_settle(&f->bed);
        CHECK_EQ(f->bed.n_calls[BED_START], 1);
}

static void remove_job(Fixture *f, const char *sender, const char *result) {
        bed_signal(&f->bed, sender, "JobRemoved", "uoss", 7, JOB, UNIT, result);
}

static void check_told(const Fixture *f, int result) {
        CHECK_EQ(f->told, 1);
        CHECK_EQ(f->result, result);
}

/* PID 1 knows the unit: it was asked twice, or it is another's. */
static void start_again(Fixture *f) {
        fixture_init(f);
        start(f);
        bed_answer_start(&f->bed, -EEXIST, "It exists");
        CHECK_EQ(f->told, 0);
}

static void test_done_already(void) {
        Fixture f;

        start_again(&f);
        bed_unit_of_process = UNIT;
        bed_list(&f.bed, UNIT, "active", "");
        check_told(&f, 0);
        fixture_done(&f);
}

/* Its job is still to come to the process, and only the end of that tells. */
static void test_not_done_yet(void) {
        Fixture f;

        start_again(&f);
        bed_list(&f.bed, UNIT, "active", "start");
        CHECK_EQ(f.told, 0);
        bed_unit_of_process = UNIT;
        remove_job(&f, BEFORE, "done");
        check_told(&f, 0);
        fixture_done(&f);

        start_again(&f);
        bed_list(&f.bed, UNIT, "active", "start");
        remove_job(&f, BEFORE, "failed");
        check_told(&f, -EIO);
        fixture_done(&f);
}

/* The job ends while PID 1 is being asked. */
static void test_done_meanwhile(void) {
        Fixture f;

        start_again(&f);
        bed_unit_of_process = UNIT;
        remove_job(&f, BEFORE, "done");
        bed_list(&f.bed, UNIT, "active", "");
        check_told(&f, 0);
        fixture_done(&f);

        start_again(&f);
        remove_job(&f, BEFORE, "failed");
        bed_list(&f.bed, UNIT, NULL, NULL);
        check_told(&f, -EIO);
        fixture_done(&f);
}

/* It is another's: one that is there, one that is being made, one that is being stopped for long. */
static void test_exists(void) {
        Fixture f;

        start_again(&f);
        bed_list(&f.bed, UNIT, "active", "");
        check_told(&f, -EEXIST);
        fixture_done(&f);

        start_again(&f);
        bed_list(&f.bed, UNIT, "active", "start");
        remove_job(&f, BEFORE, "done");
        check_told(&f, -EEXIST);
        fixture_done(&f);

        start_again(&f);
        bed_list(&f.bed, UNIT, "active", "stop");
        check_told(&f, -EEXIST);
        fixture_done(&f);
}

/* PID 1 does not answer. */
static void test_no_answer(void) {
        Fixture f;

        start_again(&f);
        bed_fail(&f.bed, BED_LIST, SD_BUS_ERROR_ACCESS_DENIED);
        check_told(&f, -EACCES);
        fixture_done(&f);

        start_again(&f);
        f.job = scope_job_free(f.job);
        bed_list(&f.bed, UNIT, "active", "");
        CHECK_EQ(f.told, 0);
        fixture_done(&f);
}

/* PID 1 names the job, and executes itself anew. */
static void start_and_begin_anew(Fixture *f) {
        fixture_init(f);
        start(f);
        bed_answer_start(&f->bed, 0, JOB);
        bed_begin_anew(&f->bed);
        CHECK_EQ(f->told, 0);
}

static void test_end_is_lost(void) {
        Fixture f;

        start_and_begin_anew(&f);
        bed_unit_of_process = UNIT;
        bed_list(&f.bed, UNIT, "active", "");
        check_told(&f, 0);
        fixture_done(&f);

        start_and_begin_anew(&f); /* and so is that it failed */
        bed_list(&f.bed, UNIT, NULL, NULL);
        check_told(&f, -EIO);
        fixture_done(&f);
}

static void test_end_comes_later(void) {
        Fixture f;

        start_and_begin_anew(&f);
        remove_job(&f, BEFORE, "done"); /* which is nobody any more */
        bed_list(&f.bed, UNIT, "active", "start");
        CHECK_EQ(f.told, 0);
        bed_unit_of_process = UNIT;
        remove_job(&f, AFTER, "done");
        check_told(&f, 0);
        fixture_done(&f);

        start_and_begin_anew(&f); /* before the answer */
        bed_unit_of_process = UNIT;
        remove_job(&f, AFTER, "done");
        check_told(&f, 0);
        bed_list(&f.bed, UNIT, "active", "");
        CHECK_EQ(f.told, 1);
        fixture_done(&f);
}

/* PID 1 names the job twice, and tells its end twice: the second time when the unit is being made anew. */
static void test_answers_twice(void) {
        Fixture f;

        fixture_init(&f);
        start(&f);
        for (int i = 0; i < 2; i++)
                bed_answer_start(&f.bed, 0, JOB);
        CHECK_EQ(f.told, 0);
        remove_job(&f, BEFORE, "done");
        check_told(&f, 0);
        remove_job(&f, BEFORE, "failed");
        check_told(&f, 0);
        f.told = f.bed.n_calls[BED_START] = 0;
        start(&f);
        remove_job(&f, BEFORE, "failed"); /* the old one's, once more */
        bed_answer_start(&f.bed, 0, SYSTEMD_PATH "/job/8");
        remove_job(&f, BEFORE, "failed");
        CHECK_EQ(f.told, 0);
        bed_signal(&f.bed, BEFORE, "JobRemoved", "uoss", 8, SYSTEMD_PATH "/job/8", UNIT, "done");
        check_told(&f, 0);
        CHECK_EQ(f.bed.systemd->n_jobs, 0);
        fixture_done(&f);
}

/* The launcher's call must not overtake the match of what it leads to. One that waits for that can be called
 * off. */
static void test_after_the_match(void) {
        const ScopeSpec spec = { .unit = UNIT, .shim = 5 };
        Fixture f;

        bed_has_matches = true;
        fixture_init(&f);
        CHECK_EQ(systemd_start_scope(f.bed.systemd, &spec, on_done, &f, &f.job), 0);
        bed_settle(&f.bed);
        CHECK_EQ(f.bed.n_calls[BED_START], 0);
        f.job = scope_job_free(f.job);
        CHECK_EQ(f.bed.systemd->n_jobs, 0);
        fixture_done(&f);
        bed_has_matches = false;
}

int main(void) {
        test_after_the_match();
        test_done_already();
        test_not_done_yet();
        test_done_meanwhile();
        test_exists();
        test_no_answer();
        test_end_is_lost();
        test_end_comes_later();
        test_answers_twice();
        return 0;
}
