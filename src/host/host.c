/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/child-watch.h"
#include "host.h"
#include "passt.h"
#include "qmp/qmp.h"
#include "util/child.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define PROBE_TIMEOUT (20 * USEC_PER_SEC) /* 15 ms on an idle host; many seconds in one that boots */
#define CPUINFO_MAX (4 * MIB)

typedef struct HostWaiter {
        host_done_t done;
        void *userdata;
} HostWaiter;

struct Host {
        sd_event *event; /* borrowed */
        char *qemu;
        bool other_users;

        /* the binary that the facts below are of */
        struct stat binary;
        bool known;

        Error *error; /* why QEMU cannot be used */
        char *version;
        char **machines;
        char *q35; /* what the alias means */

        /* what was found when it was last looked at */
        char *kvm_reason; /* NULL: KVM works */
        gid_t kvm_gid;
        struct stat kvm_node; /* with which a VM could be made, if kvm_made */
        bool kvm_made;

        Passt *passt; /* owned */

        /* a probe that is under way */
        Qmp *qmp;
        ChildWatch *child;
        unsigned unanswered;
        HostWaiter *waiters;
        size_t n_waiters;
};

static const struct {
        const char *code, *vars;
} uefi_table[] = {
        { "/usr/share/OVMF/OVMF_CODE_4M.fd", "/usr/share/OVMF/OVMF_VARS_4M.fd" },     /* Debian, Ubuntu */
        { "/usr/share/OVMF/OVMF_CODE.fd", "/usr/share/OVMF/OVMF_VARS.fd" },           /* older ones */
        { "/usr/share/edk2/ovmf/OVMF_CODE.fd", "/usr/share/edk2/ovmf/OVMF_VARS.fd" }, /* Fedora */
        { "/usr/share/edk2/x64/OVMF_CODE.4m.fd", "/usr/share/edk2/x64/OVMF_VARS.4m.fd" },   /* Arch */
        { "/usr/share/qemu/ovmf-x86_64-code.bin", "/usr/share/qemu/ovmf-x86_64-vars.bin" }, /* openSUSE */
};

int host_new(sd_event *event, const char *qemu, bool other_users, Host **ret) {
        _cleanup_(host_freep) Host *h = malloc(sizeof(Host));

        if (!h)
                return -ENOMEM;
        *h = (Host){ .event = event, .qemu = strdup(qemu), .other_users = other_users };
        if (!h->qemu || passt_new(event, PASST_PATH, &h->passt) < 0)
                return -ENOMEM;
        *ret = TAKE_PTR(h);
        return 0;
}

static void forget_facts(Host *h) {
        h->known = false;
        h->error = error_free(h->error);
        h->machines = strv_free(h->machines);
        free(TAKE_PTR(h->version));
        free(TAKE_PTR(h->q35));
}

/* It has told all that there is to know, or never will. */
static void end_probe(Host *h) {
        h->qmp = qmp_free(h->qmp);
        child_watch_kill(h->child);
        h->child = child_watch_free(h->child);
}

Host *host_free(Host *h) {
        if (!h)
                return NULL;
        end_probe(h);
        forget_facts(h);
        passt_free(h->passt);
        free(h->kvm_reason);
        free(h->waiters);
        free(h->qemu);
        free(h);
        return NULL;
}

/* What QEMU says holds as long as its binary is the same. That it said nothing, as it was killed or too
 * slow, holds only for those who waited: the next one asks again. */
static void tell_waiters(Host *h) {
        _cleanup_free_ HostWaiter *waiters = NULL;
        size_t n = h->n_waiters;

        if (h->qmp || (passt_is_tried(h->passt) && !h->error))
                return;
        waiters = TAKE_PTR(h->waiters);
        h->n_waiters = 0;
        for (size_t i = 0; i < n; i++)
                waiters[i].done(waiters[i].userdata);
        h->known = !h->error;
}

static void finish_probe(Host *h) {
        end_probe(h);
        h->known = true;
        tell_waiters(h);
}

static void on_passt(void *userdata) {
        tell_waiters(userdata);
}

static void fail_probe(Host *h, const char *why) {
        if (!h->error)
                (void)error_set(&h->error, ERROR_QEMU_FAILED, "'%s' cannot be used: %s", h->qemu, why);
        log_warning("%s", error_message(h->error));
        finish_probe(h);
}

static void on_version(void *userdata, int r, const Json *result, const Error *error) {
        uint64_t major, minor, micro;
        const Json *qemu = json_get(result, "qemu");
        Host *h = userdata;

        h->unanswered--;
        if (r < 0 || json_get_unsigned(qemu, "major", &major) < 0 ||
                        json_get_unsigned(qemu, "minor", &minor) < 0 ||
                        json_get_unsigned(qemu, "micro", &micro) < 0)
                return fail_probe(h, r < 0 ? error_message(error) : "it does not tell its version");
        h->version = strf("%u.%u.%u", (unsigned)major, (unsigned)minor, (unsigned)micro);
        if (major < 7 || (major == 7 && minor < 2))
                return fail_probe(h, "it is older than version 7.2");
        if (h->unanswered == 0)
                finish_probe(h);
}

static void on_machines(void *userdata, int r, const Json *result, const Error *error) {
        Host *h = userdata;

        h->unanswered--;
        if (r < 0)
                return fail_probe(h, error_message(error));
        for (size_t i = 0; i < json_length(result); i++) {
                const Json *m = json_element(result, i);
                const char *name = json_get_string(m, "name"), *alias = json_get_string(m, "alias");

                if (!name || (!startswith(name, "pc-q35-") && !streq(name, "microvm")))
                        continue;
                if (strv_extend(&h->machines, name) < 0)
                        return fail_probe(h, "out of memory");
                if (streq_ptr(alias, "q35"))
                        (void)free_and_strdup(&h->q35, name);
        }
        if (!h->q35)
                return fail_probe(h, "it has no machine type q35");
        if (h->unanswered == 0)
                finish_probe(h);
}

static void on_probe_closed(Qmp *q, const Error *error, void *userdata) {
        fail_probe(userdata, error ? error_message(error) : "it ended while it was asked");
}

static void on_probe_event(Qmp *q, const char *name, const Json *data, uint64_t usec, void *userdata) {
}

static const QmpHandlers probe_handlers = { .event = on_probe_event, .closed = on_probe_closed };

static int spawn_probe(Host *h, int fd, pid_t *ret) {
        char *const argv[] = { h->qemu, (char *)"-no-user-config", (char *)"-nodefaults", (char *)"-display",
                (char *)"none", (char *)"-machine", (char *)"none", (char *)"-chardev",
                (char *)"socket,id=monitor,fd=3", (char *)"-mon", (char *)"chardev=monitor,mode=control",
                NULL };
        const ChildFd fds[] = { { fd, 3 } };
        const ChildSpec spec = {
                .argv = argv,
                .fds = fds,
                .n_fds = ELEMENTSOF(fds),
                .flags = CHILD_DIE_WITH_PARENT | CHILD_NO_NEW_PRIVS | CHILD_NEW_SESSION,
        };

        return child_spawn(&spec, ret);
}

static int ask_qemu(Host *h) {
        _cleanup_close_pair_ int pair[2] = { -EBADF, -EBADF };
        pid_t pid;
        int r;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        r = spawn_probe(h, pair[1], &pid);
        if (r < 0) {
                (void)error_set(&h->error, r == -ENOENT ? ERROR_QEMU_MISSING : ERROR_QEMU_FAILED,
                                "Cannot execute '%s': %s", h->qemu, strerror(-r));
                return r;
        }
        r = child_watch_new(h->event, pid, true, NULL, NULL, &h->child); /* the monitor's end tells */
        if (r >= 0)
                r = qmp_new(h->event, TAKE_FD(pair[0]), 0, PROBE_TIMEOUT, &probe_handlers, h, &h->qmp);
        if (r >= 0)
                r = qmp_call(h->qmp, "query-version", NULL, PROBE_TIMEOUT, on_version, h, NULL);
        if (r >= 0)
                r = qmp_call(h->qmp, "query-machines", NULL, PROBE_TIMEOUT, on_machines, h, NULL);
        h->unanswered = 2;
        return r;
}

static bool read_cpu_flags(void) {
        _cleanup_close_ int fd = open("/proc/cpuinfo", O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = NULL;
        const char *flags;
        char *end;

        if (fd < 0 || read_all(fd, CPUINFO_MAX, &text, NULL) < 0)
                return false;
        flags = strstr(text, "\nflags");
        end = flags ? strchrnul(flags + 1, '\n') : NULL;
        if (!flags)
                return false;
        *end = '\0';
        return strstr(flags, " vmx") || strstr(flags, " svm");
}

/* They are what they were when the kernel booted. */
static bool cpu_has_virtualization(void) {
        static int has = -1;

        if (has < 0)
                has = read_cpu_flags();
        return has > 0;
}

/* To make a VM and drop it again takes the kernel many milliseconds: that is done once for each device node,
 * which is another one when the module was loaded anew. */
static int make_vm(Host *h, int fd, const struct stat *node) {
        _cleanup_close_ int vm = -EBADF;

        if (h->kvm_made && node->st_ino == h->kvm_node.st_ino && node->st_rdev == h->kvm_node.st_rdev &&
                        node->st_ctim.tv_sec == h->kvm_node.st_ctim.tv_sec &&
                        node->st_ctim.tv_nsec == h->kvm_node.st_ctim.tv_nsec)
                return 0;
        vm = ioctl(fd, KVM_CREATE_VM, 0);
        h->kvm_made = vm >= 0;
        h->kvm_node = *node;
        return vm < 0 ? -errno : 0;
}

static bool is_for_root(const struct stat *st) {
        return (st->st_mode & 0006) != 0006 && ((st->st_mode & 0060) != 0060 || st->st_gid == 0);
}

static char *why_closed(const Host *h, int error) {
        struct stat st;

        if (error != EACCES || !h->other_users || stat("/dev/kvm", &st) < 0)
                return strf("/dev/kvm cannot be opened: %s", strerror(error));
        return is_for_root(&st) ? strdup("/dev/kvm is for root alone")
                                : strf("/dev/kvm is for the group %u, which the service's user is not in",
                                                  (unsigned)st.st_gid);
}

/* Creating a VM can succeed where running one cannot (nested in a host that hides the CPU's feature): the
 * CPU flags have the last word. */
static char *why_no_kvm(Host *h) {
        _cleanup_close_ int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
        struct stat st;
        int r;

        h->kvm_gid = 0;
        if (fd < 0)
                return why_closed(h, errno);
        if (fstat(fd, &st) < 0)
                return strf("/dev/kvm cannot be looked at: %s", strerror(errno));
        if (h->other_users && (st.st_mode & 0006) != 0006) {
                if (is_for_root(&st))
                        return strdup("/dev/kvm is for root alone");
                h->kvm_gid = st.st_gid;
        }
        if (ioctl(fd, KVM_GET_API_VERSION, 0) != KVM_API_VERSION)
                return strdup("/dev/kvm speaks another version of its interface");
        if (!cpu_has_virtualization())
                return strdup("the CPU shows neither vmx nor svm");
        r = make_vm(h, fd, &st);
        return r < 0 ? strf("/dev/kvm creates no VM: %s", strerror(-r)) : NULL;
}

/* A module comes and goes, and so do the rights on its device: it takes some microseconds to see how it is.
 */
static void look_at_kvm(Host *h) {
        free(h->kvm_reason);
        h->kvm_reason = why_no_kvm(h);
}

static bool same_binary(const struct stat *a, const struct stat *b) {
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
                        a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

int host_ensure(Host *h, host_done_t done, void *userdata) {
        struct stat st = {};
        HostWaiter *grown;
        int r;

        look_at_kvm(h);
        if (!h->qmp) {
                bool known = stat(h->qemu, &st) >= 0 && h->known && same_binary(&st, &h->binary);

                if (known && h->error) /* to be told to all who waited */
                        return 1;
                if (!known)
                        forget_facts(h);
                h->binary = st;
                r = known ? 0 : ask_qemu(h);
                if (r < 0) {
                        if (!h->error)
                                (void)error_set_errno(
                                                &h->error, r, "Cannot ask '%s' for its version", h->qemu);
                        end_probe(h);
                        return 1;
                }
        }
        if (passt_ensure(h->passt, on_passt, h) > 0 && !h->qmp)
                return 1;
        grown = reallocarray(h->waiters, h->n_waiters + 1, sizeof(HostWaiter));
        if (!grown)
                return -ENOMEM;
        h->waiters = grown;
        h->waiters[h->n_waiters++] = (HostWaiter){ done, userdata };
        return 0;
}

void host_forget(Host *h, void *userdata) {
        for (size_t i = 0; i < h->n_waiters; i++)
                if (h->waiters[i].userdata == userdata)
                        h->waiters[i--] = h->waiters[--h->n_waiters];
}

int host_check_qemu(const Host *h, Error **reterr) {
        if (!h->error)
                return 0;
        return error_set(reterr, error_code(h->error), "%s", error_message(h->error));
}

const char *host_qemu_version(const Host *h) {
        return h->version ?: "";
}

int host_resolve_machine(const Host *h, const char *asked, const char **ret, Error **reterr) {
        const char *name = !asked || streq(asked, "q35") ? h->q35 : asked;

        STRV_FOREACH(m, h->machines)
                if (name && streq(*m, name)) {
                        *ret = *m;
                        return 0;
                }
        return error_set(reterr, ERROR_INVALID_SPEC, "QEMU %s has no machine type '%s'",
                        host_qemu_version(h), asked ?: "q35");
}

bool host_has_kvm(const Host *h, const char **ret_reason) {
        if (ret_reason)
                *ret_reason = h->kvm_reason;
        return !h->kvm_reason;
}

gid_t host_kvm_gid(const Host *h) {
        return h->kvm_gid;
}

bool host_has_passt(const Host *h, const char **ret_reason) {
        return passt_works(h->passt, ret_reason);
}

int host_uefi(const Host *h, const char **ret_code, const char **ret_vars, Error **reterr) {
        for (size_t i = 0; i < ELEMENTSOF(uefi_table); i++)
                if (access(uefi_table[i].code, R_OK) >= 0 && access(uefi_table[i].vars, R_OK) >= 0) {
                        *ret_code = uefi_table[i].code;
                        *ret_vars = uefi_table[i].vars;
                        return 0;
                }
        return error_set(reterr, ERROR_FIRMWARE_MISSING, "There is no UEFI firmware on this host");
}
