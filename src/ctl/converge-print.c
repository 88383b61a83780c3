/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "converge-print.h"
#include "json-print.h"
#include "term.h"

static const char *const converge_effect_table[] = {
        [CONVERGE_LIVE] = "live",
        [CONVERGE_STOPPED] = "restart",
        [CONVERGE_REBUILD] = "reload",
};
_Static_assert(ELEMENTSOF(converge_effect_table) == _CONVERGE_EFFECT_MAX, "an effect has no name");

/* Whether the plan makes it so. */
static bool is_applied(const ConvergePlan *p, const ConvergeChange *c) {
        return c->effect == CONVERGE_LIVE || (c->effect == CONVERGE_STOPPED && !p->runs);
}

static void print_value(FILE *stream, const char *value) {
        if (*value == '\0')
                (void)fputs("nothing", stream);
        else
                term_print(stream, value);
}

static void print_change(FILE *stream, const ConvergeChange *c) {
        (void)fprintf(stream, "%s: ", c->name);
        print_value(stream, c->from);
        (void)fputs(" → ", stream);
        print_value(stream, c->to);
}

static void print_changes(const ConvergePlan *p, ConvergeEffect most) {
        for (size_t i = 0; i < p->n_changes; i++)
                if (p->changes[i].key && p->changes[i].effect <= most) {
                        (void)fputs("  set ", stdout);
                        print_change(stdout, &p->changes[i]);
                        (void)fputs("\n", stdout);
                }
}

static void print_action(const ConvergeItem *item, ConvergeAction a) {
        const VmfileVm *vm = item->vm;

        switch (a) {
        case CONVERGE_PULL:
                (void)fputs("  pull ", stdout);
                term_print(stdout, vm->image_url);
                (void)fputs(", unless it is stored\n", stdout);
                break;
        case CONVERGE_CREATE:
                (void)fputs("  create from ", stdout);
                term_print(stdout, vm->image_url ?: vm->image ?: vm->kernel);
                (void)fputs("\n", stdout);
                break;
        case CONVERGE_SET_LIMITS:
                print_changes(&item->plan, CONVERGE_LIVE);
                break;
        case CONVERGE_UPDATE:
                print_changes(&item->plan, CONVERGE_STOPPED);
                break;
        case CONVERGE_PROVISION:
                printf("  provision: %zu of %zu step%s\n", item->plan.n_steps, vm->n_steps,
                                vm->n_steps == 1 ? "" : "s");
                break;
        case CONVERGE_WAIT:
                printf("  wait until it is ready: %s\n", vmfile_ready_to_string(vm->ready));
                break;
        default:
                printf("  %s\n", converge_action_to_string(a));
        }
}

static void print_left(FILE *stream, const char *before, const ConvergeItem *item) {
        const ConvergePlan *p = &item->plan;

        for (size_t i = 0; i < p->n_changes; i++) {
                const ConvergeChange *c = &p->changes[i];

                if (is_applied(p, c))
                        continue;
                (void)fprintf(stream, "%s%s", before, term_style(stream, STYLE_YELLOW));
                print_change(stream, c);
                (void)fprintf(stream, "%s %s\n", term_normal(stream),
                                c->effect == CONVERGE_REBUILD
                                                ? "needs a new VM: 'vmctl reload'"
                                                : "needs a restart: 'vmctl down', then 'vmctl up'");
        }
        if (p->n_left > 0)
                (void)fprintf(stream, "%s%zu step%s changed: 'vmctl provision --changed' runs %s\n", before,
                                p->n_left, p->n_left == 1 ? " has" : "s have",
                                p->n_left == 1 ? "it" : "them");
}

void converge_print_plan(const ConvergeItem *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                const ConvergePlan *p = &items[i].plan;

                printf("%s%s%s:\n", term_style(stdout, STYLE_BOLD), items[i].vm->name, term_normal(stdout));
                for (size_t k = 0; k < p->n_actions; k++)
                        print_action(&items[i], p->actions[k]);
                if (p->n_actions == 0)
                        printf("  nothing to do%s%s\n", p->note ? ": " : "", p->note ?: "");
                print_left(stdout, "  ", &items[i]);
        }
}

void converge_print_left(const ConvergeItem *items, size_t n) {
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *before = strf("%s: ", items[i].vm->name);

                print_left(stderr, before ?: "", &items[i]);
        }
}

static void write_plan(JsonWriter *w, const ConvergePlan *p) {
        json_write_key(w, "Actions");
        json_write_array(w);
        for (size_t i = 0; i < p->n_actions; i++)
                json_write_string(w, converge_action_to_string(p->actions[i]));
        json_write_end(w);
        json_write_key(w, "Changes");
        json_write_array(w);
        for (size_t i = 0; i < p->n_changes; i++) {
                const ConvergeChange *c = &p->changes[i];

                json_write_object(w);
                json_put_string(w, "Name", c->name);
                json_put_string(w, "From", c->from);
                json_put_string(w, "To", c->to);
                json_put_string(w, "Needs", is_applied(p, c) ? NULL : converge_effect_table[c->effect]);
                json_write_end(w);
        }
        json_write_end(w);
        json_put_unsigned(w, "Steps", p->n_steps);
        json_put_unsigned(w, "StepsLeft", p->n_left);
}

static void write_item(JsonWriter *w, const ConvergeItem *i, bool done) {
        _cleanup_free_ char *path = client_vm_path(i->vm->name);

        json_write_object(w);
        json_put_string(w, "Name", i->vm->name);
        json_put_string(w, "Object", path);
        write_plan(w, &i->plan);
        if (done)
                json_put_string(w, "Result", converge_result_to_string(i->result));
        if (done && i->error)
                json_put_error(w, i->error);
        json_write_end(w);
}

int converge_print_json(const ConvergeItem *items, size_t n, bool done) {
        _cleanup_(json_writer_freep) JsonWriter *w = NULL;

        if (json_writer_new(JSON_WRITER_PRETTY, &w) < 0)
                return ctl_oom();
        json_write_array(w);
        for (size_t i = 0; i < n; i++)
                write_item(w, &items[i], done);
        json_write_end(w);
        return json_print(w);
}
