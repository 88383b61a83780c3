/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/landlock.h>
#include <pthread.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lockdown.h"
#include "util/test.h"

static void *run(void *userdata) {
        *(int *)userdata = 1;
        return NULL;
}

static void check_forbidden(void) {
        char *const argv[] = { (char *)"true", NULL };

        CHECK(execv("/bin/true", argv) < 0);
        CHECK_EQ(errno, EPERM);
        CHECK(syscall(SYS_fork) < 0);
        CHECK(fork() < 0); /* by clone() */
        CHECK(kill(getppid(), 0) < 0);
        CHECK(unlink("/nowhere") < 0);
        CHECK_EQ(errno, EPERM);
        CHECK(socket(AF_PACKET, SOCK_RAW, 0) < 0);
        CHECK_EQ(errno, EAFNOSUPPORT);
        CHECK(socket(AF_VSOCK, SOCK_STREAM, 0) < 0);
        CHECK_EQ(errno, EAFNOSUPPORT);
        CHECK(syscall(SYS_bpf, 0, NULL, 0) < 0);
        CHECK_EQ(errno, EPERM);
}

static void check_allowed(void) {
        pthread_t thread;
        int ran = 0;

        CHECK_EQ(pthread_create(&thread, NULL, run, &ran), 0);
        CHECK_EQ(pthread_join(thread, NULL), 0);
        CHECK_EQ(ran, 1);
        CHECK(socket(AF_INET6, SOCK_STREAM, 0) >= 0 || errno == EAFNOSUPPORT);
        CHECK(socket(AF_NETLINK, SOCK_RAW, 0) >= 0);
        CHECK(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
}

static void check_files(void) {
        CHECK(open("/proc/self/status", O_RDONLY | O_CLOEXEC) < 0);
        CHECK_EQ(errno, EACCES);
        CHECK(open("/tmp", O_RDONLY | O_CLOEXEC) < 0);
        CHECK(open("/tmp/vmctl-test-lockdown", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) < 0);
        CHECK(open("/dev/null", O_WRONLY | O_CLOEXEC) < 0);
}

/* What can be done no more, and in a process of its own. */
int main(void) {
        bool has_landlock = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION) >
                        0;
        _cleanup_error_ Error *e = NULL;
        int written = open("/dev/null", O_WRONLY | O_CLOEXEC);

        if (lockdown(&e) < 0)
                TEST_FAIL("%s", error_message(e));
        check_forbidden();
        check_allowed();
        if (has_landlock)
                check_files();
        else
                fprintf(stderr, "This kernel has no Landlock: files are not looked at\n");
        CHECK_EQ(write(written, "x", 1), 1);
        return 0;
}
