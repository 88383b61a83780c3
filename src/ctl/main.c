/* SPDX-License-Identifier: GPL-2.0-or-later */
/* vmctl: the client of vmctld on the command line. args.h says how the line is read, verbs.c what there is,
 * and each verb-*.c does a family of verbs. */

#include <locale.h>
#include <stdio.h>

#include "help.h"
#include "remote.h"
#include "util/log.h"
#include "verbs.h"

static int usage_error(const Args *args, const Error *e) {
        _cleanup_free_ char *hint = args && args->verb
                        ? strf("'vmctl %s --help' tells more.", args->verb->name)
                        : strdup("'vmctl --help' tells more.");

        ctl_complain(hint, "%s", error_message(e));
        return EXIT_USAGE;
}

static int read_globals(Ctl *c, const Args *args, Error **reterr) {
        bool system = args_get_global(args, "system"), user = args_get_global(args, "user");

        c->host = args_get_global(args, "host");
        c->json = args_get_global(args, "json");
        c->ask_password = !args_get_global(args, "no-ask-password");
        c->choice = user ? CLIENT_BUS_USER : system ? CLIENT_BUS_SYSTEM : CLIENT_BUS_AUTO;
        if (user && system)
                return error_set(reterr, ERROR_INVALID_SPEC, "--user and --system exclude each other");
        if (user && c->host)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "--host reaches the system service alone, not --user");
        return 0;
}

static int run(Ctl *c, const Args *args) {
        _cleanup_error_ Error *e = NULL;

        if (args_get_global(args, "version")) {
                puts("vmctl " VMCTL_VERSION);
                return 0;
        }
        if (args_get_global(args, "help")) {
                help_print(args->verb);
                return 0;
        }
        if (!args->verb) {
                (void)error_set(&e, ERROR_INVALID_SPEC, "No verb was given");
                return usage_error(args, e);
        }
        if (args_check_words(args, &e) < 0 || read_globals(c, args, &e) < 0)
                return usage_error(args, e);
        if (c->host && args->verb->flags & VERB_RELAY)
                return remote_exec(c, args);
        return args->verb->run(c, args);
}

int main(int argc, char *argv[]) {
        _cleanup_(args_done) Args args = {};
        _cleanup_(ctl_done) Ctl c = {};
        _cleanup_error_ Error *e = NULL;
        int r;

        (void)setlocale(LC_TIME, "");
        log_open("vmctl", LOG_INFO);
        r = args_parse(verbs, global_options, argc, argv, &args, &e);
        if (r < 0)
                return usage_error(&args, e);
        r = run(&c, &args);
        if (fflush(stdout) != 0 || ferror(stdout)) {
                ctl_complain(NULL, "Failed to write the output: %s", strerror(errno));
                r = r == 0 ? -EIO : r;
        }
        return r < 0 ? EXIT_FAILURE : r;
}
