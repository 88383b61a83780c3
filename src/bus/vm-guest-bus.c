/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>

#include "bus-util.h"
#include "job-bus.h"
#include "util/fd-util.h"
#include "vm-guest-bus.h"
#include "vm/vm-guest.h"

#define FINGERPRINT_MAX 128      /* twice what SHA-256 needs in hexadecimal */
#define STEP_TEXT_MAX (96 * KIB) /* as vmctl-ssh has it */

static int check_wait(GuestOptions *o, Error **reterr) {
        if (o->wait_usec == 0)
                o->wait_usec = GUEST_WAIT_DEFAULT;
        if (o->wait_usec > 24 * 3600 * USEC_PER_SEC)
                return error_set(reterr, ERROR_INVALID_SPEC, "A guest is waited for a day at most");
        return 0;
}

static int check_stage(const char *stage, GuestOptions *o, Error **reterr) {
        o->stage = guest_stage_from_string(stage);
        if ((int)o->stage < 0)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "stage '%s' is not known: 'running', 'sshd', 'ssh' or 'cloud-init'", stage);
        return 0;
}

int vm_guest_bus_wait(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        GuestOptions o = { .private_key = -EBADF };
        const BusOption table[] = { { "private-key", 'h', &o.private_key } };
        _cleanup_error_ Error *e = NULL;
        const char *stage;
        Job *job;
        int r;

        r = sd_bus_message_read(m, "st", &stage, &o.wait_usec);
        if (r < 0)
                return r;
        r = bus_read_options(m, table, ELEMENTSOF(table), &e);
        if (r >= 0)
                r = check_wait(&o, &e);
        if (r >= 0)
                r = check_stage(stage, &o, &e);
        if (r >= 0)
                r = vm_guest_wait(userdata, bus_face_caller(m), &o, &job, &e);
        return r >= 0 ? job_bus_reply(m, job->id) : e ? bus_reply_error(m, e) : r;
}

static int wrong_type(const char *key, Error **reterr) {
        return error_set(reterr, ERROR_INVALID_SPEC, "%s of a step has a value of the wrong type", key);
}

static int copy_env(sd_bus_message *m, JsonWriter *w) {
        const char *name, *value;
        int r;

        json_write_object(w);
        r = sd_bus_message_enter_container(m, 'v', "a{ss}");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{ss}");
        while (r >= 0 && (r = sd_bus_message_read(m, "{ss}", &name, &value)) > 0)
                json_put_string(w, name, value);
        for (int i = 0; r >= 0 && i < 2; i++)
                r = sd_bus_message_exit_container(m);
        json_write_end(w);
        return r;
}

static int copy_string(sd_bus_message *m, const char *key, JsonWriter *w, Error **reterr) {
        const char *s;
        int r;

        r = sd_bus_message_read(m, "v", "s", &s);
        if (r >= 0 && strlen(s) > STEP_TEXT_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "%s of a step is longer than 96 KiB: use a script", key);
        if (r >= 0)
                json_put_string(w, key, s);
        return r;
}

static int copy_boolean(sd_bus_message *m, const char *key, JsonWriter *w) {
        int b, r;

        r = sd_bus_message_read(m, "v", "b", &b);
        if (r >= 0)
                json_put_boolean(w, key, b);
        return r;
}

static int read_file(sd_bus_message *m, ProvisionStep *step) {
        int fd, r;

        r = sd_bus_message_read(m, "v", "h", &fd);
        if (r < 0)
                return r;
        safe_close(step->fd);
        step->fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
        return step->fd < 0 ? -errno : 0;
}

static int read_fingerprint(sd_bus_message *m, ProvisionStep *step, Error **reterr) {
        const char *s;
        int r;

        r = sd_bus_message_read(m, "v", "s", &s);
        if (r >= 0 && strlen(s) > FINGERPRINT_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "fingerprint of a step is longer than %i characters", FINGERPRINT_MAX);
        return r < 0 ? r : free_and_strdup(&step->fingerprint, s);
}

/* Keys by their D-Bus type. What the values mean is vmctl-ssh's to judge. */
static const struct {
        const char *name, *type;
} step_keys[] = {
        { "kind", "s" },
        { "inline", "s" },
        { "name", "s" },
        { "destination", "s" },
        { "mode", "s" },
        { "parents", "b" },
        { "sudo", "b" },
        { "env", "a{ss}" },
        { "file", "h" },
        { "fingerprint", "s" },
};

static int check_key(const char *key, const char *type, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(step_keys); i++)
                if (streq(step_keys[i].name, key))
                        return streq(step_keys[i].type, type) ? 0 : wrong_type(key, reterr);
        return error_set(reterr, ERROR_UNKNOWN_OPTION, "A step has no option '%s'", key);
}

static int read_step_entry(sd_bus_message *m, ProvisionStep *step, JsonWriter *w, Error **reterr) {
        const char *key, *type;
        int r;

        r = sd_bus_message_read(m, "s", &key);
        if (r >= 0)
                r = sd_bus_message_peek_type(m, NULL, &type);
        if (r >= 0)
                r = check_key(key, type, reterr);
        if (r < 0)
                return r;
        if (streq(key, "file"))
                return read_file(m, step);
        if (streq(key, "fingerprint"))
                return read_fingerprint(m, step, reterr);
        if (streq(type, "b"))
                return copy_boolean(m, key, w);
        if (streq(type, "s"))
                return copy_string(m, key, w, reterr);
        json_write_key(w, key);
        return copy_env(m, w);
}

/* The container of a step has been entered. */
static int read_step(sd_bus_message *m, ProvisionStep *step, Error **reterr) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        while ((r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = read_step_entry(m, step, w, reterr);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        json_write_end(w);
        r = json_writer_finish(w, &step->request, NULL);
        return r == -EINVAL ? error_set(reterr, ERROR_INVALID_SPEC, "A step holds text that is not UTF-8")
                            : r;
}

static int read_steps(sd_bus_message *m, GuestOptions *o, Error **reterr) {
        int r;

        r = sd_bus_message_enter_container(m, 'a', "a{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'a', "{sv}")) > 0) {
                ProvisionStep *grown;

                if (o->n_steps >= PROVISION_STEPS_MAX)
                        return error_set(reterr, ERROR_INVALID_SPEC, "There are more than %i steps",
                                        PROVISION_STEPS_MAX);
                grown = reallocarray(o->steps, o->n_steps + 1, sizeof(ProvisionStep));
                if (!grown)
                        return -ENOMEM;
                o->steps = grown;
                o->steps[o->n_steps++] = (ProvisionStep){ .fd = -EBADF };
                r = read_step(m, &o->steps[o->n_steps - 1], reterr);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int vm_guest_bus_provision(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        GuestOptions o = { .private_key = -EBADF };
        const char *stage = "cloud-init";
        const Vm *vm = userdata;
        uint32_t owner = vm->record.owner;
        const BusOption table[] = {
                { "stage", 's', &stage },
                { "timeout-usec", 't', &o.wait_usec },
                { "only-changed", 'b', &o.only_changed },
                { "private-key", 'h', &o.private_key },
                { "owner", 'u', &owner },
        };
        _cleanup_error_ Error *e = NULL;
        Job *job;
        int r;

        r = read_steps(m, &o, &e);
        if (r >= 0)
                r = bus_read_options(m, table, ELEMENTSOF(table), &e);
        if (r >= 0)
                r = check_wait(&o, &e);
        if (r >= 0)
                r = check_stage(stage, &o, &e);
        /* What is handed over is not for whoever has the name now. */
        if (r >= 0 && owner != vm->record.owner)
                r = error_set(&e, ERROR_NO_SUCH_VM, "There is no VM '%s' of user %u", vm_name(vm), owner);
        if (r >= 0 && o.stage < GUEST_SSH)
                r = error_set(&e, ERROR_INVALID_SPEC, "Steps need SSH: stage is 'ssh' or 'cloud-init'");
        if (r >= 0)
                r = vm_guest_provision(userdata, bus_face_caller(m), &o, &job, &e);
        provision_steps_free(o.steps, o.n_steps);
        return r >= 0 ? job_bus_reply(m, job->id) : e ? bus_reply_error(m, e) : r;
}

int vm_guest_bus_open_log(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        _cleanup_close_ int fd = vm_open_provision_log(userdata);
        _cleanup_error_ Error *e = NULL;

        if (fd >= 0)
                return sd_bus_reply_method_return(m, "h", fd);
        if (fd == -ENOENT)
                (void)error_set(&e, ERROR_INVALID_STATE, "VM '%s' has not been provisioned",
                                vm_name(userdata));
        else
                (void)error_set_errno(&e, fd, "The log of VM '%s' cannot be opened", vm_name(userdata));
        return bus_reply_error(m, e);
}
