/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A client for tests of the store of images, for what busctl and gdbus cannot do: pass descriptors, and
 * follow a job from its first to its last signal.
 *
 *     image-call pull URL [OPTION...]
 *     image-call import NAME FILE [OPTION...]
 *     image-call inspect FILE
 *     image-call export NAME FILE [OPTION...]
 *     image-call create-from-url NAME URL [OPTION OF CREATEVM...] [-- OPTION OF PULLIMAGE...]
 *
 * An OPTION is KEY=TEXT, KEY?=yes, KEY?=no, KEY#=NUMBER or KEY@=FILE (a descriptor). Prints "job PATH", a
 * line "PHASE DONE TOTAL SPEED" for each change of the job, and "done". When the call or the job fails it
 * prints "RESULT NAME: MESSAGE" on standard error, where RESULT is "refused" for a call, and exits with 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <systemd/sd-bus.h>
#include <unistd.h>

#include "util/fd-util.h"
#include "util/string-util.h"

#define BUS_NAME "org.vmctl1"
#define CALL_TIMEOUT (60 * UINT64_C(1000000))

typedef struct Call {
        const char *verb, *member;
        const char *args; /* as in a signature; 'n': a name that the object's path is made of; 'w': a file to
                             write */
        unsigned dicts;
        bool is_job;
} Call;

static const Call calls[] = {
        { "pull", "PullImage", "s", 1, true },
        { "import", "ImportImage", "sh", 1, true },
        { "inspect", "InspectImage", "h", 1, false },
        { "export", "Export", "nw", 1, true },
        { "create-from-url", "CreateVMFromURL", "ss", 2, true },
};

/* What the job's last change says. */
typedef struct Follow {
        char *path;
        char *phase, *result, *error_name, *error_message;
        uint64_t done, total, speed;
        bool ended;
} Follow;

static void follow_done(Follow *f) {
        free(f->path);
        free(f->phase);
        free(f->result);
        free(f->error_name);
        free(f->error_message);
}

static int append_file(sd_bus_message *m, const char *path, int flags) {
        _cleanup_close_ int fd = open(path, flags | O_CLOEXEC, 0600);

        if (fd < 0) {
                perror(path);
                return -errno;
        }
        return sd_bus_message_append(m, "h", fd);
}

static int append_value(sd_bus_message *m, char type, const char *value) {
        int r;

        if (type == '@') {
                r = sd_bus_message_open_container(m, 'v', "h");
                if (r >= 0)
                        r = append_file(m, value, O_RDONLY);
                return r < 0 ? r : sd_bus_message_close_container(m);
        }
        if (type == '?')
                return sd_bus_message_append(m, "v", "b", streq(value, "yes"));
        if (type == '#')
                return sd_bus_message_append(m, "v", "t", (uint64_t)strtoull(value, NULL, 10));
        return sd_bus_message_append(m, "v", "s", value);
}

static int append_option(sd_bus_message *m, const char *option) {
        const char *equals = strchr(option, '=');
        _cleanup_free_ char *key = NULL;
        size_t len;
        char type;
        int r;

        if (!equals || equals == option)
                return -EINVAL;
        type = equals[-1];
        len = (size_t)(equals - option) - (strchr("@?#", type) ? 1 : 0);
        key = strndup(option, len);
        r = key ? sd_bus_message_open_container(m, 'e', "sv") : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_append(m, "s", key);
        if (r >= 0)
                r = append_value(m, type, equals + 1);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int append_options(sd_bus_message *m, unsigned dicts, char **options) {
        int r = 0;

        for (unsigned i = 0; r >= 0 && i < dicts; i++) {
                r = sd_bus_message_open_container(m, 'a', "{sv}");
                for (; r >= 0 && *options && !streq(*options, "--"); options++)
                        r = append_option(m, *options);
                options += *options != NULL;
                if (r >= 0)
                        r = sd_bus_message_close_container(m);
        }
        return r < 0 ? r : *options ? -EINVAL : 0;
}

static int new_call(sd_bus *bus, const Call *call, char **args, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_free_ char *path = NULL;
        bool of_image = call->args[0] == 'n';
        int r;

        r = of_image ? sd_bus_path_encode("/org/vmctl1/image", args[0], &path) : 0;
        if (r >= 0)
                r = sd_bus_message_new_method_call(bus, &m, BUS_NAME, path ?: "/org/vmctl1",
                                of_image ? "org.vmctl1.Image" : "org.vmctl1.Manager", call->member);
        for (const char *a = call->args; r >= 0 && *a; a++, args++)
                if (*a == 's')
                        r = sd_bus_message_append(m, "s", *args);
                else if (*a == 'h')
                        r = append_file(m, *args, O_RDONLY);
                else if (*a == 'w')
                        r = append_file(m, *args, O_WRONLY | O_CREAT | O_TRUNC);
        if (r >= 0)
                r = append_options(m, call->dicts, args);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(m);
        return 0;
}

static int read_property(sd_bus_message *m, Follow *f) {
        const struct {
                const char *name;
                char **text;
                uint64_t *number;
        } table[] = {
                { "Phase", &f->phase, NULL },
                { "Result", &f->result, NULL },
                { "ErrorName", &f->error_name, NULL },
                { "ErrorMessage", &f->error_message, NULL },
                { "Done", NULL, &f->done },
                { "Total", NULL, &f->total },
                { "Speed", NULL, &f->speed },
        };
        const char *name, *text;
        int r;

        r = sd_bus_message_read(m, "s", &name);
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(table); i++) {
                if (!streq(table[i].name, name))
                        continue;
                if (table[i].number)
                        return sd_bus_message_read(m, "v", "t", table[i].number);
                r = sd_bus_message_read(m, "v", "s", &text);
                return r < 0 ? r : free_and_strdup(table[i].text, text);
        }
        return r < 0 ? r : sd_bus_message_skip(m, "v");
}

static int on_changed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Follow *f = userdata;
        int r;

        if (!streq(sd_bus_message_get_path(m), f->path))
                return 0;
        r = sd_bus_message_skip(m, "s");
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && sd_bus_message_enter_container(m, 'e', "sv") > 0) {
                r = read_property(m, f);
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        printf("%s %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", isempty(f->phase) ? "-" : f->phase, f->done,
                        f->total, f->speed);
        return r;
}

static int on_removed(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Follow *f = userdata;
        const char *path;
        uint32_t id;
        int r;

        r = sd_bus_message_read(m, "uo", &id, &path);
        if (r >= 0 && streq(path, f->path))
                f->ended = true;
        return r;
}

/* A service that dies takes its jobs with it. */
static int on_owner(sd_bus_message *m, void *userdata, sd_bus_error *error) {
        Follow *f = userdata;

        f->ended = true;
        return free_and_strdup(&f->result, "lost");
}

static int listen_for(sd_bus *bus, Follow *f) {
        const struct {
                const char *match;
                sd_bus_message_handler_t handler;
        } table[] = {
                { "type='signal',sender='" BUS_NAME "',interface='org.freedesktop.DBus.Properties',"
                  "arg0='org.vmctl1.Job'",
                                on_changed },
                { "type='signal',sender='" BUS_NAME "',interface='org.vmctl1.Manager',member='JobRemoved'",
                                on_removed },
                { "type='signal',sender='org.freedesktop.DBus',member='NameOwnerChanged',arg0='" BUS_NAME
                  "',arg2=''",
                                on_owner },
        };
        int r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(table); i++)
                r = sd_bus_add_match(bus, NULL, table[i].match, table[i].handler, f);
        return r;
}

static int follow(sd_bus *bus, Follow *f) {
        int r = 0;

        printf("job %s\n", f->path);
        while (r >= 0 && !f->ended) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        if (r < 0)
                return r;
        if (!streq_ptr(f->result, "done")) {
                fprintf(stderr, "%s %s: %s\n", f->result ?: "?", f->error_name ?: "?",
                                f->error_message ?: "?");
                return -EIO;
        }
        puts("done");
        return 0;
}

static int run(sd_bus *bus, const Call *call, char **args, Follow *f) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        const char *path;
        int r;

        r = listen_for(bus, f);
        if (r >= 0)
                r = new_call(bus, call, args, &m);
        if (r < 0)
                return r;
        r = sd_bus_call(bus, m, CALL_TIMEOUT, &error, &reply);
        if (r < 0) {
                fprintf(stderr, "refused %s: %s\n", error.name, error.message);
                return r;
        }
        if (!call->is_job)
                return sd_bus_message_dump(reply, stdout, SD_BUS_MESSAGE_DUMP_SUBTREE_ONLY);
        r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = free_and_strdup(&f->path, path);
        return r < 0 ? r : follow(bus, f);
}

int main(int argc, char *argv[]) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        _cleanup_(follow_done) Follow f = {};
        int r;

        (void)setvbuf(stdout, NULL, _IOLBF, 0);
        for (size_t i = 0; argc > 1 && i < ELEMENTSOF(calls); i++) {
                if (!streq(calls[i].verb, argv[1]) || (size_t)argc < 2 + strlen(calls[i].args))
                        continue;
                r = sd_bus_open_system(&bus);
                if (r >= 0)
                        r = run(bus, &calls[i], argv + 2, &f);
                return r < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
        }
        fprintf(stderr, "Wrong usage; see the top of image-call.c\n");
        return 2;
}
