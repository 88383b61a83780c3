/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "console-tail.h"
#include "core/file-acl.h"
#include "core/worker.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-guest.h"
#include "vm-share.h"

#define WORK_TIMEOUT                                                                         \
        (24 * 3600 * USEC_PER_SEC) /* steps have deadlines of their own, where they have any \
                                    */
#define CONSOLE_LINES 8            /* that an error shows */
#define KNOWN_HOSTS_MAX (64 * KIB)

static const char *const guest_stage_table[] = {
        [GUEST_RUNNING] = "running",
        [GUEST_SSHD] = "sshd",
        [GUEST_SSH] = "ssh",
        [GUEST_CLOUD_INIT] = "cloud-init",
};
DEFINE_STRING_TABLE(guest_stage, GuestStage, _GUEST_STAGE_MAX);

typedef enum GuestStep {
        GUEST_BEGIN, /* it is noted which steps count as not run */
        GUEST_WORK,  /* vmctl-ssh is at it; or, for those who waited in vain, the console is read */
        GUEST_END,   /* it is noted which steps have run */
} GuestStep;

#define FILES_BEFORE_STEPS 3 /* --private-key, --known-host, --log */

typedef struct Guest {
        Operation op;
        Vm *vm; /* borrowed */
        GuestStep step;
        Worker *worker;
        Error *error; /* that it ends with */
        ConsoleTail *tail;
        sd_event_source *defer;
        Charge paid; /* for the worker, until it runs: who has too many hears so at once */
        int known_hosts_fd;
        bool pin; /* the guest's host key is not known yet */
        char *request;
        size_t len;
        WorkerFile *files; /* the descriptors are owned */
        size_t n_files;
        char **fingerprints; /* of the steps that run, in their order */
        size_t *positions;   /* and which of all steps these are */
        char **provisioned;  /* as the record is to have it */
} Guest;

void provision_steps_free(ProvisionStep *steps, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(steps[i].fingerprint);
                free(steps[i].request);
                safe_close(steps[i].fd);
        }
        free(steps);
}

static void guest_done(Operation *op) {
        Guest *g = (Guest *)op;

        worker_free(g->worker);
        error_free(g->error);
        console_tail_free(g->tail);
        sd_event_source_disable_unref(g->defer);
        charge_release(&g->paid);
        safe_close(g->known_hosts_fd);
        free(g->request);
        for (size_t i = 0; i < g->n_files; i++)
                safe_close(g->files[i].fd);
        free(g->files);
        strv_free(g->fingerprints);
        free(g->positions);
        strv_free(g->provisioned);
}

static bool provisions(const Guest *g) {
        return g->op.type->kind == OPERATION_PROVISION;
}

/* --- Which steps have run */

static int format(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const Guest *g = userdata;
        VmRecord record = g->vm->record; /* of which nothing is owned */

        record.provisioned = g->provisioned;
        return vm_record_format(&record, ret, ret_len);
}

static int apply(Guest *g) {
        char **copy = NULL;

        STRV_FOREACH(s, g->provisioned)
                if (strv_extend(&copy, *s) < 0) {
                        strv_free(copy);
                        return -ENOMEM;
                }
        strv_free(g->vm->record.provisioned);
        g->vm->record.provisioned = copy;
        vm_changed(g->vm, VM_CHANGE_PROVISION);
        return 0;
}

static void run_worker(Guest *g);

static void complete(Guest *g) {
        if (g->error)
                operation_fail(&g->op, g->error);
        else
                operation_complete(&g->op, NULL);
}

static void on_noted(void *userdata, int r, const Error *error) {
        Guest *g = userdata;

        if (r >= 0 && apply(g) < 0)
                (void)error_set(&g->error, ERROR_NO_MEMORY,
                                "Which steps have run is known to the disk alone");
        else if (r < 0 && !g->error)
                (void)error_set(&g->error, error_code(error), "Which steps have run could not be noted: %s",
                                error_message(error));
        if (g->step == GUEST_BEGIN && !g->op.canceled && !g->error && g->request)
                run_worker(g);
        else
                complete(g);
}

static const RecordChange provisioned_change = { .format = format, .done = on_noted };

static bool is_noted(const Guest *g) {
        char *const *noted = g->vm->record.provisioned;

        if (strv_length(noted) != strv_length(g->provisioned))
                return false;
        for (size_t i = 0; i < strv_length(g->provisioned); i++)
                if (!streq(noted[i], g->provisioned[i]))
                        return false;
        return true;
}

static void finish(Guest *g) {
        _cleanup_error_ Error *e = NULL;

        g->worker = worker_free(g->worker);
        g->tail = console_tail_free(g->tail);
        g->defer = sd_event_source_disable_unref(g->defer);
        g->step = GUEST_END;
        if (!provisions(g) || is_noted(g)) {
                complete(g);
                return;
        }
        if (!g->vm->stored || record_write(g->vm->stored, &provisioned_change, g, &e) < 0)
                on_noted(g, -EIO, e);
}

/* The connection ends with the worker, and the guest's side of a command with that. */
static bool cancel(Operation *op) {
        Guest *g = (Guest *)op;

        if (g->step == GUEST_END)
                return false;
        if (!g->error)
                g->error = error_copy(op->reason);
        if (g->step == GUEST_WORK)
                finish(g);
        return true;
}

static const OperationType wait_type = {
        .kind = OPERATION_WAIT_READY,
        .size = sizeof(Guest),
        .cancel = cancel,
        .done = guest_done,
};

static const OperationType provision_type = {
        .kind = OPERATION_PROVISION,
        .size = sizeof(Guest),
        .cancel = cancel,
        .done = guest_done,
};

void vm_guests_end(Vm *vm) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "It ended with VM '%s'", vm_name(vm));
        operations_cancel(&vm->manager->core->operations, vm->record.uuid,
                        1U << OPERATION_WAIT_READY | 1U << OPERATION_PROVISION, e);
}

/* Whom the first session has met is from then on the only one that is talked to, by ssh(1), too. */
static void pin_host_key(Guest *g, const char *key) {
        _cleanup_free_ char *line = key ? strf("vmctl-%s %s\n", vm_name(g->vm), key) : NULL;

        if (!line || !g->pin || strpbrk(key, "\r\n"))
                return;
        g->pin = false;
        if (write_all(g->known_hosts_fd, line, strlen(line)) < 0)
                vm_log(LOG_WARNING, g->vm, NULL, "The guest's host key could not be written down");
}

static void remember_step(Guest *g, uint64_t step) {
        if (step == 0 || step > strv_length(g->fingerprints))
                return;
        while (strv_length(g->provisioned) <= g->positions[step - 1])
                if (strv_extend(&g->provisioned, "") < 0)
                        return;
        (void)free_and_strdup(&g->provisioned[g->positions[step - 1]], g->fingerprints[step - 1]);
}

static void on_line(void *userdata, const Json *line) {
        const char *phase = json_get_string(line, "phase");
        Guest *g = userdata;
        uint64_t step = 0, of = 0;

        (void)json_get_unsigned(line, "step", &step);
        (void)json_get_unsigned(line, "of", &of);
        if (streq(phase, "ready"))
                pin_host_key(g, json_get_string(line, "host-key"));
        else if (streq(phase, "step-done"))
                remember_step(g, step);
        else if (streq(phase, "step"))
                job_set_progress(g->op.job, &(JobProgress){ "provisioning", step - 1, of, 0 });
        else
                job_set_progress(g->op.job, &(JobProgress){ phase, 0, 0, 0 });
}

static void on_tail(void *userdata, const char *text) {
        _cleanup_error_ Error *e = NULL;
        Guest *g = userdata;

        (void)error_set(&e, error_code(g->error), "%s%s%s", error_message(g->error),
                        *text ? "\nThe last lines on its console:" : "", text);
        if (e) {
                error_free(g->error);
                g->error = TAKE_PTR(e);
        }
        finish(g);
}

/* Who waited in vain wants to know what the guest was at. */
static void on_done(void *userdata, const Json *result, const Error *error) {
        Guest *g = userdata;

        if (error)
                g->error = error_copy(error);
        if (g->error && error_code(error) == ERROR_GUEST_NOT_READY &&
                        console_tail_new(g->vm, CONSOLE_LINES, on_tail, g, &g->tail) >= 0)
                return;
        if (error && !g->error)
                (void)error_set(&g->error, ERROR_NO_MEMORY, "It failed, and nobody remembers why");
        finish(g);
}

static const WorkerHandlers handlers = { .line = on_line, .done = on_done };

static int check_reachable(const Vm *vm, Error **reterr) {
        VmState state = vm_state(vm);

        if (state != VM_RUNNING)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' does not run: it is %s", vm_name(vm),
                                vm_state_to_string(state));
        if (vm->record.ssh_port == 0)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' has no network that SSH could use",
                                vm_name(vm));
        return 0;
}

/* A file of the VM's folder. */
static int open_file(const Vm *vm, const char *file, int flags) {
        _cleanup_free_ char *path = strf("%s/%s", vm_name(vm), file);
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        if (!path)
                return -ENOMEM;
        fd = open_file_at(vm->manager->vms_fd, path, flags, 0600);
        if (fd < 0)
                return fd;
        if (flags & O_CREAT)
                r = file_acl_grant(fd, vm->record.owner, vm_share_access(file));
        return r < 0 ? r : TAKE_FD(fd);
}

int vm_open_provision_log(const Vm *vm) {
        return open_file(vm, PROVISION_LOG, O_RDONLY);
}

static int open_key(const Vm *vm, const GuestOptions *o, Error **reterr) {
        int fd = o->private_key >= 0 ? fcntl(o->private_key, F_DUPFD_CLOEXEC, 3)
                                     : open_file(vm, "id_ed25519_generated", O_RDONLY);

        if (fd >= 0)
                return fd;
        return error_set(reterr, ERROR_LOGIN_REFUSED,
                        "There is no private key for VM '%s', which was created with a key of yours: give "
                        "the "
                        "private one along",
                        vm_name(vm));
}

/* The keys in the file by which the owner's ssh knows the guest, without the names before them. */
static int read_host_keys(Guest *g) {
        _cleanup_free_ char *text = NULL, *keys = strdup("");
        char *save = NULL;
        size_t len;
        int r;

        r = keys ? read_all(g->known_hosts_fd, KNOWN_HOSTS_MAX, &text, &len) : -ENOMEM;
        if (r < 0)
                return r;
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                const char *key = strchr(line, ' ');
                char *longer;

                if (line[0] == '#' || !key)
                        continue;
                longer = strf("%s%s\n", keys, key + 1);
                if (!longer)
                        return -ENOMEM;
                free(keys);
                keys = longer;
        }
        g->pin = isempty(keys);
        return memfd_with("known-host", keys, strlen(keys));
}

static int write_steps(JsonWriter *w, const GuestOptions *o, const bool *wanted) {
        uint64_t file = 0;

        json_write_key(w, "steps");
        json_write_array(w);
        for (size_t i = 0; i < o->n_steps; i++) {
                _cleanup_json_ Json *step = NULL;
                int r;

                if (!wanted[i])
                        continue;
                r = json_parse(o->steps[i].request, strlen(o->steps[i].request), NULL, &step, NULL);
                if (r < 0)
                        return r;
                json_write_object(w);
                for (size_t k = 0; k < json_length(step); k++) {
                        json_write_key(w, json_key(step, k));
                        json_write_value(w, json_member(step, k));
                }
                if (o->steps[i].fd >= 0)
                        json_put_unsigned(w, "file", file++);
                json_write_end(w);
        }
        json_write_end(w);
        return 0;
}

static int format_request(
                const Vm *vm, const GuestOptions *o, const bool *wanted, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        int r;

        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "host", "127.0.0.1");
        json_put_unsigned(w, "port", vm->record.ssh_port);
        json_put_string(w, "user", vm->record.spec.user ?: "vm");
        json_put_unsigned(w, "wait-usec", o->wait_usec);
        /* A guest may listen before cloud-init has made its user. */
        json_put_unsigned(w, "auth-retry-usec", o->wait_usec);
        json_put_boolean(w, "log-in", o->stage != GUEST_SSHD);
        json_put_boolean(w, "cloud-init", o->stage == GUEST_CLOUD_INIT);
        if (o->n_steps > 0) {
                r = write_steps(w, o, wanted);
                if (r < 0)
                        return r;
        }
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static void add_file(Guest *g, const char *option, int fd) {
        g->files[g->n_files++] = (WorkerFile){ .option = option, .fd = fd };
}

/* All that is to be handed to vmctl-ssh, since the caller's descriptors go before it is run. */
static int collect_files(Guest *g, const GuestOptions *o, const bool *wanted) {
        int known;

        g->known_hosts_fd = open_file(g->vm, "known_hosts", O_RDWR | O_APPEND | O_CREAT);
        if (g->known_hosts_fd < 0)
                return g->known_hosts_fd;
        known = read_host_keys(g);
        if (known < 0)
                return known;
        add_file(g, "--known-host", known);
        if (provisions(g)) {
                int log = open_file(g->vm, PROVISION_LOG, O_RDWR | O_CREAT);

                if (log < 0)
                        return log;
                add_file(g, "--log", log);
        }
        for (size_t i = 0; i < o->n_steps; i++) {
                int fd;

                if (!wanted[i] || o->steps[i].fd < 0)
                        continue;
                fd = fcntl(o->steps[i].fd, F_DUPFD_CLOEXEC, 3);
                if (fd < 0)
                        return -errno;
                add_file(g, "--file", fd);
        }
        return 0;
}

static int prepare(Guest *g, const GuestOptions *o, const bool *wanted, Error **reterr) {
        int r;

        g->files = calloc(FILES_BEFORE_STEPS + o->n_steps, sizeof(WorkerFile));
        r = g->files ? 0 : -ENOMEM;
        if (r >= 0 && o->stage != GUEST_SSHD) { /* else nobody logs in */
                int key = open_key(g->vm, o, reterr);

                if (key < 0)
                        return key;
                add_file(g, "--private-key", key);
                r = collect_files(g, o, wanted);
        }
        if (r >= 0)
                r = format_request(g->vm, o, wanted, &g->request, &g->len);
        return r < 0 ? error_set_errno(reterr, r, "Cannot prepare for SSH to VM '%s'", vm_name(g->vm)) : 0;
}

static void run_worker(Guest *g) {
        const WorkerSpec spec = {
                .program = LAUNCH_SSH,
                .requester = g->op.requester,
                .paid = &g->paid,
                .files = g->files,
                .n_files = g->n_files,
                .timeout_usec = WORK_TIMEOUT,
        };

        g->step = GUEST_WORK;
        if (worker_run(g->vm->manager->core, &spec, g->request, g->len, &handlers, g, &g->worker,
                            &g->error) < 0)
                finish(g);
}

/* A step that is run again has not run until it has come to its end; and when all are, none has. */
static int forget_steps(Guest *g, bool all) {
        size_t known;
        int r = 0;

        if (!all)
                STRV_FOREACH(s, g->vm->record.provisioned)
                        if (r >= 0)
                                r = strv_extend(&g->provisioned, *s);
        known = strv_length(g->provisioned);
        for (size_t i = 0; r >= 0 && i < strv_length(g->fingerprints); i++)
                if (g->positions[i] < known)
                        r = free_and_strdup(&g->provisioned[g->positions[i]], "");
        return r;
}

/* Sets wanted[] for the steps that are to run. Returns how many these are. */
static int choose_steps(Guest *g, const GuestOptions *o, bool *wanted) {
        size_t n = 0, known = strv_length(g->vm->record.provisioned);
        int r;

        g->positions = calloc(o->n_steps + 1, sizeof(size_t));
        if (!g->positions)
                return -ENOMEM;
        for (size_t i = 0; i < o->n_steps; i++) {
                const char *fingerprint = o->steps[i].fingerprint;

                wanted[i] = !o->only_changed || !fingerprint || i >= known ||
                                !streq(g->vm->record.provisioned[i], fingerprint);
                if (!wanted[i])
                        continue;
                if (strv_extend(&g->fingerprints, fingerprint ?: "") < 0)
                        return -ENOMEM;
                g->positions[n++] = i;
        }
        r = forget_steps(g, !o->only_changed);
        return r < 0 ? r : (int)n;
}

static int on_begin(sd_event_source *source, void *userdata) {
        Guest *g = userdata;

        g->defer = sd_event_source_disable_unref(g->defer);
        if (g->error || !g->request)
                finish(g);
        else
                run_worker(g);
        return 0;
}

/* The job's path goes out first, so nothing ends in this turn of the loop. */
static int start(Guest *g, Error **reterr) {
        int r;

        if (provisions(g) && !is_noted(g))
                return record_write(g->vm->stored, &provisioned_change, g, reterr);
        g->step = GUEST_WORK;
        r = sd_event_add_defer(g->vm->manager->core->event, &g->defer, on_begin, g);
        return r < 0 ? error_set_errno(reterr, r, "Cannot reach into VM '%s'", vm_name(g->vm)) : 0;
}

static int begin(Guest *g, const GuestOptions *o, Error **reterr) {
        bool wanted[PROVISION_STEPS_MAX] = {};
        int r, n;

        n = choose_steps(g, o, wanted);
        if (n < 0)
                return error_set_errno(reterr, n, "Cannot reach into VM '%s'", vm_name(g->vm));
        if (o->stage != GUEST_RUNNING && (n > 0 || !provisions(g))) {
                r = charge(g->vm->manager->core->accounts, g->op.requester, RESOURCE_WORKERS, 1, &g->paid,
                                reterr);
                if (r >= 0)
                        r = prepare(g, o, wanted, reterr);
                if (r < 0)
                        return r;
        }
        r = operation_announce(&g->op, reterr);
        return r < 0 ? r : start(g, reterr);
}

static int run(Vm *vm, const OperationType *type, uid_t requester, const GuestOptions *o, Job **ret,
                Error **reterr) {
        const OperationSpec spec = vm_operation(vm, requester, NULL);
        Operation *op;
        Guest *g;
        int r;

        r = operation_admit(&vm->manager->core->operations, type->kind, vm->record.uuid, vm_name(vm), &op,
                        reterr);
        if (r >= 0)
                r = check_reachable(vm, reterr);
        if (r >= 0)
                r = operation_new(&vm->manager->core->operations, type, &spec, &op, reterr);
        if (r < 0)
                return r;
        g = (Guest *)op;
        g->vm = vm;
        g->known_hosts_fd = -EBADF;
        r = begin(g, o, reterr);
        if (r < 0) { /* the caller is told at once, and those who have heard of the job by its end */
                operation_drop(op, reterr);
                return r;
        }
        *ret = op->job;
        return 0;
}

int vm_guest_wait(Vm *vm, uid_t requester, const GuestOptions *o, Job **ret, Error **reterr) {
        return run(vm, &wait_type, requester, o, ret, reterr);
}

int vm_guest_provision(Vm *vm, uid_t requester, const GuestOptions *o, Job **ret, Error **reterr) {
        assert(o->n_steps <= PROVISION_STEPS_MAX);
        return run(vm, &provision_type, requester, o, ret, reterr);
}
