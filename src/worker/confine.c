/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <grp.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "confine.h"
#include "util/sanitized.h"

static int change_identity(const Identity *identity) {
        struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
        struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};

        pid_t parent = getppid();
        int death = 0;

        /* The kernel forgets it with the change of user. */
        if (prctl(PR_GET_PDEATHSIG, &death) < 0)
                return -errno;
        if (setgroups(0, NULL) < 0 || setresgid(identity->gid, identity->gid, identity->gid) < 0 ||
                        setresuid(identity->uid, identity->uid, identity->uid) < 0)
                return -errno;
        if (death != 0 && prctl(PR_SET_PDEATHSIG, death) < 0)
                return -errno;
        if (death != 0 && getppid() != parent)
                return -ESRCH;
        /* The change of user has dropped them unless a securebit says otherwise. */
        if (syscall(SYS_capset, &header, none) < 0)
                return -errno;
        return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0 ? -errno : 0;
}

static int limit(int resource, uint64_t value) {
        struct rlimit old, new;

        if (getrlimit(resource, &old) < 0)
                return -errno;
        new.rlim_max = new.rlim_cur = MIN((rlim_t)value, old.rlim_max);
        return setrlimit(resource, &new) < 0 ? -errno : 0;
}

int confine_file_size(uint64_t max, Error **reterr) {
        int r = limit(RLIMIT_FSIZE, max);

        return r < 0 ? error_set_errno(reterr, r, "Failed to bound the size of files") : 0;
}

int confine(const Identity *identity, const ConfineLimits *limits, Error **reterr) {
        int r = 0;

        if (identity->set)
                r = change_identity(identity);
        if (r >= 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                r = -errno;
        if (r >= 0)
                r = limit(RLIMIT_CORE, 0); /* it would hold private keys and what else passes through */
        if (r >= 0)
                r = limit(RLIMIT_CPU, limits->cpu_seconds);
        if (r >= 0)
                r = limit(RLIMIT_FSIZE, limits->file_size);
        if (r >= 0 && !SANITIZED)
                r = limit(RLIMIT_AS, limits->address_space);
        return r < 0 ? error_set_errno(reterr, r, "Failed to drop privileges") : 0;
}
