/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "spec-args.h"
#include "text.h"
#include "util/fd-util.h"

/* A public key is a line of some hundred bytes; an RSA key of 16384 bits has 2.8 KB. */
#define TEXT_FILE_MAX (16 * KIB)

static const char *file_kind(mode_t mode) {
        return S_ISDIR(mode)             ? "a folder"
                        : S_ISCHR(mode)  ? "a character device"
                        : S_ISBLK(mode)  ? "a block device"
                        : S_ISFIFO(mode) ? "a FIFO"
                        : S_ISSOCK(mode) ? "a socket"
                                         : "something else";
}

int spec_open_file(const char *path, int *ret_fd, Error **reterr) {
        _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
        struct stat st;

        if (fd < 0)
                return error_set_errno(reterr, -errno, "Cannot open '%s'", path);
        if (fstat(fd, &st) < 0)
                return error_set_errno(reterr, -errno, "Cannot look at '%s'", path);
        if (!S_ISREG(st.st_mode))
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is %s, not a regular file", path,
                                file_kind(st.st_mode));
        *ret_fd = TAKE_FD(fd);
        return 0;
}

static int bad_value(const Option *o, const char *value, int r, Error **reterr) {
        if (r == -ENOMEM)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        if (r == -ERANGE)
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is too large for '%s'", value, o->name);
        return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is no %s for '%s'", value,
                        o->argument ? o->argument : "value", o->name);
}

static int append_failed(int r, Error **reterr) {
        return r < 0 ? error_set_errno(reterr, r, "Cannot put the options in a message") : 0;
}

static int append_file(sd_bus_message *m, const Option *o, const char *path, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        int r;

        r = spec_open_file(path, &fd, reterr);
        if (r < 0)
                return r;
        return append_failed(sd_bus_message_append(m, "{sv}", o->key, "h", fd), reterr);
}

int spec_read_text(const char *path, const char *what, char **ret, Error **reterr) {
        _cleanup_close_ int fd = -EBADF;
        _cleanup_free_ char *text = NULL;
        size_t len;
        int r;

        r = spec_open_file(path, &fd, reterr);
        if (r < 0)
                return r;
        r = read_all(fd, TEXT_FILE_MAX, &text, &len);
        if (r == -EFBIG)
                return error_set(reterr, ERROR_INVALID_KEY, "'%s' is too large for '%s'", path, what);
        if (r < 0)
                return error_set_errno(reterr, r, "Cannot read '%s'", path);
        if (memchr(text, '\0', len) || !utf8_is_valid(text, len))
                return error_set(reterr, ERROR_INVALID_KEY, "'%s' is not a text file", path);
        *ret = TAKE_PTR(text);
        return 0;
}

static int append_text(sd_bus_message *m, const Option *o, const char *path, Error **reterr) {
        _cleanup_free_ char *text = NULL;
        int r;

        r = spec_read_text(path, o->name, &text, reterr);
        return r < 0 ? r : append_failed(sd_bus_message_append(m, "{sv}", o->key, "s", text), reterr);
}

ImageKind spec_image_kind(const char *text) {
        static const char *const schemes[] = { "https://", "http://", "file://" };
        struct stat st;

        for (size_t i = 0; i < ELEMENTSOF(schemes); i++)
                if (startswith(text, schemes[i]))
                        return IMAGE_URL;
        if (strchr(text, '/'))
                return IMAGE_FILE;
        /* A folder of the same name is what the image was built from. */
        return stat(text, &st) >= 0 && !S_ISDIR(st.st_mode) ? IMAGE_FILE : IMAGE_STORED;
}

static int append_image(sd_bus_message *m, const Option *o, const char *text, Error **reterr) {
        switch (spec_image_kind(text)) {
        case IMAGE_FILE:
                return append_file(m, o, text, reterr);
        case IMAGE_STORED:
                return append_failed(sd_bus_message_append(m, "{sv}", "image-name", "s", text), reterr);
        default:
                return 0;
        }
}

/* 0 on the bus is the limit's default. */
static bool is_default_limit(const Option *o, const char *value) {
        return o->limit && streq(value, "default");
}

static int append_number(sd_bus_message *m, const Option *o, const char *value, Error **reterr) {
        uint64_t v = 0;
        uint32_t u = 0;
        int r = 0;

        if (!is_default_limit(o, value))
                switch (o->kind) {
                case VALUE_U32:
                        r = parse_u32(value, &u);
                        break;
                case VALUE_PERCENT:
                        r = parse_percent(value, &u);
                        break;
                case VALUE_U64:
                        r = parse_u64(value, &v);
                        break;
                default:
                        r = parse_size(value, o->kind == VALUE_GIB ? GIB : MIB, &v);
                }
        if (r < 0)
                return bad_value(o, value, r, reterr);
        if (o->kind == VALUE_U32 || o->kind == VALUE_PERCENT)
                r = sd_bus_message_append(m, "{sv}", o->key, "u", u);
        else
                r = sd_bus_message_append(m, "{sv}", o->key, "t", v);
        return append_failed(r, reterr);
}

static int append_option(sd_bus_message *m, const Option *o, const char *value, Error **reterr) {
        switch (o->kind) {
        case VALUE_STRING:
                return append_failed(sd_bus_message_append(m, "{sv}", o->key, "s", value), reterr);
        case VALUE_TRUE:
        case VALUE_FALSE:
                return append_failed(sd_bus_message_append(m, "{sv}", o->key, "b", o->kind == VALUE_TRUE),
                                reterr);
        case VALUE_FILE:
                return append_file(m, o, value, reterr);
        case VALUE_TEXT:
                return append_text(m, o, value, reterr);
        case VALUE_IMAGE:
                return append_image(m, o, value, reterr);
        default:
                return append_number(m, o, value, reterr);
        }
}

/* An entry of the dictionary to be. */
typedef struct Entry {
        const Option *option;
        const char *value;
} Entry;

static int parse_limit(const Verb *verb, const char *word, Entry *ret, Error **reterr) {
        size_t len = strcspn(word, "=");
        _cleanup_free_ char *name = strndup(word, len);
        const Option *o;

        if (!name)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        if (word[len] != '=')
                return error_set(reterr, ERROR_INVALID_SPEC, "'%s' is not of the form LIMIT=VALUE", word);
        o = verb_option(verb, name);
        if (!o || !o->limit)
                return error_set(reterr, ERROR_UNKNOWN_OPTION, "There is no limit '%s'", name);
        *ret = (Entry){ o, word + len + 1 };
        return 0;
}

/* Two options may set one key, as --balloon and --no-balloon do. */
static bool comes_again(const Entry *entries, size_t n, size_t i) {
        for (size_t j = i + 1; j < n; j++)
                if (streq(entries[j].option->key, entries[i].option->key))
                        return true;
        return false;
}

static int append_entries(sd_bus_message *m, const Entry *entries, size_t n, Error **reterr) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r < 0)
                return append_failed(r, reterr);
        for (size_t i = 0; i < n; i++) {
                if (comes_again(entries, n, i))
                        continue;
                r = append_option(m, entries[i].option, entries[i].value, reterr);
                if (r < 0)
                        return r;
        }
        return append_failed(sd_bus_message_close_container(m), reterr);
}

int spec_append_changes(sd_bus_message *m, const Args *args, const char *const *words, Error **reterr) {
        _cleanup_free_ Entry *entries = calloc(args->n_uses + args->n_words + 1, sizeof(Entry));
        size_t n = 0;
        int r;

        if (!entries)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        for (size_t i = 0; i < args->n_uses; i++)
                if (args->uses[i].option->key)
                        entries[n++] = (Entry){ args->uses[i].option, args->uses[i].value };
        for (; *words; words++) {
                r = parse_limit(args->verb, *words, &entries[n], reterr);
                if (r < 0)
                        return r;
                n++;
        }
        return append_entries(m, entries, n, reterr);
}

static bool table_has(const Option *table, const Option *option) {
        OPTION_FOREACH(o, table)
                if (o == option)
                        return true;
        return false;
}

int spec_append_table(
                sd_bus_message *m, const Args *args, const Option *table, bool others, Error **reterr) {
        _cleanup_free_ Entry *entries = calloc(args->n_uses + 1, sizeof(Entry));
        size_t n = 0;

        if (!entries)
                return error_set(reterr, ERROR_NO_MEMORY, "Out of memory");
        for (size_t i = 0; i < args->n_uses; i++) {
                const OptionUse *u = &args->uses[i];

                if (u->option->key && table_has(table, u->option) != others)
                        entries[n++] = (Entry){ u->option, u->value };
        }
        return append_entries(m, entries, n, reterr);
}
