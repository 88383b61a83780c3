/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Create: all files are made in the folder ".new-NAME" by vmctl-prepare, which alone touches what the client
 * gave; then vm.json is written and the folder gets its name. Whatever dies before that leaves only a folder
 * that the next start-up removes. */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>
#include <time.h>
#include <unistd.h>

#include "manager.h"
#include "spec/vm-lists.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "vm.h"
#include "worker.h"

/* It takes 15 ms, but a client's file may lie on a slow file system. Below D-Bus's usual 25 s, so that the
 * client gets our answer. */
#define PREPARE_TIMEOUT (20 * USEC_PER_SEC)
#define COMMIT_TIMEOUT (30 * USEC_PER_SEC)
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

typedef enum CreateStep { CREATE_HOST, CREATE_PREPARE, CREATE_COMMIT, CREATE_START } CreateStep;

struct VmCreate {
        Vm *vm; /* borrowed */
        CreateStep step;
        Waiters *waiters;
        int files[_VM_FILE_MAX];  /* owned */
        int outputs[_OUTPUT_MAX]; /* owned */
        int folder_fd;
        char *folder; /* ".new-NAME", while it must be removed if we fail */
        Worker *worker;
        Task *task;
        char *text; /* of vm.json */
        size_t len;
};

/* The child that gives the folder its name may have done so before it was killed. */
static void remove_folder(const VmCreate *c) {
        const char *name = vm_name(c->vm);
        int vms_fd = c->vm->manager->vms_fd;
        struct stat ours, there;

        if (c->step == CREATE_COMMIT && fstat(c->folder_fd, &ours) >= 0 &&
                        fstatat(vms_fd, name, &there, AT_SYMLINK_NOFOLLOW) >= 0 &&
                        ours.st_dev == there.st_dev && ours.st_ino == there.st_ino)
                (void)renameat(vms_fd, name, vms_fd, c->folder);
        (void)remove_tree_at(vms_fd, c->folder);
}

VmCreate *vm_create_free(VmCreate *c) {
        if (!c)
                return NULL;
        host_forget(c->vm->manager->host, c);
        worker_free(c->worker);
        task_free(c->task);
        for (int i = 0; i < _VM_FILE_MAX; i++)
                safe_close(c->files[i]);
        for (int i = 0; i < _OUTPUT_MAX; i++)
                safe_close(c->outputs[i]);
        if (c->folder)
                remove_folder(c);
        safe_close(c->folder_fd);
        free(c->folder);
        free(c->text);
        free(c->waiters);
        free(c);
        return NULL;
}

static void step(VmCreate *c);

/* The VM was never made: it goes before anybody is told. */
static void fail(VmCreate *c, const Error *error) {
        _cleanup_error_ Error *e = error_copy(error);
        Waiters *waiters = TAKE_PTR(c->waiters);
        Vm *vm = c->vm;

        vm->create = vm_create_free(c);
        manager_remove_vm(vm->manager, vm);
        waiters_fire(&waiters, -error_code_errno(error_code(e)), e);
}

static void fail_errno(VmCreate *c, int r, const char *what) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set_errno(&e, r, "Cannot create VM '%s': %s", vm_name(c->vm), what);
        fail(c, e);
}

/* The VM is there either way, which the message must not hide. */
static void on_started(void *userdata, int r, const Error *error) {
        _cleanup_error_ Error *e = NULL;
        Waiters *waiters = userdata;

        if (r < 0)
                (void)error_set(&e, error_code(error), "The VM was created, but did not start: %s",
                                error_message(error));
        waiters_fire(&waiters, r, e);
}

static void succeed(VmCreate *c) {
        _cleanup_error_ Error *e = NULL;
        Waiters *waiters = TAKE_PTR(c->waiters);
        Vm *vm = c->vm;
        int r;

        free(TAKE_PTR(c->folder));
        vm->create = vm_create_free(c);
        vm_changed(vm, VM_CHANGE_SPEC | VM_CHANGE_PROCESS);
        vm_flush(vm);
        if (!vm->record.spec.start) {
                waiters_fire(&waiters, 0, NULL);
                return;
        }
        vm->record.spec.start = false;
        r = vm_start(vm, on_started, waiters, &e);
        if (r < 0)
                on_started(waiters, r, e);
}

void vm_create_cancel(Vm *vm) {
        _cleanup_error_ Error *e = NULL;

        (void)error_set(&e, ERROR_CANCELED, "VM '%s' was destroyed while it was made", vm_name(vm));
        fail(vm->create, e);
}

static int commit(void *argument) {
        VmCreate *c = argument;
        Manager *m = c->vm->manager;

        if (write_file_at(c->folder_fd, "vm.json", c->text, c->len, 0600, WRITE_FILE_SYNC) < 0 ||
                        renameat(m->vms_fd, c->folder, m->vms_fd, vm_name(c->vm)) < 0 ||
                        fsync(m->vms_fd) < 0)
                return MIN(errno, 254);
        return 0;
}

static void on_committed(void *userdata, int status, const char *output, size_t len) {
        VmCreate *c = userdata;

        c->task = task_free(c->task);
        if (status == 0)
                succeed(c);
        else
                fail_errno(c, status > 0 ? -status : status, "its definition cannot be written");
}

/* While vmctl-prepare ran as the VM's user, the files were that user's. */
static int take_back_files(VmCreate *c) {
        const VmRecord *rec = &c->vm->record;

        for (int i = 0; i < _OUTPUT_MAX; i++) {
                uid_t uid = i == OUT_PRIVATE_KEY || i == OUT_PUBLIC_KEY ? rec->owner : geteuid();

                if (c->outputs[i] >= 0 && geteuid() == 0 && fchown(c->outputs[i], uid, getegid()) < 0)
                        return -errno;
        }
        if (fchmod(c->folder_fd, c->vm->manager->config.system ? 0711 : 0700) < 0)
                return -errno;
        return 0;
}

/* ssh adds the guest's host key to this file of the owner's. */
static int make_known_hosts(VmCreate *c) {
        _cleanup_close_ int fd = openat(c->folder_fd, "known_hosts",
                        O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);

        if (fd < 0)
                return -errno;
        return geteuid() == 0 && fchown(fd, c->vm->record.owner, (gid_t)-1) < 0 ? -errno : 0;
}

static int read_file_reply(const Json *object, FileRef *ret) {
        return object && !json_is_null(object) ? file_ref_read(object, ret) : 0;
}

static int take_reply(VmCreate *c, const Json *reply) {
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
        VmCreate *c = userdata;
        int r;

        if (error) {
                fail(c, error);
                return;
        }
        r = take_reply(c, result);
        if (r >= 0)
                r = take_back_files(c);
        if (r >= 0)
                r = make_known_hosts(c);
        if (r >= 0)
                r = vm_record_format(&c->vm->record, &c->text, &c->len);
        if (r >= 0) {
                c->step = CREATE_COMMIT;
                r = task_call(c->vm->manager->event, commit, c, COMMIT_TIMEOUT, on_committed, c, &c->task);
        }
        if (r < 0)
                fail_errno(c, r, "vmctl-prepare failed");
}

static int make_outputs(VmCreate *c) {
        const VmRecord *rec = &c->vm->record;
        const bool wanted[_OUTPUT_MAX] = {
                [OUT_OVERLAY] = c->files[VM_FILE_IMAGE] >= 0 || rec->spec.disk > 0,
                [OUT_SEED] = rec->seed,
                [OUT_PRIVATE_KEY] = rec->generated_key,
                [OUT_PUBLIC_KEY] = rec->generated_key,
                [OUT_VARS] = rec->spec.firmware == VM_FIRMWARE_UEFI,
        };
        Manager *m = c->vm->manager;

        c->folder = strf(".new-%s", vm_name(c->vm));
        if (!c->folder)
                return -ENOMEM;
        if (mkdirat(m->vms_fd, c->folder, 0700) < 0)
                return -errno;
        c->folder_fd = openat(m->vms_fd, c->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
        if (c->folder_fd < 0)
                return -errno;
        for (int i = 0; i < _OUTPUT_MAX; i++) {
                if (!wanted[i])
                        continue;
                c->outputs[i] = openat(c->folder_fd, output_table[i].file,
                                O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (c->outputs[i] < 0)
                        return -errno;
        }
        return 0;
}

/* Empty disks are holes: nothing has to be written. They are the service's, as the overlay is; QEMU gets
 * descriptors. */
static int make_disks(VmCreate *c) {
        const char *list = c->vm->record.spec.disks;
        VmDisk d;

        while (vm_disk_next(&list, &d) > 0) {
                _cleanup_free_ char *file = strf("disk-%s.raw", d.name);
                _cleanup_close_ int fd = -EBADF;

                if (!file)
                        return -ENOMEM;
                fd = openat(c->folder_fd, file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
                if (fd < 0 || ftruncate(fd, (off_t)d.size) < 0)
                        return -errno;
        }
        return 0;
}

static int format_request(VmCreate *c, char **ret, size_t *ret_len) {
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

static int run_prepare(VmCreate *c, int vars_template) {
        static const WorkerHandlers handlers = { .done = on_prepared };
        WorkerFile files[_VM_FILE_MAX + _OUTPUT_MAX + 1] = {
                [VM_FILE_IMAGE] = { "--image", c->files[VM_FILE_IMAGE] },
                [VM_FILE_KERNEL] = { "--kernel", c->files[VM_FILE_KERNEL] },
                [VM_FILE_INITRD] = { "--initrd", c->files[VM_FILE_INITRD] },
                [VM_FILE_USER_DATA] = { "--user-data", c->files[VM_FILE_USER_DATA] },
                [_VM_FILE_MAX] = { "--firmware-vars-template", vars_template },
        };
        const WorkerSpec spec = {
                .program = "vmctl-prepare",
                .requester = c->vm->record.owner,
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
                        .give = true };
        r = format_request(c, &request, &len);
        return r < 0 ? r : worker_run(c->vm->manager, &spec, request, len, &handlers, c, &c->worker, NULL);
}

static void prepare(VmCreate *c) {
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
        c->step = CREATE_PREPARE;
        r = free_and_strdup(&rec->machine, machine);
        if (r >= 0)
                r = make_outputs(c);
        if (r >= 0)
                r = make_disks(c);
        if (r >= 0)
                r = run_prepare(c, vars_template);
        if (r < 0)
                fail_errno(c, r, strerror(-r));
}

static void on_host(void *userdata) {
        step(userdata);
}

static void step(VmCreate *c) {
        int r;

        r = host_ensure(c->vm->manager->host, on_host, c);
        if (r < 0)
                fail_errno(c, r, "QEMU cannot be asked for its version");
        else if (r > 0)
                prepare(c);
}

/* What the VM is given for life. */
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
                rec->spec.console_log_max = m->config.console_log_max;
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
        r = manager_pick_uid(m, &rec->uid, reterr);
        if (r >= 0 && rec->spec.network == VM_NETWORK_USER)
                r = manager_pick_port(m, rec->name, &rec->ssh_port, reterr);
        return r;
}

static int check(Manager *m, const VmRecord *rec, const int *files, Error **reterr) {
        unsigned given = 0;
        int r;

        for (int i = 0; i < _VM_FILE_MAX; i++)
                given |= files[i] >= 0 ? 1U << i : 0;
        r = manager_check_name(m, rec->name, rec->owner, reterr);
        return r < 0 ? r : vm_spec_check(&rec->spec, given, reterr);
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

int vm_create(Manager *manager, VmRecord *record, const int given[static _VM_FILE_MAX], waiter_t done,
                void *userdata, Error **reterr) {
        _cleanup_close_ int stored = -EBADF;
        int files[_VM_FILE_MAX];
        VmCreate *c;
        Vm *vm;
        int r;

        memcpy(files, given, sizeof(files));
        r = use_stored_image(manager, record, files, &stored, reterr);
        if (r >= 0)
                r = check(manager, record, files, reterr);
        if (r >= 0)
                r = hand_out(manager, record, files, reterr);
        if (r < 0) {
                vm_record_done(record);
                return r;
        }
        r = vm_new(manager, record, &vm);
        if (r < 0)
                return error_set_errno(reterr, r, "There is no place for another VM");
        c = malloc(sizeof(VmCreate));
        if (!c) {
                vm_free(vm);
                return error_set_errno(reterr, -ENOMEM, "There is no place for another VM");
        }
        *c = (VmCreate){ .vm = vm, .folder_fd = -EBADF };
        for (int i = 0; i < _OUTPUT_MAX; i++)
                c->outputs[i] = -EBADF;
        for (int i = 0; i < _VM_FILE_MAX; i++)
                c->files[i] = files[i] < 0 ? -EBADF : fcntl(files[i], F_DUPFD_CLOEXEC, 3);
        vm->create = c;
        r = waiters_add(&c->waiters, done, userdata);
        if (r >= 0)
                r = manager_add_vm(manager, TAKE_PTR(vm));
        else
                vm_free(vm);
        if (r < 0)
                return error_set_errno(reterr, r, "There is no place for another VM");
        step(c);
        return 0;
}
