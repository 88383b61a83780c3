/* SPDX-License-Identifier: GPL-2.0-or-later */
#pragma once
/* The log of a VM's provisionings: a file that somebody else writes on, and whose beginning becomes a hole.
 * That there is more to read is told by inotify. */

#include "ctl.h"
#include "sanitize.h"

typedef struct LogReader {
        int fd;      /* of the file; -EBADF: there is none */
        int notices; /* inotify; readable when something has happened to the file. -EBADF: nothing tells */
        off_t at;    /* how far it was read */
        bool jumped; /* over a hole: NULs up to the next data are its rest */
} LogReader;

#define LOG_READER_NONE ((LogReader){ .fd = -EBADF, .notices = -EBADF })

/* Asks the service for it; -ENOENT: the VM has never been provisioned. */
int log_reader_open(Ctl *c, const char *vm_path, LogReader *ret, Error **reterr);
void log_reader_done(LogReader *l);

off_t log_reader_size(const LogReader *l);
/* From now on notices tell what happens. */
int log_reader_watch(LogReader *l);
/* Takes the notices. False: the file was removed, nothing will come any more. */
bool log_reader_take_notices(LogReader *l);

/* What has been written since; *ret_len 0: nothing. */
int log_reader_read(LogReader *l, char *data, size_t size, size_t *ret_len);

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
