/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "privileges.h"
#include "util/fd-util.h"
#include "util/sanitized.h"

#define NOFILE_MAX                                                                            \
        16384 /* each connection through a user-mode network is a descriptor; must be bounded \
               */

int privileges_prepare(const Options *o, Error **reterr_error) {
        _cleanup_close_ int fd = -EBADF;
        int r = 0;

        if (!o->has_identity)
                return 0;
        /* The service may have a lower one. Both processes get the same: of the two QEMU is always the
         * larger and so the one to be killed. Written by root it is also the least that QEMU can set. */
        fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
        if (fd < 0)
                r = -errno;
        if (r >= 0)
                r = write_all(fd, "0", 1);
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to set the OOM score") : 0;
}

/* A process without CAP_SETPCAP has no capability that it could hand on, either. */
static int lock_capabilities(void) {
        unsigned long bits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP_LOCKED |
                        SECBIT_KEEP_CAPS_LOCKED | SECBIT_NO_CAP_AMBIENT_RAISE |
                        SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
        int r;

        for (unsigned long cap = 0; (r = prctl(PR_CAPBSET_READ, cap)) >= 0; cap++)
                if (r > 0 && prctl(PR_CAPBSET_DROP, cap) < 0)
                        return -errno;
        if (prctl(PR_SET_SECUREBITS, bits) < 0)
                return -errno;
        return 0;
}

static int change_identity(const Options *o) {
        if (setgroups(o->n_groups, o->groups) < 0 || setresgid(o->gid, o->gid, o->gid) < 0 ||
                        setresuid(o->uid, o->uid, o->uid) < 0)
                return -errno;
        return 0;
}

static int drop_capabilities(void) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};

        if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ||
                        syscall(SYS_capset, &header, none) < 0)
                return -errno;
        return 0;
}

static bool have_capability(int cap) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

        return syscall(SYS_capget, &header, data) >= 0 &&
                        (data[CAP_TO_INDEX(cap)].effective & CAP_TO_MASK(cap));
}

static int set_limits(void) {
        struct rlimit files, core = { 0, 0 };

        if (setrlimit(RLIMIT_CORE, &core) < 0 || getrlimit(RLIMIT_NOFILE, &files) < 0)
                return -errno;
        files.rlim_cur = files.rlim_max = MIN(files.rlim_max, (rlim_t)NOFILE_MAX);
        if (setrlimit(RLIMIT_NOFILE, &files) < 0)
                return -errno;
        return 0;
}

int privileges_drop(const Options *o, Error **reterr_error) {
        int r = 0;

        (void)umask(077);
        if (o->has_identity || have_capability(CAP_SETPCAP))
                r = lock_capabilities();
        if (r >= 0 && o->has_identity)
                r = change_identity(o);
        if (r >= 0)
                r = drop_capabilities();
        if (r >= 0)
                r = set_limits();
        if (r >= 0 && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0) < 0))
                r = -errno;
        return r < 0 ? error_set_errno(reterr_error, r, "Failed to drop privileges") : 0;
}
