/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The log of provisionings: a file that people read, with all that commands have printed, and a line that
 * begins with "--- " and the time where a step begins or ends. It is only ever written at its end, so that a
 * reader can follow it; its beginning becomes a hole when it holds too much. */

#include "util/macro.h"

#define PROVISION_LOG_MAX (16 * MIB) /* on disk */

typedef struct ProvisionLog {
        int fd;           /* borrowed; -EBADF: nobody wants a log */
        uint64_t end;     /* bytes */
        uint64_t punched; /* up to here it is a hole */
        bool in_line;     /* the last byte was no newline */
} ProvisionLog;

int provision_log_open(ProvisionLog *l, int fd); /* fd -EBADF: a log that takes all and keeps nothing */
int provision_log_write(ProvisionLog *l, const void *data, size_t len);
int provision_log_mark(ProvisionLog *l, const char *format, ...) _printf_(2, 3);
