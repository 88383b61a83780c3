/* SPDX-License-Identifier: GPL-2.0-or-later */
/* In QEMU's place where only its being there counts: it answers on its monitor, and has no guest. What the
 * service asks the binary about itself is QEMU's to answer. */
#include <stdio.h>
#include <unistd.h>

#include "util/fd-util.h"
#include "util/test.h"

#define QEMU "/usr/bin/qemu-system-x86_64"

/* The arguments name it, and the guest if there is to be one; -EBADF: there is none. */
static int find_monitor(char **argv) {
        int fd = -EBADF, n;
        bool guest = false;

        for (; *argv; argv++) {
                if (sscanf(*argv, "socket,id=monitor,fd=%i", &n) == 1)
                        fd = n;
                guest = guest || streq(*argv, "-name");
        }
        return guest ? fd : -EBADF;
}

static void answer(int fd, const char *command) {
        const char *id = strstr(command, "\"id\":"), *status = strstr(command, "query-status");
        _cleanup_free_ char *reply = strf("{\"return\":%s%s%.*s}\r\n",
                        status ? "{\"running\":true,\"status\":\"running\"}" : "{}", id ? "," : "",
                        id ? (int)strcspn(id, ",}") : 0, id ?: "");

        CHECK(reply);
        CHECK_EQ(write_all(fd, reply, strlen(reply)), 0);
}

int main(int argc, char **argv) {
        static const char greeting[] =
                        "{\"QMP\":{\"version\":{\"qemu\":{\"micro\":0,\"minor\":2,\"major\":7},"
                        "\"package\":\"\"},\"capabilities\":[\"oob\"]}}\r\n";
        int fd = find_monitor(argv);
        char line[4 * KIB];
        FILE *f;

        if (fd < 0) {
                (void)execv(QEMU, argv);
                return EXIT_FAILURE;
        }
        CHECK_EQ(write_all(fd, greeting, strlen(greeting)), 0);
        f = fdopen(fd, "r");
        CHECK(f);
        while (fgets(line, sizeof(line), f))
                answer(fd, line);
        while (true)
                (void)pause(); /* QEMU goes on without its monitor */
}
