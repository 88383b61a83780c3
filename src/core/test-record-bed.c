/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "test-record-bed.h"
#include "test-record-faults.h"
#include "util/fd-util.h"
#include "util/test.h"

#define PATIENCE (60 * USEC_PER_SEC) /* for a loaded machine: what takes longer hangs */

Thing *thing_free(Thing *t) {
        if (t) {
                record_free(t->record);
                record_name_free(t->name);
        }
        free(t);
        return NULL;
}

static int format_values(const Thing *t, uint64_t a, uint64_t b, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(JSON_WRITER_PRETTY, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_unsigned(w, "version", 1);
        json_put_string(w, "name", record_name(t->name));
        json_put_string(w, "uuid", t->uuid);
        json_put_unsigned(w, "a", a);
        json_put_unsigned(w, "b", b);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int format_thing(void *object, char **ret, size_t *ret_len) {
        const Thing *t = object;

        return format_values(t, t->a, t->b, ret, ret_len);
}

static const char *name_of_thing(const void *object) {
        const Thing *t = object;

        return record_name(t->name);
}

static int check_name(const char *name, Error **reterr) {
        if (*name >= 'a' && *name <= 'z')
                return 0;
        return error_set(reterr, ERROR_INVALID_NAME, "'%s' is no name", name);
}

static int load_thing(void *userdata, Record **record, const Json *document, Error **reterr) {
        _cleanup_(thing_freep) Thing *t = calloc(1, sizeof(Thing));
        Bed *bed = userdata;
        int r;

        if (!t)
                return -ENOMEM;
        snprintf(t->uuid, sizeof(t->uuid), "%s", json_get_string(document, "uuid"));
        if (json_get_unsigned(document, "a", &t->a) < 0 || json_get_unsigned(document, "b", &t->b) < 0)
                return error_set(reterr, ERROR_IO, "A number is missing");
        r = record_name_reserve(bed->store, json_get_string(document, "name"), t, &t->name, reterr);
        if (r < 0)
                return r;
        t->record = TAKE_PTR(*record);
        record_set_object(t->record, t);
        bed->things[bed->n_things++] = TAKE_PTR(t);
        return 0;
}

const RecordType by_name = {
        .document = "thing.json",
        .kind = "thing",
        .folder_is_name = true,
        .size_max = 4096,
        .sealed_since = 1,
        .exists = ERROR_VM_EXISTS,
        .check_name = check_name,
        .load = load_thing,
        .name = name_of_thing,
        .format = format_thing,
};
const RecordType by_uuid = {
        .document = "thing.json",
        .kind = "thing",
        .size_max = 4096,
        .sealed_since = 1,
        .exists = ERROR_IMAGE_EXISTS,
        .check_name = check_name,
        .load = load_thing,
        .name = name_of_thing,
        .format = format_thing,
};

static int format_try(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const Try *t = userdata;

        return format_values(t->thing, t->a ?: t->thing->a, t->b ?: t->thing->b, ret, ret_len);
}

static int work_on_try(void *userdata) {
        const Try *t = userdata;

        gate_wait(t->gate ?: -1);
        return 0;
}

static void on_tried(void *userdata, int r, const Error *error) {
        Try *t = userdata;

        CHECK_EQ(r < 0, error != NULL);
        t->completed++;
        t->result = r;
        if (r >= 0) {
                t->thing->a = t->a ?: t->thing->a;
                t->thing->b = t->b ?: t->thing->b;
        }
        if (t->then)
                t->then(t);
}

const RecordChange trying = { .format = format_try, .work = work_on_try, .done = on_tried };

void on_removed(void *userdata, int r, const Error *error) {
        Told *t = userdata;

        CHECK_EQ(r < 0, error != NULL);
        t->n++;
        t->result = r;
}

void bed_open(Bed *bed, const RecordType *type) {
        bed->n_things = 0;
        CHECK(record_store_new(bed->event, bed->fd, bed->folder, type, bed, &bed->store) >= 0);
}

void bed_close(Bed *bed) {
        while (bed->n_things > 0)
                thing_free(bed->things[--bed->n_things]);
        bed->store = record_store_free(bed->store);
}

void bed_new(Bed *bed, const RecordType *type) {
        *bed = (Bed){ .folder = "/tmp/test-records-XXXXXX" };
        CHECK(sd_event_new(&bed->event) >= 0);
        CHECK(mkdtemp(bed->folder));
        bed->fd = open(bed->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        CHECK(bed->fd >= 0);
        bed_open(bed, type);
}

static bool has_children(void) {
        siginfo_t si;

        return waitid(P_ALL, 0, &si, WEXITED | WNOHANG | WNOWAIT) >= 0;
}

void run_out(Bed *bed) {
        for (;;) {
                int r = sd_event_run(bed->event, 0);

                CHECK(r >= 0);
                if (r == 0 && !has_children())
                        return;
                if (r == 0)
                        CHECK(sd_event_run(bed->event, PATIENCE) > 0);
        }
}

void run_until(Bed *bed, const unsigned *n) {
        while (*n == 0)
                CHECK(sd_event_run(bed->event, PATIENCE) > 0);
}

void bed_done(Bed *bed) {
        bed_close(bed);
        run_out(bed);
        sd_event_unref(bed->event);
        CHECK(remove_tree_at(AT_FDCWD, bed->folder) >= 0);
        close(bed->fd);
}

bool there(const Bed *bed, const char *path) {
        return faccessat(bed->fd, path, F_OK, AT_SYMLINK_NOFOLLOW) >= 0;
}

size_t count_folders(const Bed *bed) {
        int fd = openat(bed->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fdopendir(fd);
        size_t n = 0;

        CHECK(dir);
        for (const struct dirent *de; (de = readdir(dir));)
                n += !streq(de->d_name, ".") && !streq(de->d_name, "..");
        closedir(dir);
        return n;
}

void check_on_disk(Bed *bed, const RecordType *type, uint64_t a, uint64_t b) {
        Bed next = *bed;

        bed_open(&next, type);
        CHECK(record_store_load(next.store) >= 0);
        CHECK_EQ(next.n_things, 1);
        CHECK_EQ(next.things[0]->a, a);
        CHECK_EQ(next.things[0]->b, b);
        bed_close(&next);
}

int make_draft(Bed *bed, const char *name, Thing **ret) {
        _cleanup_(thing_freep) Thing *t = calloc(1, sizeof(Thing));
        sd_id128_t id;
        int r;

        if (!t)
                return -ENOMEM;
        CHECK(sd_id128_randomize(&id) >= 0);
        sd_id128_to_uuid_string(id, t->uuid);
        r = record_name_reserve(bed->store, name, t, &t->name, NULL);
        if (r >= 0)
                r = record_new(bed->store, t->uuid, t, &t->record, NULL);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(t);
        return 0;
}

Thing *make(Bed *bed, const RecordType *type, const char *name) {
        Try made = { .a = 1, .b = 1 };
        Thing *t;

        CHECK(make_draft(bed, name, &t) >= 0);
        made.thing = t;
        CHECK(record_commit(t->record, type->folder_is_name ? t->name : NULL, &trying, &made, NULL) >= 0);
        CHECK(record_fd(t->record) >= 0);
        run_until(bed, &made.completed);
        CHECK_EQ(made.result, 0);
        CHECK_STREQ(record_folder(t->record), type->folder_is_name ? name : t->uuid);
        return t;
}

void change(Thing *thing, Try *t) {
        t->thing = thing;
        CHECK(record_write(thing->record, &trying, t, NULL) >= 0);
        CHECK_EQ(t->completed, 0);
}
