/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* vmctld.conf(5), and where things are for this instance. */

#include "accounts.h"
#include "util/string-util.h"

/* What carries the network "user" of a VM. */
typedef enum UserBackend {
        USER_BACKEND_AUTO, /* passt where it works */
        USER_BACKEND_PASST,
        USER_BACKEND_SLIRP, /* QEMU itself */
        _USER_BACKEND_MAX,
        _USER_BACKEND_INVALID = -EINVAL,
} UserBackend;
DECLARE_STRING_TABLE(user_backend, UserBackend);

#define CONFIG_STOP_TIMEOUT_MAX (24 * 3600 * USEC_PER_SEC)

#define CONFIG_EARLIER_UIDS_MAX 15
typedef struct UidRange {
        uint32_t first, count; /* 0: none */
} UidRange;

typedef struct Config {
        bool system;                              /* the system's service, not a user's */
        char *state_dir, *runtime_dir, *conf_dir; /* owned, as all strings */
        char *qemu;
        uint32_t uid_first, uid_count; /* one for each VM; count 0: every QEMU runs as we do */
        UidRange earlier_uids[CONFIG_EARLIER_UIDS_MAX]; /* of VMs that there may be */
        uint16_t port_first, port_last;                 /* SSH forwards of user networking, both included */
        uint64_t console_log_max;                       /* default for new VMs */
        uint64_t image_size_max;                        /* bytes of an image in the store */
        uint64_t stop_timeout; /* usec, when a client names none; up to CONFIG_STOP_TIMEOUT_MAX */
        UserBackend user_backend;
        ResourceLimit limits[_RESOURCE_MAX];
} Config;

/* Defaults, then the file, then the environment's XDG folders for a user's instance. A line that is wrong is
 * logged and ignored, as systemd does. A file that cannot be read is an error: who would know which settings
 * do not count, and vmctl-launch, which can read all, has to know the same as we. */
int config_load(bool system, Config *ret);
bool config_has_uid(const Config *c, uid_t uid); /* a VM may have it */
void config_done(Config *c);
