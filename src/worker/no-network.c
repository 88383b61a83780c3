/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <seccomp.h>

#include "no-network.h"

/* A network namespace of its own would need rights that a user's own service has not. */
int no_network(Error **reterr) {
        static const int calls[] = {
                SCMP_SYS(socket), SCMP_SYS(io_uring_setup) /* makes sockets past the filter */
        };
        scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
        int r = filter ? 0 : -ENOMEM;

        for (size_t i = 0; r >= 0 && i < ELEMENTSOF(calls); i++)
                r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), calls[i], 0);
        if (r >= 0)
                r = seccomp_load(filter);
        seccomp_release(filter);
        return r < 0 ? error_set_errno(reterr, r, "Failed to give up the network") : 0;
}
