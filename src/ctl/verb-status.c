/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `status NAME`: all about a VM as a block of lines like systemctl's. Without a name: the service, the host
 * and how its VMs are. */

#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

#include "broken.h"
#include "console-log.h"
#include "fields.h"
#include "json-print.h"
#include "overview.h"
#include "sanitize.h"
#include "term.h"
#include "text.h"
#include "util/fd-util.h"
#include "verbs.h"

#define CONSOLE_LINES 5
#define CONSOLE_PATIENCE (1 * USEC_PER_SEC) /* it is there in milliseconds, or does not come at all */

static void print_head(const Json *vm) {
        const char *state = fields_string(vm, "State");
        uint64_t since = fields_number(vm, "StateChangedAt"), now = now_realtime();
        _cleanup_free_ char *when = text_timestamp(since), *ago = text_duration(now - MIN(since, now));
        Style style = style_of_state(state);

        printf("%s%s%s ", term_style(stdout, style), streq(state, "running") ? "●" : "○",
                        term_normal(stdout));
        term_print(stdout, fields_string(vm, "Name"));
        printf(" - %s", term_style(stdout, style));
        term_print(stdout, state);
        printf("%s", term_normal(stdout));
        if (*fields_string(vm, "FailureReason")) {
                fields_print_word(" (", vm, "FailureReason");
                putchar(')');
        }
        if (since > 0)
                printf(" since %s; %s ago", when ?: "?", ago ?: "?");
        putchar('\n');
        fields_print("Failure", vm, "FailureMessage");
}

static void print_machine(const Json *vm) {
        const Json *spec = json_get(vm, "Spec");
        bool runs = *fields_string(vm, "Accelerator");

        term_label("Machine");
        fields_print_word("", vm, "Backend");
        fields_print_word(", ", vm, "Machine");
        if (*fields_string(spec, "firmware"))
                fields_print_word(", ", spec, "firmware");
        else
                printf(", bios");
        fields_print_word(", ", runs ? vm : spec, runs ? "Accelerator" : "accel");
        putchar('\n');
        term_label("vCPUs");
        printf("%" PRIu64, fields_number(spec, "vcpus"));
        fields_print_word(", ", spec, "cpu");
        putchar('\n');
        term_label("RAM");
        printf("%" PRIu64 " MB%s\n", fields_number(spec, "memory") / MIB,
                        json_get_boolean(spec, "balloon") > 0 ? ", balloon" : "");
}

static void print_disk(const Json *vm) {
        const Json *spec = json_get(vm, "Spec");

        if (*fields_string(spec, "image") || fields_number(spec, "disk") > 0) {
                term_label("Disk");
                if (fields_number(spec, "disk") > 0)
                        fields_print_size("", fields_number(spec, "disk"));
                else
                        printf("as large as the image");
                fields_print_word(", ", spec, "image-format");
                putchar('\n');
        }
        /* An image of the store is known by its name. */
        fields_print("Image", spec, *fields_string(spec, "image-name") ? "image-name" : "image");
        fields_print("Kernel", spec, "kernel");
        fields_print("Initrd", spec, "initrd");
        fields_print("Append", spec, "append");
        fields_print("Disks", spec, "disks");
        fields_print("Origin", spec, "origin");
}

static void print_network(const Json *vm) {
        const Json *spec = json_get(vm, "Spec"), *addresses = json_get(vm, "Addresses");

        term_label("Network");
        fields_print_word("", spec, "network");
        if (*fields_string(vm, "NetworkBackend") && !streq(fields_string(vm, "NetworkBackend"), "none")) {
                fields_print_word(" (", vm, "NetworkBackend");
                putchar(')');
        }
        fields_print_word(", ", vm, "MAC");
        for (size_t i = 0; i < json_length(addresses); i++) {
                printf(", ");
                term_print(stdout, json_string(json_element(addresses, i)) ?: "");
        }
        putchar('\n');
        if (fields_number(vm, "SSHPort") > 0) {
                term_label("SSH");
                term_print(stdout, fields_string(vm, "SSHUser"));
                printf("@127.0.0.1 port %" PRIu64 "\n", fields_number(vm, "SSHPort"));
        }
}

static void print_unit(const Json *vm) {
        fields_print("Unit", vm, "Unit");
        if (fields_number(vm, "PID") > 0) {
                term_label("QEMU");
                printf("PID %" PRIu64 ", UID %" PRIu64, fields_number(vm, "PID"), fields_number(vm, "UID"));
                if (json_get_boolean(vm, "Attached") == 0)
                        printf(", %snot attached%s", term_style(stdout, STYLE_YELLOW), term_normal(stdout));
                else
                        fields_print_word(", ", vm, "QMPStatus");
                putchar('\n');
        }
}

/* "(quota: 50%, weight: 100)", of the limits that are set */
static void print_limits(const Json *spec, const char *const *names, const char *const *keys, size_t n) {
        const char *before = " (";

        for (size_t i = 0; i < n; i++) {
                uint64_t v = fields_number(spec, keys[i]);

                if (v == 0)
                        continue;
                printf("%s%s: ", before, names[i]);
                if (startswith(keys[i], "memory-"))
                        fields_print_size("", v);
                else
                        printf("%" PRIu64 "%s", v, streq(keys[i], "cpu-quota") ? "%" : "");
                before = ", ";
        }
        puts(*before == ',' ? ")" : "");
}

static void print_resources(const Json *vm) {
        static const char *const memory_names[] = { "max", "high" },
                                 *const memory_keys[] = { "memory-max", "memory-high" };
        static const char *const cpu_names[] = { "quota", "weight", "I/O weight", "tasks" },
                                 *const cpu_keys[] = { "cpu-quota", "cpu-weight", "io-weight", "tasks-max" };
        const Json *spec = json_get(vm, "Spec");
        _cleanup_free_ char *cpu = text_duration(fields_number(vm, "CPUUsageNSec") / NSEC_PER_USEC);

        term_label("Memory");
        if (fields_number(vm, "MemoryCurrent") > 0)
                fields_print_size("", fields_number(vm, "MemoryCurrent"));
        else
                putchar('-');
        if (fields_number(vm, "MemoryPeak") > 0)
                fields_print_size(", peak ", fields_number(vm, "MemoryPeak"));
        print_limits(spec, memory_names, memory_keys, ELEMENTSOF(memory_keys));
        term_label("CPU");
        printf("%s", fields_number(vm, "CPUUsageNSec") > 0 && cpu ? cpu : "-");
        print_limits(spec, cpu_names, cpu_keys, ELEMENTSOF(cpu_keys));
}

static void print_times(const Json *vm) {
        static const struct {
                const char *label, *key;
        } times[] = { { "Created", "CreatedAt" }, { "Started", "StartedAt" } };

        for (size_t i = 0; i < ELEMENTSOF(times); i++) {
                _cleanup_free_ char *when = text_timestamp(fields_number(vm, times[i].key));

                if (fields_number(vm, times[i].key) == 0)
                        continue;
                term_label(times[i].label);
                puts(when ?: "?");
        }
        fields_print("Last end", vm, "ShutdownReason");
}

static void print_paths(const Json *vm) {
        fields_print("Folder", vm, "Folder");
        fields_print("Overlay", vm, "Overlay");
        fields_print("Seed", vm, "Seed");
        fields_print("Key", vm, "SSHPrivateKey");
        fields_print("QMP", vm, "QMPSocket");
        fields_print("VNC", vm, "VNCSocket");
        fields_print("Agent", vm, "AgentSocket");
}

static void print_warnings(const Json *list) {
        for (size_t i = 0; i < json_length(list); i++) {
                term_label(i == 0 ? "Warning" : "");
                printf("%s", term_style(stdout, STYLE_YELLOW));
                term_print(stdout, json_string(json_element(list, i)) ?: "");
                printf("%s\n", term_normal(stdout));
        }
}

static void print_troubles(const Json *vm) {
        if (fields_number(vm, "Resets") > 0) {
                term_label("Resets");
                printf("%" PRIu64 "\n", fields_number(vm, "Resets"));
        }
        if (fields_number(vm, "IOErrors") > 0) {
                term_label("I/O errors");
                printf("%" PRIu64 "\n", fields_number(vm, "IOErrors"));
        }
        print_warnings(json_get(vm, "Warnings"));
}

static void print_no_console(const char *why) {
        term_label("Console");
        printf("%s", term_style(stdout, STYLE_YELLOW));
        term_print(stdout, why);
        printf("%s\n", term_normal(stdout));
}

/* The last lines of the console, if the caller may see them without being asked for a password. */
static void print_console(Ctl *c, const char *name, uint32_t lines) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool ask;
        Sanitizer s = { .plain = !term_has_colors(stdout) };
        size_t len = 0;
        int r;

        if (lines == 0 || c->host)
                return;
        ask = client_set_may_ask(c->client, false);
        fd = console_log_open(c, name, lines, false, &error);
        (void)client_set_may_ask(c->client, ask);
        r = fd < 0 ? fd : console_log_read(fd, CONSOLE_PATIENCE, &text, &len);
        if (r == -ETIMEDOUT || error_is(error, ERROR_CONSOLE_UNAVAILABLE))
                print_no_console(error ? error_message(error) : "It does not answer");
        if (len == 0)
                return;
        putchar('\n');
        for (const char *line = text; *line;) {
                size_t n = strcspn(line, "\n");

                printf("  ");
                sanitize_write(&s, stdout, line, n);
                sanitize_end(&s, stdout);
                putchar('\n');
                line += n + (line[n] == '\n');
        }
}

/* 1: there is no broken one of that name. */
static int show_broken(Ctl *c, const char *name, JsonWriter *json) {
        _cleanup_(broken_list_done) BrokenList l = {};
        const BrokenRecord *b;
        int r;

        r = broken_list_fetch(c, "vm", &l);
        if (r != 0)
                return r;
        b = broken_list_find(&l, name);
        if (!b)
                return 1;
        if (json) {
                broken_write(json, b);
                return 0;
        }
        printf("%s○%s ", term_style(stdout, STYLE_RED), term_normal(stdout));
        term_print(stdout, b->name);
        printf(" - %sbroken%s\n", term_style(stdout, STYLE_RED), term_normal(stdout));
        term_label("Failure");
        term_print(stdout, b->reason);
        putchar('\n');
        term_label("File");
        term_print(stdout, b->path);
        putchar('\n');
        term_label("Hint");
        term_print(stdout, broken_hint(c, b));
        putchar('\n');
        return 0;
}

static int show_vm(Ctl *c, const char *name, uint32_t lines, JsonWriter *json) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_free_ char *path = client_vm_path(name);
        _cleanup_json_ Json *vm = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = client_get_all(c->client, path, VMCTL_VM, &vm, &error);
        if (r < 0) {
                int q = show_broken(c, name, json);

                if (q <= 0)
                        return q;
                return ctl_report(c, error, r, "Failed to look at VM '%s'", name);
        }
        if (json) {
                json_write_value(json, vm);
                return 0;
        }
        print_head(vm);
        fields_print_owner(c, vm);
        fields_print("UUID", vm, "UUID");
        print_machine(vm);
        print_disk(vm);
        print_network(vm);
        print_unit(vm);
        print_resources(vm);
        print_times(vm);
        print_paths(vm);
        print_troubles(vm);
        print_console(c, name, lines);
        return 0;
}

static int show_vms(Ctl *c, const Args *args, uint32_t lines, JsonWriter *json) {
        int r = 0, q;

        if (json && args->n_words > 1)
                json_write_array(json);
        for (size_t i = 0; i < args->n_words; i++) {
                if (i > 0 && !json)
                        putchar('\n');
                q = show_vm(c, args->words[i], lines, json);
                r = r != 0 ? r : q;
        }
        if (json && args->n_words > 1)
                json_write_end(json);
        return r;
}

int verb_status(Ctl *c, const Args *args) {
        _cleanup_(json_writer_freep) JsonWriter *json = NULL;
        const char *text = args_get(args, "lines");
        uint32_t lines = CONSOLE_LINES;
        int r;

        if (text && parse_u32(text, &lines) < 0) {
                ctl_complain(NULL, "'%s' is no number of lines", text);
                return EXIT_USAGE;
        }
        r = ctl_connect(c);
        if (r != 0)
                return r;
        if (c->json && json_writer_new(JSON_WRITER_PRETTY, &json) < 0)
                return ctl_oom();
        r = args->n_words > 0 ? show_vms(c, args, lines, json) : overview_show(c, json);
        if (json && (r == 0 || args->n_words > 1)) {
                int q = json_print(json);

                r = r != 0 ? r : q;
        }
        return r;
}
