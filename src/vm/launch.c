/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The service's own files are opened here. Files of users (image, kernel, initrd) may lie on file systems
 * that answer when they like: those the shim opens, checking that they still are what they were at create.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/config.h"
#include "core/file-acl.h"
#include "host/passt.h"
#include "launch.h"
#include "qemu-command.h"
#include "util/fd-util.h"

#define FIRST_TARGET 3
#define LISTEN_BACKLOG 16
#define QEMU_LOG_MAX (64 * KIB) /* QEMU's last words; it says next to nothing unless it is in trouble */

typedef struct Builder {
        const LaunchInput *in;
        Launch *launch;
        QemuMachine machine;
        int next_target;
        Error **reterr;
} Builder;

Launch *launch_free(Launch *l) {
        if (!l)
                return NULL;
        for (size_t i = 0; i < l->n_files; i++)
                safe_close(l->files[i].fd);
        safe_close(l->monitor_fd);
        safe_close(l->control_fd);
        safe_close(l->runtime_fd);
        safe_close(l->vnc_fd);
        strv_free(l->options);
        free(l);
        return NULL;
}

/* Gives fd (taken over) the next number in the child. Returns that, or a negative errno. */
static int give(Builder *b, int fd) {
        Launch *l = b->launch;

        if (l->n_files >= LAUNCH_FDS_MAX) {
                safe_close(fd);
                return -E2BIG;
        }
        l->files[l->n_files++] = (LaunchFile){ .fd = fd, .target = b->next_target };
        return b->next_target++;
}

static int option(Builder *b, const char *name, int target) {
        return strv_extendf(&b->launch->options, "--%s=%i", name, target);
}

/* ... to the shim alone, as the argument of one of its options. */
static int give_shim(Builder *b, const char *name, int fd) {
        int target = give(b, fd);

        return target < 0 ? target : option(b, name, target);
}

/* ... and to QEMU. */
static int give_qemu(Builder *b, int fd, int *ret) {
        int target = give(b, fd);

        if (target < 0)
                return target;
        *ret = target;
        return option(b, "pass", target);
}

static int open_own(Builder *b, const char *name, int flags) {
        int fd = open_file_at(b->in->folder_fd, name, flags, 0600);

        if (fd == -EINVAL)
                return error_set(b->reterr, ERROR_IO, "Cannot open '%s' of VM '%s': it is no regular file",
                                name, b->in->record->name);
        if (fd < 0)
                return error_set_errno(
                                b->reterr, fd, "Cannot open '%s' of VM '%s'", name, b->in->record->name);
        return fd;
}

static int give_own(Builder *b, const char *name, int flags, int *ret) {
        int fd = open_own(b, name, flags);

        return fd < 0 ? fd : give_qemu(b, fd, ret);
}

static int add_more_disks(Builder *b) {
        const char *list = b->in->record->spec.disks;
        QemuFds *fds = &b->machine.fds;
        VmDisk d;

        for (int i = 0; i < VM_DISKS_MAX && vm_disk_next(&list, &d) > 0; i++) {
                _cleanup_free_ char *file = strf("disk-%s.raw", d.name);
                int r;

                if (!file)
                        return -ENOMEM;
                r = give_own(b, file, O_RDWR, &fds->disks_rw[i]);
                if (r >= 0)
                        r = give_own(b, file, O_RDONLY, &fds->disks_ro[i]);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int add_disks(Builder *b) {
        const VmRecord *rec = b->in->record;
        QemuFds *fds = &b->machine.fds;
        int r = 0;

        if (rec->disk_size > 0) {
                r = give_own(b, "overlay.qcow2", O_RDWR, &fds->overlay_rw);
                if (r >= 0)
                        r = give_own(b, "overlay.qcow2", O_RDONLY, &fds->overlay_ro);
        }
        if (r >= 0)
                r = add_more_disks(b);
        if (r >= 0 && rec->seed)
                r = give_own(b, "seed.iso", O_RDONLY, &fds->seed);
        if (r >= 0 && rec->spec.firmware == VM_FIRMWARE_UEFI) {
                r = give_own(b, "vars.fd", O_RDWR, &fds->vars_rw);
                if (r >= 0)
                        r = give_own(b, "vars.fd", O_RDONLY, &fds->vars_ro);
        }
        return r;
}

/* A user's file: the shim opens it at a number that is kept free for it, and with its owner's rights,
 * whatever they are by now. QEMU knows no file sets for a kernel, and opens that by its name ('p'). */
static int add_user_file(Builder *b, VmFile which, char access, int *ret) {
        const FileRef *f = &b->in->record->files[which];
        int target = b->next_target;

        if (!f->path)
                return 0;
        b->next_target++;
        *ret = target;
        return strv_extendf(&b->launch->options,
                        "--file=%i:%c:%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%" PRIu64 ":%s",
                        target, access, f->inode, f->btime, f->ctime, f->mtime, f->size, f->path);
}

/* What follows is the owner's. An image of the store, which comes before it, is ours. */
static int add_owner(Builder *b) {
        const VmRecord *rec = b->in->record;

        return b->in->config->uid_count > 0 && rec->owner != 0
                        ? strv_extendf(&b->launch->options, "--owner=%u", (unsigned)rec->owner)
                        : 0;
}

static int add_user_files(Builder *b) {
        bool stored = b->in->record->image_uuid;
        QemuFds *fds = &b->machine.fds;
        int r = 0;

        if (!stored)
                r = add_owner(b);
        if (r >= 0)
                r = add_user_file(b, VM_FILE_IMAGE, 'r', &fds->base);
        if (r >= 0 && stored)
                r = add_owner(b);
        if (r >= 0)
                r = add_user_file(b, VM_FILE_KERNEL, 'p', &fds->kernel);
        return r < 0 ? r : add_user_file(b, VM_FILE_INITRD, 'p', &fds->initrd);
}

/* Bound below /proc/self/fd, so that no long path of ours exceeds sun_path. The umask (0077) makes it 0700.
 */
static int listen_at(int folder_fd, const char *name, uid_t owner) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        _cleanup_free_ char *path = strf("/proc/self/fd/%i/%s", folder_fd, name);
        int r;

        if (fd < 0)
                return -errno;
        if (!path)
                return -ENOMEM;
        strncpy(sa.sun_path, path, sizeof(sa.sun_path) - 1);
        if (bind(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 || listen(fd, LISTEN_BACKLOG) < 0)
                return -errno;
        r = file_acl_grant_at(folder_fd, name, owner, R_OK | W_OK);
        return r < 0 ? r : TAKE_FD(fd);
}

static int add_listeners(Builder *b) {
        const VmRecord *rec = b->in->record;
        uid_t self = geteuid();
        int folder = b->launch->runtime_fd, fd, r;
        QemuFds *fds = &b->machine.fds;

        /* Raw QMP is for administrators; the display is the owner's. */
        fd = listen_at(folder, "qmp.sock", self);
        r = fd < 0 ? fd : give_qemu(b, fd, &fds->monitor_listen);
        if (r < 0)
                return r;
        fd = listen_at(folder, "agent.sock", self);
        r = fd < 0 ? fd : give_qemu(b, fd, &fds->agent_listen);
        if (r < 0)
                return r;
        fd = listen_at(folder, "console.sock", self);
        r = fd < 0 ? fd : give_shim(b, "listen-console", fd);
        if (r < 0)
                return r;
        fd = listen_at(folder, "log.sock", self);
        r = fd < 0 ? fd : give_shim(b, "listen-log", fd);
        if (r < 0 || rec->spec.display != VM_DISPLAY_VNC)
                return r;
        b->launch->vnc_fd = listen_at(folder, "vnc.sock", rec->owner);
        return b->launch->vnc_fd < 0 ? b->launch->vnc_fd : 0;
}

static int add_logs(Builder *b) {
        int fd, r;

        fd = open_own(b, "console.log", O_RDWR | O_CREAT);
        r = fd < 0 ? fd : give_shim(b, "console-log", fd);
        if (r < 0)
                return r;
        fd = open_own(b, "console.log.1", O_RDWR | O_CREAT);
        r = fd < 0 ? fd : give_shim(b, "console-log-old", fd);
        if (r >= 0)
                r = strv_extendf(&b->launch->options, "--console-log-max=%" PRIu64,
                                b->in->record->spec.console_log_max);
        if (r < 0)
                return r;
        fd = openat(b->launch->runtime_fd, "qemu.log", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        r = fd < 0 ? -errno : give_shim(b, "qemu-log", fd);
        if (r >= 0)
                r = strv_extendf(&b->launch->options, "--qemu-log-max=%" PRIu64, QEMU_LOG_MAX);
        if (r < 0)
                return r;
        fd = openat(b->launch->runtime_fd, "exit.json", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        return fd < 0 ? -errno : give_shim(b, "exit-record", fd);
}

static int add_pair(int *ret_ours, int *ret_theirs) {
        int pair[2];

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        *ret_ours = pair[0];
        *ret_theirs = pair[1];
        return 0;
}

static int add_channels(Builder *b) {
        int theirs, r;

        r = add_pair(&b->launch->control_fd, &theirs);
        if (r >= 0)
                r = give_shim(b, "control", theirs);
        if (r >= 0)
                r = add_pair(&b->launch->monitor_fd, &theirs);
        if (r >= 0)
                r = give_qemu(b, theirs, &b->machine.fds.monitor);
        if (r < 0)
                return r;
        b->machine.fds.serial = b->next_target++;
        return option(b, "serial", b->machine.fds.serial);
}

static int add_identity(Builder *b) {
        uid_t uid = b->in->record->uid;

        if (b->in->config->uid_count > 0 && !config_has_uid(b->in->config, uid))
                return error_set(b->reterr, ERROR_FAILED,
                                "VM '%s' has the user ID %u of an earlier UIDRange=: name that range behind "
                                "the present one "
                                "in vmctld.conf, and restart vmctld",
                                b->in->record->name, (unsigned)uid);
        if (b->in->config->uid_count > 0)
                b->launch->uid = uid;
        return b->in->network != NETWORK_BACKEND_SLIRP
                        ? strv_extend(&b->launch->options, "--private-network")
                        : 0;
}

/* HOST:GUEST,... of all ports; NULL: memory is short. "" where there are none. */
static char *list_ports(const VmRecord *rec) {
        const char *forwards = rec->spec.forward;
        char *list = rec->ssh_port > 0 ? strf("%" PRIu16 ":22", rec->ssh_port) : strdup("");
        VmForward f;

        while (list && vm_forward_next(&forwards, &f) > 0) {
                char *longer = strf("%s%s%" PRIu16 ":%" PRIu16, list, *list ? "," : "", f.host, f.guest);

                free(list);
                list = longer;
        }
        return list;
}

/* passt and QEMU have the two ends of a socket pair. */
static int add_passt(Builder *b) {
        _cleanup_free_ char *ports = list_ports(b->in->record),
                            *resolver = passt_find_resolver("/etc/resolv.conf");
        _cleanup_strv_ char **argv = NULL;
        int qemus, passts, r;

        if (b->in->network != NETWORK_BACKEND_PASST)
                return 0;
        if (!ports)
                return -ENOMEM;
        r = add_pair(&qemus, &passts);
        if (r < 0)
                return r;
        r = give_qemu(b, qemus, &b->machine.fds.network);
        passts = give(b, passts);
        if (r >= 0)
                r = passts < 0 ? passts
                               : passt_command(PASST_PATH, passts, *ports ? ports : NULL, resolver, &argv);
        if (r >= 0)
                r = strv_extendf(&b->launch->options, "--helper=%s", argv[0]);
        for (size_t i = 1; r >= 0 && argv[i]; i++)
                r = strv_extendf(&b->launch->options, "--helper-arg=%s", argv[i]);
        return r < 0 ? r : option(b, "helper-fd", passts);
}

static int build(Builder *b) {
        _cleanup_strv_ char **qemu = NULL;
        const char *code = NULL, *vars;
        int r;

        if (b->in->record->spec.firmware == VM_FIRMWARE_UEFI) {
                r = host_uefi(b->in->host, &code, &vars, b->reterr);
                if (r < 0)
                        return r;
        }
        r = add_channels(b);
        if (r >= 0)
                r = add_identity(b);
        if (r >= 0)
                r = add_passt(b);
        if (r >= 0)
                r = add_disks(b);
        if (r >= 0)
                r = add_user_files(b);
        if (r >= 0)
                r = add_listeners(b);
        if (r >= 0)
                r = add_logs(b);
        b->machine.uefi_code = code;
        if (r >= 0)
                r = qemu_command(&b->machine, &qemu);
        if (r < 0)
                return r;

        r = strv_extend(&b->launch->options, "--");
        STRV_FOREACH(a, qemu)
                if (r >= 0)
                        r = strv_extend(&b->launch->options, *a);
        return r;
}

/* The folder of an earlier run goes with all that is in it: nothing stale is ever found by its name. */
static int make_runtime_folder(const LaunchInput *in) {
        int r;

        r = remove_tree_at(in->runtime_fd, in->record->name);
        return r < 0 ? r : make_dir_at(in->runtime_fd, in->record->name, in->config->system ? 0711 : 0700);
}

int launch_new(const LaunchInput *in, Launch **ret, Error **reterr) {
        _cleanup_(launch_freep) Launch *l = malloc(sizeof(Launch));
        _cleanup_error_ Error *e = NULL;
        int r;

        if (!l)
                return error_set_errno(reterr, -ENOMEM, "Cannot start VM '%s'", in->record->name);
        *l = (Launch){ .monitor_fd = -EBADF,
                .control_fd = -EBADF,
                .runtime_fd = -EBADF,
                .vnc_fd = -EBADF,
                .kvm = in->kvm };
        if (in->record->spec.disk > in->record->disk_size && in->record->disk_size > 0)
                l->grow_to = in->record->spec.disk;
        Builder b = {
                .in = in,
                .launch = l,
                .next_target = FIRST_TARGET,
                .machine = { .binary = in->config->qemu,
                                .record = in->record,
                                .kvm = in->kvm,
                                .paused = l->grow_to > 0,
                                .fds = { -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1 } },
                .reterr = &e,
        };

        r = l->runtime_fd = make_runtime_folder(in);
        if (r >= 0)
                r = build(&b);
        if (r < 0) {
                if (e)
                        return error_set(reterr, error_code(e), "%s", error_message(e));
                return error_set_errno(reterr, r, "Cannot set up the run of VM '%s'", in->record->name);
        }
        *ret = TAKE_PTR(l);
        return 0;
}
