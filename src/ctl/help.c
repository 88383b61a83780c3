/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "help.h"
#include "term.h"
#include "text.h"
#include "util/string-util.h"
#include "verbs.h"

#define INDENT 2
#define HELP_COLUMN 31
#define LINE_WIDTH 78

static void print_heading(const char *text) {
        printf("\n%s%s%s\n", term_style(stdout, STYLE_BOLD), text, term_normal(stdout));
}

/* The left part in its column, the help beside it, or on a line of its own where there is no room. */
static void print_entry(const char *left, const char *help) {
        if (text_width(left) + 2 > HELP_COLUMN - INDENT)
                printf("%*s%s\n%*s%s\n", INDENT, "", left, HELP_COLUMN, "", help);
        else
                printf("%*s%-*s%s\n", INDENT, "", HELP_COLUMN - INDENT, left, help);
}

static void print_option(const Option *o) {
        char left[80], letter[] = "-x, ";

        letter[1] = o->letter;
        (void)snprintf(left, sizeof(left), "%s--%s%s%s", o->letter ? letter : "    ", o->name,
                        o->argument ? " " : "", o->argument ?: "");
        print_entry(left, o->help);
}

static void print_options(const Option *options) {
        OPTION_FOREACH(o, options)
                print_option(o);
}

static void print_wrapped(const char *text) {
        size_t column = 0;

        for (const char *word = text; *word;) {
                size_t len = strcspn(word, " ");

                if (column > 0 && column + 1 + len > LINE_WIDTH) {
                        putchar('\n');
                        column = 0;
                }
                if (column > 0)
                        column += (size_t)printf(" ");
                column += (size_t)printf("%.*s", (int)len, word);
                word += len + strspn(word + len, " ");
        }
        putchar('\n');
}

static const char *heading_of(const Verb *v, size_t table) {
        const Option *options = v->options[table];

        return options->limit                                    ? "Limits"
                        : options == pull_options                ? "Downloads"
                        : table == 0 || options == image_options ? "Options"
                                                                 : "Definition";
}

static void print_verbs(const Verb *among) {
        VERB_FOREACH(v, among) {
                char left[80];

                (void)snprintf(left, sizeof(left), "%s%s%s", v->name, v->arguments ? " " : "",
                                v->arguments ?: "");
                print_entry(left, v->help);
        }
}

static void print_family(const Verb *family) {
        printf("vmctl %s VERB [OPTIONS] [ARGUMENTS]\n\n%s.\n", family->name, family->help);
        if (family->details) {
                putchar('\n');
                print_wrapped(family->details);
        }
        print_heading("Verbs");
        print_verbs(family->verbs);
        printf("\n'vmctl %s VERB --help' tells more about a verb.\n", family->name);
}

static void print_verb(const Verb *v) {
        printf("vmctl %s [OPTIONS]%s%s\n\n%s.\n", v->name, isempty(v->arguments) ? "" : " ",
                        v->arguments ?: "", v->help);
        if (v->details) {
                putchar('\n');
                print_wrapped(v->details);
        }
        if (v->alias)
                printf("\nAlias: %.*s%s\n", (int)(verb_word(v) - v->name), v->name, v->alias);
        for (size_t t = 0; t < ELEMENTSOF(v->options) && v->options[t]; t++) {
                if (t == 0 || !streq(heading_of(v, t), heading_of(v, t - 1)))
                        print_heading(heading_of(v, t));
                print_options(v->options[t]);
        }
        print_heading("Options of all verbs");
        print_options(global_options);
}

static void print_overview(void) {
        const char *group = "";

        puts("vmctl [OPTIONS] VERB [ARGUMENTS]\n\nRun virtual machines as systemd runs services.");
        VERB_FOREACH(v, verbs) {
                char left[80];

                if (!streq(v->group, group)) {
                        group = v->group;
                        print_heading(group);
                }
                (void)snprintf(left, sizeof(left), "%s %s", v->name, v->arguments ?: "");
                print_entry(left, v->help);
        }
        print_heading("Options");
        print_options(global_options);
        puts("\n'vmctl VERB --help' tells more about a verb, vmctl(1) about all of them.");
}

void help_print(const Verb *verb) {
        if (verb && verb->verbs)
                print_family(verb);
        else if (verb)
                print_verb(verb);
        else
                print_overview();
}

int verb_help(Ctl *c, const Args *args) {
        const Verb *verb = NULL;

        for (size_t i = 0; i < args->n_words; i++) {
                verb = verb_find(i == 0 ? verbs : verb->verbs, args->words[i]);
                if (!verb) {
                        ctl_complain("'vmctl help' lists the verbs.", "There is no verb '%s%s%s'",
                                        i == 0 ? "" : args->words[0], i == 0 ? "" : " ", args->words[i]);
                        return EXIT_USAGE;
                }
        }
        help_print(verb);
        return 0;
}
