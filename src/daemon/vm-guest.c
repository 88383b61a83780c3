/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "console-tail.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-guest.h"
#include "worker.h"

#define WORK_TIMEOUT                                                                         \
        (24 * 3600 * USEC_PER_SEC) /* steps have deadlines of their own, where they have any \
                                    */
#define CONSOLE_LINES 8            /* that an error shows */
#define KNOWN_HOSTS_MAX (64 * KIB)

static const char *const guest_stage_table[] = {
        [GUEST_RUNNING] = "running",
        [GUEST_SSH] = "ssh",
        [GUEST_CLOUD_INIT] = "cloud-init",
};
DEFINE_STRING_TABLE(guest_stage, GuestStage, _GUEST_STAGE_MAX);

struct VmGuest {
        Vm *vm; /* borrowed */
        Job *job;
        Worker *worker;
        Error *error; /* that it has ended with, while the console is read for more */
        ConsoleTail *tail;
        sd_event_source *defer;
        bool provisions;
        int known_hosts_fd;
        bool pin;            /* the guest's host key is not known yet */
        char **fingerprints; /* of the steps that run, in their order */
        size_t *positions;   /* and which of all steps these are */
        VmGuest *next;
};

void provision_steps_free(ProvisionStep *steps, size_t n) {
        for (size_t i = 0; i < n; i++) {
                free(steps[i].fingerprint);
                free(steps[i].request);
                safe_close(steps[i].fd);
        }
        free(steps);
}

static VmGuest *guest_free(VmGuest *g) {
        if (!g)
                return NULL;
        for (VmGuest **p = &g->vm->guests; *p; p = &(*p)->next)
                if (*p == g) {
                        *p = g->next;
                        break;
                }
        worker_free(g->worker);
        error_free(g->error);
        console_tail_free(g->tail);
        sd_event_source_disable_unref(g->defer);
        safe_close(g->known_hosts_fd);
        strv_free(g->fingerprints);
        free(g->positions);
        free(g);
        return NULL;
}
DEFINE_CLEANUP(VmGuest *, guest_free);

static void finish(VmGuest *g, const Error *error) {
        Job *job = g->job;

        if (g->provisions && vm_save(g->vm, NULL, NULL) < 0)
                log_at(LOG_WARNING, vm_name(g->vm), NULL, "Which steps have run could not be written down");
        if (g->provisions)
                vm_changed(g->vm, VM_CHANGE_PROVISION);
        guest_free(g);
        (void)job_finish(job, job_result_of(error), error);
}

static void give_up(VmGuest *g, const char *why) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "%s VM '%s' %s", g->provisions ? "Provisioning" : "Waiting for",
                        vm_name(g->vm), why);
        finish(g, e);
}

/* The connection ends with the worker, and the guest's side of a command with that. */
static void on_cancel(Job *job, void *userdata) {
        give_up(userdata, "was canceled");
}

void vm_guests_end(Vm *vm) {
        while (vm->guests)
                give_up(vm->guests, "ended with the VM");
}

void vm_guests_free(Vm *vm) {
        while (vm->guests)
                guest_free(vm->guests);
}

/* Whom the first session has met is from then on the only one that is talked to, by ssh(1), too. */
static void pin_host_key(VmGuest *g, const char *key) {
        _cleanup_free_ char *line = key ? strf("vmctl-%s %s\n", vm_name(g->vm), key) : NULL;

        if (!line || !g->pin || strpbrk(key, "\r\n"))
                return;
        g->pin = false;
        if (write_all(g->known_hosts_fd, line, strlen(line)) < 0)
                log_at(LOG_WARNING, vm_name(g->vm), NULL, "The guest's host key could not be written down");
}

static void remember_step(VmGuest *g, uint64_t step) {
        VmRecord *rec = &g->vm->record;

        if (step == 0 || step > strv_length(g->fingerprints))
                return;
        while (strv_length(rec->provisioned) <= g->positions[step - 1])
                if (strv_extend(&rec->provisioned, "") < 0)
                        return;
        (void)free_and_strdup(&rec->provisioned[g->positions[step - 1]], g->fingerprints[step - 1]);
}

static void on_line(void *userdata, const Json *line) {
        const char *phase = json_get_string(line, "phase");
        VmGuest *g = userdata;
        uint64_t step = 0, of = 0;

        (void)json_get_unsigned(line, "step", &step);
        (void)json_get_unsigned(line, "of", &of);
        if (streq(phase, "ready"))
                pin_host_key(g, json_get_string(line, "host-key"));
        else if (streq(phase, "step-done"))
                remember_step(g, step);
        else if (streq(phase, "step"))
                job_set_progress(g->job, &(JobProgress){ "provisioning", step - 1, of, 0 });
        else
                job_set_progress(g->job, &(JobProgress){ phase, 0, 0, 0 });
}

static void on_tail(void *userdata, const char *text) {
        _cleanup_error_ Error *e = NULL;
        VmGuest *g = userdata;

        (void)error_set(&e, error_code(g->error), "%s%s%s", error_message(g->error),
                        *text ? "\nThe last lines on its console:" : "", text);
        finish(g, e);
}

/* Who waited in vain wants to know what the guest was at. */
static void on_done(void *userdata, const Json *result, const Error *error) {
        VmGuest *g = userdata;

        if (error && error_code(error) == ERROR_GUEST_NOT_READY) {
                g->error = error_copy(error);
                if (g->error && console_tail_new(g->vm, CONSOLE_LINES, on_tail, g, &g->tail) >= 0)
                        return;
        }
        finish(g, error);
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

/* A file of the VM's folder; one that is made is the owner's. */
static int open_file(const Vm *vm, const char *file, int flags) {
        _cleanup_free_ char *path = strf("%s/%s", vm_name(vm), file);
        _cleanup_close_ int fd = -EBADF;

        if (!path)
                return -ENOMEM;
        fd = openat(vm->manager->vms_fd, path, flags | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0600);
        if (fd < 0 || ((flags & O_CREAT) && geteuid() == 0 && fchown(fd, vm->record.owner, (gid_t)-1) < 0))
                return -errno;
        return TAKE_FD(fd);
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
static int read_host_keys(VmGuest *g) {
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
        json_put_boolean(w, "cloud-init", o->stage == GUEST_CLOUD_INIT);
        if (o->n_steps > 0) {
                r = write_steps(w, o, wanted);
                if (r < 0)
                        return r;
        }
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int run_worker(VmGuest *g, const GuestOptions *o, const bool *wanted, Error **reterr) {
        _cleanup_close_ int key = open_key(g->vm, o, reterr), known = -EBADF, log = -EBADF;
        WorkerFile files[WORKER_FILES_MAX];
        WorkerSpec spec = { .program = "vmctl-ssh",
                .requester = g->vm->record.owner,
                .files = files,
                .timeout_usec = WORK_TIMEOUT };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        if (key < 0)
                return key;
        g->known_hosts_fd = open_file(g->vm, "known_hosts", O_RDWR | O_APPEND | O_CREAT);
        known = g->known_hosts_fd < 0 ? g->known_hosts_fd : read_host_keys(g);
        log = g->provisions ? open_file(g->vm, PROVISION_LOG, O_RDWR | O_CREAT) : -EBADF;
        r = known < 0 ? known : g->provisions && log < 0 ? log : 0;
        if (r >= 0)
                r = format_request(g->vm, o, wanted, &request, &len);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot prepare for SSH to VM '%s'", vm_name(g->vm));
        files[spec.n_files++] = (WorkerFile){ .option = "--private-key", .fd = key };
        files[spec.n_files++] = (WorkerFile){ .option = "--known-host", .fd = known };
        files[spec.n_files++] = (WorkerFile){ .option = "--log", .fd = log };
        for (size_t i = 0; i < o->n_steps; i++)
                if (wanted[i] && o->steps[i].fd >= 0)
                        files[spec.n_files++] = (WorkerFile){ .option = "--file", .fd = o->steps[i].fd };
        return worker_run(g->vm->manager, &spec, request, len, &handlers, g, &g->worker, reterr);
}

static int on_nothing_to_do(sd_event_source *s, void *userdata) {
        finish(userdata, NULL);
        return 0;
}

/* A step that is run again has not run until it has come to its end; and when all are, none has. */
static int forget_steps(VmGuest *g, bool all) {
        char ***provisioned = &g->vm->record.provisioned;
        size_t known = strv_length(*provisioned);
        int r = 0;

        if (all)
                *provisioned = strv_free(*provisioned);
        for (size_t i = 0; !all && r >= 0 && i < strv_length(g->fingerprints); i++)
                if (g->positions[i] < known)
                        r = free_and_strdup(&(*provisioned)[g->positions[i]], "");
        return r < 0 ? r : vm_save(g->vm, NULL, NULL);
}

/* Sets wanted[] for the steps that are to run. Returns how many these are. */
static int choose_steps(VmGuest *g, const GuestOptions *o, bool *wanted) {
        size_t n = 0, known = strv_length(g->vm->record.provisioned);

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
        return (int)n;
}

static int guest_new(Vm *vm, const char *kind, bool provisions, VmGuest **ret) {
        const JobSpec spec = { kind, JOB_TARGET_VM, vm_name(vm), vm->record.owner, vm->record.owner,
                on_cancel, NULL };
        _cleanup_(guest_freep) VmGuest *g = malloc(sizeof(VmGuest));
        int r;

        if (!g)
                return -ENOMEM;
        *g = (VmGuest){ .vm = vm, .known_hosts_fd = -EBADF, .provisions = provisions, .next = vm->guests };
        vm->guests = g;
        r = job_new(vm->manager, &spec, &g->job);
        if (r < 0)
                return r;
        g->job->userdata = g;
        *ret = TAKE_PTR(g);
        return 0;
}

static int begin(Vm *vm, const char *kind, bool provisions, const GuestOptions *o, Job **ret,
                Error **reterr) {
        bool wanted[PROVISION_STEPS_MAX] = {};
        VmGuest *g;
        int r, n;

        r = guest_new(vm, kind, provisions, &g);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot reach into VM '%s'", vm_name(vm));
        *ret = g->job;
        n = choose_steps(g, o, wanted);
        if (n >= 0 && provisions) {
                r = forget_steps(g, !o->only_changed);
                n = r < 0 ? r : n;
        }
        if (n < 0)
                r = error_set_errno(reterr, n, "Cannot reach into VM '%s'", vm_name(vm));
        else if ((provisions && n == 0) || o->stage == GUEST_RUNNING) {
                r = sd_event_add_defer(vm->manager->event, &g->defer, on_nothing_to_do, g);
                if (r < 0)
                        (void)error_set_errno(reterr, r, "Cannot reach into VM '%s'", vm_name(vm));
        } else
                r = run_worker(g, o, wanted, reterr);
        if (r < 0) { /* the caller is told at once, and those who have heard of the job by its end */
                (void)job_finish(g->job, JOB_FAILED, reterr ? *reterr : NULL);
                guest_free(g);
        }
        return r;
}

int vm_guest_wait(Vm *vm, const GuestOptions *o, Job **ret, Error **reterr) {
        int r = check_reachable(vm, reterr);

        return r < 0 ? r : begin(vm, "wait", false, o, ret, reterr);
}

int vm_guest_provision(Vm *vm, const GuestOptions *o, Job **ret, Error **reterr) {
        int r;

        assert(o->n_steps <= PROVISION_STEPS_MAX);
        r = check_reachable(vm, reterr);
        if (r < 0)
                return r;
        for (const VmGuest *g = vm->guests; g; g = g->next)
                if (g->provisions)
                        return error_set(reterr, ERROR_BUSY, "VM '%s' is being provisioned already",
                                        vm_name(vm));
        return begin(vm, "provision", true, o, ret, reterr);
}
