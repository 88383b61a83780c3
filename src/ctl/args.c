/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "args.h"
#include "text.h"
#include "util/nearest.h"
#include "util/string-util.h"

/* One pass over argv; `i` is the argument under work. */
typedef struct Parser {
        const Verb *verbs;
        int argc, i;
        char *const *argv;
        bool options_ended;
        Args args;
} Parser;

const char *verb_word(const Verb *verb) {
        const char *blank = strrchr(verb->name, ' ');

        return blank ? blank + 1 : verb->name;
}

const Verb *verb_find(const Verb *verbs, const char *word) {
        VERB_FOREACH(v, verbs)
                if (streq(verb_word(v), word) || streq_ptr(v->alias, word))
                        return v;
        return NULL;
}

static bool option_is(const Option *o, const char *name, size_t len) {
        return strlen(o->name) == len && strncmp(o->name, name, len) == 0;
}

const Option *verb_option(const Verb *verb, const char *name) {
        VERB_OPTION_FOREACH(o, verb)
                if (streq(o->name, name))
                        return o;
        return NULL;
}

static const Option *find_long(const Args *a, const char *name, size_t len) {
        VERB_OPTION_FOREACH(o, a->verb)
                if (option_is(o, name, len))
                        return o;
        OPTION_FOREACH(o, a->globals)
                if (option_is(o, name, len))
                        return o;
        return NULL;
}

static const Option *find_letter(const Args *a, char letter) {
        VERB_OPTION_FOREACH(o, a->verb)
                if (o->letter == letter)
                        return o;
        OPTION_FOREACH(o, a->globals)
                if (o->letter == letter)
                        return o;
        return NULL;
}

static const char *nearest_verb(const Verb *verbs, const char *name) {
        size_t best = SIZE_MAX;
        const char *found = NULL;

        VERB_FOREACH(v, verbs) {
                word_nearer(name, verb_word(v), &best, &found);
                if (v->alias)
                        word_nearer(name, v->alias, &best, &found);
        }
        return found;
}

static const char *nearest_option(const Args *a, const char *name) {
        size_t best = SIZE_MAX;
        const char *found = NULL;

        VERB_OPTION_FOREACH(o, a->verb)
                word_nearer(name, o->name, &best, &found);
        OPTION_FOREACH(o, a->globals)
                word_nearer(name, o->name, &best, &found);
        return found;
}

static int unknown_option(const Args *a, const char *name, size_t len, Error **reterr) {
        _cleanup_free_ char *copy = strndup(name, len);
        const char *nearest;

        if (!copy)
                return -ENOMEM;
        nearest = nearest_option(a, copy);
        if (nearest)
                return error_set(reterr, ERROR_UNKNOWN_OPTION, "Unknown option '--%s'; did you mean '--%s'?",
                                copy, nearest);
        if (a->verb)
                return error_set(reterr, ERROR_UNKNOWN_OPTION, "Unknown option '--%s' of '%s'", copy,
                                a->verb->name);
        return error_set(reterr, ERROR_UNKNOWN_OPTION, "Unknown option '--%s'", copy);
}

static void use(Parser *p, const Option *o, const char *value) {
        p->args.uses[p->args.n_uses++] = (OptionUse){ o, value };
}

static const char *next_argument(Parser *p) {
        return p->i + 1 < p->argc ? p->argv[++p->i] : NULL;
}

static int parse_long(Parser *p, const char *text, Error **reterr) {
        size_t len = strcspn(text, "=");
        const char *value = text[len] == '=' ? text + len + 1 : NULL;
        const Option *o = find_long(&p->args, text, len);

        if (!o)
                return unknown_option(&p->args, text, len, reterr);
        if (!o->argument && value)
                return error_set(reterr, ERROR_UNKNOWN_OPTION, "Option '--%s' takes no value", o->name);
        if (o->argument && !value) {
                value = next_argument(p);
                if (!value)
                        return error_set(reterr, ERROR_UNKNOWN_OPTION, "Option '--%s' needs a value: %s",
                                        o->name, o->argument);
        }
        use(p, o, value);
        return 0;
}

/* "-qf", "-n5", "-n 5" */
static int parse_letters(Parser *p, const char *letters, Error **reterr) {
        for (const char *l = letters; *l; l++) {
                const Option *o = find_letter(&p->args, *l);
                const char *value = NULL;

                if (!o)
                        return error_set(reterr, ERROR_UNKNOWN_OPTION, "Unknown option '-%c'", *l);
                if (o->argument) {
                        value = l[1] != '\0' ? l + 1 : next_argument(p);
                        if (!value)
                                return error_set(reterr, ERROR_UNKNOWN_OPTION,
                                                "Option '-%c' needs a value: %s", *l, o->argument);
                }
                use(p, o, value);
                if (o->argument)
                        return 0;
        }
        return 0;
}

static int parse_verb(Parser *p, const char *word, Error **reterr) {
        const Verb *family = p->args.verb, *among = family ? family->verbs : p->verbs;
        const Verb *verb = verb_find(among, word);
        const char *nearest, *before = family ? family->name : "", *blank = family ? " " : "";

        if (verb) {
                p->args.verb = verb;
                return 0;
        }
        nearest = nearest_verb(among, word);
        return nearest ? error_set(reterr, ERROR_UNKNOWN_OPTION,
                                         "Unknown verb '%s%s%s'; did you mean '%s%s%s'?", before, blank,
                                         word, before, blank, nearest)
                       : error_set(reterr, ERROR_UNKNOWN_OPTION, "Unknown verb '%s%s%s'", before, blank,
                                         word);
}

static void add_word(Parser *p, const char *word) {
        Args *a = &p->args;

        a->words[a->n_words++] = word;
        /* The first word names the VM unless --name does; the next begins a command. */
        if ((a->verb->flags & VERB_COMMAND) && a->n_words > (args_has(a, "name") ? 0 : 1))
                p->options_ended = true;
}

static int parse_argument(Parser *p, Error **reterr) {
        const char *arg = p->argv[p->i];

        /* What D-Bus could not carry anyway, told here with one message for all. */
        if (!utf8_is_valid(arg, strlen(arg)))
                return error_set(reterr, ERROR_INVALID_SPEC, "Argument %i is not valid UTF-8", p->i);
        if (!p->options_ended && arg[0] == '-' && arg[1] != '\0') {
                if (arg[1] != '-')
                        return parse_letters(p, arg + 1, reterr);
                if (arg[2] != '\0')
                        return parse_long(p, arg + 2, reterr);
                p->options_ended = true;
                return 0;
        }
        if (!p->args.verb || p->args.verb->verbs)
                return parse_verb(p, arg, reterr);
        add_word(p, arg);
        return 0;
}

/* Letters may be bundled, so there can be more uses than arguments. */
static size_t count_uses(int argc, char *const argv[]) {
        size_t n = 0;

        for (int i = 1; i < argc; i++)
                n += strlen(argv[i]) + 1;
        return n;
}

int args_parse(const Verb *verbs, const Option *globals, int argc, char *const argv[], Args *ret,
                Error **reterr) {
        Parser p = { .verbs = verbs, .argc = argc, .argv = argv, .args.globals = globals };
        int r = 0;

        p.args.uses = calloc(count_uses(argc, argv) + 1, sizeof(OptionUse));
        p.args.words = calloc((size_t)argc + 1, sizeof(char *));
        if (!p.args.uses || !p.args.words)
                r = -ENOMEM;
        for (p.i = 1; r >= 0 && p.i < argc; p.i++)
                r = parse_argument(&p, reterr);
        if (r < 0) {
                ret->verb = p.args.verb;
                args_done(&p.args);
                return r;
        }
        *ret = p.args;
        return 0;
}

void args_done(Args *args) {
        free(args->uses);
        free(args->words);
        *args = (Args){};
}

int args_check_words(const Args *args, Error **reterr) {
        const Verb *v = args->verb;

        if (v->verbs)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' needs a verb of its own", v->name);
        if (args->n_words < v->min_words)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' needs more arguments: %s %s", v->name,
                                v->name, v->arguments);
        if (args->n_words > v->max_words)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' does not know what to do with '%s'",
                                v->name, args->words[v->max_words]);
        return 0;
}

static const char *last_use(const Args *args, const Option *o) {
        assert(o); /* else the verb asks for what no table has */

        for (size_t i = args->n_uses; i > 0; i--)
                if (args->uses[i - 1].option == o)
                        return args->uses[i - 1].value ?: "";
        return NULL;
}

const char *args_get(const Args *args, const char *name) {
        return last_use(args, find_long(args, name, strlen(name)));
}

const char *args_get_global(const Args *args, const char *name) {
        OPTION_FOREACH(o, args->globals)
                if (streq(o->name, name))
                        return last_use(args, o);
        return last_use(args, NULL);
}
