/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A QEMU that does not answer. */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"
#include "util/fd-util.h"
#include "util/test.h"

typedef struct Asker {
        Host *host;
        unsigned told;
} Asker;

/* As all askers do: what was found is there when they ask again. */
static void on_told(void *userdata) {
        Asker *a = userdata;

        a->told++;
        CHECK_EQ(host_ensure(a->host, on_told, a), 1);
        CHECK_EQ(host_check_qemu(a->host, NULL), -ECHILD);
}

static void ask(sd_event *event, Host *h, unsigned askers) {
        Asker list[2] = { { h }, { h } };

        for (unsigned i = 0; i < askers; i++)
                CHECK_EQ(host_ensure(h, on_told, &list[i]), 0);
        while (list[0].told == 0)
                CHECK(sd_event_run(event, UINT64_MAX) >= 0);
        for (unsigned i = 0; i < askers; i++)
                CHECK_EQ(list[i].told, 1u);
}

int main(void) {
        char folder[] = "/tmp/vmctl-test-host-XXXXXX";
        static const char killed[] = "#!/bin/sh\nkill -KILL $$\n";
        _cleanup_(sd_event_unrefp) sd_event *event = NULL;
        _cleanup_(host_freep) Host *h = NULL;
        _cleanup_free_ char *qemu = NULL;
        _cleanup_close_ int fd = -EBADF;
        sigset_t set;

        sigemptyset(&set);
        sigaddset(&set, SIGCHLD);
        CHECK(sigprocmask(SIG_BLOCK, &set, NULL) >= 0);
        CHECK(mkdtemp(folder));
        qemu = strf("%s/qemu", folder);
        CHECK_EQ(sd_event_new(&event), 0);
        CHECK_EQ(host_new(event, qemu, true, &h), 0);

        CHECK_EQ(host_ensure(h, NULL, NULL), 1);
        CHECK_EQ(host_check_qemu(h, NULL), -ENOENT);

        fd = open(qemu, O_WRONLY | O_CREAT | O_CLOEXEC, 0700);
        CHECK(fd >= 0 && write_all(fd, killed, strlen(killed)) >= 0);
        fd = safe_close(fd);
        ask(event, h, 2);
        ask(event, h, 1); /* may have better luck: the first was killed, and is no other binary */
        CHECK(unlink(qemu) >= 0 && rmdir(folder) >= 0);
        return 0;
}
