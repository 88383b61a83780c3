/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "boot-file.h"
#include "util/fd-util.h"

static void file_done(BootFile *f) {
        free(f->name);
        free(f->path);
        free(f->folder);
        vmfile_free(f->file);
}

void boot_files_done(BootFiles *f) {
        for (size_t i = 0; i < f->n; i++)
                file_done(&f->files[i]);
        free(f->files);
        *f = (BootFiles){ 0 };
}

static bool has_name(const BootFiles *f, const char *name) {
        for (size_t i = 0; i < f->n; i++)
                if (streq(f->files[i].name, name))
                        return true;
        return false;
}

static int add(BootFiles *f, const char *folder, const char *name) {
        BootFile *grown = reallocarray(f->files, f->n + 1, sizeof(BootFile)), *file;

        if (!grown)
                return -ENOMEM;
        f->files = grown;
        file = &grown[f->n++];
        *file = (BootFile){ strdup(name), strf("%s/%s", folder, name), strdup(folder) };
        return file->name && file->path && file->folder ? 0 : -ENOMEM;
}

/* In a unit's SourcePath= there is no way to write a line break or a wild byte. */
static bool is_plain(const char *name) {
        _cleanup_free_ char *escaped = string_escape(name, strlen(name), SIZE_MAX);

        return escaped && streq(escaped, name);
}

static int add_folder(BootFiles *f, const char *folder, boot_report_t report) {
        _cleanup_free_ char *real = realpath(folder, NULL);
        DIR *d = real ? opendir(real) : NULL;
        struct dirent *e;
        int r = 0;

        if (!d) {
                if (errno == ENOMEM)
                        return -ENOMEM;
                if (errno != ENOENT)
                        report(LOG_ERR, "Failed to look into '%s', ignoring: %s", folder, strerror(errno));
                return 0;
        }
        while (r >= 0 && (e = readdir(d))) {
                if (e->d_name[0] == '.' || !endswith(e->d_name, ".kdl") || has_name(f, e->d_name))
                        continue;
                if (is_plain(e->d_name))
                        r = add(f, real, e->d_name);
                else
                        report(LOG_ERR, "'%s/%s' is no name for a file of VMs, ignoring", real, e->d_name);
        }
        (void)closedir(d);
        return r;
}

static void report_diagnostics(KdlDiagnostics *d, const char *path, boot_report_t report) {
        for (size_t i = 0; i < kdl_diagnostics_count(d); i++) {
                const KdlDiagnostic *e = kdl_diagnostics_get(d, i);

                report(e->level == KDL_LEVEL_ERROR ? LOG_ERR : LOG_WARNING, "%s:%u:%u: %s: %s%s%s%s", path,
                                kdl_diagnostics_line(d, e->span.start),
                                kdl_diagnostics_column(d, e->span.start), kdl_level_to_string(e->level),
                                e->message, e->hint ? " (" : "", e->hint ?: "", e->hint ? ")" : "");
        }
        if (kdl_diagnostics_errors(d) > 0)
                report(LOG_ERR, "%s has errors: its VMs are no units", path);
}

static int parse(BootFile *f, const char *text, size_t len, boot_report_t report) {
        _cleanup_kdl_diagnostics_ KdlDiagnostics *d = NULL;
        /* Whatever "~" is, it is not looked at here. */
        const VmfileOptions options = { .folder = f->folder, .home = "/", .foreign_dependencies = true };
        int r;

        r = kdl_diagnostics_new(f->path, text, len, &d);
        if (r >= 0)
                r = vmfile_parse(text, len, &options, &f->file, d);
        if (r == -ENOMEM)
                return r;
        report_diagnostics(d, f->path, report);
        return 0;
}

/* An empty file, and a link to /dev/null, are there to hide another. */
static int read_file(BootFile *f, boot_report_t report) {
        _cleanup_close_ int fd = open(f->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        _cleanup_free_ char *text = NULL;
        struct stat st = {};
        size_t len = 0;
        int r;

        if (fd < 0 || fstat(fd, &st) < 0)
                r = -errno;
        else if (S_ISCHR(st.st_mode))
                return 0;
        else
                r = S_ISREG(st.st_mode) ? read_all(fd, KDL_SIZE_MAX, &text, &len) : -EINVAL;
        if (r == -ENOMEM)
                return r;
        if (r < 0)
                report(LOG_ERR, "Failed to read '%s', so its VMs are no units: %s", f->path,
                                r == -EFBIG                    ? "It is too large"
                                                : r == -EINVAL ? "It is no regular file"
                                                               : strerror(-r));
        return r < 0 || len == 0 ? 0 : parse(f, text, len, report);
}

static int compare(const void *a, const void *b) {
        return strcmp(((const BootFile *)a)->name, ((const BootFile *)b)->name);
}

int boot_files_read(char *const *folders, boot_report_t report, BootFiles *ret) {
        BootFiles f = {};
        int r = 0;

        STRV_FOREACH(folder, folders)
                if (r >= 0)
                        r = add_folder(&f, *folder, report);
        if (f.n > 0)
                qsort(f.files, f.n, sizeof(BootFile), compare);
        for (size_t i = 0; r >= 0 && i < f.n; i++)
                r = read_file(&f.files[i], report);
        if (r < 0) {
                boot_files_done(&f);
                return r;
        }
        *ret = f;
        return 0;
}
