/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <unistd.h>

#include "broken.h"
#include "json-print.h"
#include "list.h"
#include "table.h"
#include "verbs.h"

int vm_list_fetch(Ctl *c, sd_bus_message **ret) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *m = NULL;
        _cleanup_error_ Error *error = NULL;
        int r;

        r = ctl_new_call(c, VMCTL_MANAGER_PATH, VMCTL_MANAGER, "ListVMs", &m);
        if (r != 0)
                return r;
        r = client_call(c->client, m, 0, ret, &error);
        return r < 0 ? ctl_report(c, error, r, "Failed to list VMs") : 0;
}

int vm_list_begin(sd_bus_message *reply) {
        return sd_bus_message_enter_container(reply, 'a', "(sossusutsuqta{sv})");
}

int vm_list_next(sd_bus_message *reply, ListedVM *ret) {
        int r;

        r = sd_bus_message_enter_container(reply, 'r', "sossusutsuqta{sv}");
        if (r <= 0)
                return r;
        r = sd_bus_message_read(reply, "sossusutsuqt", &ret->name, &ret->path, &ret->state, &ret->failure,
                        &ret->owner, &ret->backend, &ret->vcpus, &ret->memory, &ret->network, &ret->pid,
                        &ret->ssh_port, &ret->started_usec);
        if (r >= 0)
                r = sd_bus_message_skip(reply, "a{sv}");
        if (r >= 0)
                r = sd_bus_message_exit_container(reply);
        return r < 0 ? r : 1;
}

/* Which VMs to show, and what the table needs to know of all before it can print the first. */
typedef struct Listing {
        ListedVM *vms;
        size_t n, n_running;
        BrokenList broken;
        bool show_owner;
        uid_t last_uid; /* the owner's name is looked up once, not for each VM */
        char last_user[32];
} Listing;

static void listing_done(Listing *l) {
        free(l->vms);
        broken_list_done(&l->broken);
}

/* Whether one of the words, which `separator` stands between, is this. */
static bool has_word(const char *words, char separator, const char *word, size_t len) {
        const char *end;

        for (const char *w = words; w; w = *end ? end + 1 : NULL) {
                end = strchrnul(w, separator);
                if ((size_t)(end - w) == len && strncmp(w, word, len) == 0)
                        return true;
        }
        return false;
}

/* `states` is a list with commas. A slip in it would be shown as an empty list. */
static int check_states(const Args *args, const char *states) {
        const char *known = verb_option(args->verb, "state")->words, *end;

        for (const char *s = states; s; s = *end ? end + 1 : NULL) {
                end = strchrnul(s, ',');
                if (has_word(known, ' ', s, (size_t)(end - s)))
                        continue;
                ctl_complain("'vmctl list --help' tells more.", "There is no state '%.*s'; there are: %s",
                                (int)(end - s), s, known);
                return EXIT_USAGE;
        }
        return 0;
}

static int listing_read(Listing *l, Ctl *c, sd_bus_message *reply, const char *states) {
        uid_t usual = getuid();
        size_t allocated = 0;
        ListedVM vm;
        int r;

        r = vm_list_begin(reply);
        if (r < 0)
                return r;
        while ((r = vm_list_next(reply, &vm)) > 0) {
                if (states && !has_word(states, ',', vm.state, strlen(vm.state)))
                        continue;
                if (l->n == allocated) {
                        ListedVM *grown;

                        allocated = MAX(allocated * 2, (size_t)64);
                        grown = reallocarray(l->vms, allocated, sizeof(ListedVM));
                        if (!grown)
                                return -ENOMEM;
                        l->vms = grown;
                }
                if (c->host && l->n == 0)
                        usual = vm.owner; /* who the caller is there, nobody knows here */
                l->show_owner |= vm.owner != usual;
                l->n_running += streq(vm.state, "running");
                l->vms[l->n++] = vm;
        }
        return r;
}

static const char *owner_name(Listing *l, const Ctl *c, uid_t uid) {
        const struct passwd *pw;

        if (l->last_user[0] != '\0' && l->last_uid == uid)
                return l->last_user;
        pw = c->host ? NULL : getpwuid(uid); /* another host has other users */
        if (pw)
                (void)snprintf(l->last_user, sizeof(l->last_user), "%s", pw->pw_name);
        else
                (void)snprintf(l->last_user, sizeof(l->last_user), "%u", uid);
        l->last_uid = uid;
        return l->last_user;
}

static int add_number(Table *t, uint64_t n) {
        return n == 0 ? table_add(t, NULL, STYLE_NONE) : table_addf(t, "%" PRIu64, n);
}

static int add_row(Listing *l, const Ctl *c, Table *t, const ListedVM *vm) {
        int r;

        r = table_add(t, vm->name, STYLE_NONE);
        if (r >= 0)
                r = table_add(t, vm->backend, STYLE_NONE);
        if (r >= 0)
                r = add_number(t, vm->vcpus);
        if (r >= 0)
                r = add_number(t, vm->memory / MIB);
        if (r >= 0)
                r = table_add(t, vm->network, STYLE_NONE);
        if (r >= 0)
                r = add_number(t, vm->pid);
        if (r >= 0)
                r = add_number(t, vm->ssh_port);
        if (r >= 0)
                r = table_add(t, vm->state, style_of_state(vm->state));
        if (r >= 0 && l->show_owner)
                r = table_add(t, owner_name(l, c, vm->owner), STYLE_NONE);
        return r;
}

static int add_broken_row(const Listing *l, Table *t, const BrokenRecord *b) {
        size_t unknown = 6;
        int r;

        r = table_add(t, b->name, STYLE_NONE);
        while (r >= 0 && unknown-- > 0)
                r = table_add(t, NULL, STYLE_NONE);
        if (r >= 0)
                r = table_add(t, "broken", style_of_state("broken"));
        if (r >= 0 && l->show_owner)
                r = table_add(t, NULL, STYLE_NONE);
        return r;
}

static int print_table(Listing *l, const Ctl *c) {
        static const Column columns[] = {
                { "NAME", .shrink = true },
                { "BACKEND" },
                { "VCPUS", .right = true },
                { "MEM", .right = true },
                { "NETWORK" },
                { "PID", .right = true },
                { "SSH", .right = true },
                { "STATE" },
                { "OWNER" },
        };
        _cleanup_(table_freep) Table *t = NULL;

        t = table_new(columns, ELEMENTSOF(columns) - !l->show_owner, l->n + l->broken.n);
        if (!t)
                return ctl_oom();
        for (size_t i = 0; i < l->n; i++)
                if (add_row(l, c, t, &l->vms[i]) < 0)
                        return ctl_oom();
        for (size_t i = 0; i < l->broken.n; i++)
                if (add_broken_row(l, t, &l->broken.records[i]) < 0)
                        return ctl_oom();
        table_print(t, stdout, term_columns());
        if (term_is_tty(stdout))
                printf("\n%zu VM%s, %zu running.\n", l->n, l->n == 1 ? "" : "s", l->n_running);
        fflush(stdout); /* the reasons stand below */
        for (size_t i = 0; i < l->broken.n; i++)
                broken_complain(c, &l->broken.records[i]);
        return 0;
}

/* A part of what `status --json` prints, under the same names. */
static void write_vm(JsonWriter *w, const ListedVM *vm) {
        json_write_object(w);
        json_put_string(w, "Name", vm->name);
        json_put_string(w, "Object", vm->path);
        json_put_string(w, "State", vm->state);
        json_put_string(w, "FailureReason", vm->failure);
        json_put_unsigned(w, "Owner", vm->owner);
        json_put_string(w, "Backend", vm->backend);
        json_write_key(w, "Spec");
        json_write_object(w);
        json_put_unsigned(w, "vcpus", vm->vcpus);
        json_put_unsigned(w, "memory", vm->memory);
        json_put_string(w, "network", vm->network);
        json_write_end(w);
        json_put_unsigned(w, "PID", vm->pid);
        json_put_unsigned(w, "SSHPort", vm->ssh_port);
        json_put_unsigned(w, "StartedAt", vm->started_usec);
        json_write_end(w);
}

static int print_json(const Listing *l) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_array(w);
        for (size_t i = 0; i < l->n; i++)
                write_vm(w, &l->vms[i]);
        for (size_t i = 0; i < l->broken.n; i++)
                broken_write(w, &l->broken.records[i]);
        json_write_end(w);
        return json_print(w);
}

int verb_list(Ctl *c, const Args *args) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        const char *states = args_get(args, "state");
        bool quiet = args_has(args, "quiet") && !c->json;
        _cleanup_(listing_done) Listing l = {};
        int r;

        r = check_states(args, states);
        if (r == 0)
                r = vm_list_fetch(c, &reply);
        if (r != 0)
                return r;
        r = listing_read(&l, c, reply, states);
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to read the list of VMs");
        /* A script that takes names can do nothing with these, unless it wants them. */
        if (states ? has_word(states, ',', "broken", strlen("broken")) : !quiet)
                r = broken_list_fetch(c, "vm", &l.broken);
        if (r != 0)
                return r;
        if (c->json)
                return print_json(&l);
        if (!quiet)
                return print_table(&l, c);
        for (size_t i = 0; i < l.n; i++)
                puts(l.vms[i].name);
        for (size_t i = 0; i < l.broken.n; i++)
                puts(l.broken.records[i].name);
        return 0;
}
