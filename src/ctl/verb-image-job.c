/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that move an image: pull, import, export. Files are opened here, with the caller's rights. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-job.h"
#include "image-name.h"
#include "json-print.h"
#include "output-file.h"
#include "remote.h"
#include "spec-args.h"
#include "term.h"
#include "util/fd-util.h"
#include "verbs.h"

static int usage(const Args *args, const char *message) {
        _cleanup_free_ char *hint = strf("'vmctl %s --help' tells more.", args->verb->name);

        ctl_complain(hint, "%s", message);
        return EXIT_USAGE;
}

/* Files are those of this machine. A pipe goes through ssh. */
static int refuse_host(const Ctl *c, const Args *args, const char *file) {
        return ctl_complain(streq(verb_word(args->verb), "import")
                                        ? "Give it as 'vmctl -H HOST image import - "
                                          "< FILE'."
                                        : "Take it as 'vmctl -H HOST image export "
                                          "NAME - > FILE'.",
                        "Failed to %s '%s': files cannot be handed to %s", verb_word(args->verb), file,
                        c->host);
}

static int check_access(const Args *args) {
        if (args_has(args, "shared") && args_has(args, "private"))
                return usage(args, "--shared and --private exclude each other");
        return 0;
}

/*
 * import
 */

static int open_source(const char *file, int *ret, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        struct stat st;

        fd = streq(file, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3)
                              : open(file, O_RDONLY | O_NOCTTY | O_CLOEXEC);
        if (fd < 0)
                return error_set_errno(reterr, -errno, "Cannot open it");
        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Cannot look at it");
        if (S_ISDIR(st.st_mode))
                return error_set(reterr, ERROR_INVALID_IMAGE,
                                "It is a folder; 'vmctl image build' makes images of these");
        if (isatty(fd))
                return error_set(reterr, ERROR_INVALID_IMAGE, "It is a terminal");
        *ret = TAKE_FD(fd);
        return 0;
}

static int import_file(Ctl *c, const Args *args, const char *file, const char *what) {
        ImageJob j = {
                .wait = { .ctl = c, .line.quiet = args_has(args, "quiet") || c->json },
                .verb = "import",
                .done = "Imported",
                .what = what,
        };
        _cleanup_free_ char *fallback = image_name_of(file);
        const char *name = args_get(args, "name") ?: fallback;
        _cleanup_error_ Error *e = NULL;
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = open_source(file, &fd, &e);
        if (r < 0)
                return ctl_complain(NULL, "Failed to import '%s': %s", what, error_message(e));
        if (!name)
                return usage(args, "Its name is none for an image: give one with '--name NAME'");
        r = image_job_import(&j, args, name, fd, args_get(args, "format"));
        job_wait_done(&j.wait);
        return r;
}

int verb_image_import(Ctl *c, const Args *args) {
        const char *file = args->words[0];
        int r;

        r = check_access(args);
        if (r != 0)
                return r;
        if (streq(file, "-") && !args_has(args, "name"))
                return usage(args, "Standard input has no name: give one with '--name NAME'");
        if (c->host)
                return streq(file, "-") ? remote_exec(c, args) : refuse_host(c, args, file);
        return import_file(c, args, file, file);
}

/*
 * pull
 */

/* A file that the caller may read is opened here, as the service reads what everybody may. Digests are the
 * service's to check. */
static bool is_own_file(const Ctl *c, const Args *args, const char *path) {
        static const char *const services[] = { "sha256", "checksums", "refresh", "no-wait" };

        for (size_t i = 0; i < ELEMENTSOF(services); i++)
                if (args_has(args, services[i]))
                        return false;
        return !c->host && path && access(path, R_OK) >= 0;
}

static int pull(Ctl *c, const Args *args, const char *url) {
        ImageJob j = {
                .wait = { .ctl = c,
                                .line.quiet = args_has(args, "quiet") || c->json,
                                .no_wait = args_has(args, "no-wait") },
                .verb = "pull",
                .done = "Pulled",
                .what = url,
                .kept = "What has come is kept for a while: the same command goes on from there.",
                .may_refresh = !args_has(args, "refresh"),
        };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *e = NULL;
        int r;

        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "PullImage", &m);
        if (r != 0)
                return r;
        r = sd_bus_message_append(m, "s", url);
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to pull '%s'", url);
        r = spec_append_options(m, args, &e);
        if (r < 0)
                return ctl_complain(NULL, "Failed to pull '%s': %s", url, error_message(e));
        r = image_job_run(&j, m);
        job_wait_done(&j.wait);
        return r;
}

int verb_image_pull(Ctl *c, const Args *args) {
        const char *url = args->words[0];
        _cleanup_free_ char *path = image_url_path(url);
        int r;

        r = check_access(args);
        if (r != 0)
                return r;
        if (args_has(args, "sha256") && args_has(args, "checksums"))
                return usage(args, "--sha256 and --checksums exclude each other");
        if (!is_own_file(c, args, path))
                return pull(c, args, url);
        if (term_is_tty(stderr) && !args_has(args, "quiet"))
                (void)fputs("It is a file of this machine, which is imported.\n", stderr);
        return import_file(c, args, path, url);
}

/*
 * export
 */

typedef struct Target {
        const char *format, *compression; /* NULL: the service's default */
} Target;

static bool ends_in(const char *s, size_t len, const char *ending) {
        size_t n = strlen(ending);

        return len > n && strncmp(s + len - n, ending, n) == 0;
}

/* What the options say, and where they don't, the file's ending. */
static Target find_target(const Args *args, const char *file) {
        Target t = { args_get(args, "format"), args_get(args, "compress") };
        size_t len = strlen(file);

        if (ends_in(file, len, ".zst")) {
                t.compression = t.compression ?: "zstd";
                len -= strlen(".zst");
        }
        if (!t.format && ends_in(file, len, ".qcow2"))
                t.format = "qcow2";
        else if (!t.format && (ends_in(file, len, ".raw") || ends_in(file, len, ".img")))
                t.format = "raw";
        return t;
}

static int append_target(sd_bus_message *m, int fd, const Target *t) {
        int r;

        r = sd_bus_message_append(m, "h", fd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0 && t->format)
                r = sd_bus_message_append(m, "{sv}", "format", "s", t->format);
        if (r >= 0 && t->compression)
                r = sd_bus_message_append(m, "{sv}", "compression", "s", t->compression);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int print_exported(const Ctl *c, const JobWait *w, const char *name, const char *file, int r) {
        _cleanup_(json_writer_freep) JsonWriter *json = NULL;

        if (!c->json) {
                if (r >= 0 && !w->line.quiet)
                        (void)fprintf(stderr, "Exported image '%s' to '%s'.\n", name, file);
                return 0;
        }
        if (json_writer_new(JSON_WRITER_PRETTY, &json) < 0)
                return ctl_oom();
        json_write_object(json);
        json_put_string(json, "Name", name);
        json_put_string(json, "File", file);
        job_wait_write(w, r, json);
        json_write_end(json);
        return json_print(json);
}

/* Returns 0, or a status of failure that was reported. */
static int export_to(Ctl *c, const Args *args, int fd, JobWait *w, int *ret_error) {
        const char *name = args->words[0], *file = args->words[1];
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = client_image_path(name);
        Target t = find_target(args, file);
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_new_call(c, path, VMCTL_IMAGE, "Export", &m);
        if (r != 0)
                return r;
        r = append_target(m, fd, &t);
        if (r >= 0)
                r = job_wait_run(w, m, 0);
        if (r >= 0)
                return 0;
        *ret_error = r;
        return job_wait_report(w, r, NULL, "Failed to export image '%s'", name);
}

static int export_stdout(Ctl *c, const Args *args, JobWait *w) {
        int r = 0;

        if (isatty(STDOUT_FILENO))
                return usage(args, "An image is nothing for a terminal: send it to a file or a pipe");
        return export_to(c, args, STDOUT_FILENO, w, &r);
}

static int export_file(Ctl *c, const Args *args, JobWait *w) {
        _cleanup_(output_file_done) OutputFile out = OUTPUT_FILE_INIT;
        const char *file = args->words[1];
        _cleanup_error_ Error *e = NULL;
        int r, status, error = 0;

        r = output_file_open(&out, file, args_has(args, "force"), &e);
        if (r < 0)
                return ctl_complain(r == -EEXIST ? "'--force' replaces it." : NULL, "%s", error_message(e));
        status = export_to(c, args, out.fd, w, &error);
        if (status == 0 && output_file_commit(&out, &e) < 0)
                return ctl_complain(NULL, "%s", error_message(e));
        r = print_exported(c, w, args->words[0], file, error);
        return status != 0 ? status : r;
}

int verb_image_export(Ctl *c, const Args *args) {
        bool is_pipe = streq(args->words[1], "-");
        JobWait w = { .ctl = c, .line.quiet = args_has(args, "quiet") || c->json };
        int r;

        if (c->host)
                return is_pipe ? remote_exec(c, args) : refuse_host(c, args, args->words[1]);
        r = is_pipe ? export_stdout(c, args, &w) : export_file(c, args, &w);
        job_wait_done(&w);
        return r;
}
