/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Holds vmctl(1) against the tables: test-ctl-man PAGE. All that vmctl knows is there, and nothing else. */

#include <fcntl.h>

#include "util/fd-util.h"
#include "util/test.h"
#include "verbs.h"

/* The text from the line that begins with `first` up to the next that begins with `.Sh`, or with `end`. */
static char *part(const char *page, const char *first, const char *end) {
        _cleanup_free_ char *needle = strf("\n%s", first), *stop = strf("\n%s", end);
        const char *from = strstr(page, needle), *section, *other;

        /* "update" is not "up". */
        while (from && !strchr(" \n", from[strlen(needle)]))
                from = strstr(from + 1, needle);
        if (!from)
                return NULL;
        section = strstr(from + 1, "\n.Sh ");
        other = strstr(from + 1, stop);
        if (!section || (other && other < section))
                section = other;
        return section ? strndup(from, (size_t)(section - from)) : strdup(from);
}

/* ".It Fl -name" or ".It Fl n , -name", and whether the argument is what --help calls it. */
static bool has_item(const char *text, const Option *o) {
        _cleanup_free_ char *item = o->letter
                        ? strf("\n.It Fl %c , -%s%s%s\n", o->letter, o->name, o->argument ? " Ar " : "",
                                          o->argument ?: "")
                        : strf("\n.It Fl -%s%s%s\n", o->name, o->argument ? " Ar " : "", o->argument ?: "");

        return strstr(text, item);
}

/* In the part of the verb, or in a section that it refers to. */
static bool is_documented(const char *page, const char *verb_part, const Option *o) {
        static const char *const shared[] = { "DEFINITIONS", "LIMITS", "IMAGES", "DOWNLOADS" };

        if (has_item(verb_part, o))
                return true;
        for (size_t i = 0; i < ELEMENTSOF(shared); i++) {
                _cleanup_free_ char *reference = strf("Sx %s", shared[i]),
                                    *title = strf(".Sh %s", shared[i]);
                _cleanup_free_ char *section = part(page, title, ".Sh");

                if (strstr(verb_part, reference) && section && has_item(section, o))
                        return true;
        }
        return false;
}

static void check_verb(const char *page, const Verb *v) {
        _cleanup_free_ char *item = strf(".It Cm %s", v->name), *text = part(page, item, ".It Cm"),
                            *alias = NULL;

        if (!text)
                TEST_FAIL("verb %s is not in the page", v->name);
        VERB_OPTION_FOREACH(o, v)
                if (!is_documented(page, text, o))
                        TEST_FAIL("option --%s of verb %s is not in the page", o->name, v->name);
        alias = strf("\n.Cm %s\n", v->alias ?: "");
        if (v->alias && !strstr(text, alias))
                TEST_FAIL("alias %s is not in the page", v->alias);
}

static void check_verbs(const char *page, const Verb *table) {
        VERB_FOREACH(v, table) {
                if (!v->verbs)
                        check_verb(page, v);
                check_verbs(page, v->verbs);
        }
}

static bool has_option(const Verb *table, const char *name) {
        VERB_FOREACH(v, table)
                if (verb_option(v, name) || has_option(v->verbs, name))
                        return true;
        return false;
}

static bool is_option(const char *item) {
        _cleanup_free_ char *name = strndup(item, strcspn(item, " "));

        if (has_option(verbs, name))
                return true;
        OPTION_FOREACH(o, global_options)
                if (streq(o->name, name))
                        return true;
        return false;
}

/* Items of the page that begin with `first`; `name` finds the word that vmctl should know. */
static void check_items(const char *page, const char *first, const char *(*name)(const char *line),
                bool (*is_known)(const char *name)) {
        for (const char *line = strstr(page, first); line; line = strstr(line + 1, first)) {
                const char *word = name(line + strlen(first));
                _cleanup_free_ char *copy = strndup(word, strcspn(word, "\n"));

                if (!is_known(copy))
                        TEST_FAIL("the page tells about '%s', which vmctl doesn't know", copy);
        }
}

static const char *verb_name(const char *item) {
        return item;
}

/* Behind the last dash that begins a word. */
static const char *option_name(const char *item) {
        const char *dash = item[0] == '-' ? item : strstr(item, " -");

        return dash ? strchr(dash, '-') + 1 : item;
}

/* "start Ar NAME", or "image pull Ar URL" */
static bool is_verb(const char *item) {
        size_t len = strcspn(item, " ");
        _cleanup_free_ char *word = strndup(item, len), *second = NULL;
        const Verb *v = verb_find(verbs, word);

        if (!v || !v->verbs)
                return v;
        item += len + (item[len] == ' ');
        second = strndup(item, strcspn(item, " "));
        return verb_find(v->verbs, second);
}

int main(int argc, char *argv[]) {
        _cleanup_close_ int fd = argc == 2 ? open(argv[1], O_RDONLY | O_CLOEXEC) : -EBADF;
        _cleanup_free_ char *page = NULL, *globals = NULL;

        CHECK(fd >= 0);
        CHECK(read_all(fd, MIB, &page, NULL) >= 0);
        check_verbs(page, verbs);
        globals = part(page, ".Sh OPTIONS", ".Sh");
        CHECK(globals);
        OPTION_FOREACH(o, global_options)
                if (!has_item(globals, o))
                        TEST_FAIL("option --%s is not in the page", o->name);
        check_items(page, "\n.It Cm ", verb_name, is_verb);
        check_items(page, "\n.It Fl ", option_name, is_option);
        return 0;
}
