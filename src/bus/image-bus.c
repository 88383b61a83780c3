/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <time.h>

#include "bus-util.h"
#include "core/bus-paths.h"
#include "image-bus.h"
#include "job-bus.h"
#include "signals.h"
#include "util/fd-util.h"
#include "vm/vm-index.h"

static bool may_see(const BusFace *face, const Image *image) {
        return image->record.shared || access_may_see(face->access, image->record.owner);
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        _cleanup_free_ char *name = NULL;
        const BusFace *face = userdata;
        Image *image;
        int r;

        r = sd_bus_path_decode(path, BUS_PATH_IMAGE, &name);
        if (r <= 0)
                return r;
        image = image_find(face->manager->images, name);
        if (!image ||
                        !access_may_use(face->access, image->record.uuid, image->record.owner,
                                        image->record.shared))
                return 0;
        *ret = image;
        return 1;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_strv_ char **paths = NULL;
        const BusFace *face = userdata;
        Image *image;

        for (size_t i = 0; (image = image_store_next(face->manager->images, &i));)
                if (may_see(face, image) && strv_push(&paths, bus_image_path(image_name(image))) < 0)
                        return -ENOMEM;
        *ret = TAKE_PTR(paths);
        return 1;
}

/* What root brings is for all of the host; what others bring is theirs. */
static bool shared_by_default(const BusFace *face) {
        return face->manager->core->config.system && access_caller_uid(face->access) == 0;
}

int image_bus_read_pull(const BusFace *face, sd_bus_message *m, PullOptions *o, Error **reterr) {
        bool shared = shared_by_default(face);
        const BusOption table[] = {
                { "name", 's', &o->image.name },
                { "sha256", 's', &o->sha256 },
                { "checksums", 's', &o->checksums },
                { "format", 's', &o->image.format },
                { "shared", 'b', &shared },
                { "refresh", 'b', &o->refresh },
        };
        int r;

        r = bus_read_options(m, table, ELEMENTSOF(table), reterr);
        o->image.shared = shared;
        o->image.owner = access_caller_uid(face->access);
        return r;
}

int image_bus_pull(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_error_ Error *e = NULL;
        PullOptions o = {};
        Job *job;
        int r;

        r = sd_bus_message_read(m, "s", &o.url);
        if (r < 0)
                return r;
        r = image_bus_read_pull(face, m, &o, &e);
        if (r >= 0)
                r = image_pull(face->manager->images, &o, access_caller_uid(face->access), &job, &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        return job_bus_reply(m, job->id);
}

int image_bus_import(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        ImageOptions o = { .owner = access_caller_uid(face->access), .shared = shared_by_default(face) };
        const BusOption table[] = { { "format", 's', &o.format }, { "shared", 'b', &o.shared } };
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r, fd;

        r = sd_bus_message_read(m, "sh", &o.name, &fd);
        if (r < 0)
                return r;
        r = bus_read_options(m, table, ELEMENTSOF(table), &e);
        if (r >= 0)
                r = image_import(face->manager->images, fd, &o, access_caller_uid(face->access), &job, &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        return job_bus_reply(m, job->id);
}

typedef struct Inspection {
        sd_bus_message *call;
        Operation *op;
} Inspection;

static int reply_facts(sd_bus_message *call, const Json *facts) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(call, &reply);
        if (r >= 0)
                r = bus_append_json_dict(reply, facts);
        return r < 0 ? r : sd_bus_send(sd_bus_message_get_bus(call), reply, NULL);
}

static void on_inspected(void *userdata, int r, const Error *error) {
        _cleanup_free_ Inspection *i = userdata;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *call = i->call;

        if (r >= 0)
                r = reply_facts(call, image_inspect_facts(i->op));
        if (r < 0)
                (void)bus_reply_error(call, error);
}

int image_bus_inspect(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const BusFace *face = userdata;
        _cleanup_free_ Inspection *i = calloc(1, sizeof(Inspection));
        _cleanup_error_ Error *e = NULL;
        int r, fd;

        if (!i)
                return -ENOMEM;
        r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return r;
        r = bus_read_options(m, NULL, 0, &e);
        if (r >= 0)
                r = image_inspect(face->manager->images, fd, access_caller_uid(face->access), on_inspected,
                                i, &i->op, &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        TAKE_PTR(i)->call = sd_bus_message_ref(m);
        return 1;
}

static int find_visible(const BusFace *face, const char *name, Image **ret, Error **reterr) {
        Image *image = image_find(face->manager->images, name);

        if (!image || !may_see(face, image))
                return error_set(reterr, ERROR_NO_SUCH_IMAGE, "There is no image '%s'", name);
        *ret = image;
        return 0;
}

int image_bus_get(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_free_ char *path = NULL;
        _cleanup_error_ Error *e = NULL;
        const char *name;
        Image *image;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        if (find_visible(userdata, name, &image, &e) < 0)
                return bus_reply_error(m, e);
        path = bus_image_path(name);
        return path ? sd_bus_reply_method_return(m, "o", path) : -ENOMEM;
}

static bool sees_vm(const BusFace *face, const char *name) {
        const Vm *vm = manager_find_vm(face->manager, name);

        return vm && access_may_see(face->access, vm->record.owner);
}

static int append_users(sd_bus_message *m, const BusFace *face, const Image *image) {
        _cleanup_strv_ char **users = NULL;
        int r;

        r = image_users(image, &users);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        STRV_FOREACH(name, users)
                if (r >= 0 && sees_vm(face, *name))
                        r = sd_bus_message_append(m, "s", *name);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_rest(sd_bus_message *m, const BusFace *face, const Image *image) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "users");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "as");
        if (r >= 0)
                r = append_users(m, face, image);
        for (int i = 0; r >= 0 && i < 3; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_image(sd_bus_message *m, const BusFace *face, const Image *image) {
        _cleanup_free_ char *path = bus_image_path(image_name(image)),
                            *url = url_without_credentials(image->record.url ?: "");
        const ImageRecord *rec = &image->record;
        int r;

        if (!path || !url)
                return -ENOMEM;
        r = sd_bus_message_open_container(m, 'r', "sosubtttttsa{sv}");
        if (r >= 0)
                r = sd_bus_message_append(m, "sosubttttts", rec->name, path, rec->format,
                                (uint32_t)rec->owner, rec->shared, rec->virtual_size, rec->size,
                                rec->allocated, rec->created, image->last_used, url);
        if (r >= 0)
                r = append_rest(m, face, image);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int image_bus_list(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const BusFace *face = userdata;
        Image *image;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sosubtttttsa{sv})");
        for (size_t i = 0; r >= 0 && (image = image_store_next(face->manager->images, &i));)
                if (may_see(face, image))
                        r = append_image(reply, face, image);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(sd_bus_message_get_bus(m), reply, NULL);
}

static bool is_unused(const Image *image, uint64_t unused_usec) {
        struct timespec ts;
        uint64_t now;

        clock_gettime(CLOCK_REALTIME, &ts);
        now = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
        return now >= image->last_used && now - image->last_used >= unused_usec && !image_is_in_use(image);
}

static int find_unneeded(const BusFace *face, bool all, uint64_t unused_usec, char ***names) {
        uid_t caller = access_caller_uid(face->access);
        Image *image;
        int r = 0;

        for (size_t i = 0; r >= 0 && (image = image_store_next(face->manager->images, &i));)
                if ((all || image->record.owner == caller) && is_unused(image, unused_usec))
                        r = strv_extend(names, image_name(image));
        return r;
}

int image_bus_prune(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        bool all = false, dry_run = false;
        const BusOption table[] = { { "all", 'b', &all }, { "dry-run", 'b', &dry_run } };
        const BusFace *face = userdata;
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_strv_ char **unneeded = NULL;
        _cleanup_error_ Error *e = NULL;
        uint64_t unused;
        int r;

        r = sd_bus_message_read(m, "t", &unused);
        if (r < 0)
                return r;
        r = bus_read_options(m, table, ELEMENTSOF(table), &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        r = find_unneeded(face, all, unused, &unneeded);
        if (r < 0)
                return r;
        STRV_FOREACH(name, unneeded)
                if (!dry_run && image_discard(image_find(face->manager->images, *name), &e) < 0)
                        return bus_reply_error(m, e);
        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_append_strv(reply, unneeded);
        return r < 0 ? r : sd_bus_send(sd_bus_message_get_bus(m), reply, NULL);
}

static int method_rename(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        const char *name;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        if (r < 0)
                return r;
        r = image_rename(userdata, name, bus_face_caller(m), bus_reply_done, sd_bus_message_ref(m), &e);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_set_shared(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;
        int shared, r;

        r = sd_bus_message_read(m, "b", &shared);
        if (r < 0)
                return r;
        r = image_set_shared(
                        userdata, shared, bus_face_caller(m), bus_reply_done, sd_bus_message_ref(m), &e);
        if (r >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_remove(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_error_ Error *e = NULL;

        if (image_remove(userdata, bus_face_caller(m), bus_reply_done, sd_bus_message_ref(m), &e) >= 0)
                return 1;
        sd_bus_message_unref(m);
        return bus_reply_error(m, e);
}

static int method_export(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const char *format = NULL, *compression = NULL;
        const BusOption table[] = { { "format", 's', &format }, { "compression", 's', &compression } };
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r, fd;

        r = sd_bus_message_read(m, "h", &fd);
        if (r < 0)
                return r;
        r = bus_read_options(m, table, ELEMENTSOF(table), &e);
        if (r >= 0)
                r = image_export(userdata, fd, format, compression, bus_face_caller(m), &job, &e);
        if (r < 0)
                return e ? bus_reply_error(m, e) : r;
        return job_bus_reply(m, job->id);
}

static int get_shared(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Image *image = userdata;

        return sd_bus_message_append(m, "b", image->record.shared);
}

static int get_url(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Image *image = userdata;
        _cleanup_free_ char *url = url_without_credentials(image->record.url ?: "");

        return url ? sd_bus_message_append(m, "s", url) : -ENOMEM;
}

#define FIELD(name, type, field) \
        SD_BUS_PROPERTY(name, type, NULL, offsetof(Image, field), SD_BUS_VTABLE_PROPERTY_CONST)

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD_WITH_ARGS("Rename", SD_BUS_ARGS("s", name), SD_BUS_NO_RESULT, method_rename,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("SetShared", SD_BUS_ARGS("b", shared), SD_BUS_NO_RESULT, method_set_shared,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Remove", NULL, NULL, method_remove, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD_WITH_ARGS("Export", SD_BUS_ARGS("h", file, "a{sv}", options), SD_BUS_RESULT("o", job),
                        method_export, SD_BUS_VTABLE_UNPRIVILEGED),
        FIELD("Name", "s", record.name),
        FIELD("UUID", "s", record.uuid),
        FIELD("Owner", "u", record.owner),
        SD_BUS_PROPERTY("Shared", "b", get_shared, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("URL", "s", get_url, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        FIELD("Format", "s", record.format),
        FIELD("SourceFormat", "s", record.source_format),
        FIELD("VirtualSize", "t", record.virtual_size),
        FIELD("Size", "t", record.size),
        FIELD("Allocated", "t", record.allocated),
        FIELD("SHA256", "s", record.sha256),
        FIELD("ContentDigest", "s", record.content_digest),
        FIELD("Created", "t", record.created),
        SD_BUS_PROPERTY("LastUsed", "t", NULL, offsetof(Image, last_used),
                        SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

static Hearers hearers_of(const Image *image) {
        return (Hearers){ &image->record.owner, 1, image->record.shared };
}

void image_bus_new(void *userdata, Image *image) {
        const Manager *m = userdata;
        _cleanup_free_ char *path = bus_image_path(image_name(image));
        Hearers hearers = hearers_of(image);

        if (!path)
                return;
        (void)signal_object_added(m->clients, &hearers, path, "org.vmctl1.Image", vtable, image);
        (void)signal_of_manager(m->clients, &hearers, "ImageNew", "so", image_name(image), path);
}

void image_bus_removed(void *userdata, Image *image) {
        const Manager *m = userdata;
        _cleanup_free_ char *path = bus_image_path(image_name(image));
        Hearers hearers = hearers_of(image);

        if (!path)
                return;
        (void)signal_object_removed(m->clients, &hearers, path, "org.vmctl1.Image");
        (void)signal_of_manager(m->clients, &hearers, "ImageRemoved", "so", image_name(image), path);
}

void image_bus_changed(void *userdata, Image *image) {
        const Manager *m = userdata;
        static char *const changed[] = { (char *)"LastUsed", NULL };
        _cleanup_free_ char *path = bus_image_path(image_name(image));
        Hearers hearers = hearers_of(image);

        if (path)
                (void)signal_properties_changed(
                                m->clients, &hearers, path, "org.vmctl1.Image", vtable, image, changed);
}

int image_bus_add(BusFace *face) {
        sd_bus *bus = face->manager->bus;
        int r;

        r = sd_bus_add_fallback_vtable(bus, NULL, BUS_PATH_IMAGE, "org.vmctl1.Image", vtable, find, face);
        return r < 0 ? r : sd_bus_add_node_enumerator(bus, NULL, BUS_PATH_IMAGE, enumerate, face);
}
