/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <pwd.h>
#include <unistd.h>

#include "ctl.h"
#include "project.h"
#include "util/fd-util.h"
#include "util/xdg.h"

void project_done(Project *p) {
        free(p->path);
        free(p->folder);
        kdl_diagnostics_free(p->d);
        vmfile_free(p->file);
        free(p->text); /* what the others borrow from */
        *p = (Project){ 0 };
}

static int open_failed(const char *path, bool is_default, int r) {
        if (r == -ENOENT && is_default)
                return ctl_complain("Make one with 'vmctl init', or name another file with --file.",
                                "There is no %s in this folder", VMFILE_NAME);
        return ctl_complain(NULL, "Failed to read '%s': %s", path,
                        r == -EFBIG ? "It is too large" : strerror(-r));
}

/* Reads a regular file: a FIFO or a terminal would keep us waiting. */
static int read_text(const char *path, char **ret, size_t *ret_len) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);

        return fd < 0 ? -errno : read_all(fd, KDL_SIZE_MAX, ret, ret_len);
}

int project_open(const char *path, Project *ret) {
        _cleanup_project_ Project p = { .path = strdup(path ?: VMFILE_NAME) };
        _cleanup_free_ char *copy = strdup(path ?: VMFILE_NAME);
        int r;

        if (!p.path || !copy)
                return ctl_oom();
        r = read_text(p.path, &p.text, &p.len);
        if (r < 0)
                return open_failed(p.path, !path, r);
        p.folder = realpath(dirname(copy), NULL);
        if (!p.folder)
                return open_failed(p.path, false, -errno);
        if (kdl_diagnostics_new(p.path, p.text, p.len, &p.d) < 0)
                return ctl_oom();
        *ret = p;
        p = (Project){ 0 };
        return 0;
}

static const char *home_folder(void) {
        const char *home = getenv("HOME");
        struct passwd *pw;

        if (home && *home == '/')
                return home;
        pw = getpwuid(getuid());
        return pw && pw->pw_dir && *pw->pw_dir == '/' ? pw->pw_dir : NULL;
}

static void check_file(Project *p, const VmfileVm *vm, const char *what, const char *path) {
        if (path && faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) < 0)
                kdl_diagnostics_add(p->d, KDL_LEVEL_ERROR, vm->span, "vm '%s': %s '%s' cannot be read: %s",
                                vm->name, what, path, strerror(errno));
}

static void check_files_of(Project *p, const VmfileVm *vm) {
        check_file(p, vm, "image", vm->image);
        check_file(p, vm, "kernel", vm->kernel);
        check_file(p, vm, "initrd", vm->initrd);
        check_file(p, vm, "user-data", vm->user_data);
        check_file(p, vm, "ssh-key", vm->ssh_key);
        check_file(p, vm, "private-key", vm->private_key);
        for (size_t i = 0; i < vm->n_steps; i++)
                check_file(p, vm, vm->steps[i].type == VMFILE_STEP_SCRIPT ? "script" : "source",
                                vm->steps[i].source);
}

/* The files of such a folder make up the machine's VMs, or a user's, together. */
static bool is_boot_folder(const char *folder) {
        _cleanup_free_ char *user = xdg_folder("XDG_CONFIG_HOME", ".config"),
                            *user_real = user ? realpath(user, NULL) : NULL;

        return streq(folder, VMCTL_CONF_DIR) || streq(folder, VMFILE_VENDOR_FOLDER) ||
                        streq_ptr(folder, user_real);
}

int project_parse(Project *p, bool check_files) {
        VmfileOptions options = {
                .folder = p->folder,
                .home = home_folder(),
                .foreign_dependencies = is_boot_folder(p->folder),
        };
        int r;

        r = vmfile_parse(p->text, p->len, &options, &p->file, p->d);
        if (r == -ENOMEM)
                return ctl_oom();
        for (size_t i = 0; p->file && check_files && i < p->file->n_vms; i++)
                check_files_of(p, &p->file->vms[i]);
        if (kdl_diagnostics_errors(p->d) > 0)
                p->file = vmfile_free(p->file);
        return 0;
}

int project_read(const char *path, bool check_files, Project *ret) {
        _cleanup_project_ Project p = { 0 };
        int r;

        r = project_open(path, &p);
        if (r >= 0)
                r = project_parse(&p, check_files);
        if (r < 0)
                return r;
        *ret = p;
        p = (Project){ 0 };
        return 0;
}

int project_load(const char *path, bool check_files, Project *ret) {
        _cleanup_project_ Project p = { 0 };
        int r;

        r = project_read(path, check_files, &p);
        if (r < 0)
                return r;
        kdl_diagnostics_write(p.d, stderr);
        if (!p.file)
                return -EBADMSG;
        *ret = p;
        p = (Project){ 0 };
        return 0;
}
