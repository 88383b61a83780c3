/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <systemd/sd-login.h>
#include <unistd.h>

#include "host/cgroup.h"
#include "launch.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/log.h"

#define FDINFO_MAX (4 * KIB)

static const struct {
        const char *path, *verb;
} program_table[] = {
        [LAUNCH_SHIM] = { VMCTL_HELPER_DIR "/vmctl-shim" },
        [LAUNCH_READER] = { VMCTL_HELPER_DIR "/vmctl-shim", "--cat" },
        [LAUNCH_PREPARE] = { VMCTL_HELPER_DIR "/vmctl-prepare" },
        [LAUNCH_IMAGE] = { VMCTL_HELPER_DIR "/vmctl-image" },
        [LAUNCH_PULL] = { VMCTL_HELPER_DIR "/vmctl-pull" },
        [LAUNCH_SSH] = { VMCTL_HELPER_DIR "/vmctl-ssh" },
};

static bool is_worker(LaunchProgram program) {
        return program != LAUNCH_SHIM;
}

Child *find_child(const Server *s, uint64_t id) {
        Child *c;

        TAILQ_FOREACH(c, &s->children, link)
                if (id > 0 && c->id == id)
                        return c;
        return NULL;
}

void hold_child(Child *c, bool hold) {
        c->held += hold ? 1 : -1;
        child_watch_hold(c->watch, c->held > 0);
}

void disown_children(Server *s) {
        Child *c;

        TAILQ_FOREACH(c, &s->children, link) {
                c->id = 0;
                if (is_worker(c->program))
                        child_watch_kill(c->watch);
        }
}

bool has_workers(const Server *s) {
        Child *c;

        TAILQ_FOREACH(c, &s->children, link)
                if (is_worker(c->program))
                        return true;
        return false;
}

/* --- Who it is to be, and what it is told --- */

/* The group that may open the device, where not everybody may. */
static int add_kvm(char ***argv) {
        struct stat st;
        int r;

        r = strv_extend(argv, "--device=/dev/kvm");
        if (r < 0 || stat("/dev/kvm", &st) < 0 || (st.st_mode & 0006) == 0006 || st.st_gid == 0)
                return r;
        return strv_extendf(argv, "--group=%u", (unsigned)st.st_gid);
}

static int add_shim_identity(const LaunchRequest *q, char ***argv) {
        int r = 0;

        if (q->uid != 0)
                r = strv_extendf(argv, "--uid=%u", q->uid);
        if (r >= 0 && q->uid != 0)
                r = strv_extendf(argv, "--gid=%u", q->uid);
        return r;
}

static int add_worker_identity(const LaunchRequest *q, char ***argv) {
        int r;

        if (q->uid == 0)
                return 0;
        r = strv_extend(argv, "--uid");
        if (r >= 0)
                r = strv_extendf(argv, "%u", q->uid);
        if (r >= 0)
                r = strv_extend(argv, "--gid");
        return r < 0 ? r : strv_extendf(argv, "%u", q->uid);
}

static int make_arguments(const LaunchRequest *q, char *const *options, char ***argv) {
        bool is_shim = q->program == LAUNCH_SHIM || q->program == LAUNCH_READER;
        int r;

        r = strv_extend(argv, program_table[q->program].path);
        if (r >= 0 && program_table[q->program].verb)
                r = strv_extend(argv, program_table[q->program].verb);
        if (r >= 0 && is_shim)
                r = add_shim_identity(q, argv);
        if (r >= 0 && q->program == LAUNCH_SHIM && q->kvm)
                r = add_kvm(argv);
        STRV_FOREACH(o, options)
                if (r >= 0)
                        r = strv_extend(argv, *o);
        return r < 0 || is_shim ? r : add_worker_identity(q, argv);
}

static int make_environment(char *const *environment, char ***ret) {
        int r = strv_extend(ret, "LANG=C.UTF-8");

        STRV_FOREACH(e, environment)
                if (r >= 0)
                        r = strv_extend(ret, *e);
        return r;
}

static int arrange(const LaunchRequest *q, const Packet *p, ChildFd *fds, size_t *n) {
        if (p->n_fds != q->n_fds)
                return -EBADMSG;
        for (size_t i = 0; i < p->n_fds; i++) {
                if (q->targets[i] < 0)
                        return -EBADMSG;
                fds[(*n)++] = (ChildFd){ p->fds[i], q->targets[i] };
        }
        if (is_worker(q->program))
                fds[(*n)++] = (ChildFd){ STDERR_FILENO, STDERR_FILENO }; /* complaints go where ours go */
        return 0;
}

/* --- Its life --- */

static void child_free(Child *c) {
        TAILQ_REMOVE(&c->server->children, c, link);
        child_watch_free(c->watch);
        free(c);
}

static void on_end(const siginfo_t *si, void *userdata) {
        Child *c = userdata;
        Server *s = c->server;

        if (c->id > 0)
                server_reply(s,
                                &(LaunchReply){ .event = LAUNCH_ENDED,
                                                .id = c->id,
                                                .code = si->si_code,
                                                .status = si->si_status },
                                NULL, -EBADF);
        child_free(c);
        if (s->socket < 0 && !has_workers(s))
                server_rest(s);
}

static int watch(Server *s, const LaunchRequest *q, pid_t pid) {
        Child *c = malloc(sizeof(Child));
        int r;

        if (!c) {
                (void)kill(pid, SIGKILL);
                return -ENOMEM; /* reaped at the latest when we end */
        }
        *c = (Child){ .server = s, .id = q->id, .program = q->program, .pid = pid };
        r = child_watch_new(s->event, pid, is_worker(q->program), on_end, c, &c->watch);
        if (r < 0) {
                free(c);
                return r;
        }
        TAILQ_INSERT_TAIL(&s->children, c, link);
        return 0;
}

static int check(const Server *s, const LaunchRequest *q, const Packet *p, char *const *environment) {
        int r;

        if (q->program >= _LAUNCH_PROGRAM_MAX || q->id == 0 || find_child(s, q->id))
                return -EBADMSG;
        r = check_uid(&s->config, q->uid);
        if (r >= 0)
                r = check_options(&s->config, q->program, p->texts);
        return r < 0 ? r : check_environment(environment);
}

static int spawn(const LaunchRequest *q, const Packet *p, char *const *environment, pid_t *ret) {
        _cleanup_strv_ char **argv = NULL, **envp = NULL;
        ChildFd fds[PACKET_FDS_MAX + 1];
        ChildSpec spec = { .fds = fds,
                .flags = CHILD_NEW_SESSION | (is_worker(q->program) ? CHILD_DIE_WITH_PARENT : 0) };
        int r;

        r = make_arguments(q, p->texts, &argv);
        if (r >= 0 && environment)
                r = make_environment(environment, &envp);
        if (r >= 0)
                r = arrange(q, p, fds, &spec.n_fds);
        if (r < 0)
                return r;
        spec.argv = argv;
        spec.envp = envp;
        return child_spawn(&spec, ret);
}

/* The last of the texts. */
static int split_environment(const LaunchRequest *q, Packet *p, char ***ret) {
        size_t n = strv_length(p->texts);
        int r = 0;

        if (q->n_environment > n)
                return -EBADMSG;
        for (size_t i = n - q->n_environment; i < n; i++) {
                if (r >= 0)
                        r = strv_extend(ret, p->texts[i]);
                free(TAKE_PTR(p->texts[i]));
        }
        return r;
}

int run_program(Server *s, const LaunchRequest *q, Packet *p) {
        _cleanup_strv_ char **environment = NULL;
        _cleanup_close_ int pidfd = -EBADF;
        pid_t pid;
        int r;

        r = split_environment(q, p, &environment);
        if (r >= 0)
                r = check(s, q, p, environment);
        if (r >= 0)
                r = spawn(q, p, environment, &pid);
        if (r >= 0)
                r = watch(s, q, pid);
        if (r < 0) {
                server_reply(s, &(LaunchReply){ .event = LAUNCH_ENDED, .id = q->id, .error = r }, NULL,
                                -EBADF);
                return r;
        }
        pidfd = pidfd_open(pid, 0); /* not reaped before the loop runs */
        if (pidfd < 0) {
                child_watch_kill(find_child(s, q->id)->watch);
                return -errno;
        }
        server_reply(s, &(LaunchReply){ .event = LAUNCH_STARTED, .id = q->id, .pid = pid }, NULL, pidfd);
        return 0;
}

int kill_program(Server *s, const LaunchRequest *q, Packet *p) {
        const Child *c = find_child(s, q->child);

        if (c)
                child_watch_kill(c->watch);
        return 0;
}

/* The process of a pidfd, which has it as long as it has not been reaped. */
static int pid_of(int pidfd, pid_t *ret) {
        char path[64];
        _cleanup_free_ char *text = NULL;
        const char *line;
        uint32_t pid;
        int r;

        (void)snprintf(path, sizeof(path), "/proc/self/fdinfo/%i", pidfd);
        r = read_file_at(AT_FDCWD, path, FDINFO_MAX, &text, NULL);
        if (r < 0)
                return r;
        line = strstr(text, "\nPid:\t");
        if (!line)
                return -EBADMSG;
        line += strlen("\nPid:\t");
        text[line - text + strcspn(line, "\n")] = '\0';
        if (parse_u32(line, &pid) < 0 || pid < 2)
                return -ESRCH;
        *ret = (pid_t)pid;
        return 0;
}

/* A user's own manager has units of the same names. */
static int unit_of(const Server *s, pid_t pid, char **ret) {
        return s->config.system ? sd_pid_get_unit(pid, ret) : cgroup_unit_of_pid(pid, ret);
}

static int signal_in_unit(const Server *s, const LaunchRequest *q, const Packet *p) {
        _cleanup_free_ char *unit = NULL;
        pid_t pid;
        int r;

        if (p->n_fds != 1 || strv_length(p->texts) != 1 || (q->signal != SIGTERM && q->signal != SIGKILL))
                return -EBADMSG;
        r = check_unit(p->texts[0]);
        if (r >= 0)
                r = pid_of(p->fds[0], &pid);
        if (r >= 0)
                r = unit_of(s, pid, &unit);
        if (r == -ESRCH)
                return 0;
        if (r >= 0 && !streq(unit, p->texts[0]))
                r = -EPERM;
        if (r >= 0 && pidfd_send_signal(p->fds[0], q->signal, NULL, 0) < 0 && errno != ESRCH)
                r = -errno;
        return r;
}

int signal_process(Server *s, const LaunchRequest *q, Packet *p) {
        int r = signal_in_unit(s, q, p);

        if (r >= 0)
                server_reply(s, &(LaunchReply){ .event = LAUNCH_ANSWER, .id = q->id }, NULL, -EBADF);
        return answer_failure(s, q, r);
}
