/* SPDX-License-Identifier: GPL-2.0-or-later */
/* `status NAME`: all about a VM as a block of lines like systemctl's. Without a name: the service, the host
 * and how its VMs are. */

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "console-log.h"
#include "message-json.h"
#include "overview.h"
#include "sanitize.h"
#include "term.h"
#include "text.h"
#include "util/fd-util.h"
#include "verbs.h"

#define CONSOLE_LINES 5
#define CONSOLE_LINES_MAX (256 * KIB) /* of text: a "line" may be any length */

/* A line for a property that is a string; none when it is empty. */
static void print_string(const char *label, const Json *vm, const char *key) {
        const char *s = json_get_string(vm, key);

        if (isempty(s))
                return;
        term_label(label);
        term_print(stdout, s);
        putchar('\n');
}

static uint64_t number(const Json *vm, const char *key) {
        uint64_t v = 0;

        (void)json_get_unsigned(vm, key, &v);
        return v;
}

static const char *string(const Json *vm, const char *key) {
        return json_get_string(vm, key) ?: "";
}

/* Appends "NAME: SIZE" and the like, with the text before them. */
static void print_size(const char *before, uint64_t bytes) {
        _cleanup_free_ char *text = text_size(bytes);

        printf("%s%s", before, text ?: "?");
}

static void print_head(const Json *vm) {
        const char *state = string(vm, "State"), *reason = string(vm, "FailureReason");
        uint64_t since = number(vm, "StateChangedAt"), now = now_realtime();
        _cleanup_free_ char *when = text_timestamp(since), *ago = text_duration(now - MIN(since, now));
        Style style = style_of_state(state);

        printf("%s%s%s ", term_style(stdout, style), streq(state, "running") ? "●" : "○",
                        term_normal(stdout));
        term_print(stdout, string(vm, "Name"));
        printf(" - %s%s%s", term_style(stdout, style), state, term_normal(stdout));
        if (*reason)
                printf(" (%s)", reason);
        if (since > 0)
                printf(" since %s; %s ago", when ?: "?", ago ?: "?");
        putchar('\n');
        print_string("Failure", vm, "FailureMessage");
}

static void print_owner(const Ctl *c, const Json *vm) {
        uint64_t uid = number(vm, "Owner");
        const struct passwd *pw = c->host ? NULL : getpwuid((uid_t)uid);

        term_label("Owner");
        if (pw)
                printf("%s (%" PRIu64 ")\n", pw->pw_name, uid);
        else
                printf("%" PRIu64 "\n", uid);
}

static void print_machine(const Json *vm) {
        const Json *spec = json_get(vm, "Spec");
        const char *accel = string(vm, "Accelerator"), *cpu = string(spec, "cpu");
        uint64_t vcpus = number(spec, "vcpus");

        term_label("Machine");
        printf("%s, %s, %s", string(vm, "Backend"), string(vm, "Machine"),
                        *string(spec, "firmware") ? string(spec, "firmware") : "bios");
        printf(", %s\n", *accel ? accel : string(spec, "accel"));
        term_label("vCPUs");
        printf("%" PRIu64 "%s%s\n", vcpus, *cpu ? ", " : "", cpu);
        term_label("RAM");
        printf("%" PRIu64 " MB%s\n", number(spec, "memory") / MIB,
                        json_get_boolean(spec, "balloon") > 0 ? ", balloon" : "");
}

static void print_disk(const Json *vm) {
        const Json *spec = json_get(vm, "Spec");

        if (*string(spec, "image") || number(spec, "disk") > 0) {
                term_label("Disk");
                if (number(spec, "disk") > 0)
                        print_size("", number(spec, "disk"));
                else
                        printf("as large as the image");
                printf(", %s\n", string(spec, "image-format"));
        }
        print_string("Image", spec, "image");
        print_string("Kernel", spec, "kernel");
        print_string("Initrd", spec, "initrd");
        print_string("Append", spec, "append");
}

static void print_network(const Json *vm) {
        const Json *spec = json_get(vm, "Spec"), *addresses = json_get(vm, "Addresses");

        term_label("Network");
        printf("%s", string(spec, "network"));
        if (*string(vm, "MAC"))
                printf(", %s", string(vm, "MAC"));
        for (size_t i = 0; i < json_length(addresses); i++) {
                printf(", ");
                term_print(stdout, json_string(json_element(addresses, i)) ?: "");
        }
        putchar('\n');
        if (number(vm, "SSHPort") > 0) {
                term_label("SSH");
                printf("%s@127.0.0.1 port %" PRIu64 "\n", string(vm, "SSHUser"), number(vm, "SSHPort"));
        }
}

static void print_unit(const Json *vm) {
        print_string("Unit", vm, "Unit");
        if (number(vm, "PID") > 0) {
                term_label("QEMU");
                printf("PID %" PRIu64 ", UID %" PRIu64, number(vm, "PID"), number(vm, "UID"));
                if (json_get_boolean(vm, "Attached") == 0)
                        printf(", %snot attached%s", term_style(stdout, STYLE_YELLOW), term_normal(stdout));
                else if (*string(vm, "QMPStatus"))
                        printf(", %s", string(vm, "QMPStatus"));
                putchar('\n');
        }
}

/* "(quota: 50%, weight: 100)", of the limits that are set */
static void print_limits(const Json *spec, const char *const *names, const char *const *keys, size_t n) {
        const char *before = " (";

        for (size_t i = 0; i < n; i++) {
                uint64_t v = number(spec, keys[i]);

                if (v == 0)
                        continue;
                printf("%s%s: ", before, names[i]);
                if (startswith(keys[i], "memory-"))
                        print_size("", v);
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
        _cleanup_free_ char *cpu = text_duration(number(vm, "CPUUsageNSec") / NSEC_PER_USEC);

        term_label("Memory");
        if (number(vm, "MemoryCurrent") > 0)
                print_size("", number(vm, "MemoryCurrent"));
        else
                putchar('-');
        if (number(vm, "MemoryPeak") > 0)
                print_size(", peak ", number(vm, "MemoryPeak"));
        print_limits(spec, memory_names, memory_keys, ELEMENTSOF(memory_keys));
        term_label("CPU");
        printf("%s", number(vm, "CPUUsageNSec") > 0 && cpu ? cpu : "-");
        print_limits(spec, cpu_names, cpu_keys, ELEMENTSOF(cpu_keys));
}

static void print_times(const Json *vm) {
        static const struct {
                const char *label, *key;
        } times[] = { { "Created", "CreatedAt" }, { "Started", "StartedAt" } };

        for (size_t i = 0; i < ELEMENTSOF(times); i++) {
                _cleanup_free_ char *when = text_timestamp(number(vm, times[i].key));

                if (number(vm, times[i].key) == 0)
                        continue;
                term_label(times[i].label);
                puts(when ?: "?");
        }
        print_string("Last end", vm, "ShutdownReason");
}

static void print_paths(const Json *vm) {
        print_string("Folder", vm, "Folder");
        print_string("Overlay", vm, "Overlay");
        print_string("Seed", vm, "Seed");
        print_string("Key", vm, "SSHPrivateKey");
        print_string("QMP", vm, "QMPSocket");
        print_string("VNC", vm, "VNCSocket");
        print_string("Agent", vm, "AgentSocket");
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
        if (number(vm, "Resets") > 0) {
                term_label("Resets");
                printf("%" PRIu64 "\n", number(vm, "Resets"));
        }
        if (number(vm, "IOErrors") > 0) {
                term_label("I/O errors");
                printf("%" PRIu64 "\n", number(vm, "IOErrors"));
        }
        print_warnings(json_get(vm, "Warnings"));
}

/* The last lines of the console, if the caller may see them without being asked for a password. */
static void print_console(Ctl *c, const char *name, uint32_t lines) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *text = NULL;
        _cleanup_close_ int fd = -EBADF;
        bool ask = c->ask_password;
        Sanitizer s = { .plain = !term_has_colors(stdout) };
        size_t len;

        if (lines == 0 || c->host)
                return;
        c->ask_password = false;
        fd = console_log_open(c, name, lines, false, &error);
        c->ask_password = ask;
        if (fd < 0 || read_all(fd, CONSOLE_LINES_MAX, &text, &len) < 0 || len == 0)
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

static int show_vm(Ctl *c, const char *name, uint32_t lines, JsonWriter *json) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = ctl_vm_path(name);
        _cleanup_json_ Json *vm = NULL;
        int r;

        if (!path)
                return ctl_oom();
        r = ctl_get_vm(c, path, &vm, &error);
        if (r < 0)
                return ctl_report(c, &error, r, "Failed to look at VM '%s'", name);
        if (json) {
                json_write_value(json, vm);
                return 0;
        }
        print_head(vm);
        print_owner(c, vm);
        print_string("UUID", vm, "UUID");
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
