/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs on a VMFile alone, without a service: validate, fmt, init. */
#include <fcntl.h>
#include <libgen.h>
#include <sys/stat.h>
#include <unistd.h>

#include "project.h"
#include "term.h"
#include "util/fd-util.h"
#include "verbs.h"

static void write_diagnostics(JsonWriter *w, KdlDiagnostics *d) {
        json_write_key(w, "Diagnostics");
        json_write_array(w);
        for (size_t i = 0; i < kdl_diagnostics_count(d); i++) {
                const KdlDiagnostic *entry = kdl_diagnostics_get(d, i);

                json_write_object(w);
                json_put_string(w, "Level", kdl_level_to_string(entry->level));
                json_put_unsigned(w, "Line", kdl_diagnostics_line(d, entry->span.start));
                json_put_unsigned(w, "Column", kdl_diagnostics_column(d, entry->span.start));
                json_put_string(w, "Message", entry->message);
                if (entry->hint)
                        json_put_string(w, "Hint", entry->hint);
                json_write_end(w);
        }
        json_write_end(w);
}

static int print_json(const Project *p) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_free_ char *text = NULL, *path = string_escape(p->path, strlen(p->path), SIZE_MAX);
        size_t len;

        if (!path || json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_object(w);
        json_put_string(w, "File", path);
        json_put_boolean(w, "Valid", p->file != NULL);
        json_write_key(w, "VMs");
        json_write_array(w);
        for (size_t i = 0; p->file && i < p->file->n_vms; i++)
                json_write_string(w, p->file->vms[i].name);
        json_write_end(w);
        write_diagnostics(w, p->d);
        json_write_end(w);
        if (json_writer_finish(w, &text, &len) < 0)
                return ctl_oom();
        (void)fwrite(text, 1, len, stdout);
        return 0;
}

int verb_validate(Ctl *c, const Args *args) {
        const char *path = args_get(args, "file");
        _cleanup_project_ Project p = { 0 };
        int r;

        r = c->json ? project_read(path, true, &p) : project_load(path, true, &p);
        if (r < 0)
                return r;
        if (c->json) {
                r = print_json(&p);
                return r < 0 ? r : p.file ? 0 : EXIT_FAILURE;
        }
        if (term_is_tty(stderr))
                (void)fprintf(stderr, "%s is right: %zu VM%s.\n", p.path, p.file->n_vms,
                                p.file->n_vms == 1 ? "" : "s");
        return 0;
}

/* Replaces the file, behind links if it is one, with its mode. */
static int replace_file(const char *path, const char *text, size_t len) {
        _cleanup_free_ char *real = realpath(path, NULL), *folder = real ? strdup(real) : NULL,
                            *name = real ? strdup(real) : NULL;
        _cleanup_close_ int dir_fd = -EBADF;
        struct stat st;

        if (!real)
                return -errno;
        if (!folder || !name)
                return -ENOMEM;
        dir_fd = open(dirname(folder), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (dir_fd < 0 || stat(real, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EINVAL;
        return write_file_at(dir_fd, basename(name), text, len, st.st_mode & 07777, WRITE_FILE_SYNC);
}

static int parse_document(Project *p, KdlDocument **ret) {
        int r;

        r = kdl_parse(p->text, p->len, KDL_VERSION_ANY, ret, p->d);
        if (r == -ENOMEM)
                return ctl_oom();
        if (r < 0)
                kdl_diagnostics_write(p->d, stderr);
        return r;
}

int verb_fmt(Ctl *c, const Args *args) {
        _cleanup_project_ Project p = { 0 };
        _cleanup_kdl_ KdlDocument *doc = NULL;
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = project_open(args_get(args, "file"), &p);
        if (r < 0)
                return r;
        r = parse_document(&p, &doc);
        if (r < 0)
                return r;
        if (kdl_format(doc, KDL_VERSION_2, 0, &text, &len) < 0)
                return ctl_oom();
        if (len == p.len && memcmp(text, p.text, len) == 0)
                return 0;
        if (args_has(args, "check")) {
                puts(p.path);
                return EXIT_FAILURE;
        }
        r = replace_file(p.path, text, len);
        return r < 0 ? ctl_complain(NULL, "Failed to write '%s': %s", p.path, strerror(-r)) : 0;
}

/* %s is the name. It is formatted as 'fmt' would do it, and valid as it stands. */
static const char example[] =
                "// VMs of this project; see vmfile(5). 'vmctl up' makes them run.\n"
                "vm \"%s\" {\n"
                "    // What to boot: a URL, or a file of this host: image \"path/to/image.qcow2\"\n"
                "    image-url \"https://cloud.debian.org/images/cloud/bookworm/latest/"
                "debian-12-generic-amd64.qcow2\"\n"
                "\n"
                "    vcpus 2\n"
                "    memory \"2G\"\n"
                "    disk \"20G\"\n"
                "\n"
                "    // A port of the host that leads to one of the guest\n"
                "    // forward 8080 80\n"
                "\n"
                "    // What the guest is told at its first boot; a pair of keys is made for it.\n"
                "    cloud-init {\n"
                "        hostname \"%s\"\n"
                "    }\n"
                "\n"
                "    // How 'vmctl ssh' and the steps below log in\n"
                "    ssh {\n"
                "        user \"debian\"\n"
                "    }\n"
                "\n"
                "    // Steps to take in the guest, one after the other\n"
                "    provision \"shell\" {\n"
                "        inline \"uname -a\"\n"
                "    }\n"
                "\n"
                "    // /- takes out what stands behind it.\n"
                "    /-provision \"shell\" {\n"
                "        script \"scripts/setup.sh\"\n"
                "        env DEBIAN_FRONTEND=\"noninteractive\"\n"
                "    }\n"
                "    /-provision \"file\" {\n"
                "        source \"config/app.conf\"\n"
                "        destination \"/tmp/app.conf\"\n"
                "        mode \"0644\"\n"
                "    }\n"
                "}\n";

/* A host name has neither '_' nor a dash or dot at its ends. */
static char *host_name(const char *name) {
        char *s = strdup(name);
        size_t len = s ? strlen(s) : 0;

        for (char *at = s; at && *at; at++)
                *at = *at == '_' || *at == '.' ? '-' : *at;
        while (len > 0 && s[len - 1] == '-')
                s[--len] = '\0';
        if (s && *s == '-')
                memmove(s, s + 1, len);
        return s;
}

/* The VM is called as the folder, where that is a name for VMs. */
static char *default_name(void) {
        _cleanup_free_ char *cwd = realpath(".", NULL);
        const char *name = cwd ? strrchr(cwd, '/') + 1 : "";

        return strdup(vm_name_is_valid(name) && *name != '_' ? name : "dev");
}

static int write_new(const char *path, const char *text) {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOCTTY, 0666);
        int r;

        if (fd < 0)
                return -errno;
        r = write_all(fd, text, strlen(text));
        if (r < 0)
                (void)unlink(path);
        return r;
}

int verb_init(Ctl *c, const Args *args) {
        const char *path = args_get(args, "file") ?: VMFILE_NAME;
        _cleanup_free_ char *name = args->words[0] ? strdup(args->words[0]) : default_name(), *host = NULL,
                            *text = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        host = name ? host_name(name) : NULL;
        if (!host)
                return ctl_oom();
        if (vm_name_check(name, &e) < 0) {
                ctl_complain(error_code_hint(error_code(e)), "%s", error_message(e));
                return EXIT_USAGE;
        }
        text = strf(example, name, isempty(host) ? "dev" : host);
        if (!text)
                return ctl_oom();
        r = write_new(path, text);
        if (r == -EEXIST)
                return ctl_complain("It stays as it is.", "There is a file '%s' already", path);
        if (r < 0)
                return ctl_complain(NULL, "Failed to write '%s': %s", path, strerror(-r));
        if (term_is_tty(stderr))
                (void)fprintf(stderr, "Wrote %s. Change it as you like, then run 'vmctl up'.\n", path);
        return 0;
}
