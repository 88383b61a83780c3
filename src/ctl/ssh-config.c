/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "list.h"
#include "spec/vm-spec.h"
#include "ssh-config.h"
#include "ssh-target.h"

/* The slash cannot be in a host's name, so vm/NAME is never anything else. scp and rsync take what a slash
 * stands in for a file, whence the other name. */
static int write_entry(FILE *f, const SshTarget *t) {
        _cleanup_strv_ char **options = NULL;
        int r;

        if (!vm_name_is_valid(t->name))
                return -EINVAL;
        r = ssh_target_options(t, NULL, NULL, &options);
        if (r < 0)
                return r;
        (void)fprintf(f, "\nHost vm/%s %s.vm\n    HostName 127.0.0.1\n", t->name, t->name);
        STRV_FOREACH(option, options) {
                int keyword = (int)strcspn(*option, "=");

                (void)fprintf(f, "    %.*s %s\n", keyword, *option, *option + keyword + 1);
        }
        return 0;
}

static int write_named(Ctl *c, FILE *f, const char *name) {
        _cleanup_(ssh_target_done) SshTarget t = {};
        int r;

        r = ssh_target_find(c, name, &t);
        if (r != 0)
                return r;
        r = write_entry(f, &t);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to describe VM '%s'", name) : 0;
}

/* One that cannot be described is left out: the others' entries are none the worse for it. */
static int write_listed(Ctl *c, FILE *f, const char *name) {
        _cleanup_error_ Error *error = NULL;
        _cleanup_(ssh_target_done) SshTarget t = {};
        int r;

        r = ssh_target_load(c, name, &t, &error);
        if (r < 0)
                return ctl_report(c, error, r, "Failed to describe VM '%s'", name);
        if (!t.vm)
                return 0;
        r = write_entry(f, &t);
        if (r == -ENOMEM)
                return ctl_oom();
        if (r < 0)
                (void)ctl_report(c, NULL, r, "VM '%s' is left out", name);
        return 0;
}

static int write_own(Ctl *c, FILE *f) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        ListedVM vm;
        int r, result = 0;

        r = vm_list_fetch(c, &reply);
        if (r != 0)
                return r;
        r = vm_list_begin(reply);
        while (r >= 0 && result == 0 && (r = vm_list_next(reply, &vm)) > 0)
                if (vm.ssh_port > 0 && (vm.owner == getuid() || client_is_user(c->client)))
                        result = write_listed(c, f, vm.name);
        return r < 0 ? ctl_report(c, NULL, r, "Failed to read the list of VMs") : result;
}

static int write_entries(Ctl *c, FILE *f, const char *const *names, size_t n_names) {
        int r;

        (void)fputs("# Virtual machines, by 'vmctl ssh-config'\n", f);
        if (n_names == 0)
                return write_own(c, f);
        r = 0;
        for (size_t i = 0; r == 0 && i < n_names; i++)
                r = write_named(c, f, names[i]);
        return r;
}

int ssh_config_text(Ctl *c, const char *const *names, size_t n_names, char **ret) {
        _cleanup_free_ char *text = NULL;
        size_t size;
        FILE *f;
        int r;

        r = ctl_connect(c);
        if (r != 0)
                return r;
        f = open_memstream(&text, &size);
        if (!f)
                return ctl_oom();
        r = write_entries(c, f, names, n_names);
        if (fclose(f) != 0 && r == 0)
                r = ctl_oom();
        if (r == 0)
                *ret = TAKE_PTR(text);
        return r;
}
