/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The files and the record of a new VM. All files are made in a draft of the record by vmctl-prepare, which
 * alone touches what the client gave; then the record is committed. Whatever dies before that leaves only a
 * folder that the next start-up removes.
 *
 * The VM is in the index from the beginning, and goes when this fails, which is when nothing works on its
 * files any more. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "core/file-acl.h"
#include "core/worker.h"
#include "spec/vm-lists.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm-index.h"
#include "vm-share.h"
#include "vm.h"

/* It takes 15 ms, but a client's file may lie on a slow file system. Below D-Bus's usual 25 s, so that the
 * client gets our answer. */
#define PREPARE_TIMEOUT (20 * USEC_PER_SEC)
#define DISK_GRANULE 512

/* Files of the VM's folder that vmctl-prepare fills, and its options for them. */
typedef enum Output { OUT_OVERLAY, OUT_SEED, OUT_PRIVATE_KEY, OUT_PUBLIC_KEY, OUT_VARS, _OUTPUT_MAX } Output;
static const struct {
        const char *file, *option;
} output_table[] = {
        [OUT_OVERLAY] = { "overlay.qcow2", "--overlay" },
        [OUT_SEED] = { "seed.iso", "--seed" },
        [OUT_PRIVATE_KEY] = { "id_ed25519_generated", "--private-key" },
        [OUT_PUBLIC_KEY] = { "id_ed25519_generated.pub", "--public-key" },
        [OUT_VARS] = { "vars.fd", "--vars" },
};

typedef enum MakeStep { MAKE_HOST, MAKE_PREPARE, MAKE_COMMIT, MAKE_FAILING } MakeStep;

struct VmMake {
        Operation op;
        Manager *manager; /* borrowed */
        Vm *vm;           /* borrowed */
        MakeStep step;
        int files[_VM_FILE_MAX];  /* owned */
        int outputs[_OUTPUT_MAX]; /* owned */
        Worker *worker;
        Error *error; /* why it fails */
};

static void make_done(Operation *op) {
        VmMake *c = (VmMake *)op;

        host_forget(c->manager->host, c);
        worker_free(c->worker);
        vm_files_close(c->files);
        for (int i = 0; i < _OUTPUT_MAX; i++)
                safe_close(c->outputs[i]);
        error_free(c->error);
}

static void step(VmMake *c);

static void on_deleted(void *userdata, int r, const Error *error) {
        VmMake *c = userdata;

        operation_fail(&c->op, c->error);
}

/* The VM was never made: it goes, with its files, before anybody is told. */
static void remove_vm(void *userdata) {
        VmMake *c = userdata;
        Vm *vm = c->vm;
        int r = -ENOENT;

        c->worker = worker_free(c->worker);
        vm->make = NULL;
        if (vm->stored)
                r = record_remove(&vm->stored, on_deleted, c, NULL);
        manager_remove_vm(vm->manager, vm);
        if (r < 0)
                operation_fail(&c->op, c->error);
}

/* The record's store sees to a child of its own. */
static void fail(VmMake *c, const Error *error) {
        c->error = error_copy(error);
        c->step = MAKE_FAILING;
        host_forget(c->manager->host, c);
        if (!c->worker || worker_kill(c->worker, remove_vm, c) == 0)
                remove_vm(c);
}

static void fail_errno(VmMake *c, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "Cannot create VM '%s': %s", vm_name(c->vm), what);
        fail(c, e);
}

static bool cancel(Operation *op) {
        VmMake *c = (VmMake *)op;

        if (c->step != MAKE_FAILING)
                fail(c, op->reason);
        return true;
}

static const OperationType make_type = {
        .kind = OPERATION_MAKE,
        .size = sizeof(VmMake),
        .cancel = cancel,
        .done = make_done,
};

static int format(void *userdata, char **ret, size_t *ret_len, Error **reterr) {
        const VmMake *c = userdata;

        return vm_record_format(&c->vm->record, ret, ret_len);
}

static void on_committed(void *userdata, int r, const Error *error) {
        VmMake *c = userdata;
        Vm *vm = c->vm;

        if (c->step == MAKE_FAILING) /* and so the record goes */
                return;
        if (r < 0) {
                fail(c, error);
                return;
        }
        vm->make = NULL;
        vm_changed(vm, VM_CHANGE_SPEC | VM_CHANGE_PROCESS);
        vm_flush(vm);
        operation_complete(&c->op, NULL);
}

static const RecordChange commit_change = { .format = format, .done = on_committed };

/* While vmctl-prepare ran, the files were its user's, too. The owner's ssh reads the keys. */
static int take_back_files(VmMake *c) {
        const Config *config = &c->vm->manager->core->config;
        uid_t owner = c->vm->record.owner;
        int r = 0;

        for (int i = 0; r >= 0 && i < _OUTPUT_MAX; i++) {
                int access = vm_share_access(output_table[i].file);

                if (c->outputs[i] < 0)
                        continue;
                r = file_acl_clear(c->outputs[i], 0600);
                if (r >= 0 && access != 0)
                        r = file_acl_grant(c->outputs[i], owner, access);
        }
        if (r >= 0 && fchmod(record_fd(c->vm->stored), config->system ? 0711 : 0700) < 0)
                r = -errno;
        return r;
}

static int make_known_hosts(VmMake *c) {
        static const char name[] = "known_hosts";
        _cleanup_close_ int fd = openat(record_fd(c->vm->stored), name,
                        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        return fd < 0 ? -errno : file_acl_grant(fd, c->vm->record.owner, vm_share_access(name));
}

static int read_file_reply(const Json *object, FileRef *ret) {
        return object && !json_is_null(object) ? file_ref_read(object, ret) : 0;
}

static int take_reply(VmMake *c, const Json *reply) {
        VmRecord *rec = &c->vm->record;
        const char *format = json_get_string(json_get(reply, "image"), "format");
        int r;

        r = read_file_reply(json_get(reply, "image"), &rec->files[VM_FILE_IMAGE]);
        if (r >= 0)
                r = read_file_reply(json_get(reply, "kernel"), &rec->files[VM_FILE_KERNEL]);
        if (r >= 0)
                r = read_file_reply(json_get(reply, "initrd"), &rec->files[VM_FILE_INITRD]);
        if (r >= 0 && format && !streq(format, "raw") && !streq(format, "qcow2"))
                r = -EBADMSG;
        if (r >= 0 && format)
                r = free_and_strdup(&rec->spec.image_format, format);
        if (r >= 0)
                r = json_get_unsigned(reply, "disk-size", &rec->disk_size);
        if (r >= 0 && rec->disk_size > VM_DISK_MAX)
                r = -EBADMSG;
        return r;
}

static void on_prepared(void *userdata, const Json *result, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        VmMake *c = userdata;
        int r;

        if (error) {
                fail(c, error);
                return;
        }
        r = take_reply(c, result); /* it is the worker's */
        c->worker = worker_free(c->worker);
        if (r >= 0)
                r = take_back_files(c);
        if (r >= 0)
                r = make_known_hosts(c);
        if (r < 0) {
                fail_errno(c, r, "vmctl-prepare failed");
                return;
        }
        c->step = MAKE_COMMIT;
        r = record_commit(c->vm->stored, c->vm->place.name, &commit_change, c, &e);
        if (r < 0)
                fail(c, e);
}

static int make_outputs(VmMake *c) {
        const VmRecord *rec = &c->vm->record;
        const bool wanted[_OUTPUT_MAX] = {
                [OUT_OVERLAY] = c->files[VM_FILE_IMAGE] >= 0 || rec->spec.disk > 0,
                [OUT_SEED] = rec->seed,
                [OUT_PRIVATE_KEY] = rec->generated_key,
                [OUT_PUBLIC_KEY] = rec->generated_key,
                [OUT_VARS] = rec->spec.firmware == VM_FIRMWARE_UEFI,
        };

        for (int i = 0; i < _OUTPUT_MAX; i++) {
                if (!wanted[i])
                        continue;
                c->outputs[i] = openat(record_fd(c->vm->stored), output_table[i].file,
                                O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (c->outputs[i] < 0)
                        return -errno;
        }
        return 0;
}

/* Empty disks are holes: nothing has to be written. They are the service's, as the overlay is; QEMU gets
 * descriptors. */
static int make_disks(VmMake *c) {
        const char *list = c->vm->record.spec.disks;
        VmDisk d;

        while (vm_disk_next(&list, &d) > 0) {
                _cleanup_free_ char *file = strf("disk-%s.raw", d.name);
                _cleanup_close_ int fd = -EBADF;

                if (!file)
                        return -ENOMEM;
                fd = openat(record_fd(c->vm->stored), file,
                                O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (fd < 0 || ftruncate(fd, (off_t)d.size) < 0)
                        return -errno;
        }
        return 0;
}

static int format_request(VmMake *c, char **ret, size_t *ret_len) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        const VmRecord *rec = &c->vm->record;
        _cleanup_free_ char *instance = strf("vmctl-%s", rec->uuid);
        int r;

        if (!instance)
                return -ENOMEM;
        r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "name", rec->name);
        json_put_string(w, "instance-id", instance);
        json_put_string(w, "hostname", rec->spec.hostname);
        json_put_string(w, "user", rec->spec.user ?: "vm");
        json_put_string(w, "ssh-key", rec->spec.ssh_key);
        json_put_boolean(w, "generate-key", rec->generated_key);
        json_put_boolean(w, "cloud-init", rec->seed);
        json_put_string(w, "image-format", rec->spec.image_format);
        json_put_unsigned(w, "disk-size", rec->spec.disk);
        json_write_end(w);
        return json_writer_finish(w, ret, ret_len);
}

static int run_prepare(VmMake *c, int vars_template, Error **reterr) {
        static const WorkerHandlers handlers = { .done = on_prepared };
        WorkerFile files[_VM_FILE_MAX + _OUTPUT_MAX + 1] = {
                [VM_FILE_IMAGE] = { "--image", c->files[VM_FILE_IMAGE] },
                [VM_FILE_KERNEL] = { "--kernel", c->files[VM_FILE_KERNEL] },
                [VM_FILE_INITRD] = { "--initrd", c->files[VM_FILE_INITRD] },
                [VM_FILE_USER_DATA] = { "--user-data", c->files[VM_FILE_USER_DATA] },
                [_VM_FILE_MAX] = { "--firmware-vars-template", vars_template },
        };
        const WorkerSpec spec = {
                .program = LAUNCH_PREPARE,
                .requester = c->op.requester,
                .uid = c->vm->record.uid,
                .files = files,
                .n_files = ELEMENTSOF(files),
                .timeout_usec = PREPARE_TIMEOUT,
                .late = "The files given for the VM could not be read within 20 s",
        };
        _cleanup_free_ char *request = NULL;
        size_t len;
        int r;

        for (int i = 0; i < _OUTPUT_MAX; i++)
                files[_VM_FILE_MAX + 1 + i] = (WorkerFile){ output_table[i].option, c->outputs[i],
                        .share = true };
        r = format_request(c, &request, &len);
        return r < 0 ? r
                     : worker_run(c->vm->manager->core, &spec, request, len, &handlers, c, &c->worker,
                                       reterr);
}

static void prepare(VmMake *c) {
        VmRecord *rec = &c->vm->record;
        _cleanup_close_ int vars_template = -EBADF;
        _cleanup_error_ Error *e = NULL;
        const Host *h = c->vm->manager->host;
        const char *machine, *code, *vars;
        int r;

        r = host_check_qemu(h, &e);
        if (r >= 0)
                r = host_resolve_machine(h, rec->spec.machine, &machine, &e);
        if (r >= 0 && rec->spec.accelerator == VM_ACCELERATOR_KVM) {
                const char *reason;

                if (!host_has_kvm(h, &reason))
                        r = error_set(&e, ERROR_ACCELERATOR_UNAVAILABLE,
                                        "KVM does not work on this host: %s", reason);
        }
        if (r >= 0 && rec->spec.firmware == VM_FIRMWARE_UEFI) {
                r = host_uefi(h, &code, &vars, &e);
                if (r >= 0) {
                        vars_template = open(vars, O_RDONLY | O_CLOEXEC);
                        if (vars_template < 0)
                                r = error_set_errno(&e, -errno, "Cannot open '%s'", vars);
                }
        }
        if (r < 0) {
                fail(c, e);
                return;
        }
        c->step = MAKE_PREPARE;
        r = record_new(c->vm->manager->records, rec->uuid, c->vm, &c->vm->stored, &e);
        if (r < 0) {
                fail(c, e);
                return;
        }
        r = free_and_strdup(&rec->machine, machine);
        if (r >= 0)
                r = make_outputs(c);
        if (r >= 0)
                r = make_disks(c);
        if (r >= 0)
                r = run_prepare(c, vars_template, &e);
        if (e)
                fail(c, e);
        else if (r < 0)
                fail_errno(c, r, "its files cannot be made");
}

static void on_host(void *userdata) {
        step(userdata);
}

static void step(VmMake *c) {
        int r;

        r = host_ensure(c->vm->manager->host, on_host, c);
        if (r < 0)
                fail_errno(c, r, "QEMU cannot be asked for its version");
        else if (r > 0)
                prepare(c);
}

/* What the VM is given for life, but for what the index holds for it. */
static int hand_out(Manager *m, VmRecord *rec, const int *files, Error **reterr) {
        bool image = files[VM_FILE_IMAGE] >= 0, kernel = files[VM_FILE_KERNEL] >= 0;
        char uuid[SD_ID128_UUID_STRING_MAX];
        struct timespec ts;
        sd_id128_t id;
        int r;

        clock_gettime(CLOCK_REALTIME, &ts);
        rec->created = (uint64_t)ts.tv_sec * USEC_PER_SEC + (uint64_t)ts.tv_nsec / NSEC_PER_USEC;
        rec->seed = vm_spec_has(&rec->spec, "cloud-init")
                        ? rec->spec.cloud_init
                        : (image && !kernel) || rec->spec.ssh_key || files[VM_FILE_USER_DATA] >= 0;
        rec->spec.cloud_init = rec->seed;
        rec->generated_key = rec->seed && !rec->spec.ssh_key && files[VM_FILE_USER_DATA] < 0;
        if (!vm_spec_has(&rec->spec, "console-log-max"))
                rec->spec.console_log_max = m->core->config.console_log_max;
        if (streq_ptr(rec->spec.machine, "microvm"))
                rec->spec.display = VM_DISPLAY_NONE;
        rec->spec.disk = (rec->spec.disk + DISK_GRANULE - 1) / DISK_GRANULE * DISK_GRANULE;
        r = sd_id128_randomize(&id);
        if (r < 0)
                return error_set_errno(reterr, r, "There is no randomness");
        r = free_and_strdup(&rec->uuid, sd_id128_to_uuid_string(id, uuid));
        if (r >= 0)
                r = manager_pick_mac(m, &rec->mac);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot create VM '%s'", rec->name);
        return 0;
}

static int check(const VmRecord *rec, const int *files, Error **reterr) {
        unsigned given = 0;

        for (int i = 0; i < _VM_FILE_MAX; i++)
                given |= files[i] >= 0 ? 1U << i : 0;
        return vm_spec_check(&rec->spec, given, reterr);
}

static int find_stored_image(const Manager *m, const VmRecord *rec, Image **ret, Error **reterr) {
        const VmSpec *s = &rec->spec;

        if (s->image_name)
                return image_get(m->images, s->image_name, rec->owner, ret, reterr);
        *ret = image_find_by_url(m->images, s->image_url, rec->owner);
        return *ret ? 0
                    : error_set(reterr, ERROR_NO_SUCH_IMAGE,
                                      "No image of the store was pulled from the URL given for VM '%s'",
                                      rec->name);
}

/* An image of the store becomes the file that a client would have given. *fd is the caller's to close. */
static int use_stored_image(const Manager *m, VmRecord *rec, int *files, int *fd, Error **reterr) {
        VmSpec *s = &rec->spec;
        Image *image;
        int r;

        if (!s->image_name && !s->image_url)
                return 0;
        if ((s->image_name && s->image_url) || files[VM_FILE_IMAGE] >= 0)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "image, image-name and image-url exclude each other");
        if (s->image_format)
                return error_set(reterr, ERROR_INVALID_SPEC, "The format of an image in the store is known");
        r = find_stored_image(m, rec, &image, reterr);
        if (r < 0)
                return r;
        *fd = image_open(image);
        if (*fd < 0)
                return error_set_errno(reterr, *fd, "Image '%s' cannot be opened", image_name(image));
        r = free_and_strdup(&s->image_format, image->record.format);
        if (r >= 0)
                r = free_and_strdup(&rec->image_uuid, image->record.uuid);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot create VM '%s'", rec->name);
        files[VM_FILE_IMAGE] = *fd;
        image_touch(image);
        return 0;
}

/* Into the index; what fails takes the VM along. */
static int put_in(Manager *m, VmRecord *record, VmPlace *place, Vm **ret, Error **reterr) {
        bool wants_port = record->spec.network == VM_NETWORK_USER;
        Vm *vm;
        int r;

        r = vm_new(m, record, place, &vm);
        if (r >= 0)
                r = manager_add_vm(m, vm);
        if (r < 0)
                return error_set_errno(reterr, r, "There is no place for another VM");
        r = uid_pool_pick(m->core->uids, &vm->record.uid, reterr);
        if (r >= 0 && wants_port)
                r = manager_give_port(vm, reterr);
        if (r < 0) {
                manager_forget_vm(m, vm);
                return r;
        }
        *ret = vm;
        return 0;
}

int vm_files_dup(const int files[static _VM_FILE_MAX], int ret[static _VM_FILE_MAX]) {
        for (int i = 0; i < _VM_FILE_MAX; i++)
                ret[i] = -EBADF;
        for (int i = 0; i < _VM_FILE_MAX; i++) {
                if (files[i] < 0)
                        continue;
                ret[i] = fcntl(files[i], F_DUPFD_CLOEXEC, 3);
                if (ret[i] < 0)
                        return -errno; /* not the same as one that was not given */
        }
        return 0;
}

void vm_files_close(int files[static _VM_FILE_MAX]) {
        for (int i = 0; i < _VM_FILE_MAX; i++)
                files[i] = safe_close(files[i]);
}

static int make_new(Operation *parent, Vm *vm, const int *files, VmMake **ret, Error **reterr) {
        const OperationSpec spec = vm_operation(vm, parent->requester, parent);
        Operation *op;
        VmMake *c;
        int r;

        r = operation_new(&vm->manager->core->operations, &make_type, &spec, &op, reterr);
        if (r < 0)
                return r;
        c = (VmMake *)op;
        c->manager = vm->manager;
        c->vm = vm;
        for (int i = 0; i < _OUTPUT_MAX; i++)
                c->outputs[i] = -EBADF;
        r = vm_files_dup(files, c->files);
        if (r < 0) {
                r = error_set_errno(reterr, r, "Cannot keep the files for VM '%s'", vm_name(vm));
                operation_drop(op, reterr);
                return r;
        }
        *ret = c;
        return 0;
}

static int begin(Manager *m, Operation *parent, VmRecord *record, VmPlace *place, const int *files,
                waiter_t done, void *userdata, VmMake **ret, Error **reterr) {
        VmMake *c;
        Vm *vm;
        int r;

        r = put_in(m, record, place, &vm, reterr);
        if (r < 0)
                return r;
        r = make_new(parent, vm, files, &c, reterr);
        if (r >= 0) {
                r = operation_wait(&c->op, parent, done, userdata, reterr);
                if (r < 0)
                        operation_drop(&c->op, reterr);
        }
        if (r < 0) {
                manager_forget_vm(m, vm);
                return r;
        }
        vm->make = c;
        *ret = c;
        return 0;
}

int vm_make(Manager *m, Operation *parent, VmRecord *record, VmPlace *place,
                const int given[static _VM_FILE_MAX], waiter_t done, void *userdata, Vm **ret,
                Error **reterr) {
        _cleanup_close_ int stored = -EBADF;
        int files[_VM_FILE_MAX], r;
        VmMake *c;

        memcpy(files, given, sizeof(files));
        r = use_stored_image(m, record, files, &stored, reterr);
        if (r >= 0)
                r = check(record, files, reterr);
        if (r >= 0)
                r = hand_out(m, record, files, reterr);
        if (r >= 0)
                r = begin(m, parent, record, place, files, done, userdata, &c, reterr);
        if (r < 0)
                return r;
        *ret = c->vm;
        m->hooks->vm_new(m, c->vm);
        step(c);
        return 0;
}
