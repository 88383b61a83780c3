/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The log of a VM's provisionings: a file that somebody else writes on, and whose beginning becomes a hole.
 * That there is more to read is told by inotify. */

#include "ctl.h"
#include "sanitize.h"

typedef struct ProvisionLog {
        int fd;      /* of the file; -EBADF: there is none */
        int notices; /* inotify; readable when something has happened to the file. -EBADF: nothing tells */
        off_t at;    /* how far it was read */
        bool jumped; /* over a hole: NULs up to the next data are its rest */
} ProvisionLog;

#define PROVISION_LOG_NONE ((ProvisionLog){ .fd = -EBADF, .notices = -EBADF })

/* Asks the service for it; -ENOENT: the VM has never been provisioned. */
int provision_log_open(Ctl *c, const char *vm_path, ProvisionLog *ret, sd_bus_error *reterr);
void provision_log_done(ProvisionLog *l);

off_t provision_log_size(const ProvisionLog *l);
/* From now on notices tell what happens. */
int provision_log_watch(ProvisionLog *l);
/* Takes the notices. False: the file was removed, nothing will come any more. */
bool provision_log_take_notices(ProvisionLog *l);

/* What has been written since; *ret_len 0: nothing. */
int provision_log_read(ProvisionLog *l, char *data, size_t size, size_t *ret_len);

/* Output in whole lines, with a name before each. */
typedef struct LogLines {
        const char *name; /* borrowed; NULL: none */
        bool raw;         /* not for a terminal */
        char *rest;       /* a line that has not ended */
        size_t n_rest;
        Sanitizer sanitizer;
} LogLines;

void log_lines_write(LogLines *l, FILE *stream, const char *data, size_t len);
void log_lines_end(LogLines *l, FILE *stream); /* also what has not ended */
