/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>
#include <unistd.h>

#include "remote.h"
#include "text.h"

int remote_parse_host(const char *host, char **ret_destination, char **ret_port) {
        _cleanup_free_ char *destination = NULL, *port = NULL, *user = NULL;
        const char *at = strrchr(host, '@'), *name = at ? at + 1 : host, *end;
        size_t name_len;
        uint32_t n;

        if (*name == '[') {
                name++;
                end = strchr(name, ']');
                if (!end)
                        return -EINVAL;
                name_len = (size_t)(end - name);
                end++;
        } else {
                end = name + strcspn(name, ":/");
                name_len = (size_t)(end - name);
        }
        if (*host == '-' || *name == '-' || name_len == 0 || host[strcspn(host, " \t\n/")] != '\0')
                return -EINVAL;
        if (*end != '\0' && (*end != ':' || parse_u32(end + 1, &n) < 0 || n == 0 || n > UINT16_MAX))
                return -EINVAL;
        user = at ? strndup(host, (size_t)(at - host) + 1) : strdup("");
        destination = user ? strf("%s%.*s", user, (int)name_len, name) : NULL;
        port = *end == ':' ? strdup(end + 1) : NULL;
        if (!destination || (*end == ':' && !port))
                return -ENOMEM;
        *ret_destination = TAKE_PTR(destination);
        *ret_port = TAKE_PTR(port);
        return 0;
}

static int append_quoted(char **line, const char *format, const char *word) {
        _cleanup_free_ char *quoted = shell_quote(word), *longer = NULL;

        if (!*line || !quoted)
                return -ENOMEM;
        longer = strf("%s%s%s", *line, format, quoted);
        if (!longer)
                return -ENOMEM;
        free(*line);
        *line = TAKE_PTR(longer);
        return 0;
}

static bool is_for_here(const Option *o) {
        static const char *const here[] = { "host", "system", "user" };

        for (size_t i = 0; i < ELEMENTSOF(here); i++)
                if (streq(o->name, here[i]))
                        return true;
        return false;
}

static bool is_global(const Args *args, const Option *o) {
        OPTION_FOREACH(g, args->globals)
                if (g == o)
                        return true;
        return false;
}

static int append_option(char **line, const OptionUse *u) {
        _cleanup_free_ char *text = strf("--%s%s%s", u->option->name, u->value ? "=" : "", u->value ?: "");

        return text ? append_quoted(line, " ", text) : -ENOMEM;
}

static int append_options(char **line, const Args *args, bool global) {
        int r = 0;

        for (size_t i = 0; r >= 0 && i < args->n_uses; i++) {
                const OptionUse *u = &args->uses[i];

                if (is_global(args, u->option) == global && !(global && is_for_here(u->option)))
                        r = append_option(line, u);
        }
        return r;
}

/* A name is made of words that need no quotes. */
static int append_verb(char **line, const Verb *verb) {
        char *longer = strf("%s %s", *line, verb->name);

        if (!longer)
                return -ENOMEM;
        free(*line);
        *line = longer;
        return 0;
}

char *remote_command(const Args *args) {
        _cleanup_free_ char *line = strdup("vmctl --system");
        int r;

        r = append_options(&line, args, true);
        if (r >= 0)
                r = append_verb(&line, args->verb);
        if (r >= 0)
                r = append_options(&line, args, false);
        if (r >= 0)
                r = append_quoted(&line, " ", "--");
        for (size_t i = 0; r >= 0 && i < args->n_words; i++)
                r = append_quoted(&line, " ", args->words[i]);
        return r < 0 ? NULL : TAKE_PTR(line);
}

int remote_exec(Ctl *c, const Args *args) {
        _cleanup_free_ char *destination = NULL, *port = NULL, *command = NULL;
        const char *argv[8] = { "ssh" };
        size_t n = 1;
        int r;

        r = remote_parse_host(c->host, &destination, &port);
        if (r == -EINVAL)
                return ctl_complain("It is [USER@]HOST[:PORT].", "'%s' is not a host", c->host);
        command = remote_command(args);
        if (r < 0 || !command)
                return ctl_oom();
        /* A terminal there only if there is one here: it would change what is piped. */
        argv[n++] = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO) ? "-t" : "-T";
        if (port) {
                argv[n++] = "-p";
                argv[n++] = port;
        }
        argv[n++] = "--";
        argv[n++] = destination;
        argv[n++] = command;
        ctl_done(c);
        (void)execvp("ssh", (char *const *)argv);
        return ctl_complain("Install an OpenSSH client.", "Failed to run ssh: %s", strerror(errno));
}
