/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <pty.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "pump.h"
#include "util/fd-util.h"
#include "util/test.h"

/* Both ends of everything that a pump has to do with. */
typedef struct Bench {
        int input[2], output[2], console[2];
} Bench;

static Bench bench_new(void) {
        Bench b;

        CHECK(pipe2(b.input, O_CLOEXEC) == 0 && pipe2(b.output, O_CLOEXEC) == 0);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, b.console) == 0);
        return b;
}

static void bench_done(Bench *b) {
        for (int i = 0; i < 2; i++) {
                safe_close(b->input[i]);
                safe_close(b->output[i]);
                safe_close(b->console[i]);
        }
}

static void check_read(int fd, const char *expected) {
        _cleanup_free_ char *text = NULL;

        CHECK(read_all(fd, 1024 * 1024, &text, NULL) == 0);
        CHECK_STREQ(text, expected);
}

static Pump bench_pump(const Bench *b) {
        return (Pump){
                .in = b->input[0], .out = b->output[1], .socket = b->console[0], .linger_usec = UINT64_MAX
        };
}

/* Input ends, the console answers and ends: all of the answer is there. */
static void test_pipe(void) {
        _cleanup_(bench_done) Bench b = bench_new();
        Pump p = bench_pump(&b);
        PumpEnd end;
        pid_t pid;

        CHECK(write_all(b.input[1], "uptime\n\x1d", 8) == 0); /* Ctrl-] means nothing in a pipe */
        b.input[1] = safe_close(b.input[1]);
        pid = fork();
        if (pid == 0) {
                safe_close(b.console[0]);
                check_read(b.console[1], "uptime\n\x1d");
                CHECK(write_all(b.console[1], "up 1 day\n", 9) == 0);
                _exit(0);
        }
        b.console[1] = safe_close(b.console[1]);
        CHECK_EQ(pump_run(&p, &end), 0);
        CHECK_EQ(end, PUMP_CLOSED);
        b.output[1] = safe_close(b.output[1]);
        check_read(b.output[0], "up 1 day\n");
        CHECK(waitpid(pid, NULL, 0) == pid);
}

static void test_timeout(void) {
        _cleanup_(bench_done) Bench b = bench_new();
        Pump p = bench_pump(&b);
        PumpEnd end;

        b.input[1] = safe_close(b.input[1]);
        p.linger_usec = 10 * USEC_PER_MSEC;
        CHECK_EQ(pump_run(&p, &end), 0);
        CHECK_EQ(end, PUMP_TIMED_OUT);
}

static void test_detach(void) {
        _cleanup_(bench_done) Bench b = bench_new();
        Pump p = bench_pump(&b);
        PumpEnd end;

        p.detach = true;
        CHECK(write_all(b.input[1], "ls\x1dnot sent", 11) == 0);
        CHECK_EQ(pump_run(&p, &end), 0);
        CHECK_EQ(end, PUMP_DETACHED);
        b.console[0] = safe_close(b.console[0]);
        check_read(b.console[1], "ls");
}

/* A guest that takes nothing keeps nobody from detaching. */
static void test_detach_from_deaf(void) {
        _cleanup_(bench_done) Bench b = bench_new();
        Pump p = bench_pump(&b);
        char filler[8192] = "";
        PumpEnd end;

        CHECK(fd_set_nonblock(b.console[0], true) == 0);
        while (write(b.console[0], filler, sizeof(filler)) > 0)
                ;
        CHECK(fd_set_nonblock(b.console[0], false) == 0);
        memset(filler, 'x', sizeof(filler));
        CHECK(write_all(b.input[1], filler, sizeof(filler)) == 0);
        CHECK(write_all(b.input[1], "\x1d", 1) == 0);
        p.detach = true;
        CHECK_EQ(pump_run(&p, &end), 0);
        CHECK_EQ(end, PUMP_DETACHED);
}

static bool is_raw(int fd) {
        struct termios t;

        CHECK(tcgetattr(fd, &t) == 0);
        return !(t.c_lflag & (ICANON | ECHO | ISIG));
}

static void test_restore(void) {
        _cleanup_close_ int master = -EBADF, slave = -EBADF;
        static const int signals[] = { SIGTERM, SIGHUP, SIGINT };

        CHECK(openpty(&master, &slave, NULL, NULL, NULL) == 0);
        CHECK(!is_raw(slave));
        CHECK_EQ(raw_terminal_set(slave), 0);
        CHECK(is_raw(slave));
        raw_terminal_restore();
        CHECK(!is_raw(slave));
        raw_terminal_restore();

        for (size_t i = 0; i < ELEMENTSOF(signals); i++) {
                pid_t pid = fork();
                int status;

                if (pid == 0) {
                        (void)signal(signals[i],
                                        SIG_DFL); /* nohup, or a shell's "&", may have us ignore it */
                        CHECK_EQ(raw_terminal_set(slave), 0);
                        CHECK(is_raw(slave));
                        (void)raise(signals[i]);
                        _exit(0);
                }
                CHECK(waitpid(pid, &status, 0) == pid);
                CHECK(WIFSIGNALED(status) && WTERMSIG(status) == signals[i]);
                CHECK(!is_raw(slave));
        }
}

int main(void) {
        test_pipe();
        test_timeout();
        test_detach();
        test_detach_from_deaf();
        test_restore();
        return 0;
}
