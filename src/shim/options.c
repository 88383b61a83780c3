/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <getopt.h>

#include "options.h"
#include "ring-log.h"
#include "util/string-util.h"

#define TARGET_MIN 3    /* standard input, output and error are ours to set up */
#define TARGET_MAX 1023 /* whoever starts us chooses small, dense numbers */

typedef enum OptionType {
        OPTION_FLAG,
        OPTION_FD,     /* open, and ours to use */
        OPTION_TARGET, /* not open yet, to be QEMU's */
        OPTION_FD_LIST,
        OPTION_ID,
        OPTION_GROUP,
        OPTION_LOG_SIZE,
        OPTION_LINES,
        OPTION_FILE,
        OPTION_PATH_LIST,
        OPTION_HELPER,
        OPTION_HELPER_ARG,
        OPTION_HELPER_FD,
} OptionType;

typedef struct OptionDef {
        const char *name;
        OptionType type;
        size_t offset;
        bool run, cat; /* required for running QEMU, for --cat */
} OptionDef;

#define AT(member) offsetof(Options, member)

static const OptionDef option_table[] = {
        { "cat", OPTION_FLAG, AT(cat) },
        { "debug", OPTION_FLAG, AT(debug) },
        { "private-network", OPTION_FLAG, AT(private_network) },
        { "uid", OPTION_ID, AT(uid) },
        { "gid", OPTION_ID, AT(gid) },
        { "group", OPTION_GROUP },
        { "owner", OPTION_ID, AT(owner) },
        { "control", OPTION_FD, AT(control), .run = true },
        { "serial", OPTION_TARGET, AT(serial), .run = true },
        { "console-log", OPTION_FD, AT(console_log), .run = true, .cat = true },
        { "console-log-old", OPTION_FD, AT(console_log_old), .run = true, .cat = true },
        { "console-log-max", OPTION_LOG_SIZE, AT(console_log_max), .run = true },
        { "qemu-log", OPTION_FD, AT(qemu_log), .run = true },
        { "qemu-log-max", OPTION_LOG_SIZE, AT(qemu_log_max), .run = true },
        { "exit-record", OPTION_FD, AT(exit_record), .run = true },
        { "listen-console", OPTION_FD, AT(listen_console) },
        { "listen-log", OPTION_FD, AT(listen_log) },
        { "pass", OPTION_FD_LIST, AT(pass) },
        { "tail", OPTION_LINES, AT(tail), .cat = true },
        { "file", OPTION_FILE },
        { "device", OPTION_PATH_LIST, AT(devices) },
        { "bind-ro", OPTION_PATH_LIST, AT(bind_ro) },
        { "helper", OPTION_HELPER },
        { "helper-arg", OPTION_HELPER_ARG },
        { "helper-fd", OPTION_HELPER_FD },
};

#define OPTIONS_N ELEMENTSOF(option_table)

typedef struct Parser {
        Options *options;
        bool seen[OPTIONS_N];
        bool claimed[TARGET_MAX + 1]; /* descriptors that an option has named */
} Parser;

static int claim_fd(Parser *p, const char *value, bool to_be_open, int *ret) {
        uint32_t fd;

        if (parse_u32(value, &fd) < 0 || fd < TARGET_MIN || fd > TARGET_MAX)
                return -ERANGE;
        if (p->claimed[fd])
                return -EEXIST;
        if ((fcntl((int)fd, F_GETFD) >= 0) != to_be_open)
                return -EBADF;
        p->claimed[fd] = true;
        *ret = (int)fd;
        return 0;
}

static int parse_id(const char *value, uint32_t *ret) {
        uint32_t id;
        int r;

        r = parse_u32(value, &id);
        if (r < 0)
                return r;
        if (id == 0 || id == UINT32_MAX || id == UINT16_MAX) /* root, "no change" of now and of old */
                return -ERANGE;
        *ret = id;
        return 0;
}

/* Absolute, and made of names alone, so that it means the same below another root. */
static bool path_is_plain(const char *path) {
        if (path[0] != '/' || path[1] == '\0')
                return false;
        for (const char *p = path; *p != '\0';) {
                const char *name = p + 1;
                size_t n = strcspn(name, "/");

                if (n == 0 || (n <= 2 && strspn(name, ".") >= n))
                        return false;
                p = name + n;
        }
        return true;
}

static int parse_path(OptionPaths *paths, const char *value) {
        if (!path_is_plain(value))
                return -EINVAL;
        if (paths->n >= OPTION_PATHS_MAX)
                return -E2BIG;
        paths->path[paths->n++] = value;
        return 0;
}

/* FD:ACCESS:INO:BTIME:CTIME:MTIME:SIZE:PATH, where only PATH can hold a colon. */
static int parse_file(Parser *p, char *value) {
        char *rest = value, *target = strsep(&rest, ":"), *access = strsep(&rest, ":"),
             *ino = strsep(&rest, ":"), *btime = strsep(&rest, ":"), *ctime = strsep(&rest, ":"),
             *mtime = strsep(&rest, ":"), *size = strsep(&rest, ":");
        Options *o = p->options;
        GivenFile f;

        if (!rest || (!streq(access, "r") && !streq(access, "p")) || !path_is_plain(rest))
                return -EINVAL;
        if (o->n_files >= OPTION_FILES_MAX)
                return -E2BIG;
        f.path = rest;
        f.owner = o->owner;
        f.by_path = streq(access, "p");
        if (parse_u64(ino, &f.ino) < 0 || parse_u64(btime, &f.btime) < 0 || parse_u64(ctime, &f.ctime) < 0 ||
                        parse_u64(mtime, &f.mtime) < 0 || parse_u64(size, &f.size) < 0)
                return -EINVAL;
        o->files[o->n_files] = f;
        return claim_fd(p, target, false, &o->files[o->n_files++].target);
}

static int parse_fd_list(Parser *p, OptionFds *fds, const char *value) {
        if (fds->n >= OPTION_FDS_MAX)
                return -E2BIG;
        return claim_fd(p, value, true, &fds->fd[fds->n++]);
}

static int parse_group(Options *o, const char *value) {
        if (o->n_groups >= OPTION_GROUPS_MAX)
                return -E2BIG;
        return parse_id(value, &o->groups[o->n_groups++]);
}

static int parse_helper(Options *o, char *value) {
        if (!path_is_plain(value))
                return -EINVAL;
        if (o->n_helpers >= OPTION_HELPERS_MAX)
                return -E2BIG;
        o->helpers[o->n_helpers++].argv[0] = value;
        return 0;
}

/* What belongs to a helper stands behind it. */
static OptionHelper *last_helper(Options *o) {
        return o->n_helpers > 0 ? &o->helpers[o->n_helpers - 1] : NULL;
}

static int parse_helper_arg(Options *o, char *value) {
        OptionHelper *h = last_helper(o);

        if (!h)
                return -EINVAL;
        if (h->n_args >= OPTION_HELPER_ARGS_MAX)
                return -E2BIG;
        h->argv[++h->n_args] = value;
        return 0;
}

static int parse_helper_fd(Parser *p, const char *value) {
        OptionHelper *h = last_helper(p->options);

        return h ? parse_fd_list(p, &h->fds, value) : -EINVAL;
}

static int parse_log_size(const char *value, uint64_t *ret) {
        uint64_t v;
        int r;

        r = parse_u64(value, &v);
        if (r < 0)
                return r;
        if (v < RING_LOG_MAX_MIN || v > INT64_MAX)
                return -ERANGE;
        *ret = v;
        return 0;
}

static int parse_value(Parser *p, const OptionDef *def, char *value) {
        void *member = (char *)p->options + def->offset;

        switch (def->type) {
        case OPTION_FLAG:
                *(bool *)member = true;
                return 0;
        case OPTION_FD:
                return claim_fd(p, value, true, member);
        case OPTION_TARGET:
                return claim_fd(p, value, false, member);
        case OPTION_FD_LIST:
                return parse_fd_list(p, member, value);
        case OPTION_ID:
                return parse_id(value, member);
        case OPTION_GROUP:
                return parse_group(p->options, value);
        case OPTION_LOG_SIZE:
                return parse_log_size(value, member);
        case OPTION_LINES:
                if (streq(value, "-1")) {
                        *(uint32_t *)member = RING_LOG_ALL;
                        return 0;
                }
                return parse_u32(value, member);
        case OPTION_FILE:
                return parse_file(p, value);
        case OPTION_PATH_LIST:
                return parse_path(member, value);
        case OPTION_HELPER:
                return parse_helper(p->options, value);
        case OPTION_HELPER_ARG:
                return parse_helper_arg(p->options, value);
        case OPTION_HELPER_FD:
                return parse_helper_fd(p, value);
        }
        return -EINVAL;
}

static bool is_repeatable(OptionType type) {
        return type == OPTION_FD_LIST || type == OPTION_GROUP || type == OPTION_FILE ||
                        type == OPTION_PATH_LIST || type == OPTION_HELPER || type == OPTION_HELPER_ARG ||
                        type == OPTION_HELPER_FD;
}

static int parse_option(Parser *p, const OptionDef *def, char *value, Error **reterr_error) {
        bool *seen = &p->seen[def - option_table];
        _cleanup_free_ char *text = value ? strdup(value) : NULL; /* parsing may cut the original up */
        int r = -EEXIST;

        if (!*seen || is_repeatable(def->type)) {
                *seen = true;
                r = parse_value(p, def, value);
        }
        if (r < 0)
                return error_set(reterr_error, ERROR_INVALID_SPEC, "--%s %s: %s", def->name, text ?: "",
                                strerror(-r));
        return 0;
}

static int check(const Parser *p, Error **reterr_error) {
        const Options *o = p->options;
        bool uid = o->uid != 0, gid = o->gid != 0;

        for (size_t i = 0; i < OPTIONS_N; i++)
                if ((o->cat ? option_table[i].cat : option_table[i].run) && !p->seen[i])
                        return error_set(reterr_error, ERROR_INVALID_SPEC, "--%s is missing",
                                        option_table[i].name);
        if (uid != gid || (o->n_groups > 0 && !uid))
                return error_set(reterr_error, ERROR_INVALID_SPEC, "--uid, --gid and --group go together");
        if (o->cat != !o->command[0])
                return error_set(reterr_error, ERROR_INVALID_SPEC,
                                o->cat ? "--cat takes no command" : "The command is missing");
        if (o->command[0] && !path_is_plain(o->command[0]))
                return error_set(reterr_error, ERROR_INVALID_SPEC, "'%s' is not an absolute path",
                                o->command[0]);
        return 0;
}

int options_parse(int argc, char **argv, Options *ret, Error **reterr_error) {
        struct option long_options[OPTIONS_N + 1] = {};
        Parser p = { .options = ret };
        int index, c, r;

        *ret = (Options){
                .control = -EBADF,
                .serial = -EBADF,
                .console_log = -EBADF,
                .console_log_old = -EBADF,
                .qemu_log = -EBADF,
                .exit_record = -EBADF,
                .listen_console = -EBADF,
                .listen_log = -EBADF,
                .console_log_max = UINT64_MAX,
        };
        for (size_t i = 0; i < OPTIONS_N; i++)
                long_options[i] = (struct option){ option_table[i].name,
                        option_table[i].type == OPTION_FLAG ? no_argument : required_argument };
        opterr = 0;
        while ((c = getopt_long(argc, argv, "+", long_options, &index)) >= 0) {
                if (c != 0)
                        return error_set(reterr_error, ERROR_INVALID_SPEC,
                                        "Unknown option, or one without its value: '%s'", argv[optind - 1]);
                r = parse_option(&p, &option_table[index], optarg, reterr_error);
                if (r < 0)
                        return r;
        }
        ret->command = argv + optind;
        ret->has_identity = ret->uid != 0;
        return check(&p, reterr_error);
}
