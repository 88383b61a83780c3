/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Whether passt can be used, its command line, and the host's name server. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "passt.h"
#include "util/fd-util.h"
#include "util/test.h"

static char folder[] = "/tmp/vmctl-test-passt-XXXXXX";

static void write_text(const char *path, const char *text) {
        _cleanup_free_ char *new = strf("%s.new", path);
        _cleanup_close_ int fd = open(new, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);

        CHECK(fd >= 0 && write_all(fd, text, strlen(text)) >= 0);
        CHECK_EQ(rename(new, path), 0); /* another inode */
}

/* Who asks in the callback is told what was found, not to wait once more. */
typedef struct Asker {
        Passt *passt;
        unsigned told;
} Asker;

static void on_tried(void *userdata) {
        Asker *a = userdata;

        a->told++;
        CHECK(!passt_is_tried(a->passt));
        CHECK_EQ(passt_ensure(a->passt, on_tried, a), 1);
}

static void try(sd_event *event, Passt *p) {
        Asker a = { p };

        CHECK_EQ(passt_ensure(p, on_tried, &a), 0);
        CHECK(passt_is_tried(p));
        while (a.told == 0)
                CHECK(sd_event_run(event, UINT64_MAX) >= 0);
        CHECK_EQ(a.told, 1u);
}

static void test_trial(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_free_ char *path = strf("%s/passt", folder);
        _cleanup_(passt_freep) Passt *p = NULL;
        const char *reason;

        CHECK_EQ(sd_event_new(&event), 0);
        CHECK_EQ(passt_new(event, path, &p), 0);
        CHECK(!passt_works(p, NULL));
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1);
        CHECK(!passt_works(p, &reason) && strstr(reason, "No such file"));

        /* It ends with the socket that it was given, whose other end is closed. */
        write_text(path, "#!/bin/bash\nread -r x <&3\n[[ \" $* \" == *' --dns-host=127.0.0.1 '* ]]\n");
        try(event, p);
        CHECK(passt_works(p, &reason) && !reason);
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1);
        CHECK(passt_works(p, NULL));

        write_text(path, "#!/bin/sh\nexit 1\n");
        try(event, p);
        CHECK(!passt_works(p, &reason) && strstr(reason, "status 1"));
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1); /* the same binary would say the same */

        /* One that has no word for the option is not tried. */
        write_text(path, "\177ELF has --no-map-gw");
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1);
        CHECK(!passt_is_tried(p) && !passt_works(p, &reason) && strstr(reason, "before November 2024"));
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1);
        CHECK(!passt_works(p, NULL));
        write_text(path, "\177ELF has --dns-host");
        CHECK(passt_ensure(p, NULL, NULL) >= 0);
        CHECK(!passt_works(p, &reason) && !strstr(reason, "is from before"));
        p = passt_free(p);
        CHECK_EQ(passt_new(event, path, &p), 0);

        write_text(path, "#!/bin/sh\nkill -KILL $$\n");
        try(event, p);
        CHECK(!passt_works(p, NULL));
        try(event, p); /* this one may have better luck */

        CHECK_EQ(unlink(path), 0);
        CHECK_EQ(passt_ensure(p, NULL, NULL), 1);
        CHECK(!passt_works(p, &reason) && strstr(reason, "No such file"));
}

/* An object that goes while it tries calls nobody. */
static void test_free(void) {
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_free_ char *path = strf("%s/passt", folder);
        Passt *p;

        CHECK_EQ(sd_event_new(&event), 0);
        CHECK_EQ(passt_new(event, path, &p), 0);
        write_text(path, "#!/bin/sh\nexec sleep 1000\n");
        CHECK_EQ(passt_ensure(p, NULL, NULL), 0);
        CHECK(!passt_free(p));
        CHECK_EQ(unlink(path), 0);
}

static bool has(char *const *argv, const char *argument) {
        STRV_FOREACH(a, argv)
                if (streq(*a, argument))
                        return true;
        return false;
}

static void test_command(void) {
        _cleanup_strv_ char **argv = NULL, **plain = NULL;

        CHECK_EQ(passt_command("/usr/bin/passt", 7, "10022:22,8080:80", "127.0.0.53", &argv), 0);
        CHECK_STREQ(argv[0], "/usr/bin/passt");
        CHECK(has(argv, "--fd=7") && has(argv, "--tcp-ports=127.0.0.1/10022:22,8080:80"));
        CHECK(has(argv, "--no-map-gw") && has(argv, "--foreground"));
        CHECK(has(argv, "--dns-forward=10.0.2.3") && has(argv, "--dns-host=127.0.0.53"));
        CHECK_EQ(passt_command("/usr/bin/passt", 7, NULL, NULL, &plain), 0);
        CHECK(has(plain, "--tcp-ports=none") && !has(plain, "--dns=10.0.2.3"));
}

static void test_resolver(void) {
        static const struct {
                const char *text, *expected;
        } cases[] = {
                { "", "" },
                { "# nameserver 192.0.2.1\nsearch example.test\nnameserver\t192.0.2.2 \nnameserver "
                  "192.0.2.3\n",
                                "192.0.2.2" },
                { "nameserver 127.0.0.53", "127.0.0.53" },
                { "nameserver 2001:db8::1\nnameserver 192.0.2.1\n", "" }, /* passt knows what to do */
                { "nameservers 192.0.2.1\nnameserver\n", "" },
                { "nameserver --dns=192.0.2.1\n", "" },
        };
        _cleanup_free_ char *path = strf("%s/resolv.conf", folder);

        for (size_t i = 0; i < ELEMENTSOF(cases); i++) {
                _cleanup_free_ char *found = NULL;

                write_text(path, cases[i].text);
                found = passt_find_resolver(path);
                CHECK_STREQ(found ?: "", cases[i].expected);
        }
        CHECK_EQ(unlink(path), 0);
        CHECK(!passt_find_resolver(path));
}

int main(void) {
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) >= 0);
        CHECK(mkdtemp(folder));
        test_trial();
        test_free();
        test_command();
        test_resolver();
        CHECK_EQ(rmdir(folder), 0);
        return 0;
}
