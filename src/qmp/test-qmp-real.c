/* SPDX-License-Identifier: GPL-2.0-or-later */
/* QEMU itself, without a machine. */
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "qmp-fixture.h"
#include "util/child.h"
#include "util/fd-util.h"

#define QEMU "/usr/bin/qemu-system-x86_64"
#define EXIT_SKIP 77 /* meson's convention */

static pid_t start_qemu(int *ret_fd) {
        static const char *const argv[] = { QEMU, "-M", "none", "-nodefaults", "-display", "none",
                "-chardev", "socket,id=qmp,fd=3", "-mon", "chardev=qmp,mode=control", NULL };
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        ChildFd fds[] = { { .fd = STDERR_FILENO, .target = STDERR_FILENO }, { .target = 3 } };
        ChildSpec spec = { .argv = (char *const *)argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT };
        pid_t pid;

        CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        fds[1].fd = pair[1];
        CHECK_EQ(child_spawn(&spec, &pid), 0);
        *ret_fd = TAKE_FD(pair[0]);
        return pid;
}

/* The fixture's own peer has no part in this. */
static void connect_to_qemu(Fixture *x, int fd, QmpFlags flags) {
        fixture_init(x, NULL, FAKE_QMP_SILENT, NULL);
        safe_close(x->fd);
        x->fd = fd;
        fixture_connect(x, flags, LATE);
}

static void check_status(Fixture *x) {
        _cleanup_reply_ Reply reply = {};

        call(x, "query-status", LATE, &reply);
        RUN_UNTIL(x->event, reply.n == 1);
        CHECK_EQ(reply.r, 0);
        CHECK(strstr(reply.text, "\"status\":\"running\""));
}

static void quit(Fixture *x, pid_t pid) {
        _cleanup_reply_ Reply reply = {};
        int status;

        call(x, "quit", LATE, &reply);
        RUN_UNTIL(x->event, x->n_closed == 1);
        CHECK(x->closed_cleanly);
        CHECK_EQ(reply.n, 1);
        CHECK_STREQ(x->last_event, "SHUTDOWN");
        CHECK(x->last_usec > UINT64_C(1700000000) * USEC_PER_SEC);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_life(void) {
        _cleanup_reply_ Reply refused = {}, fd = {}, schema = {}, raw = {};
        _cleanup_fixture_ Fixture x;
        int qmp_fd;
        pid_t pid = start_qemu(&qmp_fd);

        connect_to_qemu(&x, qmp_fd, 0);
        RUN_UNTIL(x.event, x.n_ready == 1);
        check_status(&x);
        call(&x, "no-such-command", LATE, &refused);
        CHECK_EQ(qmp_call_fd(x.q, "getfd", "{\"fdname\":\"one\"}", memfd_with("one", "1", 1), LATE, on_reply,
                                 &fd, NULL),
                        0);
        CHECK_EQ(qmp_call_fd(x.q, "getfd", "{\"fdname\":\"two\"}", memfd_with("two", "2", 1), LATE, on_reply,
                                 &fd, NULL),
                        0);
        call(&x, "query-qmp-schema", LATE, &schema);
        CHECK_EQ(qmp_call_raw(x.q, "{\"execute\": \"query-version\", \"id\": \"mine\"}", LATE, on_raw_reply,
                                 &raw, NULL, NULL),
                        0);
        for (unsigned i = 0; i < 20; i++)
                CHECK_EQ(qmp_call(x.q, "query-name", NULL, LATE, on_reply, &fd, NULL), 0);
        RUN_UNTIL(x.event, fd.n == 22);
        CHECK_EQ(refused.r, -EPROTO);
        CHECK_STREQ(refused.message,
                        "QEMU refused 'no-such-command': The command no-such-command has not been found");
        CHECK_EQ(schema.r, 0);
        CHECK(strlen(schema.text) > 100000);
        CHECK(strstr(raw.text, "\"id\":\"mine\""));
        quit(&x, pid);
}

/* Whatever the former owner had negotiated and written, half written or not read. */
static void check_reattach(const char *said, bool wait_for_answer) {
        _cleanup_close_ int kept = -EBADF;
        _cleanup_fixture_ Fixture x;
        char buf[4096];
        int qmp_fd;
        pid_t pid = start_qemu(&qmp_fd);

        CHECK_EQ(write_all(qmp_fd, said, strlen(said)), 0);
        if (wait_for_answer)
                CHECK(recv(qmp_fd, buf, 20, 0) > 0); /* and leaves the rest of the greeting */
        connect_to_qemu(&x, qmp_fd, QMP_REATTACH);
        RUN_UNTIL(x.event, x.n_ready == 1);
        check_status(&x);
        kept = dup(qmp_fd); /* as a descriptor store does */
        x.q = qmp_free(x.q);

        x.n_ready = 0;
        x.fd = TAKE_FD(kept);
        fixture_connect(&x, QMP_REATTACH, LATE);
        RUN_UNTIL(x.event, x.n_ready == 1);
        check_status(&x);
        quit(&x, pid);
}

static void test_reattach(void) {
        static const char *const said[] = { "", "{\"execute\":\"qmp_capabilities\"}\n",
                "{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"query-status\",\"id\":2}\n{\"exec",
                "{\"execute\":\"qmp_capabilities\",\"id\":1}{\"execute\":",
                "{\"execute\":\"qmp_capabilities\"}{\"execute\":\"query-status\",\"arguments\":{\"x" };

        for (size_t i = 0; i < ELEMENTSOF(said); i++) {
                check_reattach(said[i], false);
                check_reattach(said[i], true);
        }
}

int main(void) {
        if (access(QEMU, X_OK) < 0) {
                fprintf(stderr, QEMU " is not installed\n");
                return EXIT_SKIP;
        }
        test_life();
        test_reattach();
        return 0;
}
