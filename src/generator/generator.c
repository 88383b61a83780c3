/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl-generator: turns the files of the machine's VMs, or of a user's, into units of systemd; see
 * systemd.generator(7). It runs before anything else does: there is no bus, no network, and the files alone
 * are looked at. Whatever is wrong with one of them is reported and costs no other VM its unit. */

#include <fcntl.h>
#include <stdio.h>
#include <syslog.h>

#include "boot-unit.h"
#include "report.h"
#include "util/fd-util.h"
#include "util/xdg.h"

/* VMCTL_BOOT_FOLDERS, with colons between them, is for tests. */
static int find_folders(bool system, char ***ret) {
        _cleanup_free_ char *override = NULL;
        _cleanup_strv_ char **folders = NULL;
        const char *e = getenv("VMCTL_BOOT_FOLDERS");
        char *user, *rest, *folder;
        int r = 0;

        if (e) {
                rest = override = strdup(e);
                if (!override)
                        return -ENOMEM;
                while (r >= 0 && (folder = strsep(&rest, ":")))
                        r = strv_extend(&folders, folder);
        } else if (system) {
                r = strv_extend(&folders, VMCTL_CONF_DIR);
                if (r >= 0)
                        r = strv_extend(&folders, VMFILE_VENDOR_FOLDER);
        } else if ((user = xdg_folder("XDG_CONFIG_HOME", ".config")))
                r = strv_push(&folders, user);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(folders);
        return 0;
}

static const BootFile *find_earlier(const BootFiles *files, const BootFile *before, const char *name) {
        for (const BootFile *f = files->files; f < before; f++)
                if (f->file && vmfile_find(f->file, name))
                        return f;
        return NULL;
}

static int write_units(int dir_fd, const BootFiles *files, const BootFile *f, bool system) {
        int result = 0, r;

        for (const VmfileVm *vm = f->file->vms; vm < f->file->vms + f->file->n_vms; vm++) {
                const BootFile *other = find_earlier(files, f, vm->name);

                if (other) {
                        report(LOG_ERR, "%s:%u: there is a VM '%s' in %s:%u already, which is used", f->path,
                                        vm->line, vm->name, other->path,
                                        vmfile_find(other->file, vm->name)->line);
                        continue;
                }
                r = boot_unit_write(dir_fd, f, vm, system);
                if (r < 0) {
                        report(LOG_ERR, "Failed to write the unit of VM '%s': %s", vm->name, strerror(-r));
                        result = r;
                }
        }
        return result;
}

static int generate(const char *output, bool system) {
        _cleanup_(boot_files_done) BootFiles files = {};
        _cleanup_strv_ char **folders = NULL;
        _cleanup_close_ int dir_fd = -EBADF;
        int r, q;

        r = find_folders(system, &folders);
        if (r >= 0)
                r = boot_files_read(folders, report, &files);
        if (r >= 0) {
                dir_fd = open(output, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
                r = dir_fd < 0 ? -errno : 0;
        }
        if (r < 0) {
                report(LOG_ERR, "Failed to make units of VMs: %s", strerror(-r));
                return r;
        }
        for (size_t i = 0; i < files.n; i++)
                if (files.files[i].file) {
                        q = write_units(dir_fd, &files, &files.files[i], system);
                        r = r < 0 ? r : q;
                }
        return r;
}

int main(int argc, char *argv[]) {
        const char *scope = getenv("SYSTEMD_SCOPE");

        if (argc != 4) {
                (void)fprintf(stderr, "Usage: vmctl-generator NORMAL EARLY LATE, by systemd\n");
                return 2;
        }
        return generate(argv[1], !streq_ptr(scope, "user")) < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
