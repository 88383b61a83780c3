/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "broken.h"
#include "client/decode.h"
#include "fields.h"
#include "json-print.h"
#include "list.h"
#include "overview.h"
#include "term.h"
#include "verbs.h"

static const char *const states[] = { "running", "suspended", "starting", "stopping", "preparing",
        "prepared", "stopped", "failed" };

typedef struct Overview {
        Json *capabilities; /* NULL: `error` tells why */
        Error *error;
        char *version;
        BrokenList broken; /* what was set aside */
        size_t counts[ELEMENTSOF(states)], n_vms;
} Overview;

static void overview_done(Overview *o) {
        json_free(o->capabilities);
        error_free(o->error);
        free(o->version);
        broken_list_done(&o->broken);
}

static int fetch_capabilities(Ctl *c, Json **ret, Error **reterr) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = client_new_call(c->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "GetCapabilities", &m);
        if (r >= 0)
                r = client_call(c->client, m, 0, &reply, reterr);
        return r < 0 ? r : client_decode(reply, ret);
}

static int count_vms(Ctl *c, Overview *o) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        ListedVM vm;
        int r;

        r = vm_list_fetch(c, &reply);
        if (r != 0)
                return r;
        r = vm_list_begin(reply);
        while (r >= 0 && (r = vm_list_next(reply, &vm)) > 0) {
                o->n_vms++;
                for (size_t i = 0; i < ELEMENTSOF(states); i++)
                        o->counts[i] += streq(states[i], vm.state);
        }
        return r < 0 ? ctl_report(c, NULL, r, "Failed to read the list of VMs") : 0;
}

static int overview_fetch(Ctl *c, Overview *o) {
        _cleanup_error_ Error *error = NULL;
        int r;

        r = count_vms(c, o);
        if (r != 0)
                return r;
        r = client_get_string(c->client, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "Version", &o->version, &error);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to look at the service");
        r = broken_list_fetch(c, NULL, &o->broken);
        if (r != 0)
                return r;
        (void)fetch_capabilities(c, &o->capabilities, &o->error); /* a host without QEMU is worth a line */
        return 0;
}

static void print_lines(const char *label, const Json *list, Style style) {
        for (size_t i = 0; i < json_length(list); i++) {
                term_label(i == 0 ? label : "");
                printf("%s", term_style(stdout, style));
                term_print(stdout, json_string(json_element(list, i)) ?: "");
                printf("%s\n", term_normal(stdout));
        }
}

static void print_machines(const Json *types) {
        for (size_t i = 0; i < json_length(types); i++) {
                const char *alias = json_key(types, i), *type = json_string(json_member(types, i)) ?: "";

                term_label(i == 0 ? "Machines" : "");
                term_print(stdout, alias);
                if (!streq(alias, type)) {
                        printf(", new VMs get ");
                        term_print(stdout, type);
                }
                putchar('\n');
        }
}

static void print_capabilities(const Json *o) {
        term_label("QEMU");
        term_print(stdout, json_get_string(o, "qemu-version") ?: "?");
        printf(", ");
        term_print(stdout, json_get_string(o, "qemu-path") ?: "?");
        putchar('\n');
        fields_print_list("Accel", json_get(o, "accelerators"));
        fields_print("Default", o, "default-accelerator");
        fields_print("Network", o, "default-network-backend");
        print_machines(json_get(o, "machine-types"));
        fields_print_list("In use", json_get(o, "machine-types-in-use"));
        fields_print_list("Firmware", json_get(o, "firmware"));
        print_lines("Warning", json_get(o, "warnings"), STYLE_YELLOW);
}

static void print_counts(const Overview *o) {
        const char *before = " (";

        term_label("VMs");
        printf("%zu", o->n_vms);
        for (size_t i = 0; i < ELEMENTSOF(states); i++) {
                if (o->counts[i] == 0)
                        continue;
                printf("%s%zu %s%s%s", before, o->counts[i], term_style(stdout, style_of_state(states[i])),
                                states[i], term_normal(stdout));
                before = ", ";
        }
        puts(o->n_vms > 0 ? ")" : "");
}

static void print_broken(const BrokenList *l) {
        for (size_t i = 0; i < l->n; i++) {
                const BrokenRecord *b = &l->records[i];
                _cleanup_free_ char *line = strf("%s: %s", b->path, b->reason);

                term_label(i == 0 ? "Broken" : "");
                printf("%s", term_style(stdout, STYLE_RED));
                term_print(stdout, line ?: "?");
                printf("%s\n", term_normal(stdout));
        }
}

/* The first are those of VMs as text, as they were told before there were others. */
static void write_broken(JsonWriter *w, const BrokenList *l) {
        json_write_key(w, "BrokenVMs");
        json_write_array(w);
        for (size_t i = 0; i < l->n; i++) {
                const BrokenRecord *b = &l->records[i];
                _cleanup_free_ char *line = strf("%s: %s", b->path, b->reason);

                if (streq(b->kind, "vm"))
                        json_write_string(w, line);
        }
        json_write_end(w);
        json_write_key(w, "BrokenRecords");
        json_write_array(w);
        for (size_t i = 0; i < l->n; i++)
                broken_write(w, &l->records[i]);
        json_write_end(w);
}

static void print_overview(const Ctl *c, const Overview *o) {
        printf("%s●%s vmctld %s, ", term_style(stdout, STYLE_GREEN), term_normal(stdout), o->version);
        if (c->host)
                printf("on %s\n", c->host);
        else
                puts(client_is_user(c->client) ? "your own service" : "the system service");
        print_counts(o);
        if (o->capabilities)
                print_capabilities(o->capabilities);
        else {
                term_label("QEMU");
                term_print(stdout, error_message(o->error));
                putchar('\n');
        }
        print_broken(&o->broken);
}

static void write_overview(JsonWriter *w, const Overview *o) {
        json_write_object(w);
        json_put_string(w, "Version", o->version);
        json_write_key(w, "States");
        json_write_object(w);
        for (size_t i = 0; i < ELEMENTSOF(states); i++)
                json_put_unsigned(w, states[i], o->counts[i]);
        json_write_end(w);
        json_write_key(w, "Capabilities");
        if (o->capabilities)
                json_write_value(w, o->capabilities);
        else
                json_write_null(w);
        write_broken(w, &o->broken);
        json_write_end(w);
}

int overview_show(Ctl *c, JsonWriter *json) {
        _cleanup_(overview_done) Overview o = {};
        int r;

        r = overview_fetch(c, &o);
        if (r != 0)
                return r;
        if (json)
                write_overview(json, &o);
        else
                print_overview(c, &o);
        return 0;
}

int verb_capabilities(Ctl *c, const Args *args) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;
        _cleanup_json_ Json *capabilities = NULL;
        int r;

        r = ctl_connect(c);
        if (r != 0)
                return r;
        r = fetch_capabilities(c, &capabilities, &error);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to ask what the host can do");
        if (!c->json) {
                print_capabilities(capabilities);
                return 0;
        }
        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_value(w, capabilities);
        return json_print(w);
}
