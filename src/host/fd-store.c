/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <systemd/sd-daemon.h>

#include "fd-store.h"
#include "util/fd-util.h"
#include "util/log.h"
#include "util/string-util.h"

#define PREFIX                                                                                              \
        "qmp-" /* names are at most 255 ASCII characters without ':'; ours are 68 of letters, digits, "-_." \
                */

static char **names; /* of the descriptors from SD_LISTEN_FDS_START on; a NULL-terminated vector */
static bool taken[4096];

void fd_store_push(const char *vm, int fd) {
        _cleanup_free_ char *state = strf("FDSTORE=1\nFDPOLL=0\nFDNAME=" PREFIX "%s", vm);

        if (fd < 0 || !state)
                return;
        fd_store_remove(vm);
        /* No polling: at the peer's end of file the descriptor must stay, for what it still has to say. */
        (void)sd_pid_notify_with_fds(0, false, state, &fd, 1);
}

void fd_store_remove(const char *vm) {
        (void)sd_notifyf(false, "FDSTOREREMOVE=1\nFDNAME=" PREFIX "%s", vm);
}

void fd_store_open(void) {
        int n = sd_listen_fds_with_names(true, &names);

        if (n < 0)
                log_warning_errno(n, "Cannot take descriptors out of the store, ignoring: %m");
        for (int i = 0; i < n; i++)
                (void)fd_set_cloexec(SD_LISTEN_FDS_START + i, true);
}

int fd_store_take(const char *vm) {
        size_t i = 0;

        STRV_FOREACH(n, names) {
                const char *name = startswith(*n, PREFIX);

                if (name && streq(name, vm) && i < ELEMENTSOF(taken) && !taken[i]) {
                        taken[i] = true;
                        return SD_LISTEN_FDS_START + (int)i;
                }
                i++;
        }
        return -EBADF;
}

void fd_store_close_rest(void) {
        size_t i = 0;

        STRV_FOREACH(n, names) {
                if (i >= ELEMENTSOF(taken) || !taken[i]) {
                        safe_close(SD_LISTEN_FDS_START + (int)i);
                        (void)sd_notifyf(false, "FDSTOREREMOVE=1\nFDNAME=%s", *n);
                }
                i++;
        }
        names = strv_free(names);
}
