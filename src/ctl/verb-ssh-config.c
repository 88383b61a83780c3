/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "ssh-config.h"
#include "ssh-install.h"
#include "verbs.h"

static int print(Ctl *c, const Args *args) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = ssh_config_text(c, args->words, args->n_words, &text);
        if (r == 0)
                (void)fputs(text, stdout);
        return r;
}

static int update(Ctl *c) {
        int r;

        r = ssh_update(c);
        if (r != -ENOENT)
                return r;
        return ctl_complain("'vmctl ssh-config --install' does that.",
                        "ssh's configuration does not include that of your VMs");
}

int verb_ssh_config(Ctl *c, const Args *args) {
        bool i = args_has(args, "install"), u = args_has(args, "uninstall"),
             renew = args_has(args, "update");

        if (i + u + renew > 1 || (args->n_words > 0 && i + u + renew > 0)) {
                ctl_complain("'vmctl ssh-config --help' tells more.",
                                "--install, --uninstall, --update and names exclude each other");
                return EXIT_USAGE;
        }
        if (c->host)
                return ctl_complain("Run it there: 'ssh HOST vmctl ssh-config'.",
                                "Ports and keys of another host's VMs are of no use here");
        if (i)
                return ssh_install(c);
        if (u)
                return ssh_uninstall(c);
        return renew ? update(c) : print(c, args);
}
