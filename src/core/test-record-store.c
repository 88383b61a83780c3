/* SPDX-License-Identifier: GPL-2.0-or-later */
/* With real children and a real folder. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "test-record-bed.h"
#include "test-record-faults.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/test.h"

/* --- The index */

static void test_names(void) {
        RecordName *a, *b, *c;
        _cleanup_error_ Error *e = NULL;
        int object, found = 0;
        Bed bed;

        bed_new(&bed, &by_name);
        CHECK(record_name_reserve(bed.store, "web", NULL, &b, NULL) >= 0);
        CHECK(record_name_reserve(bed.store, "db", &object, &a, NULL) >= 0);
        CHECK_EQ(record_name_reserve(bed.store, "web", NULL, &c, &e), -EEXIST);
        CHECK_EQ(error_code(e), ERROR_VM_EXISTS);
        CHECK(record_name_reserve(bed.store, "../web", NULL, &c, NULL) < 0);
        CHECK(record_name_is_taken(bed.store, "web"));
        CHECK(!record_store_find(bed.store, "web"));
        CHECK(record_store_find(bed.store, "db") == &object);
        for (size_t i = 0; record_store_next(bed.store, &i);)
                found++;
        CHECK_EQ(found, 1);
        record_name_free(b);
        CHECK(!record_name_is_taken(bed.store, "web"));
        bed_done(&bed);
        record_name_free(a); /* behind the store's end */
}

/* --- Changes */

static void test_life(const RecordType *type) {
        Told removed = {};
        Thing *t;
        Bed bed;

        bed_new(&bed, type);
        t = make(&bed, type, "web");
        check_on_disk(&bed, type, 1, 1);
        CHECK(record_remove(&t->record, on_removed, &removed, NULL) >= 0);
        CHECK(!t->record);
        CHECK(!there(&bed, type->folder_is_name ? "web" : t->uuid));
        CHECK_EQ(removed.n, 0);
        run_out(&bed);
        CHECK_EQ(removed.n, 1);
        CHECK_EQ(removed.result, 0);
        CHECK_EQ(count_folders(&bed), 0);
        thing_free(t);
        bed_done(&bed);
}

/* Both were asked for at once: neither undoes the other. */
static void test_queue(void) {
        Try first = { .a = 2 }, second = { .b = 3 };
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        change(t, &first);
        change(t, &second);
        CHECK(record_is_changing(t->record));
        run_out(&bed);
        CHECK_EQ(first.completed, 1);
        CHECK_EQ(second.completed, 1);
        CHECK(!record_is_changing(t->record));
        check_on_disk(&bed, &by_name, 2, 3);
        thing_free(t);
        bed_done(&bed);
}

static void test_queue_is_bounded(void) {
        Try tries[RECORD_CHANGES_MAX + 1] = {};
        _cleanup_error_ Error *e = NULL;
        Gate gate = gate_new();
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        tries[0].gate = gate.out;
        for (size_t i = 0; i < RECORD_CHANGES_MAX; i++)
                change(t, &tries[i]);
        CHECK(record_write(t->record, &trying, &tries[RECORD_CHANGES_MAX], &e) < 0);
        CHECK_EQ(error_code(e), ERROR_BUSY);
        gate_open(&gate);
        run_out(&bed);
        for (size_t i = 0; i < RECORD_CHANGES_MAX; i++)
                CHECK(tries[i].completed == 1 && tries[i].result == 0);
        CHECK_EQ(tries[RECORD_CHANGES_MAX].completed, 0);
        thing_free(t);
        bed_done(&bed);
}

static void fail_next_call(Try *t) {
        faults->countdown = 0;
}

/* The one that waits behind another is answered when it cannot be begun, and so are those behind it. */
static void test_queued_begin_fails(void) {
        Try first = { .a = 2, .then = fail_next_call }, second = { .a = 3 }, third = { .b = 4 };
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        change(t, &first);
        change(t, &second);
        change(t, &third);
        run_out(&bed);
        CHECK(faults->happened);
        CHECK(first.completed == 1 && first.result == 0);
        CHECK(second.completed == 1 && second.result < 0);
        CHECK(third.completed == 1 && third.result == 0);
        check_on_disk(&bed, &by_name, 2, 4);
        thing_free(t);
        bed_done(&bed);
}

static void free_record(Try *t) {
        t->thing->record = record_free(t->thing->record);
}

static void remove_record(Try *t) {
        CHECK(record_remove(&t->thing->record, NULL, NULL, NULL) >= 0);
}

static void test_freed_in_callback(void (*then)(Try *t)) {
        Try first = { .a = 2, .then = then }, second = { .a = 3 };
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        change(t, &first);
        change(t, &second);
        run_out(&bed);
        CHECK(first.completed == 1 && first.result == 0);
        CHECK(second.completed == 1 && second.result == -ECANCELED);
        CHECK_EQ(count_folders(&bed), then == free_record ? 1 : 0);
        thing_free(t);
        bed_done(&bed);
}

static void test_removed_while_written(void) {
        Try first = { .a = 2 }, second = { .a = 3 };
        Gate gate = gate_new();
        Told removed = {};
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        first.gate = gate.out;
        change(t, &first);
        change(t, &second);
        faults->hung = true;
        CHECK(record_remove(&t->record, on_removed, &removed, NULL) >= 0);
        CHECK(first.completed == 1 && first.result == -ECANCELED);
        CHECK(second.completed == 1 && second.result == -ECANCELED);
        thing_free(t);

        /* The name is free, and its next holder is not touched by the writer that still hangs. */
        t = make(&bed, &by_name, "web");
        CHECK_EQ(removed.n, 0);
        CHECK_EQ(count_folders(&bed), 2);
        gate_open(&gate);
        faults->hung = false;
        run_out(&bed);
        CHECK_EQ(removed.n, 1);
        CHECK_EQ(removed.result, 0);
        CHECK_EQ(count_folders(&bed), 1);
        check_on_disk(&bed, &by_name, 1, 1);
        thing_free(t);
        bed_done(&bed);
}

/* The deadline is over, and then the disk answers all the same. */
static void test_too_late(void) {
        Try first = { .a = 2 }, second = { .b = 3 };
        Gate gate = gate_new();
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        t = make(&bed, &by_name, "web");
        first.gate = gate.out;
        faults->late = faults->hung = true;
        change(t, &first);
        run_until(&bed, &first.completed);
        CHECK_EQ(first.result, -ETIMEDOUT);
        faults->late = false;
        change(t, &second); /* has to wait */
        CHECK_EQ(sd_event_run(bed.event, 0), 0);
        CHECK_EQ(second.completed, 0);
        gate_open(&gate);
        faults->hung = false;
        run_out(&bed);
        CHECK_EQ(first.completed, 1);
        CHECK(second.completed == 1 && second.result == 0);
        check_on_disk(&bed, &by_name, 1, 3);

        first = (Try){ .a = 4 };
        gate = gate_new();
        first.gate = gate.out;
        faults->late = faults->hung = true;
        change(t, &first);
        run_until(&bed, &first.completed);
        faults->late = false;
        gate_open(&gate);
        faults->hung = false;
        run_out(&bed);
        CHECK_EQ(t->a, 1);
        check_on_disk(&bed, &by_name, 1, 3);
        thing_free(t);
        bed_done(&bed);
}

/* A name whose folder may still appear is nobody's. */
static void test_abandoned_commit(void) {
        Gate gate = gate_new();
        RecordName *name;
        Try made = { .a = 1, .b = 1, .gate = gate.out };
        Thing *t;
        Bed bed;

        bed_new(&bed, &by_name);
        CHECK(make_draft(&bed, "web", &t) >= 0);
        made.thing = t;
        CHECK(record_commit(t->record, t->name, &trying, &made, NULL) >= 0);
        faults->hung = true;
        thing_free(t);
        CHECK(made.completed == 1 && made.result == -ECANCELED);
        CHECK(record_name_is_taken(bed.store, "web"));
        CHECK(!record_store_find(bed.store, "web"));
        CHECK_EQ(sd_event_run(bed.event, 0) >= 0, 1);
        gate_open(&gate);
        faults->hung = false;
        run_out(&bed);
        CHECK_EQ(made.completed, 1);
        CHECK_EQ(count_folders(&bed), 0);
        CHECK(record_name_reserve(bed.store, "web", NULL, &name, NULL) >= 0);
        record_name_free(name);
        bed_done(&bed);
}

static void test_store_freed(void) {
        Try first = { .a = 2 }, second = { .a = 3 }, made = { .a = 1, .b = 1 };
        Thing *written, *drafted, *gone;
        Told removed = {};
        Bed bed;

        bed_new(&bed, &by_uuid);
        written = make(&bed, &by_uuid, "written");
        gone = make(&bed, &by_uuid, "gone");
        CHECK(make_draft(&bed, "drafted", &drafted) >= 0);
        made.thing = drafted;
        change(written, &first);
        change(written, &second);
        CHECK(record_commit(drafted->record, NULL, &trying, &made, NULL) >= 0);
        CHECK(record_remove(&gone->record, on_removed, &removed, NULL) >= 0);
        bed.store = record_store_free(bed.store);
        CHECK(first.completed == 1 && first.result == -ECANCELED);
        CHECK(second.completed == 1 && second.result == -ECANCELED);
        CHECK(made.completed == 1 && made.result == -ECANCELED);
        CHECK(removed.n == 1 && removed.result == -ECANCELED);
        CHECK(record_write(written->record, &trying, &first, NULL) < 0);
        run_out(&bed);
        thing_free(written);
        thing_free(drafted);
        thing_free(gone);
        CHECK(first.completed == 1 && second.completed == 1 && made.completed == 1 && removed.n == 1);
        bed_done(&bed);
}

/* --- Loading */

static void put_file(const Bed *bed, const char *folder, const char *text) {
        _cleanup_close_ int fd = make_dir_at(bed->fd, folder, 0700);

        CHECK(fd >= 0);
        CHECK(write_file_at(fd, "thing.json", text, strlen(text), 0600, 0) >= 0);
}

static void flip_bit(const Bed *bed, const char *path, size_t at) {
        _cleanup_close_ int fd = openat(bed->fd, path, O_RDWR | O_CLOEXEC);
        char c;

        CHECK_EQ(pread(fd, &c, 1, (off_t)at), 1);
        c ^= 1;
        CHECK_EQ(pwrite(fd, &c, 1, (off_t)at), 1);
}

static void test_broken(void) {
        _cleanup_error_ Error *e = NULL;
        _cleanup_free_ char *path = NULL;
        Told told = {};
        const RecordBroken *b;
        RecordName *name;
        size_t n;
        Bed bed;

        bed_new(&bed, &by_name);
        thing_free(make(&bed, &by_name, "good"));
        thing_free(make(&bed, &by_name, "flipped"));
        flip_bit(&bed, "flipped/thing.json", strlen("{\n  \"version\": 1,\n  \"name\": \""));
        put_file(&bed, "copied",
                        "{\"version\": 1, \"name\": \"good\", \"uuid\": \"x\", \"checksum\": \"none\"}");
        put_file(&bed, ".hidden", "");
        CHECK(mkdirat(bed.fd, "empty", 0700) >= 0);
        bed_close(&bed);

        bed_open(&bed, &by_name);
        CHECK(record_store_load(bed.store) >= 0);
        CHECK_EQ(bed.n_things, 1);
        b = record_store_broken(bed.store, &n);
        CHECK_EQ(n, 3);
        CHECK_STREQ(b[0].name, "copied");
        CHECK_STREQ(b[1].name, "empty");
        CHECK_STREQ(b[2].name, "flipped");
        CHECK(endswith(b[2].path, "/flipped/thing.json"));
        CHECK(startswith(b[2].reason, "Its checksum does not match"));
        CHECK_EQ(record_name_reserve(bed.store, "flipped", NULL, &name, &e), -EEXIST);
        CHECK(strstr(error_message(e), "cannot be read"));
        run_out(&bed);
        CHECK_EQ(count_folders(&bed), 5);

        path = strdup(record_store_find_broken(bed.store, "flipped")->path);
        CHECK_EQ(record_store_remove_broken(bed.store, path, on_removed, &told, NULL), 0);
        CHECK(!there(&bed, "flipped"));
        CHECK(!record_store_find_broken(bed.store, "flipped"));
        CHECK_EQ(told.n, 0);
        run_out(&bed);
        CHECK_EQ(told.n, 1);
        CHECK_EQ(told.result, 0);
        CHECK_EQ(count_folders(&bed), 4);
        CHECK_EQ(record_name_reserve(bed.store, "flipped", NULL, &name, NULL), 0);
        record_name_free(name);
        CHECK(record_store_remove_broken(bed.store, path, on_removed, &told, NULL) < 0);
        CHECK_EQ(told.n, 1);
        (void)record_store_broken(bed.store, &n);
        CHECK_EQ(n, 2);
        bed_done(&bed);
}

/* Its name is in the document alone, and whoever can be read comes first. */
static void test_broken_name(void) {
        _cleanup_free_ char *path = NULL;
        const RecordBroken *b;
        Thing *t;
        size_t n;
        Bed bed;

        bed_new(&bed, &by_uuid);
        t = make(&bed, &by_uuid, "web");
        path = strf("%s/thing.json", t->uuid);
        CHECK(path);
        thing_free(t);
        flip_bit(&bed, path, strlen("{\n  \"version\": "));
        thing_free(make(&bed, &by_uuid, "web"));
        bed_close(&bed);
        bed_open(&bed, &by_uuid);
        CHECK(record_store_load(bed.store) >= 0);
        b = record_store_broken(bed.store, &n);
        CHECK_EQ(n, 1);
        CHECK_STREQ(b->name, "web");
        CHECK_EQ(bed.n_things, 1);
        CHECK(record_store_find(bed.store, "web") == bed.things[0]);
        CHECK(record_store_find_broken(bed.store, b->folder) == b);
        CHECK_EQ(record_store_remove_broken(bed.store, b->path, NULL, NULL, NULL), 0);
        run_out(&bed);
        CHECK_EQ(count_folders(&bed), 1);
        CHECK(record_store_find(bed.store, "web") == bed.things[0]);
        bed_done(&bed);
}

/* What could not be deleted, as no child could be forked, is when the next one is. */
static void test_left_over(void) {
        Told first = {}, second = {};
        Thing *web, *db;
        Bed bed;

        bed_new(&bed, &by_name);
        web = make(&bed, &by_name, "web");
        db = make(&bed, &by_name, "db");
        CHECK(record_remove(&web->record, on_removed, &first, NULL) >= 0);
        faults->countdown = 0;
        run_until(&bed, &first.n);
        faults->countdown = NO_FAULT;
        CHECK_EQ(first.result, -EIO);
        CHECK_EQ(count_folders(&bed), 2);
        CHECK(record_remove(&db->record, on_removed, &second, NULL) >= 0);
        run_out(&bed);
        CHECK_EQ(second.result, 0);
        CHECK_EQ(count_folders(&bed), 0);
        thing_free(web);
        thing_free(db);
        bed_done(&bed);
}

/* The sweep takes what was there before, and nothing that is made while it runs. */
static void test_sweep(void) {
        Gate gate = gate_new();
        Try made = { .a = 1, .b = 1 };
        Thing *draft, *other;
        Bed bed;

        bed_new(&bed, &by_name);
        put_file(&bed, ".new-web", "{}");
        put_file(&bed, ".old-0123", "{}");
        put_file(&bed, ".notes", "");
        faults->gate = gate.out;
        CHECK(record_store_load(bed.store) >= 0);
        faults->gate = -1;
        CHECK(make_draft(&bed, "web", &draft) >= 0);
        other = make(&bed, &by_name, "other");
        gate_open(&gate);
        run_out(&bed);
        CHECK(!there(&bed, ".new-web"));
        CHECK(!there(&bed, ".old-0123"));
        CHECK(there(&bed, ".notes"));
        made.thing = draft;
        CHECK(record_commit(draft->record, draft->name, &trying, &made, NULL) >= 0);
        run_out(&bed);
        CHECK_EQ(made.result, 0);
        CHECK(there(&bed, "web/thing.json"));
        CHECK(there(&bed, "other/thing.json"));
        thing_free(draft);
        thing_free(other);
        bed_done(&bed);
}

/* --- Each call fails in turn */

/* A whole life. Whatever fails, all that was begun is completed once, and what is on disk is what memory
 * has. */
static void live(Bed *bed, const RecordType *type, int countdown) {
        Try made = { .a = 1, .b = 1 }, first = { .a = 2 }, second = { .b = 2 };
        Told removed = {};
        Thing *t = NULL;
        int r, q = -1;

        faults->countdown = countdown;
        r = make_draft(bed, "web", &t);
        made.thing = first.thing = second.thing = t;
        if (r >= 0)
                r = record_commit(t->record, type->folder_is_name ? t->name : NULL, &trying, &made, NULL);
        if (r >= 0) {
                run_out(bed);
                CHECK_EQ(made.completed, 1);
        } else
                CHECK_EQ(made.completed, 0);
        if (r < 0 || made.result < 0) {
                t = thing_free(t);
                run_out(bed);
                faults->countdown = NO_FAULT;
                return;
        }
        r = record_write(t->record, &trying, &first, NULL);
        q = record_write(t->record, &trying, &second, NULL);
        run_out(bed);
        CHECK_EQ(first.completed, r >= 0);
        CHECK_EQ(second.completed, q >= 0);
        if (countdown < NO_FAULT && faults->happened)
                check_on_disk(bed, type, t->a, t->b);
        r = record_remove(&t->record, on_removed, &removed, NULL);
        CHECK_EQ(r < 0, t->record != NULL);
        run_out(bed);
        CHECK_EQ(removed.n, r >= 0);
        if (r >= 0)
                CHECK(!there(bed, type->folder_is_name ? "web" : t->uuid));
        faults->countdown = NO_FAULT;
        if (r < 0)
                CHECK(record_remove(&t->record, on_removed, &removed, NULL) >= 0);
        thing_free(t);
        run_out(bed);
}

static void test_each_fault(const RecordType *type) {
        int n = 0;
        Bed bed;

        do {
                bed_new(&bed, type);
                faults->happened = false;
                live(&bed, type, n++);

                /* Nothing is left that the next instance would take for a record, or leave there. */
                bed_close(&bed);
                run_out(&bed);
                bed_open(&bed, type);
                CHECK(record_store_load(bed.store) >= 0);
                CHECK_EQ(bed.n_things, 0);
                run_out(&bed);
                CHECK_EQ(count_folders(&bed), 0);
                bed_done(&bed);
        } while (faults->happened);
        CHECK(n > 60);
}

/* A record is loaded, or broken, or nothing is served at all: it is never just absent. */
static void test_each_fault_of_loading(void) {
        size_t n_broken;
        int n = 0, r;
        Bed bed;

        bed_new(&bed, &by_name);
        thing_free(make(&bed, &by_name, "web"));
        bed_close(&bed);
        do {
                put_file(&bed, ".old-0123", "{}");
                bed_open(&bed, &by_name);
                faults->happened = false;
                faults->countdown = n++;
                r = record_store_load(bed.store);
                run_out(&bed);
                faults->countdown = NO_FAULT;
                (void)record_store_broken(bed.store, &n_broken);
                CHECK(r < 0 || bed.n_things + n_broken == 1);
                CHECK(r < 0 || record_name_is_taken(bed.store, "web"));
                bed_close(&bed);
        } while (faults->happened);
        CHECK(n > 15);
        bed_done(&bed);
}

int main(void) {
        sigset_t mask;

        faults_init();
        log_set_max_level(LOG_CRIT);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) >= 0);

        test_names();
        test_life(&by_name);
        test_life(&by_uuid);
        test_queue();
        test_queue_is_bounded();
        test_queued_begin_fails();
        test_freed_in_callback(free_record);
        test_freed_in_callback(remove_record);
        test_removed_while_written();
        test_too_late();
        test_abandoned_commit();
        test_store_freed();
        test_broken();
        test_broken_name();
        test_sweep();
        test_left_over();
        test_each_fault(&by_name);
        test_each_fault(&by_uuid);
        test_each_fault_of_loading();
        return 0;
}
