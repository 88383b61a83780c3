/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "job-bus.h"
#include "bus-util.h"
#include "core/bus-paths.h"
#include "signals.h"

#define JOB_HEARERS(job) (&(const Hearers){ .uids = (job)->hearers, .n = (job)->n_hearers })

int job_bus_reply(sd_bus_message *call, uint32_t id) {
        _cleanup_free_ char *path = bus_job_path(id);

        return path ? sd_bus_reply_method_return(call, "o", path) : -ENOMEM;
}

char *job_bus_target_path(const Job *job) {
        switch (job->target) {
        case JOB_TARGET_VM:
                return bus_vm_path(job->target_name);
        case JOB_TARGET_IMAGE:
                return bus_image_path(job->target_name);
        }
        return NULL;
}

bool job_bus_may_see(const BusFace *face, const Job *job) {
        return access_may_see(face->access, job->owner) || job_is_of(job, access_caller_uid(face->access));
}

static int find(sd_bus *bus, const char *path, const char *interface, void *userdata, void **ret,
                sd_bus_error *error) {
        const BusFace *face = userdata;
        const char *rest = startswith(path, BUS_PATH_JOB "/");
        uint32_t id;
        Job *job;

        job = rest && parse_u32(rest, &id) >= 0 ? job_find(&face->manager->core->operations.jobs, id) : NULL;
        if (!job || !access_may_use(face->access, rest, job->owner, job_bus_may_see(face, job)))
                return 0;
        *ret = job;
        return 1;
}

static int enumerate(sd_bus *bus, const char *prefix, void *userdata, char ***ret, sd_bus_error *error) {
        _cleanup_strv_ char **paths = NULL;
        const BusFace *face = userdata;

        for (size_t i = 0; i < face->manager->core->operations.jobs.n; i++) {
                const Job *job = face->manager->core->operations.jobs.list[i];

                if (job_bus_may_see(face, job) && strv_push(&paths, bus_job_path(job->id)) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(paths);
        return 1;
}

static int get_object(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Job *job = userdata;
        _cleanup_free_ char *target = job_bus_target_path(job);

        return target ? sd_bus_message_append(m, "o", target) : -ENOMEM;
}

static int get_state(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Job *job = userdata;

        return sd_bus_message_append(m, "s", job->result == JOB_RUNNING ? "running" : "finished");
}

static int get_result(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Job *job = userdata;

        return sd_bus_message_append(m, "s", job_result_to_string(job->result));
}

static int get_error_name(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Job *job = userdata;

        return sd_bus_message_append(m, "s", job->error ? error_code_name(error_code(job->error)) : "");
}

static int get_error_message(sd_bus *bus, const char *path, const char *interface, const char *property,
                sd_bus_message *m, void *userdata, sd_bus_error *error) {
        const Job *job = userdata;

        return sd_bus_message_append(m, "s", job->error ? error_message(job->error) : "");
}

static int method_cancel(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Job *job = userdata;

        if (job->operation)
                (void)operation_cancel_for(job->operation, ERROR_CANCELED,
                                "Job '%s' of %s '%s' was canceled", job->kind,
                                job->target == JOB_TARGET_VM ? "VM" : "image", job->target_name);
        return sd_bus_reply_method_return(m, NULL);
}

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_METHOD("Cancel", NULL, NULL, method_cancel, SD_BUS_VTABLE_UNPRIVILEGED),
        SD_BUS_PROPERTY("Id", "u", NULL, offsetof(Job, id), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Kind", "s", NULL, offsetof(Job, kind), SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("Object", "o", get_object, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_PROPERTY("State", "s", get_state, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Progress", "d", NULL, offsetof(Job, progress), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Phase", "s", NULL, offsetof(Job, phase), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Done", "t", NULL, offsetof(Job, done), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Total", "t", NULL, offsetof(Job, total), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Speed", "t", NULL, offsetof(Job, speed), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("Result", "s", get_result, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ErrorName", "s", get_error_name, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_PROPERTY("ErrorMessage", "s", get_error_message, 0, SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE),
        SD_BUS_VTABLE_END,
};

int job_bus_add(BusFace *face) {
        sd_bus *bus = face->manager->bus;
        int r;

        r = sd_bus_add_fallback_vtable(bus, NULL, BUS_PATH_JOB, "org.vmctl1.Job", vtable, find, face);
        return r < 0 ? r : sd_bus_add_node_enumerator(bus, NULL, BUS_PATH_JOB, enumerate, face);
}

void job_bus_new(void *userdata, Job *job) {
        const Manager *m = userdata;
        _cleanup_free_ char *path = bus_job_path(job->id), *target = job_bus_target_path(job);

        if (!path || !target)
                return;
        (void)signal_object_added(m->clients, JOB_HEARERS(job), path, "org.vmctl1.Job", vtable, job);
        (void)signal_of_manager(m->clients, JOB_HEARERS(job), "JobNew", "uoo", job->id, path, target);
}

void job_bus_changed(void *userdata, Job *job) {
        const Manager *m = userdata;
        static char *const changed[] = { (char *)"Phase", (char *)"Progress", (char *)"Done",
                (char *)"Total", (char *)"Speed", NULL };
        _cleanup_free_ char *path = bus_job_path(job->id);

        if (path)
                (void)signal_properties_changed(
                                m->clients, JOB_HEARERS(job), path, "org.vmctl1.Job", vtable, job, changed);
}

void job_bus_finished(void *userdata, Job *job) {
        const Manager *m = userdata;
        static char *const changed[] = { (char *)"State", (char *)"Progress", (char *)"Result",
                (char *)"ErrorName", (char *)"ErrorMessage", NULL };
        _cleanup_free_ char *path = bus_job_path(job->id), *target = job_bus_target_path(job);

        Hearers hearers = { .uids = job->hearers, .n = job->n_hearers, .awaited = true };

        if (!path || !target)
                return;
        (void)signal_properties_changed(m->clients, &hearers, path, "org.vmctl1.Job", vtable, job, changed);
        (void)signal_of_manager(m->clients, &hearers, "JobRemoved", "uoos", job->id, path, target,
                        job_result_to_string(job->result));
        (void)signal_object_removed(m->clients, &hearers, path, "org.vmctl1.Job");
}
