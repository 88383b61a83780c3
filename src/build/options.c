/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <getopt.h>
#include <unistd.h>

#include "options.h"
#include "util/string-util.h"

#define LABEL_MAX 16 /* of ext4 */

typedef enum OptionKind {
        KIND_FD,
        KIND_SIZE,
        KIND_STRING,
        KIND_FLAG,
} OptionKind;

static const struct {
        const char *name;
        OptionKind kind;
        size_t offset;
} table[] = {
        { "output", KIND_FD, offsetof(BuildOptions, output) },
        { "kernel-output", KIND_FD, offsetof(BuildOptions, kernel_output) },
        { "initrd-output", KIND_FD, offsetof(BuildOptions, initrd_output) },
        { "kernel", KIND_FD, offsetof(BuildOptions, kernel) },
        { "initrd", KIND_FD, offsetof(BuildOptions, initrd) },
        { "size", KIND_SIZE, offsetof(BuildOptions, size) },
        { "bootable", KIND_FLAG, offsetof(BuildOptions, bootable) },
        { "root-owned", KIND_FLAG, offsetof(BuildOptions, root_owned) },
        { "label", KIND_STRING, offsetof(BuildOptions, label) },
        { "uuid", KIND_STRING, offsetof(BuildOptions, uuid) },
        { "append", KIND_STRING, offsetof(BuildOptions, append) },
        { "file", KIND_STRING, offsetof(BuildOptions, file) },
};

static int parse_fd(const char *value, int *ret) {
        uint32_t v;

        if (parse_u32(value, &v) < 0 || v <= STDERR_FILENO || v > INT32_MAX)
                return -EINVAL;
        *ret = (int)v;
        return 0;
}

static int set(BuildOptions *o, size_t i, const char *value) {
        void *field = (char *)o + table[i].offset;

        switch (table[i].kind) {
        case KIND_FD:
                return parse_fd(value, field);
        case KIND_SIZE:
                return parse_u64(value, field);
        case KIND_STRING:
                *(const char **)field = value;
                return 0;
        case KIND_FLAG:
                *(bool *)field = true;
                return 0;
        default:
                return -EINVAL;
        }
}

static int check(const BuildOptions *o, Error **reterr) {
        if (o->output < 0 || !o->source)
                return error_set(reterr, ERROR_FAILED, "vmctl-build needs --output and one source");
        if (o->initrd >= 0 && o->kernel < 0)
                return error_set(reterr, ERROR_INVALID_SPEC, "'--initrd' goes with '--kernel' alone");
        if (o->append && !o->bootable)
                return error_set(reterr, ERROR_INVALID_SPEC,
                                "'--append' is for images with '--bootable'; 'vmctl create' has one for "
                                "others");
        if (o->label && strlen(o->label) > LABEL_MAX)
                return error_set(reterr, ERROR_INVALID_SPEC, "The label '%.64s' is longer than 16 bytes",
                                o->label);
        return 0;
}

int build_options_parse(int argc, char *argv[], BuildOptions *ret, Error **reterr) {
        BuildOptions o = { .output = -EBADF,
                .kernel_output = -EBADF,
                .initrd_output = -EBADF,
                .kernel = -EBADF,
                .initrd = -EBADF };
        struct option options[ELEMENTSOF(table) + 1] = {};
        int i, r;

        for (size_t k = 0; k < ELEMENTSOF(table); k++)
                options[k] = (struct option){ .name = table[k].name,
                        .has_arg = table[k].kind == KIND_FLAG ? no_argument : required_argument };
        opterr = 0;
        for (;;) {
                int c = getopt_long(argc, argv, "", options, &i);

                if (c < 0)
                        break;
                if (c != 0 || set(&o, (size_t)i, optarg) < 0)
                        return error_set(reterr, ERROR_FAILED, "vmctl-build was called with a wrong '%s'",
                                        argv[optind - 1]);
        }
        o.source = optind + 1 == argc ? argv[optind] : NULL;
        r = check(&o, reterr);
        if (r >= 0)
                *ret = o;
        return r;
}
