/* SPDX-License-Identifier: GPL-2.0-or-later */

/* The commands that the test guest takes from its console and its kernel command line. One that doesn't
 * end soon runs in a child, so that the console and the power button are still listened to. */

#include "guest.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define FIRST_DISK "/dev/vda"
#define AGENT_LINE_MAX 4096
#define BURN_MAX 256
#define SSH_BANNER "SSH-2.0-vmctltest\r\n"

/* A spam line is 64 bytes on the wire, where the terminal turns its \n into \r\n. */
#define SPAM_LINE 64
#define SPAM_BLOCK 64

/* Returned by a command whose end is told later. */
#define COMMAND_GOES_ON 1

typedef enum CommandWhere {
        IN_LOOP,
        IN_CHILD,
} CommandWhere;

typedef struct Command {
        const char *name;
        CommandWhere where;
        int (*run)(const char *args);
} Command;

static const char *skip_blanks(const char *p) {
        while (isblank((unsigned char)*p))
                p++;

        return p;
}

static int next_number(const char **p, uint64_t *ret) {
        const char *start = skip_blanks(*p);
        char *end;

        if (!isdigit((unsigned char)*start))
                return -EINVAL;

        errno = 0;
        uint64_t number = strtoull(start, &end, 0);
        if (errno > 0)
                return -errno;

        *p = end;
        *ret = number;
        return 0;
}

/* The rest of a command's arguments when it is a disk, the first one when nothing is left. */
static const char *disk_path(const char *args, char path[static 64]) {
        args = skip_blanks(args);
        if (*args == '\0')
                return FIRST_DISK;

        snprintf(path, 64, "/dev/%s", args);
        return path;
}

static int run_shell(const char *command) {
        int status;

        pid_t pid = spawn();
        if (pid < 0)
                return pid;
        if (pid == 0) {
                execl("/bin/busybox", "sh", "-c", command, NULL);
                _exit(127);
        }

        if (waitpid(pid, &status, 0) < 0)
                return -errno;

        if (status == 0)
                return 0;

        printf("%s %d\n", WIFEXITED(status) ? "status" : "signal",
                        WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
        return -EIO;
}

static int cmd_echo(const char *args) {
        printf("%s\n", args);
        return 0;
}

static int cmd_facts(const char *args) {
        (void)args;
        print_facts();
        return 0;
}

static int cmd_poweroff(const char *args) {
        (void)args;
        return leave(RB_POWER_OFF);
}

static int cmd_reboot(const char *args) {
        (void)args;
        return leave(RB_AUTOBOOT);
}

static int cmd_panic(const char *args) {
        (void)args;
        return write_file("/proc/sysrq-trigger", "c");
}

static int cmd_ignore_power(const char *args) {
        (void)args;
        guest.ignore_power = true;
        return 0;
}

static int cmd_spam(const char *args) {
        static const char filler[] = " the quick brown fox jumps over the lazy dog  ....";
        char block[SPAM_BLOCK * SPAM_LINE + 1];
        uint64_t bytes = UINT64_MAX, line = 0;

        if (*args != '\0' && strcmp(args, "forever") != 0 && next_number(&args, &bytes) < 0)
                return -EINVAL;

        while (line < bytes / SPAM_LINE) {
                int length = 0;

                for (int i = 0; i < SPAM_BLOCK && line < bytes / SPAM_LINE; i++)
                        length += sprintf(block + length, "%012" PRIu64 "%s\n", line++, filler);
                if (write(STDOUT_FILENO, block, length) < 0)
                        return -errno;
        }

        return 0;
}

static int cmd_burn(const char *args) {
        uint64_t n;

        if (next_number(&args, &n) < 0 || n == 0 || n > BURN_MAX)
                return -EINVAL;

        printf("burn: %" PRIu64 " busy\n", n);
        for (uint64_t i = 1; i < n; i++)
                if (fork() == 0)
                        break;
        for (volatile uint64_t counter = 0;; counter++)
                ;
}

static int cmd_eat(const char *args) {
        uint64_t n;

        if (next_number(&args, &n) < 0 || n == 0 || n > SIZE_MAX / MIB)
                return -EINVAL;

        uint8_t *memory = mmap(NULL, n * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
                return -errno;

        memset(memory, 0x5a, n * MIB);
        printf("eat: %" PRIu64 " MiB held\n", n);
        for (;;)
                pause();
}

/* Ends what burn, eat, spam, listen and agent left running. */
static int cmd_stop(const char *args) {
        (void)args;
        kill(-1, SIGKILL);
        return 0;
}

static int cmd_write(const char *args) {
        CLEANUP(close_fd) int fd = -EBADF;
        uint64_t offset, length, byte;
        uint8_t block[4096];
        char path[64];

        if (next_number(&args, &offset) < 0 || next_number(&args, &length) < 0 ||
                        next_number(&args, &byte) < 0 || byte > UINT8_MAX)
                return -EINVAL;

        fd = open(disk_path(args, path), O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        memset(block, (int)byte, sizeof(block));
        for (uint64_t done = 0; done < length;) {
                uint64_t rest = length - done;
                ssize_t n = pwrite(fd, block, rest < sizeof(block) ? rest : sizeof(block), offset + done);
                if (n < 0)
                        return -errno;
                done += n;
        }

        return fsync(fd) < 0 ? -errno : 0;
}

static int cmd_sum(const char *args) {
        uint64_t offset, length;
        char path[64], command[256];

        if (next_number(&args, &offset) < 0 || next_number(&args, &length) < 0)
                return -EINVAL;

        snprintf(command, sizeof(command),
                        "set -o pipefail; dd if=%s iflag=skip_bytes,count_bytes bs=64k skip=%" PRIu64
                        " count=%" PRIu64 " status=none | sha256sum",
                        disk_path(args, path), offset, length);
        return run_shell(command);
}

/* Prints every file of the seed between lines that name it. */
static int cmd_readseed(const char *args) {
        char disk[64], command[512];

        (void)args;
        int r = find_seed_disk(disk, sizeof(disk));
        if (r < 0)
                return r;

        load_modules("/modules/isofs");
        snprintf(command, sizeof(command),
                        "mount -t iso9660 -o ro %s /mnt && cd /mnt && for f in *; do "
                        "echo \"--- $f\"; cat \"$f\"; echo; echo \"--- end of $f\"; done; cd / && umount "
                        "/mnt",
                        disk);
        return run_shell(command);
}

/* Asks for the first network card's address by DHCP. */
static int cmd_net(const char *args) {
        (void)args;
        return run_shell("ip link set lo up && ip link set eth0 up && "
                         "udhcpc -i eth0 -n -q -f -t 10 -T 1 -s /bin/dhcp-bound");
}

static int cmd_listen(const char *args) {
        CLEANUP(close_fd) int fd = -EBADF;
        uint64_t port;

        if (next_number(&args, &port) < 0 || port == 0 || port > UINT16_MAX)
                return -EINVAL;

        struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons(port) };
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int)) < 0 ||
                        bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
                        listen(fd, SOMAXCONN) < 0)
                return -errno;

        printf("listen: port %" PRIu64 "\n", port);
        for (;;) {
                CLEANUP(close_fd) int peer = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

                if (peer >= 0)
                        send(peer, SSH_BANNER, strlen(SSH_BANNER), MSG_NOSIGNAL);
        }
}

/* Only reads may go through the stream: one that is both read and written needs seeks in between. */
static int open_agent_port(FILE **ret) {
        char path[64];

        int r = find_agent_port(path, sizeof(path));
        if (r < 0)
                return r;

        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;

        *ret = fdopen(fd, "r");
        return *ret ? 0 : -errno;
}

/* Says one line on the guest agent's port and prints the line that comes back. */
static int cmd_agent(const char *args) {
        CLEANUP(close_file) FILE *port = NULL;
        char line[AGENT_LINE_MAX];

        int r = open_agent_port(&port);
        if (r < 0)
                return r;

        if (dprintf(fileno(port), "%s\n", args) < 0 || !fgets(line, sizeof(line), port))
                return -EIO;

        printf("agent: %s", line);
        return 0;
}

/* Answers every line that comes in at the guest agent's port as a command that returns nothing. The port
 * reads as ended while nobody is at its other end; SIGIO says when that changes. */
static int cmd_agent_serve(const char *args) {
        CLEANUP(close_file) FILE *port = NULL;
        char line[AGENT_LINE_MAX];
        sigset_t signals;

        (void)args;
        int r = open_agent_port(&port);
        if (r < 0)
                return r;

        sigemptyset(&signals);
        sigaddset(&signals, SIGIO);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        if (fcntl(fileno(port), F_SETOWN, getpid()) < 0 || fcntl(fileno(port), F_SETFL, O_ASYNC) < 0)
                return -errno;

        printf("agent-serve: ready\n");
        for (;;) {
                if (fgets(line, sizeof(line), port)) {
                        printf("agent-serve: %s", line);
                        dprintf(fileno(port), "{\"return\": {}}\n");
                } else {
                        clearerr(port);
                        sigwaitinfo(&signals, NULL);
                }
        }
}

static int cmd_sh(const char *args) {
        if (*args != '\0')
                return run_shell(args);

        pid_t pid = spawn();
        if (pid < 0)
                return pid;
        if (pid == 0) {
                setsid();
                ioctl(STDIN_FILENO, TIOCSCTTY, 1);
                console_set_up(true);
                execl("/bin/busybox", "sh", "-i", NULL);
                _exit(127);
        }

        guest.shell = pid;
        return COMMAND_GOES_ON;
}

/* Starts the watchdog and never feeds it. */
static int cmd_watchdog(const char *args) {
        uint64_t seconds = 2;

        if (*args != '\0' && (next_number(&args, &seconds) < 0 || seconds == 0 || seconds > 600))
                return -EINVAL;

        return start_watchdog(seconds);
}

static int cmd_help(const char *args);

static const Command commands[] = {
        { "agent", IN_CHILD, cmd_agent },
        { "agent-serve", IN_CHILD, cmd_agent_serve },
        { "burn", IN_CHILD, cmd_burn },
        { "eat", IN_CHILD, cmd_eat },
        { "echo", IN_LOOP, cmd_echo },
        { "facts", IN_LOOP, cmd_facts },
        { "help", IN_LOOP, cmd_help },
        { "ignore-power", IN_LOOP, cmd_ignore_power },
        { "listen", IN_CHILD, cmd_listen },
        { "net", IN_LOOP, cmd_net },
        { "panic", IN_LOOP, cmd_panic },
        { "poweroff", IN_LOOP, cmd_poweroff },
        { "readseed", IN_LOOP, cmd_readseed },
        { "reboot", IN_LOOP, cmd_reboot },
        { "sh", IN_LOOP, cmd_sh },
        { "spam", IN_CHILD, cmd_spam },
        { "stop", IN_LOOP, cmd_stop },
        { "sum", IN_LOOP, cmd_sum },
        { "watchdog", IN_LOOP, cmd_watchdog },
        { "write", IN_LOOP, cmd_write },
};

static int cmd_help(const char *args) {
        (void)args;
        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                printf("%s\n", commands[i].name);
        return 0;
}

static void command_finish(const Command *command, int r) {
        if (r < 0)
                printf("error %s: %s\n", command->name, strerror(-r));
        else if (r != COMMAND_GOES_ON)
                printf("ok %s\n", command->name);
}

static void command_start(const Command *command, const char *args) {
        if (command->where == IN_LOOP) {
                command_finish(command, command->run(args));
                return;
        }

        pid_t pid = spawn();
        if (pid < 0)
                command_finish(command, pid);
        if (pid == 0) {
                command_finish(command, command->run(args));
                fflush(stdout);
                _exit(EXIT_SUCCESS);
        }
}

void command_run(char *line) {
        char *name = line + strspn(line, " \t");
        size_t length = strcspn(name, " \t");
        const char *args = skip_blanks(name + length);

        name[length] = '\0';
        if (length == 0)
                return;

        for (size_t i = 0; i < ELEMENTSOF(commands); i++)
                if (strcmp(name, commands[i].name) == 0) {
                        command_start(&commands[i], args);
                        return;
                }

        printf("error %s: no such command\n", name);
}
