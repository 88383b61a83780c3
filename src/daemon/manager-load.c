/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The start-up: from the folders of the VMs to the index. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

#include "fd-store.h"
#include "manager.h"
#include "task.h"
#include "util/fd-util.h"
#include "util/log.h"

#define SWEEP_TIMEOUT (10 * 60 * USEC_PER_SEC)

static void set_aside(Manager *m, const char *name, const char *reason) {
        log_at(LOG_ERR, name, NULL, "Ignoring VM '%s', whose definition cannot be read: %s", name, reason);
        (void)strv_extendf(&m->broken, "%s/vms/%s/vm.json: %s", m->config.state_dir, name, reason);
        (void)strv_extend(&m->broken_names, name);
}

static int read_record(Manager *m, const char *name, VmRecord *ret, Error **reterr) {
        _cleanup_free_ char *path = strf("%s/vm.json", name), *text = NULL;
        size_t len;
        int r;

        r = path ? read_file_at(m->vms_fd, path, VM_RECORD_MAX_SIZE, &text, &len) : -ENOMEM;
        if (r < 0)
                return error_set_errno(reterr, r, "It cannot be read");
        r = vm_record_parse(text, len, ret, reterr);
        if (r < 0)
                return r;
        if (streq(ret->name, name))
                return 0;
        r = error_set(reterr, ERROR_INVALID_SPEC, "It is the definition of '%s'", ret->name);
        vm_record_done(ret);
        return r;
}

static int load_vm(Manager *m, const char *name, char **scopes) {
        _cleanup_error_ Error *e = NULL;
        VmRecord record;
        Vm *vm;
        int r;

        r = read_record(m, name, &record, &e);
        if (r < 0) {
                set_aside(m, name, error_message(e));
                return 0;
        }
        r = vm_new(m, &record, &vm);
        if (r < 0)
                return r;
        r = manager_add_vm(m, vm);
        return r < 0 ? r : vm_attach(vm, fd_store_take(name), strv_contains(scopes, vm->unit));
}

/* By the prefixes that create and remove give; whatever an administrator put there stays. */
static bool is_left_over(const char *name) {
        return startswith(name, ".new-") || startswith(name, ".old-");
}

static int sweep(void *argument) {
        Manager *m = argument;
        int fd = openat(m->vms_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        int r = 0;

        for (struct dirent *de; dir && (de = readdir(dir));)
                if (is_left_over(de->d_name) && remove_tree_at(m->vms_fd, de->d_name) < 0)
                        r = 1;
        return r;
}

static void on_swept(void *userdata, int status, const char *output, size_t len) {
        Manager *m = userdata;

        m->sweep = task_free(m->sweep);
        if (status != 0)
                log_warning("Some files of earlier VMs could not be removed from '%s/vms'",
                                m->config.state_dir);
}

/* What left no name behind but files: must not be in the way of a create that comes meanwhile, so it is
 * renamed. */
static void hide_left_over(Manager *m, const char *name) {
        _cleanup_free_ char *hidden = strf(".old-%s.%" PRIi64, name, (int64_t)getpid());

        if (startswith(name, ".new-") && hidden && renameat(m->vms_fd, name, m->vms_fd, hidden) < 0)
                log_warning_errno(-errno, "Cannot rename '%s/vms/%s', ignoring: %m", m->config.state_dir,
                                name);
}

static int load_vms(Manager *m) {
        int fd = openat(m->vms_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
        DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
        _cleanup_strv_ char **scopes = NULL;
        bool left_over = false;

        if (!dir) {
                r = -errno;
                safe_close(fd);
                return log_error_errno(r, "Cannot read '%s/vms': %m", m->config.state_dir);
        }
        r = systemd_list_scopes(m->systemd, &scopes);
        fd_store_open();
        for (struct dirent *de; r >= 0 && (de = readdir(dir));) {
                if (is_left_over(de->d_name)) {
                        hide_left_over(m, de->d_name);
                        left_over = true;
                } else if (vm_name_is_valid(de->d_name))
                        r = load_vm(m, de->d_name, scopes);
        }
        closedir(dir);
        fd_store_close_rest();
        if (r >= 0 && left_over)
                r = task_call(m->event, sweep, m, SWEEP_TIMEOUT, on_swept, m, &m->sweep);
        return r;
}

int manager_load(Manager *m) {
        int r = image_store_load(m->images);

        return r < 0 ? r : load_vms(m);
}
