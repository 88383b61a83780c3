/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "remote.h"
#include "util/test.h"
#include "verbs.h"

/* One command line at a time: what was parsed borrows from it. */
static struct {
        char *text;
        char *argv[32];
        Args args;
        char *error;
} line;

static int parse(const char *text) {
        _cleanup_error_ Error *e = NULL;
        int argc = 0, r;

        args_done(&line.args);
        CHECK(free_and_strdup(&line.text, text) >= 0);
        line.argv[argc++] = (char *)"vmctl";
        for (char *word = strtok(line.text, " "); word; word = strtok(NULL, " "))
                line.argv[argc++] = word;
        r = args_parse(verbs, global_options, argc, line.argv, &line.args, &e);
        if (r >= 0 && line.args.verb)
                r = args_check_words(&line.args, &e);
        CHECK(free_and_strdup(&line.error, r < 0 ? error_message(e) : NULL) >= 0);
        return r;
}

static void test_places(void) {
        const Args *a = &line.args;

        CHECK_EQ(parse("--json start a --wait b"), 0);
        CHECK_STREQ(a->verb->name, "start");
        CHECK_EQ(a->n_words, 2);
        CHECK_STREQ(a->words[0], "a");
        CHECK_STREQ(a->words[1], "b");
        CHECK(!a->words[2]);
        CHECK(args_has(a, "json") && args_has(a, "wait") && !args_has(a, "timeout"));

        CHECK_EQ(parse("start -- --wait"), 0);
        CHECK_STREQ(a->words[0], "--wait");
        CHECK(!args_has(a, "wait"));

        CHECK_EQ(parse("ls"), 0);
        CHECK_STREQ(a->verb->name, "list");
        CHECK_EQ(parse("--json"), 0);
        CHECK(!a->verb);
        CHECK_EQ(parse("image --json rm a"), 0);
        CHECK_STREQ(a->verb->name, "image remove");
        CHECK_STREQ(a->words[0], "a");
        CHECK(args_has(a, "json"));
        CHECK_EQ(parse("image list"), 0);
        CHECK_STREQ(a->verb->name, "image list");
        CHECK_EQ(parse("console -"), 0);
        CHECK_STREQ(a->words[0], "-");
}

static void test_values(void) {
        const Args *a = &line.args;

        CHECK_EQ(parse("log web -n5 -f"), 0);
        CHECK_STREQ(args_get(a, "tail"), "5");
        CHECK_STREQ(args_get(a, "follow"), "");
        CHECK_EQ(parse("log web -fn 7"), 0);
        CHECK_STREQ(args_get(a, "tail"), "7");
        CHECK_EQ(parse("log web --tail=1 --tail 2"), 0);
        CHECK_STREQ(args_get(a, "tail"), "2");
        CHECK_EQ(parse("create web --hostname= --append -x"), 0);
        CHECK_STREQ(args_get(a, "hostname"), "");
        CHECK_STREQ(args_get(a, "append"), "-x");
}

/* `--user` is a flag for the bus, and an account behind the verb ssh. */
static void test_hidden_global(void) {
        const Args *a = &line.args;

        CHECK_EQ(parse("--user ssh web --user root"), 0);
        CHECK_STREQ(args_get(a, "user"), "root");
        CHECK_STREQ(args_get_global(a, "user"), "");
        CHECK_EQ(parse("ssh web --user root"), 0);
        CHECK(!args_get_global(a, "user"));
        CHECK_EQ(parse("start web --user"), 0);
        CHECK_STREQ(args_get_global(a, "user"), "");
}

static void test_command(void) {
        const Args *a = &line.args;

        CHECK_EQ(parse("ssh web --key k ls -l -- --json"), 0);
        CHECK_EQ(a->n_words, 5);
        CHECK_STREQ(a->words[1], "ls");
        CHECK_STREQ(a->words[2], "-l");
        CHECK_STREQ(a->words[3], "--");
        CHECK_STREQ(args_get(a, "key"), "k");
        CHECK(!args_has(a, "json"));

        CHECK_EQ(parse("ssh web -- -x"), 0);
        CHECK_STREQ(a->words[1], "-x");
        CHECK_EQ(parse("ssh --name web uptime -p"), 0);
        CHECK_STREQ(a->words[0], "uptime");
        CHECK_STREQ(a->words[1], "-p");
}

static void test_refused(void) {
        static const struct {
                const char *line, *error;
        } bad[] = {
                { "strat web", "Unknown verb 'strat'; did you mean 'start'?" },
                { "sto web", "Unknown verb 'sto'; did you mean 'stop'?" },
                { "frobnicate", "Unknown verb 'frobnicate'" },
                { "x", "Unknown verb 'x'" },
                { "create --memroy 3", "Unknown option '--memroy'; did you mean '--memory'?" },
                { "create --no-such-thing", "Unknown option '--no-such-thing' of 'create'" },
                { "--frob list", "Unknown option '--frob'" },
                { "--state list", "Unknown option '--state'" },
                { "list -x", "Unknown option '-x'" },
                { "image", "'image' needs a verb of its own" },
                { "image pul x", "Unknown verb 'image pul'; did you mean 'image pull'?" },
                { "image frobnicate", "Unknown verb 'image frobnicate'" },
                { "image start", "Unknown verb 'image start'; did you mean 'image share'?" },
                { "image pull", "'image pull' needs more arguments: image pull URL" },
                { "image --name x pull u", "Unknown option '--name' of 'image'" },
                { "list --quiet=1", "Option '--quiet' takes no value" },
                { "log web --tail", "Option '--tail' needs a value: NUMBER" },
                { "log web -n", "Option '-n' needs a value: NUMBER" },
                { "start", "'start' needs more arguments: start NAME..." },
                { "console a b", "'console' does not know what to do with 'b'" },
                { "list \xff", "Argument 2 is not valid UTF-8" },
        };

        for (size_t i = 0; i < ELEMENTSOF(bad); i++) {
                CHECK_EQ(parse(bad[i].line) < 0, true);
                CHECK_STREQ(line.error, bad[i].error);
        }
}

/* What the parser, --help and the completions rely on. */
static void check_table(const Verb *table, const Verb *family) {
        VERB_FOREACH(v, table) {
                _cleanup_free_ char *name = strf(
                                "%s%s%s", family ? family->name : "", family ? " " : "", verb_word(v));

                CHECK_STREQ(v->name, name);
                CHECK(v->help && !v->group == (family != NULL) && !v->run == (v->verbs != NULL));
                CHECK(!v->verbs || (!family && !v->options[0] && v->max_words == 0));
                CHECK(v->min_words <= v->max_words);
                VERB_FOREACH(other, table) {
                        CHECK(other == v || !streq(other->name, v->name));
                        CHECK(!streq_ptr(other->alias, verb_word(v)));
                }
                VERB_OPTION_FOREACH(o, v) {
                        bool flag = o->kind == VALUE_TRUE || o->kind == VALUE_FALSE;

                        CHECK(strlen(o->help) <= 50); /* what --help has room for */
                        CHECK_EQ(!o->key, o->kind == VALUE_LOCAL);
                        CHECK(!flag || !o->argument);
                        CHECK(flag || !o->key || o->argument);
                        CHECK(verb_option(v, o->name) == o);
                }
                check_table(v->verbs, v);
        }
}

static void test_host(void) {
        static const struct {
                const char *host, *destination, *port;
        } hosts[] = {
                { "server", "server", NULL },
                { "admin@server:2222", "admin@server", "2222" },
                { "admin@[fe80::1]:22", "admin@fe80::1", "22" },
                { "[::1]", "::1", NULL },
                { "192.0.2.1", "192.0.2.1", NULL },
                { "", NULL, NULL },
                { "-oProxyCommand=x", NULL, NULL },
                { "a@-b", NULL, NULL },
                { "server:", NULL, NULL },
                { "server:0", NULL, NULL },
                { "server:ssh", NULL, NULL },
                { "server:65536", NULL, NULL },
                { "server/container", NULL, NULL },
                { "two words", NULL, NULL },
                { "[::1", NULL, NULL },
                { "[::1]x", NULL, NULL },
        };

        for (size_t i = 0; i < ELEMENTSOF(hosts); i++) {
                _cleanup_free_ char *destination = NULL, *port = NULL;
                int r;

                r = remote_parse_host(hosts[i].host, &destination, &port);
                CHECK_EQ(r, hosts[i].destination ? 0 : -EINVAL);
                CHECK_STREQ(destination, hosts[i].destination);
                CHECK_STREQ(port, hosts[i].port);
        }
}

static void check_remote(const char *text, const char *expected) {
        _cleanup_free_ char *command = NULL;

        CHECK_EQ(parse(text), 0);
        command = remote_command(&line.args);
        CHECK_STREQ(command, expected);
}

static void test_remote_command(void) {
        check_remote("-H server --json log web -n5", "vmctl --system --json log --tail=5 -- web");
        check_remote("-H server ssh web --user root echo $HOME 'a;b'",
                        "vmctl --system ssh --user=root -- web echo '$HOME' ''\\''a;b'\\'''");
        check_remote("-H server image import - --name x", "vmctl --system image import --name=x -- -");
        check_remote("--host=server console web --no-ask-password",
                        "vmctl --system --no-ask-password console -- web");
}

int main(void) {
        test_places();
        test_values();
        test_hidden_global();
        test_command();
        test_refused();
        check_table(verbs, NULL);
        test_host();
        test_remote_command();
        args_done(&line.args);
        free(line.text);
        free(line.error);
        return 0;
}
