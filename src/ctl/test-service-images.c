/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Images of the service for tests: what becomes of a pull depends on the end of its URL. */

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctl.h"
#include "test-service.h"
#include "util/fd-util.h"

#define DAY (UINT64_C(24) * 3600 * USEC_PER_SEC)
#define AT(days) (UINT64_C(20000) * DAY + (days)*DAY)

typedef struct FakeImage {
        const char *name, *format, *url;
        bool in_use;
        uint64_t used_usec;
} FakeImage;

static const FakeImage images[] = {
        { "debian-12", "qcow2", "https://example.com/debian-12.qcow2", true, AT(2) },
        { "old", "raw", "", false, AT(1) },
};

static struct {
        sd_bus *bus;
        sd_event *event;
        FakeImage made;
        char *made_name;
} service;

/* A job takes one step each time that its timer fires. */
typedef struct FakeJob {
        uint32_t id;
        char *path, *end; /* of the URL, or what the job does */
        unsigned step;
        sd_event_source *timer;
        sd_bus_slot *slot;
} FakeJob;

static const FakeImage *find_image(const char *path) {
        _cleanup_free_ char *name = client_image_name(path);

        for (size_t i = 0; name && i < ELEMENTSOF(images); i++)
                if (streq(images[i].name, name))
                        return &images[i];
        return name && streq_ptr(name, service.made_name) ? &service.made : NULL;
}

static int job_free(FakeJob *j, const char *result) {
        _cleanup_free_ char *object = client_image_path(service.made_name ?: "none");
        int r;

        r = sd_bus_emit_signal(service.bus, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "JobRemoved", "uoos", j->id,
                        j->path, object, result);
        sd_event_source_disable_unref(j->timer);
        sd_bus_slot_unref(j->slot);
        free(j->path);
        free(j->end);
        free(j);
        return r;
}

static int job_tell(const FakeJob *j, const char *phase, uint64_t done, uint64_t total) {
        return sd_bus_emit_signal(service.bus, j->path, "org.freedesktop.DBus.Properties",
                        "PropertiesChanged", "sa{sv}as", VMCTL_JOB, 4, "Phase", "s", phase, "Done", "t",
                        done, "Total", "t", total, "Speed", "t", done > 0 ? 10 * MIB : 0, 0);
}

static int job_fail(FakeJob *j, const char *name, const char *message) {
        int r;

        r = sd_bus_emit_signal(service.bus, j->path, "org.freedesktop.DBus.Properties", "PropertiesChanged",
                        "sa{sv}as", VMCTL_JOB, 2, "ErrorName", "s", name, "ErrorMessage", "s", message, 0);
        return r < 0 ? r : job_free(j, "failed");
}

static int on_step(sd_event_source *s, uint64_t usec, void *userdata) {
        FakeJob *j = userdata;
        int r;

        switch (j->step++) {
        case 0:
                r = job_tell(j, "connecting", 0, 0);
                break;
        case 1:
                r = job_tell(j, "downloading", 100 * MIB, 400 * MIB);
                break;
        case 2:
                if (streq(j->end, "slow.img")) /* it is ended by Cancel alone */
                        return 0;
                if (streq(j->end, "crash.img"))
                        return sd_event_exit(service.event, 0);
                if (streq(j->end, "bad.img"))
                        return job_fail(j, "org.vmctl1.Error.DigestMismatch", "The digest is another one");
                r = job_tell(j, "verifying", 0, 0);
                break;
        default:
                return job_free(j, "done");
        }
        if (r >= 0)
                r = sd_event_source_set_time_relative(s, 20 * USEC_PER_MSEC);
        return r < 0 ? r : sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        FakeJob *j = userdata;
        int r;

        print_call(m, j->end);
        r = sd_bus_reply_method_return(m, NULL);
        return r < 0 ? r : job_free(j, "canceled");
}

static int get_phase(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "s", "");
}

static const sd_bus_vtable job_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", "", "", method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Phase", "s", get_phase, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

/* Replies with a job. That of "fast.img" ends before the reply is sent. */
static int start_job(sd_bus_message *m, const char *end) {
        FakeJob *j = calloc(1, sizeof(FakeJob));
        bool fast = streq(end, "fast.img");
        char *path;
        int r;

        *j = (FakeJob){ .id = new_job(), .end = strdup(end) };
        j->path = strf(VMCTL_JOB_PREFIX "/%u", j->id);
        path = strdupa(j->path);
        if (fast)
                r = job_free(j, "done");
        else {
                r = sd_bus_add_object_vtable(service.bus, &j->slot, j->path, VMCTL_JOB, job_vtable, j);
                if (r >= 0)
                        r = sd_event_add_time_relative(service.event, &j->timer, CLOCK_MONOTONIC,
                                        20 * USEC_PER_MSEC, 1, on_step, j);
        }
        return r < 0 ? r : sd_bus_reply_method_return(m, "o", path);
}

static void make_image(const char *name) {
        (void)free_and_strdup(&service.made_name, name);
        service.made = (FakeImage){ .name = service.made_name, .format = "qcow2", .url = "" };
}

static int method_pull(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *url, *end;
        int r;

        print_call(m, NULL);
        r = sd_bus_message_read(m, "s", &url);
        if (r < 0)
                return r;
        end = strrchr(url, '/');
        if (!end)
                return sd_bus_error_set(reterr, "org.vmctl1.Error.InvalidURL", "It is no URL");
        make_image("pulled");
        return start_job(m, end + 1);
}

static int method_create_from(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const char *name, *url;

        print_call(m, NULL);
        if (sd_bus_message_read(m, "ss", &name, &url) < 0)
                return -EBADMSG;
        return start_job(m, strrchr(url, '/') + 1);
}

/* Also prints what it reads from the descriptor. */
static int method_import(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_free_ char *text = NULL;
        const char *name;
        int r, fd;

        print_call(m, NULL);
        r = sd_bus_message_read(m, "sh", &name, &fd);
        if (r >= 0)
                r = read_all(fd, MIB, &text, NULL);
        if (r < 0)
                return r;
        printf("... %.*s\n", (int)strcspn(text, "\n"), text);
        (void)fflush(stdout);
        make_image(name);
        return start_job(m, "imported");
}

static int method_inspect(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        print_call(m, NULL);
        return sd_bus_reply_method_return(m, "a{sv}", 8, "format", "s", "qcow2", "virtual-size", "t",
                        2 * GIB, "size", "t", 3 * MIB, "allocated", "t", 1 * MIB, "cluster-size", "t",
                        64 * KIB, "backing-file", "s", "/etc/passwd", "refused", "s",
                        "it has a backing file", "snapshots", "aa{sv}", 1, 2, "id", "s", "1", "name", "s",
                        "before");
}

static int method_list(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        int r;

        r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "(sosubtttttsa{sv})");
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(images); i++) {
                const FakeImage *image = &images[i];
                _cleanup_free_ char *path = client_image_path(image->name);

                r = sd_bus_message_append(reply, "(sosubtttttsa{sv})", image->name, path, image->format,
                                getuid(), image->in_use, 2 * GIB, 400 * MIB, 300 * MIB, AT(0),
                                image->used_usec, image->url, 1, "users", "as", image->in_use ? 1 : 0,
                                "web");
        }
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        return r < 0 ? r : sd_bus_send(service.bus, reply, NULL);
}

static int method_prune(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        print_call(m, NULL);
        return sd_bus_reply_method_return(m, "as", 1, "old");
}

static int method_change(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const FakeImage *image = find_image(sd_bus_message_get_path(m));

        print_call(m, image->name);
        if (image->in_use && streq(sd_bus_message_get_member(m), "Remove"))
                return sd_bus_error_set(reterr, "org.vmctl1.Error.ImageInUse", "The VM 'web' needs it");
        return sd_bus_reply_method_return(m, NULL);
}

/* "old" does not fit on the disk. */
static int method_export(sd_bus_message *m, void *userdata, sd_bus_error *reterr) {
        const FakeImage *image = find_image(sd_bus_message_get_path(m));
        int fd;

        print_call(m, image->name);
        if (sd_bus_message_read(m, "h", &fd) < 0 || write_all(fd, "the image\n", 10) < 0)
                return -EIO;
        return start_job(m, streq(image->name, "old") ? "bad.img" : "fast.img");
}

static int get_string(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        const FakeImage *image = find_image(path);

        return sd_bus_message_append(reply, "s",
                        streq(property, "Name")                     ? image->name
                                        : streq(property, "Format") ? image->format
                                        : streq(property, "URL")    ? image->url
                                                                    : "");
}

static int get_number(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *reply, void *userdata, sd_bus_error *reterr) {
        return sd_bus_message_append(reply, "t", streq(property, "Created") ? (uint64_t)INT64_MAX : GIB);
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *reterr) {
        return find_image(path) != NULL;
}

static const sd_bus_vtable manager_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("CreateVMFromURL", "ssa{sv}a{sv}", "o", method_create_from,
                        SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("PullImage", "sa{sv}", "o", method_pull, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ImportImage", "sha{sv}", "o", method_import, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("InspectImage", "ha{sv}", "a{sv}", method_inspect, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("ListImages", "", "a(sosubtttttsa{sv})", method_list, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("PruneImages", "ta{sv}", "as", method_prune, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_VTABLE_END,
};

static const sd_bus_vtable image_vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Rename", "s", "", method_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("SetShared", "b", "", method_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Remove", "", "", method_change, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_METHOD("Export", "ha{sv}", "o", method_export, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Name", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("UUID", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Format", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("URL", "s", get_string, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("VirtualSize", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Allocated", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Created", "t", get_number, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

int images_serve(sd_bus *bus, sd_event *event) {
        int r;

        service.bus = bus;
        service.event = event;
        /* An interface of the same object may be in two tables, not so in two slots of one table. */
        r = sd_bus_add_object_vtable(bus, NULL, VMCTL_MANAGER_PATH, VMCTL_MANAGER, manager_vtable, NULL);
        if (r >= 0)
                r = sd_bus_add_fallback_vtable(
                                bus, NULL, VMCTL_IMAGE_PREFIX, VMCTL_IMAGE, image_vtable, find, NULL);
        return r;
}
