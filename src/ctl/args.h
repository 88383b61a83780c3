/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The command line: tables of verbs and options, and a parser for them. The same tables are what --help, the
 * completions and the checks of the manual page are made from.
 *
 * A verb is a word, or two of which the first is a family's: "image pull". Options stand before or behind
 * the verb and among its words; "--" ends them. An option of the verb hides a global one of the same name,
 * but only behind the verb. */

#include "util/error.h"

typedef struct Ctl Ctl;
typedef struct Args Args;

/* What an option's text becomes on the bus. */
typedef enum ValueKind {
        VALUE_LOCAL, /* nothing: the verb itself looks at it */
        VALUE_STRING,
        VALUE_U32,
        VALUE_U64,
        VALUE_MIB,     /* a size in bytes (t), where a bare number counts MiB */
        VALUE_GIB,     /* the same with GiB */
        VALUE_PERCENT, /* u */
        VALUE_TRUE,    /* b, of a flag */
        VALUE_FALSE,   /* b, of a flag */
        VALUE_FILE,    /* h, of a regular file */
        VALUE_TEXT,    /* s, the content of a small file */
        VALUE_IMAGE,   /* a file as above; or s, behind the key "image-name"; nothing for a URL */
} ValueKind;

typedef struct Option {
        const char *name;     /* behind "--"; NULL ends a table */
        char letter;          /* behind "-"; 0: none */
        const char *argument; /* its argument as --help calls it; NULL: the option is a flag */
        const char *help;
        const char *words; /* what a shell offers for the argument: words, "@file", "@vm", "@anyvm" (those
                            * that are broken, too), "@image", "@disk" (an image or a file), "@guestfile" (a
                            * file, or NAME: of a VM), "@host", or NULL
                            */
        const char *key;   /* its key in CreateVM, UpdateSpec or SetLimits */
        ValueKind kind;
        bool limit; /* `vmctl set` knows it */
} Option;

typedef enum VerbFlags {
        VERB_RELAY = 1 << 0,   /* with -H, vmctl runs on that host: descriptors and ports stay there */
        VERB_COMMAND = 1 << 1, /* words behind the name are a command, whose options are not ours */
} VerbFlags;

typedef struct Verb Verb;
struct Verb {
        const char *name;      /* "start", or with its family's, "image pull"; NULL ends the table */
        const char *alias;     /* of its last word */
        const char *group;     /* heading in --help; a family's verbs have none */
        const char *arguments; /* as --help shows them */
        const Verb *verbs;     /* makes it a family: one of these follows. It has no words, options or run */
        size_t min_words, max_words;
        const char *words; /* as in Option: for the verb's own words */
        const char *help;
        const char *details;      /* more sentences for VERB --help, or NULL */
        const Option *options[4]; /* tables, of which some are shared; NULL: none */
        VerbFlags flags;
        int (*run)(Ctl *ctl, const Args *args); /* exit status, or negative: failed and reported */
};

typedef struct OptionUse {
        const Option *option;
        const char *value; /* NULL for a flag */
} OptionUse;

struct Args {
        const Verb *verb; /* NULL: none was given */
        const Option *globals;
        OptionUse *uses; /* in the order of the command line */
        size_t n_uses;
        const char **words; /* the verb's, NULL-terminated; borrowed from argv */
        size_t n_words;
};

/* -EINVAL with a message for the user; -ENOMEM. ret->verb is also set on failure, if there was one. The
 * tables and argv must outlive *ret. */
int args_parse(const Verb *verbs, const Option *globals, int argc, char *const argv[], Args *ret,
                Error **reterr);
void args_done(Args *args);

/* Whether there are as many words as the verb takes, and a family has its verb. */
int args_check_words(const Args *args, Error **reterr);

/* The last value of an option of the verb or a global one; a flag's value is "". NULL: not given. */
const char *args_get(const Args *args, const char *name);
/* The same of the global option, also where the verb has one of that name. */
const char *args_get_global(const Args *args, const char *name);
static inline bool args_has(const Args *args, const char *name) {
        return args_get(args, name);
}

/* Among these alone, by the last word of its name or by its alias. */
const Verb *verb_find(const Verb *verbs, const char *word);
/* The last word of its name. */
const char *verb_word(const Verb *verb);
/* Among the verb's options. */
const Option *verb_option(const Verb *verb, const char *name);

#define VERB_FOREACH(v, verbs) for (const Verb *v = (verbs); v && v->name; v++)
#define OPTION_FOREACH(o, table) for (const Option *o = (table); o && o->name; o++)
#define VERB_OPTION_FOREACH(o, verb)                                          \
        for (size_t _t = 0; (verb) && _t < ELEMENTSOF((verb)->options); _t++) \
                OPTION_FOREACH(o, (verb)->options[_t])
