/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Verbs that make the VMs of a project what its VMFile says: up, down, reload, provision. All is planned
 * before anything is done, so that a mistake anywhere changes nothing. */

#include <stdio.h>

#include "converge-load.h"
#include "converge-print.h"
#include "term.h"
#include "text.h"
#include "verbs.h"

#define STOP_DEFAULT_USEC (30 * USEC_PER_SEC)

typedef struct Up {
        Ctl *ctl;
        const Args *args;
        ConvergeSet set;
        ConvergeProvision provision;
        ConvergeOptions options;
} Up;

static void up_done(Up *u) {
        converge_set_done(&u->set);
}

/* Not each of these verbs has each option. */
static const char *option(const Args *args, const char *name) {
        return verb_option(args->verb, name) ? args_get(args, name) : NULL;
}

static int usage(const Args *args, const char *message) {
        _cleanup_free_ char *hint = strf("'vmctl %s --help' lists the options.", args->verb->name);

        ctl_complain(hint, "%s", message);
        return EXIT_USAGE;
}

static int parse_provision(Up *u) {
        const char *when = option(u->args, "provision");
        bool never = option(u->args, "no-provision");

        u->provision = never ? CONVERGE_NEVER : CONVERGE_AUTO;
        if (!when)
                return 0;
        if (never)
                return usage(u->args, "--provision and --no-provision exclude each other");
        u->provision = converge_provision_from_string(when);
        return (int)u->provision < 0
                        ? usage(u->args, "--provision is one of auto, changed, always and never")
                        : 0;
}

static int parse_options(Up *u) {
        const char *timeout = option(u->args, "timeout");
        bool down = streq(u->args->verb->name, "down");
        uint64_t usec = 0;

        u->options.quiet = u->ctl->json;
        if (timeout && (parse_timespan(timeout, &usec) < 0 || usec == 0))
                return usage(u->args, "--timeout needs a time, as '90' or '2min'");
        u->options.stop_timeout_usec = down && timeout ? usec : STOP_DEFAULT_USEC;
        u->options.timeout_usec = down ? 0 : usec;
        return parse_provision(u);
}

/* The words and all of --name. The caller frees the array alone. */
static int take_names(const Args *args, const char ***ret) {
        const char **names = calloc(args->n_uses + args->n_words + 1, sizeof(char *));
        size_t n = 0;

        if (!names)
                return ctl_oom();
        for (size_t i = 0; i < args->n_uses; i++)
                if (streq(args->uses[i].option->name, "name"))
                        names[n++] = args->uses[i].value;
        for (size_t i = 0; i < args->n_words; i++)
                names[n++] = args->words[i];
        *ret = names;
        return 0;
}

static int up_begin(Up *u, Ctl *c, const Args *args, ConvergeLoadFlags flags) {
        _cleanup_free_ const char **names = NULL;
        int r;

        *u = (Up){ .ctl = c, .args = args };
        if (c->host)
                return ctl_complain("Run vmctl there: 'ssh HOST vmctl ...'.",
                                "A VMFile and the files that it names cannot be handed to another host");
        r = parse_options(u);
        if (r == 0)
                r = take_names(args, &names);
        if (r != 0)
                return r;
        if (u->provision == CONVERGE_NEVER)
                flags &= ~(unsigned)CONVERGE_LOAD_STEPS;
        return converge_load(c, option(args, "file"), names, flags, &u->set);
}

static ConvergeHave have_of(const ConvergeItem *i) {
        return (ConvergeHave){ i->properties, i->image_url, i->image_sha256, i->origin_gone, i->user };
}

typedef int (*planner_t)(const Up *u, const ConvergeItem *item, ConvergePlan *ret, Error **reterr);

/* All that can't be done is told, not the first alone. */
static int plan_all(Up *u, planner_t plan) {
        int result = 0;

        for (size_t i = 0; i < u->set.n; i++) {
                ConvergeItem *item = &u->set.items[i];
                _cleanup_error_ Error *e = NULL;
                int r;

                converge_plan_done(&item->plan);
                r = plan(u, item, &item->plan, &e);
                if (r < 0)
                        result = ctl_complain(error_code_hint(error_code(e)), "%s", error_message(e));
        }
        return result;
}

static int plan_up(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        ConvergeHave have = have_of(i);

        return converge_up(&i->want, &have, u->provision, option(u->args, "wait"), ret, reterr);
}

static int plan_anew(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        return converge_up(&i->want, &(ConvergeHave){}, u->provision, option(u->args, "wait"), ret, reterr);
}

static int plan_remove(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        ConvergeHave have = have_of(i);

        return converge_remove(&i->want, &have, ret, reterr);
}

/* Both parts of a reload, to be shown. */
static int plan_reload(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        _cleanup_(converge_plan_done) ConvergePlan rest = {};
        int r;

        r = plan_remove(u, i, ret, reterr);
        if (r >= 0)
                r = plan_anew(u, i, &rest, reterr);
        if (r < 0)
                return r;
        for (size_t k = 0; k < rest.n_actions; k++)
                ret->actions[ret->n_actions++] = rest.actions[k];
        ret->n_steps = rest.n_steps;
        return 0;
}

static int plan_down(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        ConvergeHave have = have_of(i);

        return converge_down(&i->want, &have, option(u->args, "destroy"), ret, reterr);
}

static int plan_provision(const Up *u, const ConvergeItem *i, ConvergePlan *ret, Error **reterr) {
        ConvergeHave have = have_of(i);

        return converge_provision(&i->want, &have, option(u->args, "changed"), ret, reterr);
}

/* Who has something to do begins when those it depends on are ready, not just running. */
static void wait_for_needed(ConvergeSet *s) {
        for (size_t i = 0; i < s->n; i++)
                for (size_t k = 0; s->items[i].plan.n_actions > 0 && k < s->items[i].n_after; k++) {
                        ConvergeItem *needed = &s->items[s->items[i].after[k]];

                        converge_add_wait(&needed->plan, needed->vm);
                }
}

static int print_plan(const Up *u) {
        if (u->ctl->json)
                return converge_print_json(u->set.items, u->set.n, false);
        converge_print_plan(u->set.items, u->set.n);
        return 0;
}

/* Of several outcomes the worst. */
static int status_of(const ConvergeSet *s) {
        int status = 0;

        for (size_t i = 0; i < s->n; i++)
                switch (s->items[i].result) {
                case CONVERGE_DONE:
                        break;
                case CONVERGE_TIMED_OUT:
                        status = status == EXIT_FAILURE ? status : EXIT_TIMED_OUT;
                        break;
                case CONVERGE_LEFT: /* that for which it was left tells */
                        status = status == 0 ? EXIT_FAILURE : status;
                        break;
                default:
                        status = EXIT_FAILURE;
                }
        return status;
}

static int tell_interrupted(const Up *u, int sig) {
        _cleanup_free_ char *hint = strf("'vmctl %s' goes on from here.",
                        streq(u->args->verb->name, "reload") ? "up" : u->args->verb->name);

        ctl_complain(hint, "Canceled");
        return 128 + sig;
}

static int up_run(Up *u) {
        int r;

        r = converge_run(u->ctl, u->set.items, u->set.n, &u->options);
        if (r < 0)
                return r;
        return r > 0 ? tell_interrupted(u, r) : status_of(&u->set);
}

static int up_end(Up *u, int status) {
        int r = 0;

        if (u->ctl->json)
                r = converge_print_json(u->set.items, u->set.n, true);
        else
                converge_print_left(u->set.items, u->set.n);
        return status != 0 ? status : r;
}

/* Makes plans, and does what they say or only prints them. */
static int up_do(Up *u, planner_t plan, bool reverse) {
        int r;

        r = plan_all(u, plan);
        if (r == 0)
                r = converge_order(&u->set, reverse);
        if (r != 0)
                return r;
        if (!reverse)
                wait_for_needed(&u->set);
        return option(u->args, "plan") ? print_plan(u) : up_end(u, up_run(u));
}

int verb_up(Ctl *c, const Args *args) {
        _cleanup_(up_done) Up u = {};
        _cleanup_free_ char *path = NULL;
        int r;

        r = up_begin(&u, c, args, CONVERGE_LOAD_FILES | CONVERGE_LOAD_STEPS);
        if (r == 0)
                r = up_do(&u, plan_up, false);
        if (r != 0 || u.set.n != 1 || option(args, "plan"))
                return r;
        path = client_vm_path(u.set.items[0].vm->name);
        if (path && converge_has(&u.set.items[0].plan, CONVERGE_START))
                ctl_print_warnings(c, path, NULL);
        return 0;
}

int verb_down(Ctl *c, const Args *args) {
        _cleanup_(up_done) Up u = {};
        int r;

        r = up_begin(&u, c, args, 0);
        return r != 0 ? r : up_do(&u, plan_down, true);
}

int verb_provision(Ctl *c, const Args *args) {
        _cleanup_(up_done) Up u = {};
        int r;

        r = up_begin(&u, c, args, CONVERGE_LOAD_FILES | CONVERGE_LOAD_STEPS);
        return r != 0 ? r : up_do(&u, plan_provision, false);
}

/* What was to go is gone; what wasn't stays as it is. */
static int reload_rest(Up *u) {
        int r;

        r = plan_all(u, plan_anew);
        if (r == 0)
                r = converge_order(&u->set, false);
        if (r != 0)
                return r;
        wait_for_needed(&u->set);
        return up_run(u);
}

int verb_reload(Ctl *c, const Args *args) {
        _cleanup_(up_done) Up u = {};
        int r;

        r = up_begin(&u, c, args, CONVERGE_LOAD_FILES | CONVERGE_LOAD_STEPS);
        if (r == 0)
                r = plan_all(&u, plan_reload); /* nothing is destroyed that could not be made again */
        if (r != 0)
                return r;
        if (option(args, "plan"))
                return print_plan(&u);
        r = plan_all(&u, plan_remove);
        if (r == 0)
                r = converge_order(&u.set, true);
        if (r != 0)
                return r;
        r = up_run(&u);
        if (r >= 0 && r < 128)
                r = reload_rest(&u);
        return up_end(&u, r);
}
