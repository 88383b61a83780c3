/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Usage: measure COMMAND..., in a host where vmctld runs; see `run`.
 *
 *     heading                 of the table that the next ones print lines of
 *     start LABEL VM RUNS     Start and Kill, in turns with a bare QEMU
 *     stop LABEL VM RUNS      Stop of a guest that honours the power button, in turns with the same
 *     create LABEL IMAGE RUNS CreateVM, with a key pair and a seed
 *     create-image FILE IMAGE URL RUNS
 *                             the same from a stored image, and from the URL it came from, in turns with a
 * file turns LABEL RUNS CLEAR OURS BARE commands of a shell, each of the last two after CLEAR, which is not
 * measured list LABEL RUNS         ListVMs, and `vmctl list` as a whole populate N IMAGE        define VMs
 * until there are N boot N KERNEL INITRD    make and start N VMs, and wait until their guests are up memory
 * what the service has of its own, in KiB clients N IMAGE RUNS    what N connected clients cost, and how
 * long a change takes that all hear of running N KERNEL        what N running VMs cost the service; QEMU may
 * be a stand-in
 */
#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bare.h"
#include "service.h"
#include "stats.h"
#include "util/fd-util.h"
#include "util/test.h"

#define GUEST_READY "GUEST READY"
#define GUEST_MEMORY (128 * MIB)
#define FILE_MAX (64 * KIB)
#define CONSOLE_MAX (64 * KIB)

static unsigned number(const char *text) {
        uint32_t n;

        CHECK_EQ(parse_u32(text, &n), 0);
        return n;
}

static void await_guest(const char *vm) {
        _cleanup_close_ int fd = service_open_console(vm);
        char text[CONSOLE_MAX] = "";
        size_t len = 0;

        while (!strstr(text, GUEST_READY)) {
                ssize_t n = read(fd, text + len, sizeof(text) - 1 - len);

                CHECK(n > 0);
                text[len += (size_t)n] = '\0';
        }
}

static double time_call(void (*call)(const char *vm), const char *vm) {
        double start = now_ms();

        call(vm);
        return now_ms() - start;
}

static Bare *learn_bare(const char *vm) {
        Bare *b;

        service_start(vm);
        b = bare_new(vm);
        service_kill(vm);
        return b;
}

static void print_row(const char *what, const char *label, const Series *ours, const Series *bare) {
        _cleanup_free_ char *name = label ? strf("%s, %s", what, label) : strdup(what);

        CHECK(name);
        table_row(name, ours, bare);
}

static void command_heading(char **args) {
        table_heading();
}

/* A scope that is made soon after another does not wait for the kernel as the first one did. */
static void pass_time(Bare *b) {
        (void)bare_start(b, false);
        (void)bare_kill(b);
}

static void command_start(char **args) {
        Series start = {}, kill = {}, bare_starts = {}, bare_kills = {}, floor = {}, scoped = {};
        _cleanup_(bare_freep) Bare *b = learn_bare(args[1]);

        for (unsigned i = 0; i < number(args[2]); i++) {
                series_add(&bare_starts, bare_start(b, false));
                series_add(&bare_kills, bare_kill(b));
                series_add(&start, time_call(service_start, args[1]));
                series_add(&kill, time_call(service_kill, args[1]));
                pass_time(b);
                series_add(&scoped, bare_start(b, true));
                (void)bare_kill(b);
                pass_time(b);
                series_add(&floor, bare_starts.ms[i] + systemd_time_scope());
        }
        print_row("Start", args[0], &start, &bare_starts);
        print_row("... beside bare and a scope", NULL, &start, &floor);
        print_row("... beside bare in a scope", NULL, &start, &scoped);
        print_row("Kill", args[0], &kill, &bare_kills);
}

static void command_stop(char **args) {
        _cleanup_(bare_freep) Bare *b = learn_bare(args[1]);
        Series stop = {}, bare_stops = {};

        for (unsigned i = 0; i < number(args[2]); i++) {
                (void)bare_start(b, false);
                bare_await_text(b, GUEST_READY);
                series_add(&bare_stops, bare_powerdown(b));
                service_start(args[1]);
                await_guest(args[1]);
                series_add(&stop, time_call(service_stop, args[1]));
        }
        print_row("Stop", args[0], &stop, &bare_stops);
}

static double create(const char *vm, const NewVm *spec) {
        double start = now_ms();

        service_create(vm, spec);
        start = now_ms() - start;
        service_destroy(vm);
        return start;
}

static void command_create(char **args) {
        const NewVm spec = { .image = args[1], .memory = GUEST_MEMORY, .network = true };
        Series calls = {};

        for (unsigned i = 0; i < number(args[2]); i++)
                series_add(&calls, create("created", &spec));
        print_row("CreateVM", args[0], &calls, NULL);
}

static void command_create_image(char **args) {
        const NewVm file = { .image = args[0], .memory = GUEST_MEMORY, .network = true };
        const NewVm stored = { .image_name = args[1], .memory = GUEST_MEMORY, .network = true };
        const NewVm url = { .memory = GUEST_MEMORY, .network = true };
        Series files = {}, images = {}, urls = {};

        for (unsigned i = 0; i < number(args[3]); i++) {
                series_add(&files, create("created", &file));
                series_add(&images, create("created", &stored));
                series_add(&urls, service_create_from_url("created", args[2], &url));
                service_destroy("created");
        }
        print_row("CreateVM", "stored image", &images, &files);
        print_row("CreateVMFromURL", "stored", &urls, &files);
}

static void run_program(char *const argv[]) {
        posix_spawn_file_actions_t actions;
        int status;
        pid_t pid;

        CHECK_EQ(posix_spawn_file_actions_init(&actions), 0);
        CHECK_EQ(posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0), 0);
        CHECK_EQ(posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ), 0);
        CHECK_EQ(waitpid(pid, &status, 0), pid);
        CHECK_EQ(status, 0);
        CHECK_EQ(posix_spawn_file_actions_destroy(&actions), 0);
}

static double run_shell(const char *command) {
        char *const argv[] = { (char *)"bash", (char *)"-eu", (char *)"-o", (char *)"pipefail", (char *)"-c",
                (char *)command, NULL };
        double start = now_ms();

        run_program(argv);
        return now_ms() - start;
}

static void command_turns(char **args) {
        Series ours = {}, bare = {};

        for (unsigned i = 0; i < number(args[1]); i++) {
                (void)run_shell(args[2]);
                series_add(&bare, run_shell(args[4]));
                (void)run_shell(args[2]);
                series_add(&ours, run_shell(args[3]));
        }
        table_row(args[0], &ours, &bare);
}

static void command_list(char **args) {
        char *const argv[] = { (char *)"vmctl", (char *)"list", NULL };
        Series call = {}, program = {};

        for (unsigned i = 0; i < number(args[1]); i++) {
                double start = now_ms();

                (void)service_list();
                series_add(&call, now_ms() - start);
                start = now_ms();
                run_program(argv);
                series_add(&program, now_ms() - start);
        }
        print_row("ListVMs", args[0], &call, NULL);
        print_row("vmctl list", args[0], &program, NULL);
}

static void command_populate(char **args) {
        const NewVm spec = { .image = args[1], .memory = GUEST_MEMORY };

        for (size_t i = service_list(); i < number(args[0]); i++) {
                _cleanup_free_ char *name = strf("defined-%zu", i);

                CHECK(name);
                service_create(name, &spec);
        }
        CHECK_EQ(service_list(), number(args[0]));
}

static void command_boot(char **args) {
        const NewVm spec = { .kernel = args[1], .initrd = args[2], .memory = GUEST_MEMORY, .network = true };

        for (unsigned i = 0; i < number(args[0]); i++) {
                _cleanup_free_ char *name = strf("running-%u", i);

                CHECK(name);
                service_create(name, &spec);
                service_start(name);
                await_guest(name);
        }
}

static unsigned field(const char *text, const char *name) {
        const char *at = strstr(text, name);
        unsigned v;

        CHECK(at && sscanf(at + strlen(name), " %u", &v) == 1);
        return v;
}

typedef struct Footprint {
        unsigned pss, private; /* KiB */
        unsigned matches;      /* at the bus */
        unsigned descriptors;
} Footprint;

static unsigned count_descriptors(uint32_t pid) {
        _cleanup_free_ char *path = strf("/proc/%u/fd", pid);
        struct dirent *e;
        unsigned n = 0;
        DIR *d;

        CHECK(path);
        d = opendir(path);
        CHECK(d);
        while ((e = readdir(d)))
                n += e->d_name[0] != '.';
        CHECK_EQ(closedir(d), 0);
        return n;
}

static void footprint(Footprint *ret) {
        uint32_t pid = service_pid();
        _cleanup_free_ char *path = strf("/proc/%u/smaps_rollup", pid), *text = NULL;

        CHECK(path && read_file_at(AT_FDCWD, path, FILE_MAX, &text, NULL) >= 0);
        *ret = (Footprint){
                .pss = field(text, "\nPss:"),
                .private = field(text, "\nPrivate_Clean:") + field(text, "\nPrivate_Dirty:"),
                .matches = service_count_matches(),
                .descriptors = count_descriptors(pid),
        };
}

static void command_memory(char **args) {
        Footprint f;

        footprint(&f);
        printf("%u %u\n", f.pss, f.private);
}

static void print_figure(const char *what, unsigned n, unsigned before, unsigned after) {
        printf("| %-28s | %7u | %7u | %7.2f |\n", what, before, after, ((double)after - before) / n);
}

static void print_footprints(const char *of, unsigned n, const Footprint *before, const Footprint *after) {
        printf("| %-28s | %7s | %7u | %7s |\n", of, "none", n, "each");
        printf("|:-----------------------------|--------:|--------:|--------:|\n");
        print_figure("matches at the bus", n, before->matches, after->matches);
        print_figure("descriptors", n, before->descriptors, after->descriptors);
        print_figure("memory (PSS), KiB", n, before->pss, after->pss);
        (void)fflush(stdout);
}

/* What is told to all who listen; the reply comes after the signals. */
static double time_change(const char *vm) {
        double start = now_ms();

        service_set_memory(vm, GUEST_MEMORY);
        service_set_memory(vm, 2 * GUEST_MEMORY);
        return (now_ms() - start) / 2;
}

static void command_running(char **args) {
        const NewVm spec = { .kernel = args[1], .memory = GUEST_MEMORY };
        Footprint before, after;
        unsigned n = number(args[0]);

        for (unsigned i = 0; i < n; i++) {
                _cleanup_free_ char *name = strf("object-%u", i);

                CHECK(name);
                service_create(name, &spec);
        }
        footprint(&before);
        for (unsigned i = 0; i < n; i++) {
                _cleanup_free_ char *name = strf("object-%u", i);

                CHECK(name);
                service_start(name);
        }
        footprint(&after);
        print_footprints("running", n, &before, &after);
        for (unsigned i = 0; i < n; i++) {
                _cleanup_free_ char *name = strf("object-%u", i);

                CHECK(name);
                service_destroy(name);
        }
}

/* What a client costs the service that has called it once and stays: it hears of changes from then on. */
static void command_clients(char **args) {
        const NewVm spec = { .image = args[1], .memory = GUEST_MEMORY };
        Footprint before, after;
        Series alone = {}, beside = {};
        unsigned n = number(args[0]);

        service_create("changed", &spec);
        footprint(&before);
        for (unsigned i = 0; i < number(args[2]); i++)
                series_add(&alone, time_change("changed"));
        service_add_clients(n);
        footprint(&after);
        for (unsigned i = 0; i < number(args[2]); i++)
                series_add(&beside, time_change("changed"));
        service_destroy("changed");
        CHECK_EQ(service_list(), 0);
        table_heading();
        table_row("A change, heard by all", &beside, &alone);
        (void)puts("");
        print_footprints("clients", n, &before, &after);
}

static const struct {
        const char *name;
        int n_args;
        void (*run)(char **args);
} commands[] = {
        { "heading", 0, command_heading },
        { "start", 3, command_start },
        { "stop", 3, command_stop },
        { "create", 3, command_create },
        { "create-image", 4, command_create_image },
        { "turns", 5, command_turns },
        { "list", 2, command_list },
        { "populate", 2, command_populate },
        { "boot", 3, command_boot },
        { "memory", 0, command_memory },
        { "clients", 3, command_clients },
        { "running", 2, command_running },
};

int main(int argc, char **argv) {
        for (size_t i = 0; argc > 1 && i < ELEMENTSOF(commands); i++)
                if (streq(argv[1], commands[i].name) && argc - 2 == commands[i].n_args) {
                        service_connect();
                        commands[i].run(argv + 2);
                        return EXIT_SUCCESS;
                }
        fprintf(stderr, "Usage: measure COMMAND...; see measure.c\n");
        return 2;
}
