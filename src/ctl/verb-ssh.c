/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "list.h"
#include "message-json.h"
#include "ssh-wait.h"
#include "term.h"
#include "text.h"
#include "verbs.h"

/* What ssh is to be called with. */
typedef struct SshCall {
        const char *name; /* borrowed, or `only` */
        char *only;
        char *path;
        Json *vm; /* the VM's properties */
        char **argv;
        const char *const *command; /* borrowed; NULL-terminated */
} SshCall;

static void ssh_call_done(SshCall *s) {
        free(s->only);
        free(s->path);
        json_free(s->vm);
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
                if (vm.owner == getuid() || c->bus_is_user)
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

static int fetch_vm(Ctl *c, SshCall *s) {
        _cleanup_(sd_bus_error_free) sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        s->path = ctl_vm_path(s->name);
        if (!s->path)
                return ctl_oom();
        r = ctl_connect(c);
        if (r != 0)
                return r;
        r = ctl_get_vm(c, s->path, &s->vm, &error);
        return r < 0 ? ctl_report(c, &error, r, "Failed to log in to VM '%s'", s->name) : 0;
}

/* "KEYWORD=VALUE" for ssh's -o, where the value is a path: '%' begins an expansion, blanks separate. */
static char *path_option(const char *keyword, const char *path) {
        _cleanup_free_ char *escaped = malloc(strlen(path) * 2 + 1);
        size_t o = 0;

        if (!escaped)
                return NULL;
        for (const char *p = path; *p; p++) {
                if (*p == '%' || *p == '"' || *p == '\\')
                        escaped[o++] = *p == '%' ? '%' : '\\';
                escaped[o++] = *p;
        }
        escaped[o] = '\0';
        return strf("%s=\"%s\"", keyword, escaped);
}

static int add_option(SshCall *s, char *option) {
        int r;

        r = strv_extend(&s->argv, "-o");
        if (r < 0) {
                free(option);
                return r;
        }
        return strv_push(&s->argv, option);
}

/* The order of search: the VM's own key, the one that was named, the usual ones. ssh offers them in the
 * order of its options, so a key that was named is offered also where there is one of the VM. */
static int add_keys(SshCall *s, const char *named) {
        static const char *const usual[] = { "id_ed25519", "id_ecdsa", "id_rsa" };
        const char *own = json_get_string(s->vm, "SSHPrivateKey"), *home = getenv("HOME");
        int r = 0;

        if (!isempty(own) && access(own, R_OK) < 0)
                own = NULL; /* somebody else's */
        if (!isempty(own))
                r = add_option(s, path_option("IdentityFile", own));
        if (r >= 0 && named)
                r = add_option(s, path_option("IdentityFile", named));
        if (!isempty(own) || named)
                /* else sshd may count an agent's keys as failures before it sees this one */
                return r < 0 ? r : add_option(s, strdup("IdentitiesOnly=yes"));
        for (size_t i = 0; r >= 0 && home && i < ELEMENTSOF(usual); i++) {
                _cleanup_free_ char *path = strf("%s/.ssh/%s", home, usual[i]);

                if (!path)
                        return -ENOMEM;
                if (access(path, R_OK) >= 0)
                        r = add_option(s, path_option("IdentityFile", path));
        }
        return r;
}

/* The guest's host key is pinned at the first contact, in the VM's folder: a VM that was destroyed and made
 * anew has a new one. Who may use the VM but not write there keeps it among his own, under the VM's UUID. */
static int add_host_key(SshCall *s) {
        const char *known_hosts = json_get_string(s->vm, "SSHKnownHosts"),
                   *uuid = json_get_string(s->vm, "UUID");
        bool own = !isempty(known_hosts) && access(known_hosts, W_OK) >= 0;
        int r;

        r = add_option(s, strf("HostKeyAlias=vmctl-%s", own || isempty(uuid) ? s->name : uuid));
        if (r >= 0 && own)
                r = add_option(s, path_option("UserKnownHostsFile", known_hosts));
        return r < 0 ? r : add_option(s, strdup("StrictHostKeyChecking=accept-new"));
}

static int build_argv(SshCall *s, const Args *args, uint64_t port) {
        const char *user = args_get(args, "user") ?: json_get_string(s->vm, "SSHUser");
        int r;

        r = strv_extend(&s->argv, "ssh");
        for (size_t i = 0; r >= 0 && i < args->n_uses; i++)
                if (streq(args->uses[i].option->name, "option"))
                        r = add_option(s, strdup(args->uses[i].value)); /* ssh takes the first it sees */
        if (r >= 0)
                r = add_option(s, strf("Port=%" PRIu64, port));
        if (r >= 0)
                r = add_option(s, strf("User=%s", isempty(user) ? "vm" : user));
        if (r >= 0)
                r = add_keys(s, args_get(args, "key"));
        if (r >= 0)
                r = add_host_key(s);
        if (r >= 0)
                r = strv_extend(&s->argv, "--");
        if (r >= 0)
                r = strv_extend(&s->argv, "127.0.0.1");
        STRV_FOREACH(word, (char *const *)s->command)
                if (r >= 0)
                        r = strv_extend(&s->argv, *word);
        return r;
}

/* A guest that was started a moment ago is given more time. */
static int wait_for_greeting(Ctl *c, SshCall *s, const Args *args, uint64_t port) {
        const char *text = args_get(args, "timeout");
        uint64_t started = 0, timeout, now = now_realtime();

        (void)json_get_unsigned(s->vm, "StartedAt", &started);
        timeout = now - MIN(started, now) < SSH_WAIT_BOOT_USEC ? SSH_WAIT_BOOT_USEC : SSH_WAIT_USEC;
        if (text && parse_timespan(text, &timeout) < 0) {
                ctl_complain(NULL, "'%s' is no time", text);
                return EXIT_USAGE;
        }
        return ssh_wait(c, s->name, s->path, (uint16_t)port, now_monotonic() + timeout);
}

static int connect_to(Ctl *c, SshCall *s, const Args *args) {
        uint64_t port = 0;
        int r;

        r = fetch_vm(c, s);
        if (r != 0)
                return r;
        if (json_get_unsigned(s->vm, "SSHPort", &port) < 0 || port == 0)
                return ctl_complain("Its network is 'none'; 'vmctl console' needs no network.",
                                "VM '%s' cannot be reached by ssh", s->name);
        r = wait_for_greeting(c, s, args, port);
        if (r != 0)
                return r;
        if (build_argv(s, args, port) < 0)
                return ctl_oom();
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
