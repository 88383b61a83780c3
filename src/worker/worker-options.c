/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <unistd.h>

#include "util/fd-util.h"
#include "util/string-util.h"
#include "worker-options.h"

typedef struct Options {
        const WorkerOption *table;
        size_t n;
        Identity identity;
        bool uid, gid; /* given */
} Options;

static int set_descriptor(const WorkerOption *option, uint32_t fd) {
        if (fd <= STDERR_FILENO || fd > INT32_MAX)
                return -EINVAL;
        for (size_t i = 0; i < option->n_fds; i++)
                if (option->fds[i] < 0) {
                        option->fds[i] = (int)fd;
                        return 0;
                }
        return -EINVAL;
}

static int parse_option(Options *o, const char *name, const char *value) {
        uint32_t v;

        if (!value || parse_u32(value, &v) < 0)
                return -EINVAL;
        if (streq(name, "--uid")) {
                o->identity.uid = v;
                o->uid = true;
                return 0;
        }
        if (streq(name, "--gid")) {
                o->identity.gid = v;
                o->gid = true;
                return 0;
        }
        for (size_t i = 0; i < o->n; i++)
                if (streq(o->table[i].name, name))
                        return set_descriptor(o->table + i, v);
        return -EINVAL;
}

int worker_parse_options(int argc, char *argv[], int first, const WorkerOption *table, size_t n,
                Identity *ret, Error **reterr) {
        const char *program = program_invocation_short_name;
        Options o = { .table = table, .n = n };

        for (int i = first; i < argc; i += 2)
                if (parse_option(&o, argv[i], argv[i + 1]) < 0) /* argv ends in NULL */
                        return error_set(reterr, ERROR_FAILED, "%s was called with a wrong '%s'", program,
                                        argv[i]);
        if (o.uid != o.gid)
                return error_set(reterr, ERROR_FAILED, "%s needs both of --uid and --gid", program);
        o.identity.set = o.uid;
        *ret = o.identity;
        return 0;
}

int worker_read_request(size_t max, char **ret, size_t *ret_len, Error **reterr) {
        int r = read_all(STDIN_FILENO, max, ret, ret_len);

        return r < 0 ? error_set_errno(reterr, r, "Failed to read the request") : 0;
}
