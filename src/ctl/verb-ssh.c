/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "list.h"
#include "ssh-target.h"
#include "ssh-wait.h"
#include "term.h"
#include "verbs.h"

/* What ssh is to be called with. */
typedef struct SshCall {
        const char *name; /* borrowed, or `only` */
        char *only;
        SshTarget target;
        char **argv;
        const char *const *command; /* borrowed; NULL-terminated */
} SshCall;

static void ssh_call_done(SshCall *s) {
        free(s->only);
        ssh_target_done(&s->target);
        strv_free(s->argv);
}

/* The only VM there is, or an error that names those there are. */
static int choose_only(Ctl *c, SshCall *s) {
        _cleanup_(sd_bus_message_unrefp) sd_bus_message *reply = NULL;
        _cleanup_strv_ char **names = NULL;
        ListedVM vm;
        int r;

        r = vm_list_fetch(c, &reply);
        if (r != 0)
                return r;
        r = vm_list_begin(reply);
        while (r >= 0 && (r = vm_list_next(reply, &vm)) > 0)
                if (vm.owner == getuid() || client_is_user(c->client))
                        r = strv_extend(&names, vm.name);
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to read the list of VMs");
        if (strv_length(names) == 1) {
                s->name = s->only = TAKE_PTR(names[0]);
                return 0;
        }
        if (!names)
                ctl_complain("'vmctl create' makes one.", "You have no VM to log in to");
        else {
                _cleanup_free_ char *list = strdup("");

                STRV_FOREACH(n, names) {
                        _cleanup_free_ char *longer = list ? strf("%s%s%s", list, *list ? ", " : "", *n)
                                                           : NULL;

                        free(list);
                        list = TAKE_PTR(longer);
                }
                ctl_complain("Name it: 'vmctl ssh NAME'.", "You have several VMs: %s", list ?: "");
        }
        return EXIT_USAGE;
}

static int add_option(SshCall *s, const char *option) {
        int r;

        r = strv_extend(&s->argv, "-o");
        return r < 0 ? r : strv_extend(&s->argv, option);
}

static int build_argv(SshCall *s, const Args *args) {
        _cleanup_strv_ char **options = NULL;
        int r;

        r = ssh_target_options(&s->target, args_get(args, "user"), args_get(args, "key"), &options);
        if (r >= 0)
                r = strv_extend(&s->argv, "ssh");
        for (size_t i = 0; r >= 0 && i < args->n_uses; i++)
                if (streq(args->uses[i].option->name, "option"))
                        r = add_option(s, args->uses[i].value); /* ssh takes the first it sees */
        STRV_FOREACH(option, options)
                if (r >= 0)
                        r = add_option(s, *option);
        if (r >= 0)
                r = strv_extend(&s->argv, "--");
        if (r >= 0)
                r = strv_extend(&s->argv, "127.0.0.1");
        STRV_FOREACH(word, (char *const *)s->command)
                if (r >= 0)
                        r = strv_extend(&s->argv, *word);
        return r;
}

static int connect_to(Ctl *c, SshCall *s, const Args *args) {
        uint64_t timeout;
        int r;

        r = ssh_target_find(c, s->name, &s->target);
        if (r == 0)
                r = ssh_target_timeout(&s->target, args_get(args, "timeout"), &timeout);
        if (r == 0)
                r = ssh_wait(c, s->name, s->target.path, s->target.port, now_monotonic() + timeout);
        if (r != 0)
                return r;
        r = build_argv(s, args);
        if (r < 0)
                return ctl_report(c, NULL, r, "Failed to log in to VM '%s'", s->name);
        ctl_done(c); /* nothing of ours but the terminal goes on */
        (void)execvp("ssh", s->argv);
        return ctl_complain("Install an OpenSSH client.", "Failed to run ssh: %s", strerror(errno));
}

int verb_ssh(Ctl *c, const Args *args) {
        _cleanup_(ssh_call_done) SshCall s = { .name = args_get(args, "name"), .command = args->words };
        int r = 0;

        if (!s.name && args->n_words > 0)
                s.name = *s.command++;
        if (!s.name) {
                r = ctl_connect(c);
                if (r == 0)
                        r = choose_only(c, &s);
        }
        return r != 0 ? r : connect_to(c, &s, args);
}
