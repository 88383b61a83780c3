/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "console-open.h"
#include "manager.h"
#include "util/fd-util.h"
#include "util/log-request.h"
#include "util/log.h"

/* A local socket connects at once or not at all: its queue is full. */
static int connect_shim(Vm *vm, const char *name) {
        struct sockaddr_un sa = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        if (fd < 0)
                return -errno;
        (void)snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%i/%s/%s",
                        vm->manager->core->runtime_fd, vm_name(vm), name);
        return connect(fd, (const struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : TAKE_FD(fd);
}

static bool has_qemu(const Vm *vm) {
        return vm->process && process_qemu_pid(vm->process) > 0;
}

static int check_shim(const Vm *vm, Error **reterr) {
        switch (process_shim_state(vm->process)) {
        case SHIM_RUNNING:
                return 0;
        case SHIM_STOPPED:
                return error_set(reterr, ERROR_CONSOLE_UNAVAILABLE,
                                "The console of VM '%s' does not answer: its shim (PID %i) was stopped",
                                vm_name(vm), (int)process_shim_pid(vm->process));
        default:
                return error_set(reterr, ERROR_CONSOLE_UNAVAILABLE,
                                "VM '%s' has lost its console: its shim was killed", vm_name(vm));
        }
}

/* The connection is made by the kernel, so the shim is not waited for; its queue may be full. */
static int set_not_connected(const Vm *vm, int r, Error **reterr) {
        return error_set(reterr, ERROR_CONSOLE_UNAVAILABLE, "The console of VM '%s' does not answer: %s",
                        vm_name(vm), strerror(-r));
}

int console_open(Vm *vm, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        if (!has_qemu(vm))
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' has no console now: it is %s",
                                vm_name(vm), vm_state_to_string(vm_state(vm)));
        r = check_shim(vm, reterr);
        if (r < 0)
                return r;
        fd = connect_shim(vm, "console.sock");
        if (fd < 0)
                return set_not_connected(vm, fd, reterr);
        r = fd_set_nonblock(fd, false); /* clients expect a plain descriptor */
        return r < 0 ? error_set_errno(reterr, r, "Cannot open the console") : TAKE_FD(fd);
}

static int open_live_log(Vm *vm, const LogRequest *request, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = check_shim(vm, reterr);
        if (r < 0)
                return r;
        fd = connect_shim(vm, "log.sock");
        if (fd < 0)
                return set_not_connected(vm, fd, reterr);
        r = fd_set_nonblock(fd, false);
        /* A fresh socket takes eight bytes without waiting. */
        if (r >= 0)
                r = write_all(fd, request, sizeof(*request));
        return r < 0 ? error_set_errno(reterr, r, "Cannot read the console log of VM '%s'", vm_name(vm))
                     : TAKE_FD(fd);
}

/* A process that blocks because its client does not read ends when the client closes, or we do. */
typedef struct Reader {
        Charge charge;
        Launched *process;
} Reader;

static Reader *reader_free(Reader *reader) {
        if (!reader)
                return NULL;
        charge_release(&reader->charge);
        launched_free(reader->process);
        free(reader);
        return NULL;
}
DEFINE_CLEANUP(Reader *, reader_free);

static void on_reader_end(const LaunchEnd *end, void *userdata) {
        if (end->error < 0 && end->error != -ECANCELED)
                log_warning_errno(end->error, "Cannot read a console log: %m");
        reader_free(userdata);
}

static int launch_reader(const Vm *vm, int output, int log, int old, uint32_t tail, Reader *reader) {
        static const LaunchHandlers handlers = { .ended = on_reader_end };
        const Core *core = vm->manager->core;
        const LaunchFile files[] = { { output, STDOUT_FILENO }, { log, 3 }, { old, 4 } };
        _cleanup_strv_ char **options = NULL;
        LaunchSpec spec = { .program = LAUNCH_READER, .files = files, .n_files = ELEMENTSOF(files) };
        int r;

        r = strv_extend(&options, "--console-log=3");
        if (r >= 0)
                r = strv_extend(&options, "--console-log-old=4");
        if (r >= 0)
                r = strv_extendf(&options, "--tail=%" PRIi64,
                                tail == LOG_REQUEST_ALL ? INT64_C(-1) : (int64_t)tail);
        if (r < 0)
                return r;
        spec.options = options;
        spec.uid = core->config.uid_count > 0 ? vm->record.uid : 0;
        return launcher_run(core->launcher, &spec, &handlers, reader, &reader->process);
}

static int open_log_file(const Vm *vm, const char *name) {
        _cleanup_free_ char *path = strf("%s/%s", vm_name(vm), name);
        int fd = path ? open_file_at(vm->manager->vms_fd, path, O_RDONLY, 0) : -ENOMEM;

        if (fd != -ENOENT)
                return fd;
        fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

/* Of a VM that does not run: whoever reads is charged for a process until it has written all. */
static int open_stored_log(const Vm *vm, uid_t reader, uint32_t tail, Error **reterr) {
        _cleanup_(reader_freep) Reader *process = malloc(sizeof(Reader));
        _cleanup_close_pair_ int out[2] = { -EBADF, -EBADF };
        _cleanup_close_ int log = -EBADF, old = -EBADF;
        int r;

        if (!process)
                return error_set_errno(reterr, -ENOMEM, "Cannot read a console log");
        *process = (Reader){};
        r = charge(vm->manager->core->accounts, reader, RESOURCE_READERS, 1, &process->charge, reterr);
        if (r < 0)
                return r;
        log = open_log_file(vm, "console.log");
        old = open_log_file(vm, "console.log.1");
        if (log < 0 || old < 0)
                r = log < 0 ? log : old;
        else if (pipe2(out, O_CLOEXEC) < 0)
                r = -errno;
        else
                r = launch_reader(vm, out[1], log, old, tail, process);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot read the console log of VM '%s'", vm_name(vm));
        TAKE_PTR(process);
        return TAKE_FD(out[0]);
}

int console_open_log(Vm *vm, uid_t reader, const LogRequest *request, Error **reterr) {
        /* Without a shim nobody writes on the files, either. */
        if (has_qemu(vm) &&
                        (request->flags & LOG_REQUEST_THIS_RUN ||
                                        process_shim_state(vm->process) != SHIM_GONE))
                return open_live_log(vm, request, reterr);
        if (request->flags & LOG_REQUEST_THIS_RUN)
                return error_set(reterr, ERROR_INVALID_STATE, "VM '%s' does not run: it is %s", vm_name(vm),
                                vm_state_to_string(vm_state(vm)));
        return open_stored_log(vm, reader, request->tail, reterr);
}
