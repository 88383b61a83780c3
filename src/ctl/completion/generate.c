/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fills the tables of verbs and options into a shell's completion: generate bash|zsh|fish TEMPLATE. Part of
 * the build, so that nothing that vmctl knows is missing there. */

#include <stdio.h>

#include "ctl/verbs.h"

#define MARK "@TABLES@\n"
#define FISH "complete --command vmctl"

/* What goes into single quotes; the bytes in `escape` get a backslash, which zsh wants in places. */
static void quote_part(const char *s, const char *escape) {
        for (; *s; s++)
                if (*s == '\'')
                        fputs("'\\''", stdout);
                else
                        printf("%s%c", strchr(escape, *s) ? "\\" : "", *s);
}

static void quote(const char *s) {
        putchar('\'');
        quote_part(s, "");
        putchar('\'');
}

/* Words that can be completed: all of them, or the first, behind which stands what only the guest knows. A
 * family's verb is its one word. */
static size_t most_words(const Verb *v) {
        return v->max_words == SIZE_MAX && !(v->flags & VERB_COMMAND) ? 9999 : v->words || v->verbs ? 1 : 0;
}

/* Calls `emit` with each name of each verb: with its alias in place of its last word, too. */
static void for_each_name_of(const Verb *among, void (*emit)(const Verb *v, const char *name)) {
        VERB_FOREACH(v, among) {
                char alias[64];

                emit(v, v->name);
                (void)snprintf(alias, sizeof(alias), "%.*s%s", (int)(verb_word(v) - v->name), v->name,
                                v->alias ?: "");
                if (v->alias)
                        emit(v, alias);
        }
}

static void for_each_name(void (*emit)(const Verb *v, const char *name)) {
        for_each_name_of(verbs, emit);
        VERB_FOREACH(v, verbs)
                for_each_name_of(v->verbs, emit);
}

/* What can be completed for a verb's words or an option's argument. */
static const char *kind(const char *words) {
        return words ?: "";
}

/* The words behind a verb; a family's are its verbs. */
static void print_kind(const Verb *v) {
        if (v->verbs)
                VERB_FOREACH(sub, v->verbs)
                        printf("%s%s", sub == v->verbs ? "" : " ", verb_word(sub));
        else
                printf("%s", kind(v->words));
}

static void bash_options(const Option *table) {
        OPTION_FOREACH(o, table) {
                printf("--%s ", o->name);
                if (o->letter)
                        printf("-%c ", o->letter);
        }
}

static void bash_arguments(const char *verb, const Option *table) {
        OPTION_FOREACH(o, table) {
                if (!o->argument)
                        continue;
                printf("        arguments[\"%s --%s\"]=", verb, o->name);
                quote(kind(o->words));
                if (o->letter) {
                        printf(" arguments[\"%s -%c\"]=", verb, o->letter);
                        quote(kind(o->words));
                }
                putchar('\n');
        }
}

static void bash_name(const Verb *v, const char *name) {
        printf("%s ", name);
}

static void bash_verb(const Verb *v, const char *name) {
        printf("        words[\"%s\"]='", name);
        print_kind(v);
        printf("' most[\"%s\"]=%zu options[\"%s\"]='", name, most_words(v), name);
        for (size_t t = 0; t < ELEMENTSOF(v->options); t++)
                bash_options(v->options[t]);
        puts("'");
        for (size_t t = 0; t < ELEMENTSOF(v->options); t++)
                bash_arguments(name, v->options[t]);
}

static void print_limits(const char *before, const char *after) {
        printf("%s", before);
        VERB_OPTION_FOREACH(o, verb_find(verbs, "set"))
                if (o->limit)
                        printf("%s ", o->name);
        puts(after);
}

static void bash_tables(void) {
        print_limits("        limits='", "'");
        printf("        verbs='");
        for_each_name_of(verbs, bash_name);
        puts("'");
        printf("        options[-]='");
        bash_options(global_options);
        puts("'");
        bash_arguments("-", global_options);
        for_each_name(bash_verb);
}

/* "NAME:MESSAGE:ACTION" of an argument, as _arguments wants it. */
static void zsh_action(const char *words) {
        if (!words)
                return;
        if (words[0] != '@')
                printf("(%s)", words);
        else if (streq(words, "@file"))
                printf("_files");
        else if (streq(words, "@host"))
                printf("_hosts");
        else if (streq(words, "@vm"))
                printf("_vmctl_vms");
        else if (streq(words, "@image"))
                printf("_vmctl_images");
        else if (streq(words, "@disk"))
                printf("_vmctl_disks");
}

static void zsh_option(const Option *o, const char *dashes, const char *name) {
        printf("                '*%s%s[", dashes, name);
        quote_part(o->help, "[]:\\");
        printf("]");
        if (o->argument) {
                printf(":%s:", o->argument);
                zsh_action(o->words);
        }
        puts("'");
}

static void zsh_options(const Option *table) {
        OPTION_FOREACH(o, table) {
                char letter[] = { o->letter, '\0' };

                zsh_option(o, "--", o->name);
                if (o->letter)
                        zsh_option(o, "-", letter);
        }
}

static void zsh_description(const Verb *v, const char *name) {
        const char *blank = strrchr(name, ' ');

        printf("                '%s:", blank ? blank + 1 : name);
        quote_part(v->help, ":\\");
        puts("'");
}

static void zsh_family(const Verb *family) {
        puts("                vmctl_verbs=(");
        for_each_name_of(family->verbs, zsh_description);
        puts("                )");
}

static void zsh_verb(const Verb *v) {
        printf("        '%s'", v->name);
        if (v->alias)
                printf(" | '%.*s%s'", (int)(verb_word(v) - v->name), v->name, v->alias);
        puts(")");
        if (v->verbs)
                zsh_family(v);
        printf("                vmctl_kind='%s'\n                vmctl_options=(\n",
                        v->verbs ? "@family" : kind(v->words));
        for (size_t t = 0; t < ELEMENTSOF(v->options); t++)
                zsh_options(v->options[t]);
        if (v->words)
                printf("                '%s: :_vmctl_words'\n", most_words(v) == 1 ? "1" : "*");
        puts("                )");
        /* An option of the verb's hides a global one. */
        OPTION_FOREACH(o, global_options)
                if (verb_option(v, o->name))
                        printf("                vmctl_globals=(${vmctl_globals:#\\*--%s*})\n", o->name);
        puts("                ;;");
}

static void zsh_tables(void) {
        puts("_vmctl_tables() {");
        print_limits("        vmctl_limits=(", ")");
        puts("        vmctl_verbs=(");
        for_each_name_of(verbs, zsh_description);
        puts("        )\n        vmctl_globals=(");
        zsh_options(global_options);
        puts("        )\n}\n\n_vmctl_of() {\n        case $1 in");
        VERB_FOREACH(v, verbs) {
                zsh_verb(v);
                VERB_FOREACH(sub, v->verbs)
                        zsh_verb(sub);
        }
        puts("        esac\n}");
}

static void fish_argument(const char *words) {
        if (!words)
                printf(" --exclusive");
        else if (words[0] != '@')
                printf(" --exclusive --arguments '%s'", words);
        else if (streq(words, "@file"))
                printf(" --require-parameter --force-files");
        else if (streq(words, "@host"))
                printf(" --exclusive --arguments '(__fish_print_hostnames)'");
        else if (streq(words, "@vm"))
                printf(" --exclusive --arguments '(__vmctl_vms)'");
        else if (streq(words, "@image"))
                printf(" --exclusive --arguments '(__vmctl_images)'");
        else if (streq(words, "@disk"))
                printf(" --require-parameter --force-files --arguments '(__vmctl_images)'");
}

static void fish_option(const char *begin, const char *end, const Option *o) {
        printf("%s%s --long-option %s", begin, end, o->name);
        if (o->letter)
                printf(" --short-option %c", o->letter);
        if (o->argument)
                fish_argument(o->words);
        printf(" --description ");
        quote(o->help);
        putchar('\n');
}

static void fish_words(const char *condition, const Verb *v) {
        bool limits = streq_ptr(v->words, "@limit"), files = streq_ptr(v->words, "@file"),
             guest = streq_ptr(v->words, "@guestfile");

        if (!v->words)
                return;
        printf("%s; and __vmctl_has_room %zu' ", condition, limits ? 1 : most_words(v));
        printf(files || guest || streq(v->words, "@disk") ? "--force-files" : "");
        printf(files ? "\n" : " --arguments '");
        if (files)
                return;
        if (streq(v->words, "@verb"))
                VERB_FOREACH(other, verbs)
                        printf("%s ", other->name);
        else if (guest)
                printf("(__vmctl_vms):");
        else
                printf(streq(v->words, "@vm") || limits                     ? "(__vmctl_vms)"
                                                : streq(v->words, "@anyvm") ? "(__vmctl_any_vms)"
                                                                            : "(__vmctl_images)");
        puts("'");
        VERB_OPTION_FOREACH(o, v)
                if (limits)
                        printf("%s; and not __vmctl_has_room 1' --arguments %s=\n", condition, o->name);
}

static void fish_verb(const Verb *v) {
        char begin[128]; /* up to the inside of a quoted condition */

        int family = (int)(verb_word(v) - v->name);

        (void)snprintf(begin, sizeof(begin), FISH " --condition '__vmctl_is \"%s\" \"%.*s%s\"", v->name,
                        family, v->name, v->alias ?: verb_word(v));
        VERB_OPTION_FOREACH(o, v)
                fish_option(begin, "'", o);
        fish_words(begin, v);
}

static void fish_name(const Verb *v, const char *name) {
        const char *word = strrchr(name, ' ');
        int family = word ? (int)(word - name) : 1;

        printf(FISH " --condition '__vmctl_is \"%.*s\"' --arguments %s --description ", family,
                        word ? name : "-", word ? word + 1 : name);
        quote(v->help);
        putchar('\n');
}

static void fish_taking(const char *verb, const Option *table) {
        OPTION_FOREACH(o, table) {
                if (o->argument)
                        printf(" '%s --%s'", verb, o->name);
                if (o->argument && o->letter)
                        printf(" '%s -%c'", verb, o->letter);
        }
}

static void fish_taking_of(const Verb *v, const char *name) {
        for (size_t t = 0; t < ELEMENTSOF(v->options); t++)
                fish_taking(name, v->options[t]);
}

static void fish_tables(void) {
        printf("set --global __vmctl_arguments");
        fish_taking("-", global_options);
        for_each_name(fish_taking_of);
        putchar('\n');
        OPTION_FOREACH(o, global_options)
                fish_option(FISH, "", o);
        printf("set --global __vmctl_families");
        VERB_FOREACH(v, verbs)
                if (v->verbs)
                        printf(" %s", v->name);
        putchar('\n');
        for_each_name(fish_name);
        VERB_FOREACH(v, verbs) {
                fish_verb(v);
                VERB_FOREACH(sub, v->verbs)
                        fish_verb(sub);
        }
}

static const struct {
        const char *shell;
        void (*print_tables)(void);
} shells[] = {
        { "bash", bash_tables },
        { "zsh", zsh_tables },
        { "fish", fish_tables },
};

static int fill(FILE *template, void (*print_tables)(void)) {
        bool filled = false;
        char line[512];

        while (fgets(line, sizeof(line), template))
                if (streq(line, MARK)) {
                        print_tables();
                        filled = true;
                } else
                        fputs(line, stdout);
        return filled && !ferror(template) && fflush(stdout) == 0 ? 0 : 1;
}

int main(int argc, char *argv[]) {
        FILE *template = argc == 3 ? fopen(argv[2], "re") : NULL;
        int r = 1;

        if (!template) {
                fputs("Usage: generate SHELL TEMPLATE\n", stderr);
                return 2;
        }
        for (size_t i = 0; i < ELEMENTSOF(shells); i++)
                if (streq(shells[i].shell, argv[1]))
                        r = fill(template, shells[i].print_tables);
        (void)fclose(template);
        return r;
}
