/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <string.h>

#include "launcher.h"

int launcher_set_error(Error **reterr, int r, const char *what) {
        bool away = r == -ENOENT || r == -EACCES || r == -ECONNREFUSED || r == -ECONNRESET || r == -EPIPE ||
                        r == -EAGAIN;

        return away ? error_set(reterr, ERROR_LAUNCHER_LOST,
                                      "Cannot %s, as vmctl-launch cannot be reached: %s", what, strerror(-r))
                    : error_set_errno(reterr, r, "Cannot %s", what);
}
