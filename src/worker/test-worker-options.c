/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "util/test.h"
#include "worker-options.h"

typedef struct Parsed {
        int output;
        int files[2];
        Identity identity;
} Parsed;

#define ARGS(...) ((char **)(const char *[]){ "vmctl-test", __VA_ARGS__ __VA_OPT__(, ) NULL })

static int parse(char *argv[], Parsed *ret, Error **reterr) {
        const WorkerOption table[] = {
                { "--output", &ret->output, 1 },
                { "--file", ret->files, ELEMENTSOF(ret->files) },
        };
        int argc = 0;

        *ret = (Parsed){ .output = -EBADF, .files = { -EBADF, -EBADF } };
        while (argv[argc])
                argc++;
        return worker_parse_options(argc, argv, 1, table, ELEMENTSOF(table), &ret->identity, reterr);
}

static void test_taken(void) {
        Parsed p;

        CHECK_EQ(parse(ARGS(), &p, NULL), 0);
        CHECK(!p.identity.set);
        CHECK_EQ(p.output, -EBADF);
        CHECK_EQ(parse(ARGS("--uid", "7", "--file", "4", "--output", "3", "--file", "5", "--gid", "8"), &p,
                                 NULL),
                        0);
        CHECK(p.identity.set);
        CHECK_EQ(p.identity.uid, 7U);
        CHECK_EQ(p.identity.gid, 8U);
        CHECK_EQ(p.output, 3);
        CHECK_EQ(p.files[0], 4);
        CHECK_EQ(p.files[1], 5);
}

static void refuse(char *argv[], const char *words) {
        _cleanup_error_ Error *e = NULL;
        Parsed p;

        CHECK(parse(argv, &p, &e) < 0);
        CHECK_EQ(error_code(e), ERROR_FAILED);
        if (!strstr(error_message(e), words))
                TEST_FAIL("\"%s\" says nothing of '%s'", error_message(e), words);
}

static void test_refused(void) {
        refuse(ARGS("--output"), "'--output'");
        refuse(ARGS("--output", "x"), "'--output'");
        refuse(ARGS("--output", "2"), "'--output'"); /* standard error */
        refuse(ARGS("--output", "2147483648"), "'--output'");
        refuse(ARGS("--output", "3", "--output", "4"), "'--output'");
        refuse(ARGS("--file", "3", "--file", "4", "--file", "5"), "'--file'");
        refuse(ARGS("--other", "3"), "'--other'");
        refuse(ARGS("--uid", "-1", "--gid", "1"), "'--uid'");
        refuse(ARGS("--uid", "1"), "both");
        refuse(ARGS("--gid", "1"), "both");
}

int main(void) {
        test_taken();
        test_refused();
        return EXIT_SUCCESS;
}
