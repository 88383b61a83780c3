/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that define VMs: create, update, set. Files are opened here, with the caller's rights, and travel as
 * descriptors. */

#include <stdio.h>

#include "job-wait.h"
#include "json-print.h"
#include "spec-args.h"
#include "ssh-install.h"
#include "ssh-wait.h"
#include "term.h"
#include "text.h"
#include "verbs.h"

/* The service's own deadlines for checking an image, and for starting, are below this. */
#define CREATE_TIMEOUT_USEC (120 * USEC_PER_SEC)

static int usage(const char *message) {
        ctl_complain("'vmctl create --help' lists the options.", "%s", message);
        return EXIT_USAGE;
}

/* Options and values that make no sense, whatever the service thinks of them. */
static int spec_failed(const Args *args, const char *name, const Error *e) {
        bool asked_wrongly = error_code(e) == ERROR_INVALID_SPEC || error_code(e) == ERROR_UNKNOWN_OPTION;
        const char *hint = error_code(e) == ERROR_INVALID_KEY ? error_code_hint(ERROR_INVALID_KEY)
                        : !asked_wrongly                      ? NULL
                        : streq(args->verb->name, "set")      ? "'vmctl set --help' lists the limits."
                        : streq(args->verb->name, "update")   ? "'vmctl update --help' lists the options."
                                                              : "'vmctl create --help' lists the options.";
        int r;

        r = ctl_complain(hint, "Failed to %s VM '%s': %s",
                        streq(args->verb->name, "set") ? "set limits of" : args->verb->name, name,
                        error_message(e));
        return asked_wrongly ? EXIT_USAGE : r;
}

static bool is_file(const OptionUse *u) {
        return u->option->kind == VALUE_FILE ||
                        (u->option->kind == VALUE_IMAGE && spec_image_kind(u->value) == IMAGE_FILE);
}

static int refuse(const Ctl *c, const Args *args, const char *name) {
        if (args_has(args, "bridge"))
                return ctl_complain("The default, '--network user', needs no set-up.",
                                "Failed to create VM '%s': --bridge is not supported yet", name);
        for (size_t i = 0; c->host && i < args->n_uses; i++)
                if (is_file(&args->uses[i]))
                        return ctl_complain(
                                        "Copy the files to the host, and run vmctl there: 'ssh HOST vmctl "
                                        "create ...'.",
                                        "Failed to create VM '%s' on %s: files cannot be handed to another "
                                        "host (--%s %s)",
                                        name, c->host, args->uses[i].option->name, args->uses[i].value);
        return 0;
}

/* The URL of the image; NULL: it is none that can be downloaded. */
static const char *find_url(const Args *args) {
        const char *image = args_get(args, "image");

        return image && spec_image_kind(image) == IMAGE_URL ? image : args_get(args, "image-url");
}

static bool has_pull_option(const Args *args) {
        OPTION_FOREACH(o, pull_options)
                if (args_has(args, o->name))
                        return true;
        return false;
}

static int check_create(const Ctl *c, const Args *args, const char **ret_name) {
        const char *option = args_get(args, "name"), *word = args->words[0];

        if (!option && !word)
                return usage("'create' needs a name");
        if (option && word && !streq(option, word))
                return usage("There are two names: --name and the first word");
        if (args_has(args, "cloud-init") && args_has(args, "no-cloud-init"))
                return usage("--cloud-init and --no-cloud-init exclude each other");
        if (!args_has(args, "image") && !args_has(args, "image-url") && !args_has(args, "kernel"))
                return usage("'create' needs something to boot: '--image IMAGE' or '--kernel FILE'");
        if (args_has(args, "image") && args_has(args, "image-url"))
                return usage("--image and --image-url exclude each other");
        if (!find_url(args) && has_pull_option(args))
                return usage("--sha256, --checksums and --refresh are for '--image-url URL'");
        *ret_name = option ?: word;
        return refuse(c, args, *ret_name);
}

static int print_created(const Ctl *c, const char *name, const char *path) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (!c->json) {
                if (term_is_tty(stderr))
                        (void)fprintf(stderr, "Created VM '%s'.\n", name);
                return 0;
        }
        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_object(w);
        json_put_string(w, "Name", name);
        json_put_string(w, "Object", path);
        json_write_end(w);
        return json_print(w);
}

static int append_create(sd_bus_message *m, const Args *args, const char *name, Error **reterr) {
        int r;

        r = sd_bus_message_append(m, "s", name);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot put the name in a message");
        return spec_append_options(m, args, reterr);
}

/* A name that is neither a file's nor an image's: the service knows but of the one. */
static bool is_nothing(const Args *args, const Error *e) {
        return args_has(args, "image") && !find_url(args) && error_is(e, ERROR_NO_SUCH_IMAGE);
}

static int create_failed(Ctl *c, const Args *args, const char *name, const Error *e, int r) {
        if (is_nothing(args, e))
                return ctl_complain("'vmctl image list' shows images; a private one is its owner's alone to "
                                    "use.",
                                "Failed to create VM '%s': There is neither a file nor an image '%s' that "
                                "you may use",
                                name, args_get(args, "image"));
        return ctl_report(c, e, r, "Failed to create VM '%s'", name);
}

static int call_create(Ctl *c, const Args *args, const char *name) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_error_ Error *e = NULL;
        const char *path;
        int r;

        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "CreateVM", &m);
        if (r != 0)
                return r;
        r = append_create(m, args, name, &e);
        if (r < 0)
                return spec_failed(args, name, e);
        r = client_call(c->client, m, CREATE_TIMEOUT_USEC, &reply, &error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r < 0)
                return create_failed(c, args, name, error, r);
        ctl_print_warnings(c, path, NULL);
        return print_created(c, name, path);
}

static int append_create_from(
                sd_bus_message *m, const Args *args, const char *name, const char *url, Error **reterr) {
        int r;

        r = sd_bus_message_append(m, "ss", name, url);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot put the URL in a message");
        r = spec_append_table(m, args, pull_options, true, reterr);
        return r < 0 ? r : spec_append_table(m, args, pull_options, false, reterr);
}

static int call_create_from(Ctl *c, const Args *args, const char *name, const char *url) {
        _cleanup_(job_wait_done) JobWait w = { .ctl = c, .line.quiet = c->json };
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = client_vm_path(name);
        _cleanup_error_ Error *e = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "CreateVMFromURL", &m);
        if (r != 0)
                return r;
        r = append_create_from(m, args, name, url, &e);
        if (r < 0)
                return spec_failed(args, name, e);
        r = job_wait_run(&w, m, 0);
        if (r < 0)
                return job_wait_report(&w, r,
                                "What has come of the image is kept for a while: the same command goes on "
                                "from there.",
                                "Failed to create VM '%s'", name);
        ctl_print_warnings(c, path, NULL);
        return print_created(c, name, path);
}

int verb_create(Ctl *c, const Args *args) {
        const char *name, *timeout = args_get(args, "timeout"), *url = find_url(args);
        uint64_t timeout_usec = SSH_WAIT_BOOT_USEC;
        int r;

        if (timeout && parse_timespan(timeout, &timeout_usec) < 0)
                return usage("--timeout needs a time, as '90' or '2min'");
        r = check_create(c, args, &name);
        if (r != 0)
                return r;
        r = url ? call_create_from(c, args, name, url) : call_create(c, args, name);
        if (r == 0)
                ssh_refresh(c);
        if (r != 0 || !args_has(args, "wait"))
                return r;
        return ssh_wait_for_vm(c, name, now_monotonic() + timeout_usec);
}

/* As start, stop and the like do, which take several names. */
static int print_changed(const char *name, const Error *error) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_array(w);
        json_write_result(w, name, error);
        json_write_end(w);
        return json_print(w);
}

static int call_change(Ctl *c, const Args *args, const char *member) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(args->words[0]);
        _cleanup_error_ Error *e = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_new_call(c, path, VMCTL_VM, member, &m);
        if (r != 0)
                return r;
        r = spec_append_changes(m, args, args->words + 1, &e);
        if (r < 0)
                return spec_failed(args, args->words[0], e);
        r = client_call(c->client, m, CREATE_TIMEOUT_USEC, NULL, &error);
        if (r < 0)
                r = ctl_report(c, error, r, "Failed to %s VM '%s'",
                                streq(args->verb->name, "set") ? "set limits of" : "update", args->words[0]);
        if (c->json) {
                int q = print_changed(args->words[0], error);

                return r != 0 ? r : q;
        }
        return r;
}

static bool changes_nothing(const Args *args) {
        for (size_t i = 0; i < args->n_uses; i++)
                if (args->uses[i].option->key)
                        return false;
        return args->n_words < 2;
}

int verb_set(Ctl *c, const Args *args) {
        if (changes_nothing(args)) {
                ctl_complain("'vmctl set --help' lists the limits.",
                                "'set' needs a limit, as 'cpu-quota=50%%'");
                return EXIT_USAGE;
        }
        return call_change(c, args, "SetLimits");
}

int verb_update(Ctl *c, const Args *args) {
        if (changes_nothing(args)) {
                ctl_complain("'vmctl update --help' lists them.",
                                "'update' needs an option, as '--vcpus 4'");
                return EXIT_USAGE;
        }
        return call_change(c, args, "UpdateSpec");
}
