/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/test-record-faults.h"
#include "test-image-bed.h"
#include "util/fd-util.h"
#include "util/test.h"

#define PATIENCE                                                                                  \
        (60 * USEC_PER_SEC) /* for a loaded machine: nothing here takes that long unless it hangs \
                             */

static void ignore_image(void *userdata, Image *image) {
}

static void ignore_job(void *userdata, Job *job) {
}

static const ImageHooks hooks = { ignore_image, ignore_image, ignore_image };
static const OperationHooks operation_hooks = { .job = { ignore_job, ignore_job, ignore_job } };

static int count_descriptors(void) {
        DIR *dir = opendir("/proc/self/fd");
        int n = 0;

        CHECK(dir);
        while (readdir(dir))
                n++;
        closedir(dir);
        return n;
}

static const ResourceLimit *limits = resource_limits_default;

void bed_limit(const ResourceLimit *l) {
        limits = l;
}

static const char *next_user(void *userdata, const Image *image, size_t *i) {
        const Bed *bed = userdata;

        return (*i)++ == 0 && streq_ptr(bed->used, image->record.uuid) ? "vm" : NULL;
}

static void bed_open(Bed *bed) {
        Config config = {
                .system = true,
                .state_dir = strdup(bed->folder),
                .runtime_dir = strf("%s/run", bed->folder),
                .image_size_max = GIB,
        };

        memcpy(config.limits, limits, sizeof(config.limits));
        CHECK(core_new(bed->event, &config, &operation_hooks, NULL, &bed->core) >= 0);
        CHECK(image_store_new(bed->core, bed->fd, &hooks, next_user, bed, &bed->images) >= 0);
        CHECK(image_store_load(bed->images) >= 0);
}

/* As service_free() does it. */
static void bed_close(Bed *bed) {
        image_store_close(bed->images);
        operations_done(&bed->core->operations);
        image_transfers_free(bed->images);
        bed->images = image_store_free(bed->images);
        CHECK_EQ(fake_workers.live, 0);
        for (Resource i = 0; i < _RESOURCE_MAX; i++)
                CHECK_EQ(accounts_total(bed->core->accounts, i), 0);
        bed->core = core_free(bed->core);
        while (sd_event_run(bed->event, 0) > 0)
                ;
}

void bed_new(Bed *bed) {
        *bed = (Bed){ .folder = "/dev/shm/test-images-XXXXXX", .n_descriptors = count_descriptors() };
        fake_workers = (FakeWorkers){ .error = _ERROR_CODE_INVALID, .content = "disk" };
        CHECK(sd_event_new(&bed->event) >= 0);
        CHECK(mkdtemp(bed->folder));
        bed->fd = open(bed->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(bed->fd >= 0);
        bed_open(bed);
}

static bool has_children(void) {
        siginfo_t si;

        return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) >= 0;
}

bool run_turn(Bed *bed) {
        int r = sd_event_run(bed->event, 0);

        CHECK(r >= 0);
        if (r == 0 && !has_children())
                return false;
        if (r == 0)
                CHECK(sd_event_run(bed->event, PATIENCE) > 0);
        return true;
}

void run_out(Bed *bed) {
        while (run_turn(bed))
                ;
}

void bed_restart(Bed *bed) {
        bed_close(bed);
        run_out(bed);
        bed_open(bed);
        run_out(bed);
}

void bed_done(Bed *bed) {
        bed_close(bed);
        run_out(bed);
        sd_event_unref(bed->event);
        CHECK(remove_tree_at(AT_FDCWD, bed->folder) >= 0);
        close(bed->fd);
        free(bed->used);
        CHECK_EQ(count_descriptors(), bed->n_descriptors);
}

void bed_use(Bed *bed, const char *image) {
        CHECK(free_and_strdup(&bed->used, image_find(bed->images, image)->record.uuid) >= 0);
}

static void on_told(void *userdata, int r, const Error *error) {
        Told *t = userdata;

        CHECK_EQ(t->n, 0);
        t->n++;
        t->result = r;
        t->code = error_code(error);
        snprintf(t->message, sizeof(t->message), "%s", error ? error_message(error) : "");
        if (r >= 0 && t->op && t->op->type->kind == OPERATION_PULL)
                snprintf(t->uuid, sizeof(t->uuid), "%s", pull_image(t->op));
        t->op = NULL;
}

waiter_t told_expect(Told *t) {
        t->expected = 1;
        return on_told;
}

void told_refused(Told *t, int r, const Error *e) {
        CHECK(r < 0);
        CHECK_EQ(t->n, 0);
        t->expected = 0;
        t->result = r;
        t->code = error_code(e);
        t->op = NULL;
}

void told_wait(Told *t, Operation *op) {
        int countdown = faults->countdown;

        faults->countdown = NO_FAULT;
        CHECK(operation_wait(op, NULL, told_expect(t), t, NULL) >= 0);
        faults->countdown = countdown;
        t->op = op;
}

void pull(Bed *bed, const PullOptions *o, Told *t) {
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r;

        *t = (Told){};
        r = image_pull(bed->images, o, o->image.owner, &job, &e);
        if (r < 0)
                told_refused(t, r, e);
        else
                told_wait(t, job->operation);
}

void pull_as(Bed *bed, uid_t user, const char *name, Told *t) {
        pull(bed, &(PullOptions){ .url = URL, .image = { .name = name, .owner = user } }, t);
}

void import_as(Bed *bed, uid_t user, const char *name, Told *t) {
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r;

        *t = (Told){};
        r = image_import(bed->images, bed->fd, &(ImageOptions){ .name = name, .owner = user }, user, &job,
                        &e);
        if (r < 0)
                told_refused(t, r, e);
        else
                told_wait(t, job->operation);
}

Image *make_image(Bed *bed, uid_t user, const char *name, bool shared, const char *content) {
        const char *before = fake_workers.content;
        Told t;

        fake_workers.content = content;
        pull(bed,
                        &(PullOptions){ .url = URL,
                                        .refresh = true,
                                        .image = { .name = name, .owner = user, .shared = shared } },
                        &t);
        run_out(bed);
        CHECK_EQ(t.n, 1);
        CHECK_EQ(t.result, 0);
        fake_workers.content = before;
        return image_find(bed->images, name);
}

void check_content(const Bed *bed, const char *name, const char *content) {
        const Image *image = image_find(bed->images, name);
        char buf[64] = {};
        int fd;

        CHECK(image);
        fd = image_open(image);
        CHECK(fd >= 0);
        CHECK(read(fd, buf, sizeof(buf) - 1) >= 0);
        CHECK_STREQ(buf, content);
        close(fd);
}

size_t count_images(const Bed *bed) {
        size_t n = 0;

        for (size_t i = 0; image_store_next(bed->images, &i);)
                n++;
        return n;
}

static void check_folders(const Bed *bed) {
        const ImageStore *s = bed->images;
        int fd = openat(s->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(fd);

        CHECK(dir);
        for (const struct dirent *de; (de = readdir(dir));)
                if (de->d_name[0] != '.' && !image_find_by_uuid(s, de->d_name))
                        TEST_FAIL("'%s' is no image's", de->d_name);
        closedir(dir);
}

void check_idle(const Bed *bed) {
        const ImageStore *s = bed->images;
        Accounts *accounts = bed->core->accounts;
        uint64_t images[2] = {};
        const Image *image;

        CHECK(!bed->core->operations.running);
        CHECK(!s->transfers);
        CHECK_EQ(fake_workers.live, 0);
        CHECK_EQ(accounts_total(accounts, RESOURCE_OPERATIONS), 0);
        CHECK_EQ(accounts_total(accounts, RESOURCE_WORKERS), 0);
        for (size_t i = 0; (image = image_store_next(s, &i));) {
                CHECK(image_find(s, image_name(image)) == image);
                CHECK_STREQ(record_name(image->name), image_name(image));
                if (image->record.owner == ALICE || image->record.owner == BOB)
                        images[image->record.owner - ALICE]++;
        }
        CHECK_EQ(accounts_used(accounts, ALICE, RESOURCE_IMAGES), images[0]);
        CHECK_EQ(accounts_used(accounts, BOB, RESOURCE_IMAGES), images[1]);
        for (const char *const *name = (const char *const[]){ "a", "b", "c", "disk", "disk-2", NULL }; *name;
                        name++)
                CHECK_EQ(record_name_is_taken(s->records, *name), image_find(s, *name) != NULL);
        check_folders(bed);
}
