/* SPDX-License-Identifier: GPL-2.0-or-later */

/* PID 1 of the test guest: it brings up what a test can see from outside (disks, network, agent port,
 * power button), says GUEST READY on the first serial port, and then does what it is told there, one
 * command a line. It is one loop over the console and the power buttons. */

#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/input.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

Guest guest;

/* Lines end in CR or LF, are shown as typed by nobody (a test must not take its own words for the
 * guest's), and what the guest writes is turned into CR LF. */
void console_set_up(bool echo) {
        struct termios t;

        if (tcgetattr(STDIN_FILENO, &t) < 0)
                return;

        t.c_iflag = ICRNL;
        t.c_oflag = OPOST | ONLCR;
        t.c_lflag = ICANON | (echo ? ISIG | ECHO | ECHOE | ECHOK : 0);
        tcsetattr(STDIN_FILENO, TCSANOW, &t);
}

static void console_open(void) {
        int fd = open("/dev/ttyS0", O_RDWR | O_NOCTTY);

        if (fd < 0)
                fd = open("/dev/console", O_RDWR | O_NOCTTY);
        for (int i = STDIN_FILENO; i <= STDERR_FILENO && fd >= 0; i++)
                dup2(fd, i);
        if (fd > STDERR_FILENO)
                close(fd);

        console_set_up(false);
}

static void set_up(void) {
        mkdir("/dev", 0755);
        mkdir("/proc", 0555);
        mkdir("/sys", 0555);
        mkdir("/mnt", 0755);
        mount("devtmpfs", "/dev", "devtmpfs", 0, NULL);
        mount("proc", "/proc", "proc", 0, NULL);
        mount("sysfs", "/sys", "sysfs", 0, NULL);
        console_open();
        setenv("PATH", "/bin", true);

        load_modules("/modules/boot");
        open_power_buttons();
}

int leave(int how) {
        fflush(stdout);
        sync();
        tcdrain(STDOUT_FILENO);
        reboot(how);
        return -errno;
}

/* Runs each vmtest.run=COMMAND of the kernel's command line; blanks in a command need double quotes. */
static void run_kernel_command_line(void) {
        static const char prefix[] = "vmtest.run=";
        char text[4096];

        if (read_word("/proc/cmdline", text, sizeof(text)) < 0)
                return;

        for (char *p = text; *p != '\0';) {
                bool quoted = false;
                char word[sizeof(text)];
                size_t n = 0;

                for (; *p != '\0' && (quoted || *p != ' '); p++)
                        if (*p == '"')
                                quoted = !quoted;
                        else
                                word[n++] = *p;

                word[n] = '\0';
                p += *p == ' ';
                if (strncmp(word, prefix, sizeof(prefix) - 1) == 0)
                        command_run(word + sizeof(prefix) - 1);
        }
}

static void on_power_button(int fd) {
        struct input_event event;

        while (read(fd, &event, sizeof(event)) == sizeof(event)) {
                if (event.type != EV_KEY || event.code != KEY_POWER || event.value != 1)
                        continue;

                printf(guest.ignore_power ? "GUEST POWER BUTTON IGNORED\n" : "GUEST POWERDOWN\n");
                if (!guest.ignore_power)
                        leave(RB_POWER_OFF);
        }
}

/* The terminal is in canonical mode: each read is one line. */
static void on_console(void) {
        char line[4096];

        ssize_t n = read(STDIN_FILENO, line, sizeof(line) - 1);
        if (n <= 0)
                return;

        line[n] = '\0';
        line[strcspn(line, "\n")] = '\0';
        command_run(line);
}

static void reap(void) {
        pid_t pid;

        while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
                if (pid == guest.shell) {
                        guest.shell = 0;
                        console_open(); /* the end of a session hangs its terminal up for everybody */
                        printf("ok sh\n");
                }
}

pid_t spawn(void) {
        sigset_t none;

        fflush(stdout);
        pid_t pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0) {
                sigemptyset(&none);
                sigprocmask(SIG_SETMASK, &none, NULL);
        }

        return pid;
}

static void on_signal(int signal) {
        (void)signal; /* only there to interrupt ppoll() */
}

int main(void) {
        struct pollfd fds[1 + POWER_BUTTONS_MAX];
        sigset_t none, child;

        /* Only ppoll() lets the end of a child through, so none is missed between reap() and there. */
        sigemptyset(&none);
        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        sigaction(SIGCHLD, &(struct sigaction){ .sa_handler = on_signal }, NULL);
        setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
        set_up();

        run_kernel_command_line();
        printf("GUEST READY ");
        print_facts();

        for (;;) {
                reap();

                /* While the interactive shell has the console, its lines are not ours. */
                fds[0] = (struct pollfd){ .fd = guest.shell > 0 ? -1 : STDIN_FILENO, .events = POLLIN };
                for (size_t i = 0; i < guest.n_power_buttons; i++)
                        fds[1 + i] = (struct pollfd){ .fd = guest.power_buttons[i], .events = POLLIN };

                if (ppoll(fds, 1 + guest.n_power_buttons, NULL, &none) < 0)
                        continue;

                for (size_t i = 0; i < guest.n_power_buttons; i++)
                        if (fds[1 + i].revents & POLLIN)
                                on_power_button(fds[1 + i].fd);
                if (fds[0].revents & POLLIN)
                        on_console();
        }
}
