/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Operations on images: each call in turn fails, each is called off in each turn of the loop, and what
 * others do meanwhile. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/test-record-faults.h"
#include "test-image-bed.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/test.h"

#define TOLD_MAX 3

/* One operation, or several at once, with what was there before. */
typedef struct Scenario {
        const char *name;
        void (*prepare)(Bed *bed);
        void (*begin)(Bed *bed, Told *told);
        void (*check)(Bed *bed); /* that all went well; NULL: that they say so is enough */
} Scenario;

static void begin_pull(Bed *bed, Told *told) {
        pull_as(bed, ALICE, "a", told);
}

static void check_a(Bed *bed) {
        check_content(bed, "a", "disk");
}

static void begin_unnamed_pull(Bed *bed, Told *told) {
        pull_as(bed, ALICE, NULL, told);
}

static void check_unnamed(Bed *bed) {
        check_content(bed, "disk", "disk");
}

static void prepare_a(Bed *bed) {
        make_image(bed, ALICE, "a", false, "older");
}

static void begin_stored_pull(Bed *bed, Told *told) {
        pull_as(bed, ALICE, "b", told);
}

static ino_t inode_of(const Bed *bed, const char *name) {
        int fd = image_open(image_find(bed->images, name));
        struct stat st;

        CHECK(fd >= 0 && fstat(fd, &st) >= 0);
        close(fd);
        return st.st_ino;
}

static void check_stored(Bed *bed) {
        CHECK_EQ(inode_of(bed, "a"), inode_of(bed, "b"));
}

static void begin_refresh(Bed *bed, Told *told) {
        pull(bed, &(PullOptions){ .url = URL, .refresh = true, .image = { .name = "a", .owner = ALICE } },
                        told);
}

static void check_refreshed(Bed *bed) {
        CHECK_EQ(count_images(bed), 1);
        check_content(bed, "a", "disk");
}

static void prepare_used(Bed *bed) {
        prepare_a(bed);
        bed_use(bed, "a");
}

static void check_displaced(Bed *bed) {
        const Image *old = image_find_by_uuid(bed->images, bed->used);

        CHECK_EQ(count_images(bed), 2);
        check_content(bed, "a", "disk");
        CHECK(old && startswith(image_name(old), "a-"));
        check_content(bed, image_name(old), "older");
}

static void begin_same_pulls(Bed *bed, Told *told) {
        pull_as(bed, ALICE, "a", told);
        pull_as(bed, ALICE, "a", told + 1);
}

static void begin_others_pulls(Bed *bed, Told *told) {
        pull_as(bed, ALICE, "a", told);
        pull_as(bed, BOB, "b", told + 1);
        pull_as(bed, 0, "c", told + 2);
}

static void check_others(Bed *bed) {
        CHECK_EQ(count_images(bed), 3);
        CHECK_EQ(image_find(bed->images, "b")->record.owner, BOB);
}

static void begin_import(Bed *bed, Told *told) {
        import_as(bed, ALICE, "a", told);
}

static void prepare_compressed(Bed *bed) {
        fake_workers.compressed = true;
}

static void prepare_shared(Bed *bed) {
        make_image(bed, BOB, "b", true, "disk");
}

static void prepare_both(Bed *bed) {
        make_image(bed, ALICE, "a", false, "older");
        make_image(bed, BOB, "b", true, "disk");
}

static void begin_export(Bed *bed, Told *told) {
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r;

        *told = (Told){};
        r = image_export(image_find(bed->images, "b"), bed->fd, NULL, NULL, ALICE, &job, &e);
        if (r < 0) {
                told_refused(told, r, e);
                return;
        }
        CHECK_EQ(job->owner, BOB);
        CHECK_EQ(job->requester, ALICE);
        told_wait(told, job->operation);
}

static void begin_inspection(Bed *bed, Told *told) {
        _cleanup_error_ Error *e = NULL;
        int r;

        *told = (Told){};
        r = image_inspect(bed->images, bed->fd, ALICE, told_expect(told), told, &told->op, &e);
        if (r < 0)
                told_refused(told, r, e);
}

static void begin_rename(Bed *bed, Told *told) {
        _cleanup_error_ Error *e = NULL;
        int r;

        *told = (Told){};
        r = image_rename(image_find(bed->images, "a"), "c", ALICE, told_expect(told), told, &e);
        if (r < 0)
                told_refused(told, r, e);
}

static void check_renamed(Bed *bed) {
        CHECK(!image_find(bed->images, "a"));
        check_content(bed, "c", "older");
}

static void begin_sharing(Bed *bed, Told *told) {
        _cleanup_error_ Error *e = NULL;
        int r;

        *told = (Told){};
        r = image_set_shared(image_find(bed->images, "a"), true, ALICE, told_expect(told), told, &e);
        if (r < 0)
                told_refused(told, r, e);
}

static void check_shared(Bed *bed) {
        CHECK(image_find(bed->images, "a")->record.shared);
}

static void begin_removal(Bed *bed, Told *told) {
        _cleanup_error_ Error *e = NULL;
        int r;

        *told = (Told){};
        r = image_remove(image_find(bed->images, "a"), ALICE, told_expect(told), told, &e);
        if (r < 0)
                told_refused(told, r, e);
        else
                CHECK(!image_find(bed->images, "a"));
}

static void check_none(Bed *bed) {
        CHECK_EQ(count_images(bed), 0);
}

static const Scenario scenarios[] = {
        { "pull", NULL, begin_pull, check_a },
        { "unnamed pull", NULL, begin_unnamed_pull, check_unnamed },
        { "stored pull", prepare_a, begin_stored_pull, check_stored },
        { "refresh", prepare_a, begin_refresh, check_refreshed },
        { "refresh of a used one", prepare_used, begin_refresh, check_displaced },
        { "same pulls", NULL, begin_same_pulls, check_a },
        { "others' pulls", NULL, begin_others_pulls, check_others },
        { "import", NULL, begin_import, check_a },
        { "compressed import", prepare_compressed, begin_import, check_a },
        { "import of what is shared", prepare_shared, begin_import, check_a },
        { "export", prepare_both, begin_export, NULL },
        { "inspection", NULL, begin_inspection, NULL },
        { "rename", prepare_a, begin_rename, check_renamed },
        { "sharing", prepare_a, begin_sharing, check_shared },
        { "removal", prepare_a, begin_removal, check_none },
};

static void check_told(const Told *told) {
        for (const Told *t = told; t < told + TOLD_MAX; t++)
                CHECK_EQ(t->n, t->expected);
}

/* What memory has is what the next instance finds, where nothing was wrong with the disk. */
static char **list(const Bed *bed) {
        char **all = NULL;
        Image *image;

        for (size_t i = 0; (image = image_store_next(bed->images, &i));)
                CHECK(strv_extendf(&all, "%s %s %u %i", image_name(image), image->record.uuid,
                                      (unsigned)image->record.owner, image->record.shared) >= 0);
        return all;
}

static void check_restart(Bed *bed) {
        _cleanup_strv_ char **before = list(bed), **after = NULL;

        bed_restart(bed);
        after = list(bed);
        CHECK_EQ(strv_length(before), strv_length(after));
        for (size_t i = 0; before && before[i]; i++)
                CHECK_STREQ(before[i], after[i]);
}

/* Returns how many points there were. */
static int run_with_fault(const Scenario *s, int n) {
        Told told[TOLD_MAX] = {};
        bool well = true;
        Bed bed;

        bed_new(&bed);
        if (s->prepare)
                s->prepare(&bed);
        faults->happened = false;
        faults->countdown = n;
        s->begin(&bed, told);
        run_out(&bed);
        faults->countdown = NO_FAULT;
        check_told(told);
        operations_collect(&bed.core->operations);
        run_out(&bed);
        check_idle(&bed);
        for (const Told *t = told; t < told + TOLD_MAX; t++)
                well = well && t->result >= 0;
        if (well && s->check)
                s->check(&bed);
        if (!faults->happened) {
                CHECK(well);
                check_restart(&bed);
        }
        bed_done(&bed);
        return faults->happened;
}

static void test_each_fault(void) {
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++) {
                int n = 0;

                while (run_with_fault(scenarios + i, n))
                        n++;
                CHECK(n >= 4);
        }
}

static void cancel_all(Bed *bed) {
        for (Operation *op = bed->core->operations.running; op; op = op->next)
                if (!op->parent && operation_cancel_for(op, ERROR_CANCELED, "It is called off")) {
                        cancel_all(bed);
                        return;
                }
}

/* False: it was over before. */
static bool run_canceled(const Scenario *s, int turns) {
        Told told[TOLD_MAX] = {};
        bool over = false;
        Bed bed;

        bed_new(&bed);
        if (s->prepare)
                s->prepare(&bed);
        s->begin(&bed, told);
        for (int i = 0; i < turns && !over; i++)
                over = !run_turn(&bed);
        cancel_all(&bed);
        run_out(&bed);
        check_told(told);
        check_idle(&bed);
        for (const Told *t = told; t < told + TOLD_MAX; t++)
                CHECK(t->result >= 0 || t->code == ERROR_CANCELED);
        check_restart(&bed);
        bed_done(&bed);
        return !over;
}

static void test_canceled_at_each_turn(void) {
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
                for (int n = 0; run_canceled(scenarios + i, n); n++)
                        ;
}

/* The service ends in each turn: nobody is told twice, and nothing is left open. */
static bool run_ended(const Scenario *s, int turns) {
        Told told[TOLD_MAX] = {};
        bool over = false;
        Bed bed;

        bed_new(&bed);
        if (s->prepare)
                s->prepare(&bed);
        s->begin(&bed, told);
        for (int i = 0; i < turns && !over; i++)
                over = !run_turn(&bed);
        bed_restart(&bed);
        check_idle(&bed);
        bed_done(&bed);
        return !over;
}

static void test_ended_at_each_turn(void) {
        for (size_t i = 0; i < ELEMENTSOF(scenarios); i++)
                for (int n = 0; run_ended(scenarios + i, n); n++)
                        ;
}

static void test_worker_fails(void) {
        for (size_t i = 0; i < 12; i++) { /* those that have workers */
                Told told[TOLD_MAX] = {};
                Bed bed;

                bed_new(&bed);
                if (scenarios[i].prepare)
                        scenarios[i].prepare(&bed);
                fake_workers.compressed = false;
                fake_workers.error = ERROR_NO_SPACE;
                scenarios[i].begin(&bed, told);
                run_out(&bed);
                check_told(told);
                if (i != 2) /* the store has it */
                        CHECK(told[0].result < 0 && told[0].code == ERROR_NO_SPACE);
                check_idle(&bed);
                check_restart(&bed);
                bed_done(&bed);
        }
}

/* --- Who has which name */

/* A user's pull that began earlier takes nothing that somebody else has put there since. */
static void test_name_taken_since(void) {
        Told refresh, removal, import;
        Bed bed;

        bed_new(&bed);
        prepare_a(&bed);
        fake_workers.hang = true;
        begin_refresh(&bed, &refresh);
        run_out(&bed);
        begin_removal(&bed, &removal);
        fake_workers.hang = false;
        import_as(&bed, 0, "a", &import);
        run_out(&bed);
        CHECK_EQ(import.result, 0);
        CHECK_EQ(removal.n, 1);

        /* Now the download comes to its end. */
        CHECK_EQ(refresh.n, 0);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(refresh.n, 1);
        CHECK_EQ(refresh.code, ERROR_IMAGE_EXISTS);
        CHECK_EQ(count_images(&bed), 1);
        CHECK_EQ(image_find(bed.images, "a")->record.owner, 0);
        check_idle(&bed);
        bed_done(&bed);
}

/* A service that dies in the middle finds two of one name, and the newer one has it. */
static void test_clock_set_back(void) {
        Told refresh;
        Image *old;
        Bed bed;

        bed_new(&bed);
        prepare_used(&bed);
        old = image_find(bed.images, "a");
        old->record.created *= 2;
        begin_refresh(&bed, &refresh);
        run_out(&bed);
        CHECK_EQ(refresh.result, 0);
        check_displaced(&bed);
        CHECK(image_find(bed.images, "a")->record.created > old->record.created);
        bed_done(&bed);
}

/* Nor one that the same user has made of something else. */
static void test_same_owner_other_image(void) {
        Told refresh, removal, import;
        Bed bed;

        bed_new(&bed);
        prepare_a(&bed);
        fake_workers.hang = true;
        begin_refresh(&bed, &refresh);
        run_out(&bed);
        begin_removal(&bed, &removal);
        fake_workers.hang = false;
        import_as(&bed, ALICE, "a", &import);
        run_out(&bed);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(refresh.code, ERROR_IMAGE_EXISTS);
        CHECK_STREQ(image_find(bed.images, "a")->record.url, NULL);
        bed_done(&bed);
}

/* A name that we chose is no reason to fail. */
static void test_chosen_name_taken_since(void) {
        Told refresh, removal, import;
        Bed bed;

        bed_new(&bed);
        make_image(&bed, ALICE, "disk", false, "older");
        fake_workers.hang = true;
        pull(&bed, &(PullOptions){ .url = URL, .refresh = true, .image.owner = ALICE }, &refresh);
        run_out(&bed);
        removal = (Told){};
        CHECK(image_remove(image_find(bed.images, "disk"), ALICE, told_expect(&removal), &removal, NULL) >=
                        0);
        fake_workers.hang = false;
        import_as(&bed, BOB, "disk", &import);
        run_out(&bed);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(refresh.result, 0);
        CHECK_EQ(image_find(bed.images, "disk")->record.owner, BOB);
        CHECK_EQ(image_find(bed.images, "disk-2")->record.owner, ALICE);
        CHECK_STREQ(image_find(bed.images, "disk-2")->record.uuid, refresh.uuid);
        check_idle(&bed);
        bed_done(&bed);
}

/* The name is the first one's still when the second one has failed. */
static void test_second_fails(void) {
        Told first, second, import;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = true;
        pull_as(&bed, ALICE, "a", &first);
        pull_as(&bed, ALICE, "a", &second);
        run_out(&bed);
        CHECK(operation_cancel_for(second.op, ERROR_CANCELED, "It is called off"));
        CHECK_EQ(second.n, 1);
        import_as(&bed, BOB, "a", &import);
        CHECK_EQ(import.code, ERROR_IMAGE_EXISTS);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(first.result, 0);
        CHECK_EQ(image_find(bed.images, "a")->record.owner, ALICE);
        check_idle(&bed);
        bed_done(&bed);
}

/* What somebody wants for themselves is not the image that they have pulled for everybody at the same time.
 */
static void test_other_sharing(void) {
        PullOptions shared = { .url = URL, .image = { .owner = ALICE, .shared = true } },
                    named = { .url = URL, .image = { .name = "a", .owner = ALICE, .shared = true } };
        Told first, second, third, chosen, other;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = true;
        pull(&bed, &named, &first);
        pull_as(&bed, ALICE, "a", &second);
        CHECK_EQ(second.code, ERROR_IMAGE_EXISTS);
        pull(&bed, &named, &third);
        pull(&bed, &shared, &chosen);
        pull_as(&bed, ALICE, NULL, &other);
        run_out(&bed);
        fake_go_on();
        run_out(&bed);
        CHECK_STREQ(third.uuid, first.uuid);
        CHECK(image_find(bed.images, "a")->record.shared);
        CHECK_STREQ(image_find(bed.images, "disk")->record.uuid, chosen.uuid);
        CHECK(image_find(bed.images, "disk")->record.shared);
        CHECK_STREQ(image_find(bed.images, "disk-2")->record.uuid, other.uuid);
        CHECK(!image_find(bed.images, "disk-2")->record.shared);
        check_idle(&bed);
        bed_done(&bed);
}

/* Nor one of the same URL that has come since. */
static void test_same_url_other_image(void) {
        Told refresh, removal, again;
        Bed bed;

        bed_new(&bed);
        prepare_a(&bed);
        fake_workers.hang = true;
        begin_refresh(&bed, &refresh);
        run_out(&bed);
        begin_removal(&bed, &removal);
        fake_workers.hang = false;
        pull(&bed,
                        &(PullOptions){ .url = URL,
                                        .checksums = URL ".sums",
                                        .image = { .name = "a", .owner = ALICE } },
                        &again);
        run_out(&bed);
        CHECK_EQ(again.result, 0);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(refresh.code, ERROR_IMAGE_EXISTS);
        CHECK_STREQ(image_find(bed.images, "a")->record.uuid, again.uuid);
        bed_done(&bed);
}

/* Whatever is given another name while a newer one comes is neither done away with, nor keeps it the name.
 */
static bool run_renamed(int turns) {
        Told refresh, rename;
        bool over = false;
        char uuid[40];
        Bed bed;

        bed_new(&bed);
        prepare_a(&bed);
        begin_refresh(&bed, &refresh);
        for (int i = 0; i < turns && !over; i++)
                over = !run_turn(&bed);
        snprintf(uuid, sizeof(uuid), "%s", image_find(bed.images, "a")->record.uuid);
        begin_rename(&bed, &rename);
        run_out(&bed);
        CHECK_EQ(refresh.result, 0);
        CHECK_EQ(rename.result, 0);
        CHECK_STREQ(image_find(bed.images, "c")->record.uuid, uuid);
        check_content(&bed, streq(uuid, refresh.uuid) ? "c" : "a", "disk");
        check_idle(&bed);
        check_restart(&bed);
        bed_done(&bed);
        return !over;
}

static void test_renamed_meanwhile(void) {
        for (int n = 0; run_renamed(n); n++)
                ;
}

/* Folders of one name, and the name that one of them would get instead is taken, too. */
static void test_one_name_on_disk(void) {
        static const char *const uuids[] = { "11111111-0000-4000-8000-000000000001",
                "11111111-0000-4000-8000-000000000002", "22222222-0000-4000-8000-000000000003" };
        static const char *const names[] = { "a", "a", "a-11111111" };
        _cleanup_strv_ char **all = NULL;
        Bed bed;

        bed_new(&bed);
        for (size_t i = 0; i < ELEMENTSOF(uuids); i++) {
                _cleanup_close_ int fd = make_dir_at(bed.images->fd, uuids[i], 0700);
                _cleanup_free_ char *text = strf(
                                "{\"version\":1,\"owner\":%u,\"shared\":false,\"name\":\"%s\","
                                "\"uuid\":\"%s\",\"format\":\"raw\",\"source-format\":\"raw\","
                                "\"content-digest\":\"x\",\"virtual-size\":1,\"size\":1,"
                                "\"allocated\":1,\"created\":%zu}",
                                ALICE, names[i], uuids[i], i + 1);

                CHECK(fd >= 0 && text);
                CHECK(write_file_at(fd, IMAGE_RECORD_FILE, text, strlen(text), 0600, 0) >= 0);
        }
        bed_restart(&bed);
        all = list(&bed);
        CHECK_EQ(strv_length(all), 3);
        for (size_t i = 0; i < ELEMENTSOF(uuids); i++)
                CHECK(image_find_by_uuid(bed.images, uuids[i]));
        CHECK_STREQ(image_find(bed.images, "a")->record.uuid, uuids[1]);
        check_idle(&bed); /* each is found by its name */
        bed_done(&bed);
}

/* What has got another name and is to be deleted */
static unsigned count_left_over(const Bed *bed) {
        DIR *dir = fdopendir(openat(bed->images->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        unsigned n = 0;

        CHECK(dir);
        for (const struct dirent *de; (de = readdir(dir));)
                n += startswith(de->d_name, ".old-") != NULL;
        closedir(dir);
        return n;
}

static bool is_there(int dir_fd, const char *path) {
        return faccessat(dir_fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

/* What is left of a download is deleted by the first start a week later, and kept until then. */
static void test_stale_downloads(void) {
        static const char *const folders[] = { "stale", "fresh" };
        Bed bed;

        bed_new(&bed);
        for (size_t i = 0; i < ELEMENTSOF(folders); i++) {
                const time_t age = (i == 0 ? 7 * 24 + 1 : 7 * 24 - 1) * 3600;
                const struct timespec then = { .tv_sec = time(NULL) - age }, times[] = { then, then };
                int fd = make_dir_at(partials_fd(bed.images->partials), folders[i], 0700);

                CHECK(fd >= 0);
                CHECK(write_file_at(fd, "download", "x", 1, 0600, 0) >= 0);
                CHECK(futimens(fd, times) >= 0);
                close(fd);
        }
        bed_restart(&bed);
        CHECK(!is_there(partials_fd(bed.images->partials), "stale"));
        CHECK(is_there(partials_fd(bed.images->partials), "fresh/download"));
        CHECK_EQ(count_left_over(&bed), 0);
        bed_done(&bed);
}

/* It is up to date, and not for everybody any more by the time that the server says so. */
static void test_unshared_meanwhile(void) {
        Told refresh, change = {};
        Bed bed;

        bed_new(&bed);
        make_image(&bed, ALICE, "a", true, "secret");
        fake_workers.hang = fake_workers.not_modified = true;
        pull(&bed, &(PullOptions){ .url = URL, .refresh = true, .image = { .name = "b", .owner = BOB } },
                        &refresh);
        run_out(&bed);
        CHECK(image_set_shared(image_find(bed.images, "a"), false, ALICE, told_expect(&change), &change,
                              NULL) >= 0);
        run_out(&bed);
        CHECK_EQ(change.result, 0);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(refresh.code, ERROR_NO_SUCH_IMAGE);
        CHECK(!image_find(bed.images, "b"));
        fake_workers.not_modified = false;
        check_idle(&bed);
        bed_done(&bed);
}

/* These have the same hash: nobody can keep others from a URL by one of their own. */
static void test_urls_of_one_hash(void) {
        static const char *const urls[] = { "http://host/OlAjyuz7bAB", "http://host/Nvn9_Tx_O4B" };
        Told alice, bob, again;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = true;
        pull(&bed, &(PullOptions){ .url = urls[0], .image = { .name = "a", .owner = ALICE } }, &alice);
        pull(&bed, &(PullOptions){ .url = urls[1], .image = { .name = "b", .owner = BOB } }, &bob);
        run_out(&bed);
        CHECK_EQ(fake_workers.live, 2);
        CHECK(operation_cancel_for(alice.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        pull(&bed, &(PullOptions){ .url = urls[1], .image = { .name = "c", .owner = ALICE } }, &again);
        run_out(&bed);
        CHECK_EQ(fake_workers.live, 1); /* of the same URL there is one */
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(alice.code, ERROR_CANCELED);
        CHECK_EQ(bob.result, 0);
        CHECK_EQ(again.result, 0);
        check_idle(&bed);
        bed_done(&bed);
}

/* Of one user's that break off only so many are kept, however many these are, and others' as well. */
static unsigned count_partials(const Bed *bed) {
        DIR *dir = fdopendir(
                        openat(partials_fd(bed->images->partials), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
        unsigned n = 0;

        CHECK(dir);
        for (const struct dirent *de; (de = readdir(dir));)
                n += de->d_name[0] != '.';
        closedir(dir);
        return n;
}

static void break_off(Bed *bed, uid_t user, unsigned number) {
        _cleanup_free_ char *url = strf(URL "?%u", number);
        Told t;

        pull(bed, &(PullOptions){ .url = url, .image = { .name = "a", .owner = user } }, &t);
        run_out(bed);
        CHECK_EQ(t.code, ERROR_DOWNLOAD_FAILED);
}

static void test_kept_downloads(void) {
        Bed bed;

        bed_new(&bed);
        fake_workers.error = ERROR_DOWNLOAD_FAILED;
        break_off(&bed, BOB, 0);
        for (unsigned i = 1; i <= 2 * PARTIALS_PER_USER; i++) {
                break_off(&bed, ALICE, i);
                CHECK(count_partials(&bed) <= i + 1);
        }
        /* Without privileges all belong to one. */
        CHECK_EQ(count_partials(&bed), geteuid() == 0 ? PARTIALS_PER_USER + 1 : PARTIALS_PER_USER);
        CHECK_EQ(count_left_over(&bed), 0);
        break_off(&bed, ALICE, 2 * PARTIALS_PER_USER); /* the one that was kept last is gone on with */
        CHECK_EQ(count_partials(&bed), geteuid() == 0 ? PARTIALS_PER_USER + 1 : PARTIALS_PER_USER);
        fake_workers.error = _ERROR_CODE_INVALID;
        check_idle(&bed);
        bed_done(&bed);
}

static void test_root(void) {
        Image *found;
        Bed bed;

        bed_new(&bed);
        prepare_a(&bed);
        CHECK(image_get(bed.images, "a", 0, &found, NULL) < 0);
        CHECK(!image_find_by_url(bed.images, URL, 0));
        make_image(&bed, BOB, "b", true, "disk");
        CHECK(image_get(bed.images, "b", 0, &found, NULL) >= 0);
        CHECK(image_find_by_url(bed.images, URL, 0) == found);
        bed_done(&bed);
}

/* --- Content */

/* A worker that was had by a user's bytes says that they are what others have. */
static void test_lying_worker(void) {
        Told import;
        Bed bed;

        bed_new(&bed);
        make_image(&bed, BOB, "b", true, "good");
        fake_workers.content = "evil";
        fake_workers.digest = "good";
        import_as(&bed, ALICE, "a", &import);
        run_out(&bed);
        CHECK_EQ(import.result, 0);
        check_content(&bed, "a", "evil");
        check_content(&bed, "b", "good");

        /* The truth is worth it. */
        fake_workers.content = "good";
        import_as(&bed, 0, "c", &import);
        run_out(&bed);
        CHECK_EQ(import.result, 0);
        CHECK_EQ(inode_of(&bed, "c"), inode_of(&bed, "b"));
        bed_done(&bed);
}

/* --- Transfers of several */

static void test_transfer_outlives_its_first_pull(void) {
        Told alice, bob;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = true;
        pull_as(&bed, ALICE, "a", &alice);
        pull_as(&bed, BOB, "b", &bob);
        run_out(&bed);
        CHECK_EQ(fake_workers.begun, 1);
        CHECK_EQ(accounts_used(bed.core->accounts, ALICE, RESOURCE_WORKERS), 1);
        CHECK_EQ(accounts_used(bed.core->accounts, BOB, RESOURCE_WORKERS), 0);
        CHECK(operation_cancel_for(alice.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        CHECK_EQ(alice.code, ERROR_CANCELED);
        CHECK_EQ(accounts_used(bed.core->accounts, ALICE, RESOURCE_WORKERS), 0);
        CHECK_EQ(accounts_used(bed.core->accounts, BOB, RESOURCE_WORKERS), 1);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(bob.result, 0);
        CHECK_EQ(fake_workers.begun, 2); /* and one that looked at what came */
        CHECK_EQ(count_images(&bed), 1);
        check_idle(&bed);
        bed_done(&bed);
}

/* Nobody writes into what a worker has that was killed and is not gone. */
static void test_killed_worker_is_awaited(void) {
        Told first, second;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = fake_workers.undead = true;
        pull_as(&bed, ALICE, "a", &first);
        run_out(&bed);
        CHECK(operation_cancel_for(first.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        CHECK_EQ(first.n, 1);
        CHECK_EQ(accounts_used(bed.core->accounts, ALICE, RESOURCE_WORKERS), 1);
        fake_workers.hang = false;
        pull_as(&bed, BOB, "b", &second);
        run_out(&bed);
        CHECK_EQ(fake_workers.begun, 1);
        CHECK_EQ(second.n, 0);
        fake_bury();
        run_out(&bed);
        CHECK_EQ(second.result, 0);
        CHECK_EQ(second.n, 1);
        check_content(&bed, "b", "disk");
        check_idle(&bed);
        bed_done(&bed);
}

/* An import that is called off has ended when its worker is gone. */
static void test_import_awaits_its_worker(void) {
        Told import, again;
        Bed bed;

        bed_new(&bed);
        fake_workers.hang = fake_workers.undead = true;
        import_as(&bed, ALICE, "a", &import);
        run_out(&bed);
        CHECK(operation_cancel_for(import.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        CHECK_EQ(import.n, 0);
        import_as(&bed, ALICE, "a", &again);
        CHECK_EQ(again.code, ERROR_IMAGE_EXISTS);
        fake_bury();
        run_out(&bed);
        CHECK_EQ(import.code, ERROR_CANCELED);
        check_idle(&bed);
        bed_done(&bed);
}

/* Where the document of the only draft is written before it gets its name */
static void find_draft(int images_fd, char ret[static 300]) {
        int fd = dup(images_fd), n = 0;
        DIR *dir = fdopendir(fd);

        CHECK(dir);
        for (const struct dirent *de; (de = readdir(dir));)
                if (startswith(de->d_name, ".new-")) {
                        snprintf(ret, 300, "%s/.image.json.new", de->d_name);
                        n++;
                }
        closedir(dir);
        CHECK_EQ(n, 1);
}

/* What cannot be written is called as the user calls it, though it has no name in the store yet. */
static void test_record_is_not_written(void) {
        char draft[300];
        Told import;
        Bed bed;
        int fd;

        bed_new(&bed);
        fake_workers.hang = true;
        import_as(&bed, ALICE, "a", &import);
        run_out(&bed);
        fd = openat(bed.fd, "images", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(fd >= 0);
        find_draft(fd, draft);
        CHECK(mkdirat(fd, draft, 0700) >= 0);
        close(fd);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(import.n, 1);
        CHECK_STREQ(import.message, "The record of image 'a' cannot be written: Is a directory");
        check_idle(&bed);
        bed_done(&bed);
}

/* --- Accounts */

static void test_limits(void) {
        unsigned max = (unsigned)resource_limits_default[RESOURCE_WORKERS].per_user;
        Told *told = calloc(max + 2, sizeof(Told));
        Bed bed;

        CHECK(told);
        bed_new(&bed);
        fake_workers.hang = true;
        for (unsigned i = 0; i < max; i++) {
                _cleanup_free_ char *name = strf("many%u", i);

                import_as(&bed, ALICE, name, told + i);
                CHECK_EQ(told[i].expected, 1);
        }
        import_as(&bed, ALICE, "a", told + max);
        CHECK_EQ(told[max].code, ERROR_QUOTA_EXCEEDED);
        pull_as(&bed, ALICE, "a", told + max);
        CHECK_EQ(told[max].code, ERROR_QUOTA_EXCEEDED);
        import_as(&bed, BOB, "b", told + max + 1);
        CHECK_EQ(told[max + 1].expected, 1);
        cancel_all(&bed);
        run_out(&bed);
        for (unsigned i = 0; i < max; i++)
                CHECK_EQ(told[i].code, ERROR_CANCELED);
        check_idle(&bed);
        bed_done(&bed);
        free(told);
}

/* Whoever cannot pay for a transfer that was somebody else's does without; the next one can. */
static void test_heir_cannot_pay(void) {
        unsigned max = (unsigned)resource_limits_default[RESOURCE_WORKERS].per_user;
        Told *told = calloc(max, sizeof(Told)), alice, bob, root;
        Bed bed;

        CHECK(told);
        bed_new(&bed);
        fake_workers.hang = true;
        for (unsigned i = 0; i < max; i++) {
                _cleanup_free_ char *name = strf("many%u", i);

                import_as(&bed, BOB, name, told + i);
        }
        pull_as(&bed, ALICE, "a", &alice);
        pull_as(&bed, BOB, "b", &bob);
        pull_as(&bed, 0, "c", &root);
        run_out(&bed);
        CHECK(operation_cancel_for(alice.op, ERROR_CANCELED, "It is called off"));
        run_out(&bed);
        CHECK_EQ(bob.code, ERROR_QUOTA_EXCEEDED);
        CHECK_EQ(root.n, 0);
        CHECK_EQ(accounts_used(bed.core->accounts, 0, RESOURCE_WORKERS), 1);
        fake_go_on();
        run_out(&bed);
        CHECK_EQ(root.result, 0);
        check_idle(&bed);
        bed_done(&bed);
        free(told);
}

/* Too many images are too many before anything is downloaded or copied. */
static void test_image_limit(void) {
        static ResourceLimit few[_RESOURCE_MAX];
        Told pulled, imported;
        Bed bed;

        memcpy(few, resource_limits_default, sizeof(few));
        few[RESOURCE_IMAGES].per_user = 1;
        bed_limit(few);
        bed_new(&bed);
        prepare_a(&bed);
        fake_workers.begun = 0;
        pull(&bed, &(PullOptions){ .url = URL ".xz", .image = { .name = "b", .owner = ALICE } }, &pulled);
        CHECK_EQ(pulled.code, ERROR_QUOTA_EXCEEDED);
        import_as(&bed, ALICE, "b", &imported);
        CHECK_EQ(imported.code, ERROR_QUOTA_EXCEEDED);
        run_out(&bed);
        CHECK_EQ(fake_workers.begun, 0);
        pull_as(&bed, ALICE, "a", &pulled);
        run_out(&bed);
        CHECK_EQ(pulled.result, 0); /* it is there */
        import_as(&bed, BOB, "b", &imported);
        run_out(&bed);
        CHECK_EQ(imported.result, 0);
        check_idle(&bed);
        bed_limit(resource_limits_default);
        bed_done(&bed);
}

/* What is there is loaded, whatever the limit is now. */
static void test_loading_beyond_limit(void) {
        static const ResourceLimit none[_RESOURCE_MAX];
        Bed bed;

        bed_new(&bed);
        prepare_both(&bed);
        bed_limit(none);
        bed_restart(&bed);
        CHECK_EQ(count_images(&bed), 2);
        check_idle(&bed);
        bed_limit(resource_limits_default);
        bed_done(&bed);
}

int main(void) {
        sigset_t mask;

        faults_init();
        log_set_max_level(LOG_CRIT);
        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &mask, NULL) >= 0);

        test_name_taken_since();
        test_clock_set_back();
        test_same_owner_other_image();
        test_same_url_other_image();
        test_chosen_name_taken_since();
        test_second_fails();
        test_other_sharing();
        test_renamed_meanwhile();
        test_stale_downloads();
        test_kept_downloads();
        test_urls_of_one_hash();
        test_unshared_meanwhile();
        test_one_name_on_disk();
        test_root();
        test_lying_worker();
        test_transfer_outlives_its_first_pull();
        test_killed_worker_is_awaited();
        test_import_awaits_its_worker();
        test_record_is_not_written();
        test_limits();
        test_heir_cannot_pay();
        test_image_limit();
        test_loading_beyond_limit();
        test_worker_fails();
        test_canceled_at_each_turn();
        test_ended_at_each_turn();
        test_each_fault();
        return 0;
}
