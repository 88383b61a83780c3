/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "json-print.h"
#include "term.h"
#include "verbs.h"
#include "json/json.h"

/* The reply may be as large as QEMU makes it: query-qmp-schema has 20000 values. */
static const JsonLimits reply_limits = { .max_size = 64 * MIB, .max_values = 4 * 1024 * 1024 };

static int check_json(const char *text, Error **reterr) {
        _cleanup_json_ Json *v = NULL;
        int r;

        r = json_parse(text, strlen(text), NULL, &v, reterr);
        if (r >= 0 && json_type(v) != JSON_OBJECT)
                r = error_set(reterr, ERROR_INVALID_SPEC, "'%s' is not a JSON object", text);
        return r;
}

/* Both parts are checked here, so that a slip is told as one, and not as an answer of QEMU. */
static int build_command(const Args *args, char **ret, Error **reterr) {
        const char *command = args->words[1], *arguments = args->words[2];
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_json_ Json *v = NULL;
        size_t len;
        int r;

        if (command[0] == '{') {
                if (arguments)
                        return error_set(reterr, ERROR_INVALID_SPEC,
                                        "A whole object has its arguments in it");
                r = check_json(command, reterr);
                if (r < 0)
                        return r;
                *ret = strdup(command);
                return *ret ? 0 : -ENOMEM;
        }
        r = arguments ? check_json(arguments, reterr) : 0;
        if (r >= 0 && arguments)
                r = json_parse(arguments, strlen(arguments), NULL, &v, reterr);
        if (r >= 0)
                r = json_writer_new(0, &w);
        if (r < 0)
                return r;
        json_write_object(w);
        json_put_string(w, "execute", command);
        if (v) {
                json_write_key(w, "arguments");
                json_write_value(w, v);
        }
        json_write_end(w);
        return json_writer_finish(w, ret, &len);
}

/* Indented, or as it came should it not be what we take for JSON. */
static int print_reply(const char *reply) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_json_ Json *v = NULL;

        if (json_parse(reply, strlen(reply), &reply_limits, &v, NULL) < 0 ||
                        json_writer_new(JSON_WRITER_PRETTY, &w) < 0) {
                term_print(stdout, reply);
                putchar('\n');
                return 0;
        }
        json_write_value(w, v);
        return json_print(w);
}

int verb_qmp(Ctl *c, const Args *args) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(args->words[0]), *command = NULL;
        _cleanup_error_ Error *e = NULL;
        const char *text;
        int r;

        if (!path)
                return ctl_oom();
        r = build_command(args, &command, &e);
        if (r < 0) {
                ctl_complain("As in: vmctl qmp web human-monitor-command '{\"command-line\": \"info "
                             "network\"}'",
                                "%s", error_message(e));
                return EXIT_USAGE;
        }
        r = ctl_new_call(c, path, VMCTL_VM, "Qmp", &m);
        if (r != 0)
                return r;
        r = sd_bus_message_append(m, "s", command);
        if (r >= 0)
                r = client_call(c->client, m, 0, &reply, &error);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to send the command to VM '%s'", args->words[0]);
        return print_reply(text);
}
