/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lockdown.h"
#include "util/fd-util.h"

/* Newer than the headers of Debian 12; the kernel says what it knows. */
#define ACCESS_FS_READ_FILE (UINT64_C(1) << 2)
#define ACCESS_FS_READ_DIR (UINT64_C(1) << 3)
#define ACCESS_NET_BIND_TCP (UINT64_C(1) << 0)
#define SCOPE_ALL (UINT64_C(3)) /* abstract sockets, signals */

typedef struct Ruleset {
        uint64_t handled_access_fs;
        uint64_t handled_access_net;
        uint64_t scoped;
} Ruleset;

/* By version of the interface, from 1: how many file system rights there are, and how much of the struct. */
static const struct {
        unsigned rights;
        size_t size;
} abi_table[] = { { 13, 8 }, { 14, 8 }, { 15, 8 }, { 15, 16 }, { 16, 16 }, { 16, 24 } };

/* Of what is below, an unprivileged user sees what everybody may read. Whole folders, since the files that
 * matter are replaced while we run. */
static const char *const readable_table[] = {
        "/etc",
        "/usr",
        "/lib",
        "/lib64",
        "/run/systemd/resolve",
        "/run/NetworkManager",
        "/run/resolvconf",
        "/var/lib/ca-certificates",
        "/dev/null",
        "/dev/urandom",
};

static int allow_reading(int ruleset, const char *path) {
        _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
        bool is_device = strncmp(path, "/dev/", 5) == 0;
        struct landlock_path_beneath_attr rule = {
                .allowed_access = ACCESS_FS_READ_FILE | (is_device ? 0 : ACCESS_FS_READ_DIR),
        };

        if (fd < 0)
                return errno == ENOENT ? 0 : -errno;
        rule.parent_fd = fd;
        return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0 ? -errno
                                                                                                 : 0;
}

static int lock_files(void) {
        long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
        _cleanup_close_ int fd = -EBADF;
        Ruleset rules = { .handled_access_net = ACCESS_NET_BIND_TCP, .scoped = SCOPE_ALL };
        int r = 0;

        if (abi < 1)
                return errno == ENOSYS || errno == EOPNOTSUPP ? 0 : -errno;
        abi = MIN(abi, (long)ELEMENTSOF(abi_table));
        rules.handled_access_fs = (UINT64_C(1) << abi_table[abi - 1].rights) - 1;
        fd = (int)syscall(SYS_landlock_create_ruleset, &rules, abi_table[abi - 1].size, 0);
        if (fd < 0)
                return -errno;
        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(readable_table); i++)
                r = allow_reading(fd, readable_table[i]);
        if (r < 0)
                return r;
        return syscall(SYS_landlock_restrict_self, fd, 0) < 0 ? -errno : 0;
}

/* Names that this libseccomp or architecture does not know need no rule. */
static const char *const forbidden_table[] = {
        /* other programs and processes */
        "execve",
        "execveat",
        "fork",
        "vfork",
        "kill",
        "ptrace",
        "process_vm_readv",
        "process_vm_writev",
        "process_madvise",
        "kcmp",
        "pidfd_open",
        "pidfd_getfd",
        "pidfd_send_signal",
        "perf_event_open",
        /* namespaces, mounts, identities */
        "unshare",
        "setns",
        "mount",
        "umount2",
        "pivot_root",
        "chroot",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsconfig",
        "fsmount",
        "fspick",
        "mount_setattr",
        "setuid",
        "setgid",
        "setreuid",
        "setregid",
        "setresuid",
        "setresgid",
        "setgroups",
        "setfsuid",
        "setfsgid",
        "capset",
        "personality",
        /* large parts of the kernel */
        "bpf",
        "io_uring_setup",
        "io_uring_enter",
        "io_uring_register",
        "userfaultfd",
        "keyctl",
        "add_key",
        "request_key",
        "fanotify_init",
        "inotify_init1",
        "open_by_handle_at",
        "name_to_handle_at",
        "init_module",
        "finit_module",
        "delete_module",
        "kexec_load",
        "kexec_file_load",
        "quotactl",
        "swapon",
        "swapoff",
        "reboot",
        "acct",
        "syslog",
        "memfd_secret",
        "modify_ldt",
        "vmsplice",
        "splice",
        "tee",
        "mq_open",
        "shmget",
        "semget",
        "msgget",
        /* what changes files by name, and being called rather than calling */
        "truncate",
        "rename",
        "renameat",
        "renameat2",
        "link",
        "linkat",
        "symlink",
        "symlinkat",
        "unlink",
        "unlinkat",
        "mkdir",
        "mkdirat",
        "mknod",
        "mknodat",
        "chmod",
        "fchmodat",
        "chown",
        "lchown",
        "fchownat",
        "setxattr",
        "lsetxattr",
        "listen",
        "accept",
        "accept4",
};

static int forbid_calls(scmp_filter_ctx filter) {
        for (size_t i = 0; i < ELEMENTSOF(forbidden_table); i++) {
                int number = seccomp_syscall_resolve_name(forbidden_table[i]), r;

                if (number == __NR_SCMP_ERROR)
                        continue;
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), number, 0);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Threads, but no processes; the C library falls back from clone3(), whose flags a filter cannot see. */
static int forbid_processes(scmp_filter_ctx filter) {
        int r;

        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
        if (r >= 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
                                SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, 0));
        return r;
}

/* Names are looked up with netlink and over a local socket of the resolver; the rest is TCP and UDP. */
static int forbid_sockets(scmp_filter_ctx filter) {
        static const int allowed[] = { AF_UNIX, AF_INET, AF_INET6, AF_NETLINK };
        int low = 0, r = 0;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(allowed); i++) {
                for (int family = low; r >= 0 && family < allowed[i]; family++)
                        r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                        SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)family));
                low = allowed[i] + 1;
        }
        if (r >= 0)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1,
                                SCMP_A0(SCMP_CMP_GT, AF_NETLINK));
        return r;
}

static int lock_calls(void) {
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r;

        if (!filter)
                return -ENOMEM;
        r = forbid_calls(filter);
        if (r >= 0)
                r = forbid_processes(filter);
        if (r >= 0)
                r = forbid_sockets(filter);
        if (r >= 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r;
}

int lockdown(Error **reterr) {
        int r;

        r = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
        if (r >= 0)
                r = lock_files();
        if (r >= 0)
                r = lock_calls();
        return r < 0 ? error_set_errno(reterr, r, "Failed to lock the worker in") : 0;
}
